"""Writing: records behind records, a new segment when one is full, and syncs.

The rules of failure live here. A write that the system refuses is rolled back to the last record's end
and reported; the log goes on. A sync that fails is the end: see `LogFailed`.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from crc32c import crc32c

from vecdb_replication.wal.codec import (
    HEAD_BYTES,
    HEADER_BYTES,
    SALT_BYTES,
    Checkpoint,
    Head,
    Item,
    SegmentHeader,
    encode_items,
)
from vecdb_replication.wal.errors import LogFailed, LogFull, WriteFailed
from vecdb_replication.wal.fs import File, FileSystem, Piece
from vecdb_replication.wal.recovery import TEMPORARY, Recovered, Segment, segment_name

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Appender:
    """The writing end of a log. Not thread-safe: the log's I/O lock is held around every call.

    `checkpoints` tells the state of all groups, with which each new segment begins. Thanks to that,
    old segments are kept for live entries only, never for a vote, a mark or a tombstone.
    """

    def __init__(
        self,
        fs: FileSystem,
        path: Path,
        recovered: Recovered,
        *,
        segment_bytes: int,
        entropy: Callable[[int], bytes],
        checkpoints: Callable[[], list[Checkpoint]],
    ) -> None:
        self._fs = fs
        self._path = path
        self._segment_bytes = segment_bytes
        self._entropy = entropy
        self._checkpoints = checkpoints
        self._lsn = recovered.lsn
        self._chain = recovered.chain
        self._sealed = recovered.sealed
        self.segments = recovered.segments
        self.failure: LogFailed | None = None
        if not self.segments:
            self._begin_segment()

    @property
    def active(self) -> Segment:
        """The segment that is written to."""
        return self.segments[-1]

    def write(self, items: Sequence[Item], pieces: Sequence[Piece]) -> tuple[int, int]:
        """Write one record; returns its segment and where in it the data begins.

        Raises WriteFailed with nothing written, or LogFailed.
        """
        meta = encode_items(items)
        data_bytes = sum(map(len, pieces))
        size = HEAD_BYTES + len(meta) + data_bytes
        # A segment that holds but its checkpoint takes any record, however large.
        if self.active.records > 1 and self.active.end + size > self._segment_bytes:
            # So that only the last segment can ever be torn.
            self.sync()
            self._begin_segment()
        active = self.active
        head = Head(len(meta), data_bytes, self._lsn, active.durable, crc32c(meta))
        raw = head.encode(active.header.seed, active.end)
        try:
            active.file.append([raw + meta, *pieces])
        except OSError as error:
            self._roll_back(error)
        data_offset = active.end + HEAD_BYTES + len(meta)
        self._count(active, raw, size)
        self._sealed = False
        return active.sequence, data_offset

    def sync(self) -> None:
        """Make everything written so far durable; free where it already is. Raises LogFailed."""
        active = self.active
        if active.durable < active.end:
            try:
                active.file.fdatasync()
            except OSError as error:
                self._fail(f"fdatasync of {active.path}", error)
            active.durable = active.end

    def seal(self) -> None:
        """Put an empty record behind the last one, and sync.

        Its head says that all before it was durable, so that a flipped bit in the last batch of a log
        that was closed in good order is recognized as damage and not taken for a tear.
        """
        if not self._sealed:
            self.sync()
            self.write([], [])
        self.sync()

    def drop_oldest(self) -> Segment:
        """Unlink the oldest segment and forget it; the caller closes it. Raises WriteFailed."""
        oldest = self.segments[0]
        try:
            self._fs.unlink(oldest.path)
        except OSError as error:
            raise WriteFailed(f"cannot unlink {oldest.path}: {error}") from error
        del self.segments[0]
        return oldest

    def sync_names(self) -> None:
        """Make the directory's names durable. Raises LogFailed."""
        try:
            self._fs.fsync_dir(self._path)
        except OSError as error:
            self._fail(f"fsync of the directory {self._path}", error)

    def _count(self, segment: Segment, raw_head: bytes, size: int) -> None:
        segment.end += size
        segment.records += 1
        self._lsn += 1
        self._chain = crc32c(raw_head, self._chain)

    def _roll_back(self, error: OSError) -> NoReturn:
        try:
            self.active.file.truncate(self.active.end)
        except OSError as second:
            self._fail(f"rolling back a write to {self.active.path} that failed ({error})", second)
        raise _refused(self.active.path, error) from error

    def _begin_segment(self) -> None:
        """Make the next segment: complete under a temporary name, durable, then renamed.

        So a segment that has its name has a whole header and checkpoint, and one that has not yet
        holds nothing that was acknowledged.
        """
        header = self._next_header()
        path = self._path / segment_name(header.sequence)
        temporary = path.with_name(path.name + TEMPORARY)
        meta = encode_items(self._checkpoints())
        raw = Head(len(meta), 0, self._lsn, 0, crc32c(meta)).encode(header.seed, HEADER_BYTES)
        file: File | None = None
        try:
            file = self._fs.open(temporary, create=True)
            file.append([header.encode(), raw, meta])
            self._sync_new(file, temporary)
            self._fs.rename(temporary, path)
        except OSError as error:
            self._discard(file, temporary)
            raise _refused(path, error) from error
        segment = Segment(path, file, header, HEADER_BYTES, 0)
        self._chain = 0
        self._count(segment, raw, HEAD_BYTES + len(meta))
        segment.durable = segment.end
        self._sealed = False
        self.segments.append(segment)
        self.sync_names()

    def _next_header(self) -> SegmentHeader:
        salt = self._entropy(SALT_BYTES)
        if not self.segments:
            return SegmentHeader(1, self._lsn, 0, 0, salt)
        return SegmentHeader(self.active.sequence + 1, self._lsn, self.active.end, self._chain, salt)

    def _sync_new(self, file: File, path: Path) -> None:
        try:
            file.fdatasync()
        except OSError as error:
            file.close()
            self._fail(f"fdatasync of {path}", error)

    def _discard(self, file: File | None, path: Path) -> None:
        # What stays behind under a temporary name is overwritten, or removed when the log is opened.
        if file is not None:
            file.close()
        with contextlib.suppress(OSError):
            self._fs.unlink(path)

    def _fail(self, what: str, error: OSError) -> NoReturn:
        self.failure = LogFailed(f"{what} failed, and the log with it: {error}")
        raise self.failure from error


def _refused(path: Path, error: OSError) -> WriteFailed:
    kind = LogFull if error.errno in _NO_SPACE else WriteFailed
    return kind(f"cannot write to {path}: {error}")
