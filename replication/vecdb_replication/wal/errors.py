"""What can go wrong with the log, by what the caller has to do about it."""

from __future__ import annotations

from pathlib import Path


class LogError(Exception):
    """Base of every error of the log."""


class Compacted(LogError):
    """The index was dropped by compaction: the reader needs a snapshot instead."""


class Unavailable(LogError):
    """The index lies beyond the group's last entry."""


class LogMisuse(LogError):
    """A programming error of the caller (a gap, a rewrite below the snapshot...); nothing was written.

    `group` is the one at fault, where it is a group's fault.
    """

    def __init__(self, message: str, group: int | None = None) -> None:
        super().__init__(message)
        self.group = group


class GroupsRefused(LogMisuse):
    """A batch was misuse as far as `groups` go; what the others in it wrote is durable."""

    def __init__(self, message: str, groups: frozenset[int]) -> None:
        super().__init__(message)
        self.groups = groups


class LogLocked(LogError):
    """Another process holds the directory."""


class LogVersion(LogError):
    """A newer version of vecdb wrote this log; this one does not read it and leaves it alone."""


class WriteFailed(LogError):
    """The operating system refused a write. It was rolled back: the log is whole and stays usable."""


class LogFull(WriteFailed):
    """`WriteFailed` for want of space or quota."""


class LogBusy(LogError):
    """The writer's queue is at its limit; try again once earlier batches are on disk."""


class LogClosed(LogError):
    """The log or its writer was closed."""


class LogFailed(LogError):
    """The log cannot promise durability any more: the process has to stop.

    After a failed fdatasync the kernel may have marked the lost pages clean, so that a second try
    would succeed without writing them (Rebello et al., "Can Applications Recover from fsync
    Failures?", USENIX ATC 2020). Hence nothing is ever retried.
    """


class LogDamaged(LogError):
    """Bytes that were durable have changed or gone. Nothing was altered by finding out.

    Attributes: `path` (the file, or the directory when a whole file is gone), `offset` (bytes from the
    start of the file), `reason`.
    """

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(f"{path} is damaged at offset {offset}: {reason}")
        self.path = path
        self.offset = offset
        self.reason = reason
