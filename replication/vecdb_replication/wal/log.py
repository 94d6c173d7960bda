"""The log: one for all groups of a node.

Two locks. `_io` serializes whatever writes (append, sync, compaction, dropping segments); it is held
while the disk works. `_state` guards what readers see, and is never held during I/O, so that a leader
can read entries for its followers while a sync is under way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from vecdb_replication.wal.appender import Appender
from vecdb_replication.wal.cache import TailCache
from vecdb_replication.wal.codec import Checkpoint, Item, Update, run_of
from vecdb_replication.wal.errors import (
    Compacted,
    LogClosed,
    LogDamaged,
    LogError,
    LogFailed,
    LogLocked,
    LogMisuse,
    Unavailable,
    WriteFailed,
)
from vecdb_replication.wal.fs import FileSystem, Lock, OsFileSystem, Piece
from vecdb_replication.wal.group import GroupLog
from vecdb_replication.wal.plan import plan
from vecdb_replication.wal.reader import Wanted, fetch
from vecdb_replication.wal.recovery import Recovered, Segment, recover
from vecdb_replication.wal.retention import Burden, relocations, split
from vecdb_replication.wal.types import Entry, GroupState, GroupUpdate, Recovery, SnapshotMark

LOCK_NAME = "LOCK"


class Wal:
    """The durable log of all Raft groups of a node; get one from `Wal.open`. Thread-safe.

    What `append` wrote is readable at once but counts as durable only when a later `sync` returned.
    Once a sync failed, every call raises LogFailed: the process has to stop.
    """

    def __init__(
        self, recovered: Recovered, lock: Lock, appender: Appender, *, cache_bytes: int, rewrite_bytes: int
    ) -> None:
        self.recovery: Recovery = recovered.report
        self._groups = recovered.groups
        self._segments = {segment.sequence: segment for segment in recovered.segments}
        self._lock = lock
        self._appender = appender
        self._cache = TailCache(cache_bytes)
        self._rewrite_bytes = rewrite_bytes
        self._io = threading.Lock()
        self._state = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        fs: FileSystem | None = None,
        segment_bytes: int = 64 << 20,
        cache_bytes: int = 16 << 20,
        rewrite_bytes: int | None = None,
        must_exist: bool = False,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> Wal:
        """Lock the directory (made if missing), replay the log in it and cut a torn last write.

        `segment_bytes` is where a new segment begins, `cache_bytes` how much memory recent entries may
        take, `rewrite_bytes` how much `drop_segments` may write again to be rid of one segment (a
        quarter of `segment_bytes` unless given). With `must_exist` a directory without segments is
        damage: a node that knows it had a log must not begin an empty one in its place. `entropy(n)`
        gives n random bytes.

        Raises LogLocked, LogDamaged, LogVersion (all three leave the log as it was), LogFull, LogFailed
        and OSError.
        """
        path = Path(path)
        fs = fs or OsFileSystem()
        fs.mkdir(path)
        try:
            lock = fs.lock(path / LOCK_NAME)
        except BlockingIOError as error:
            raise LogLocked(f"another process has the log in {path} open") from error
        recovered = Recovered()
        try:
            recovered = recover(fs, path)
            if must_exist and not recovered.segments:
                raise LogDamaged(path, 0, "the log is gone: there is no segment")
            groups = recovered.groups

            def checkpoints() -> list[Checkpoint]:
                return [log.checkpoint(group) for group, log in sorted(groups.items())]

            appender = Appender(
                fs, path, recovered, segment_bytes=segment_bytes, entropy=entropy, checkpoints=checkpoints
            )
        except BaseException:
            for segment in recovered.segments:
                segment.file.close()
            lock.release()
            raise
        budget = segment_bytes // 4 if rewrite_bytes is None else rewrite_bytes
        return cls(recovered, lock, appender, cache_bytes=cache_bytes, rewrite_bytes=budget)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Sync, seal, and give files and lock back. A second call does nothing.

        Raises LogFailed when that last sync failed; a log that had failed before is just let go.
        """
        with self._io:
            if self._closed:
                return
            self._closed = True
            try:
                if self._appender.failure is None:
                    # Without room for the seal the log is only less able to tell damage from a tear.
                    with suppress(WriteFailed):
                        self._appender.seal()
            finally:
                for segment in self._appender.segments:
                    self._release(segment)
                self._lock.release()

    # Writing

    def append(self, updates: Sequence[GroupUpdate]) -> None:
        """Write the updates, all in one record, in order; none is durable before `sync`.

        Raises LogMisuse (a gap, a rewrite below a snapshot, a number out of range), LogFull or
        WriteFailed, each with nothing written, and LogFailed.
        """
        with self._writing():
            self._append(updates)

    def sync(self) -> None:
        """One fdatasync for all that was appended. Raises LogFailed, for ever after."""
        with self._writing():
            self._appender.sync()

    def compact(self, group: int, index: int, term: int | None = None, *, conf: bytes) -> None:
        """Log that a snapshot holds everything up to `index`, and drop those entries.

        The same as appending a `SnapshotMark` of the entry's own term; `term`, if given, is checked. An
        index at or below the last mark does nothing. Raises Unavailable beyond the log, and what
        `append` raises.
        """
        with self._writing():
            log = self._groups.get(group, _EMPTY)
            if log.snapshot and index <= log.snapshot.index:
                return
            if not log.first_index <= index <= log.last_index:
                raise Unavailable(f"group {group} has no entry {index} to compact at")
            own = log.term(index)
            if term not in (None, own):
                raise LogMisuse(f"entry {index} of group {group} has term {own}, not {term}")
            self._append([GroupUpdate(group, snapshot=SnapshotMark(index, own, conf))])

    def drop_segments(self) -> int:
        """Unlink old segments that no live entry needs any more; returns how many.

        Small live tails (see `rewrite_bytes`) are first written again at the end of the log and synced.
        Hard states, marks and tombstones need no such care: every segment begins with all of them.
        Stops at the first segment that is pinned. Raises LogDamaged where a tail cannot be read back,
        LogFull and WriteFailed with the segment still there, and LogFailed.
        """
        with self._writing():
            # The marks that make entries dead must be durable before the entries go.
            self._appender.sync()
            newest = self._appender.active.sequence
            dropped = 0
            while (oldest := self._appender.segments[0]).sequence < newest:
                moved, pinning = split(self._groups, oldest.sequence, self._rewrite_bytes)
                if pinning:
                    break
                if moved:
                    self._move(moved)
                self._release(self._appender.drop_oldest())
                dropped += 1
                # Each by itself: names reach the device in any order, and a gap among them is damage.
                self._appender.sync_names()
            return dropped

    def _append(self, updates: Sequence[GroupUpdate]) -> None:
        items = plan(updates, self._groups)
        if not items:
            return
        pieces = [entry.data for update in updates for entry in update.entries]
        with self._undivided():
            place = self._appender.write(items, pieces)
            with self._state:
                self._forget(items)
                self._commit(items, *place)
                for update in updates:
                    for entry in update.entries:
                        self._cache.put(update.group, entry)

    def _forget(self, items: Sequence[Update]) -> None:
        """Let go of the cached entries that these items make dead; called before they are applied."""
        for item in items:
            log = self._groups.get(item.group, _EMPTY)
            if item.tombstone is not None or item.reset:
                self._cache.forget(item.group, range(log.first_index, log.last_index + 1))
            elif item.snapshot is not None:
                self._cache.forget(item.group, range(log.first_index, item.snapshot.index + 1))

    def _commit(self, items: Sequence[Item], sequence: int, offset: int) -> None:
        self._segments[sequence] = self._appender.active
        for item in items:
            self._groups.setdefault(item.group, GroupLog()).apply(item, sequence, offset)
            run = run_of(item)
            offset += run.data_bytes if run else 0

    def _move(self, burdens: Sequence[Burden]) -> None:
        items = list(relocations(self._groups, burdens))
        pieces: list[Piece] = []
        for item in items:
            log = self._groups[item.group]
            wanted = [(i, log.locate(i)) for i in range(item.run.first, item.run.first + len(item.run))]
            pieces.extend(entry.data for entry in fetch(wanted, self._segments))
        with self._undivided():
            place = self._appender.write(items, pieces)
            self._appender.sync()
            with self._state:
                self._commit(items, *place)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._io:
            self._check()
            yield

    @contextmanager
    def _undivided(self) -> Iterator[None]:
        # A Ctrl-C or a lack of memory between file and memory would leave the two apart.
        try:
            yield
        except LogError:
            raise
        except BaseException as error:
            self._appender.failure = LogFailed(f"a write was interrupted, and the log with it: {error!r}")
            raise

    def _check(self) -> None:
        if self._appender.failure is not None:
            raise LogFailed(str(self._appender.failure)) from self._appender.failure
        if self._closed:
            raise LogClosed("the log is closed")

    # Reading

    def groups(self) -> list[int]:
        """The groups that were ever logged, those under a tombstone included, in ascending order."""
        self._check()
        with self._state:
            return sorted(self._groups)

    def state(self, group: int) -> GroupState:
        """What is known of a group; of one never logged, the empty state."""
        self._check()
        with self._state:
            return self._groups.get(group, _EMPTY).state()

    def size(self) -> int:
        """Bytes of all segments, whatever of them is still wanted."""
        self._check()
        with self._state:
            return sum(segment.end for segment in self._segments.values())

    def term(self, group: int, index: int) -> int:
        """The term of an entry, or of the snapshot at its own index; 0 at index 0 of a whole log.

        Raises Compacted below that, Unavailable beyond the last entry.
        """
        self._check()
        with self._state:
            log = self._groups.get(group, _EMPTY)
            if index == log.first_index - 1:
                return log.snapshot.term if log.snapshot else 0
            self._check_range(group, log, index, index + 1)
            return log.term(index)

    def of_other_kinds(self, group: int, lo: int, hi: int) -> list[int]:
        """The indexes in [lo, hi) whose entries are of a kind other than 0: few, and found without reading.

        Raises Compacted and Unavailable.
        """
        self._check()
        with self._state:
            log = self._groups.get(group, _EMPTY)
            self._check_range(group, log, lo, hi)
            return log.of_other_kinds(lo, hi)

    def entries(self, group: int, lo: int, hi: int, max_bytes: int | None = None) -> list[Entry]:
        """Entries lo to hi - 1, or as many of the first as have at most `max_bytes` of data, but one.

        Raises Compacted, Unavailable, LogMisuse where lo > hi, and LogDamaged.
        """
        self._check()
        if lo > hi:
            raise LogMisuse(f"entries from {lo} up to {hi}")
        with self._state:
            log = self._groups.get(group, _EMPTY)
            self._check_range(group, log, lo, hi)
            hi = lo + _fitting(log.lengths(lo, hi), max_bytes)
            found = [self._cache.get(group, index) for index in range(lo, hi)]
            wanted = [(index, log.locate(index)) for index, e in enumerate(found, start=lo) if e is None]
            segments = self._pin(wanted)
        try:
            fetched = fetch(wanted, segments)
            return [entry if entry is not None else next(fetched) for entry in found]
        finally:
            self._unpin(segments.values())

    def pinned(self) -> dict[int, int]:
        """The groups for whose sake `drop_segments` stops, with the bytes they hold there.

        To free space, snapshot and compact these groups. Empty where nothing is in the way.
        """
        self._check()
        with self._state:
            newest = self._appender.active.sequence
            for sequence in self._segments:
                _, pinning = split(self._groups, sequence, self._rewrite_bytes)
                if pinning and sequence != newest:
                    return {burden.group: burden.size for burden in pinning}
            return {}

    @staticmethod
    def _check_range(group: int, log: GroupLog, lo: int, hi: int) -> None:
        if lo < log.first_index:
            raise Compacted(f"group {group} begins at {log.first_index}, and {lo} was asked for")
        if hi > log.last_index + 1:
            raise Unavailable(f"group {group} ends at {log.last_index}, and {hi - 1} was asked for")

    def _pin(self, wanted: Sequence[Wanted]) -> dict[int, Segment]:
        pinned = {place.segment: self._segments[place.segment] for _, place in wanted}
        for segment in pinned.values():
            segment.readers += 1
        return pinned

    def _unpin(self, segments: Iterable[Segment]) -> None:
        with self._state:
            for segment in segments:
                segment.readers -= 1
                if segment.dropped and not segment.readers:
                    segment.file.close()

    def _release(self, segment: Segment) -> None:
        with self._state:
            self._segments.pop(segment.sequence, None)
            segment.dropped = True
            if not segment.readers:
                segment.file.close()


# Stands for every group that was never logged; never written to.
_EMPTY = GroupLog()


def _fitting(lengths: Sequence[int], max_bytes: int | None) -> int:
    if max_bytes is None:
        return len(lengths)
    taken = 0
    for count, length in enumerate(lengths):
        taken += length
        if taken > max_bytes and count:
            return count
    return len(lengths)
