"""What can go wrong with a shard, by name."""

from __future__ import annotations

from pathlib import Path


class ShardError(Exception):
    """The base of every error that the engine raises on purpose."""


class ShardDamaged(ShardError):
    """Stored bytes are not what was written. ``path`` names the file, ``reason`` says what does not fit."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class ShardInUse(ShardError):
    """Another process (or another Shard in this one) holds the directory."""


class FormatTooNew(ShardError):
    """A newer vecdb wrote the shard; this one would misread it."""


class ShardClosed(ShardError):
    """The shard was closed."""


class ShardBroken(ShardClosed):
    """A write was interrupted between disk and memory. Nothing is lost, but the shard must be reopened."""


class StorageFailed(ShardError):
    """The disk refused a write (full, read-only, failing). Nothing of the call was applied; reads work."""


class UnknownMutation(ShardError):
    """A kind or format version of mutation that this version does not know. The replica must stop."""


class MutationError(ShardError, ValueError):
    """The bytes of a mutation of a known kind are malformed."""


class DeadlineExceeded(ShardError, TimeoutError):
    """A search ran past its deadline."""


class SnapshotStopped(ShardError):
    """Whoever wanted a snapshot does not want it any more. What there is of it is not one."""


class Overtaken(ShardError):
    """Documents were written again between being found and being read. A ``Moment`` cannot be overtaken."""
