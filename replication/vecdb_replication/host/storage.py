"""One group's part of the log, as the Raft core reads it; and its membership over time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

import msgpack

from vecdb_replication import raft, wal
from vecdb_replication.raft.confchange import Changer
from vecdb_replication.raft.sizes import limit_size, payload_size
from vecdb_replication.raft.tracker import ProgressTracker


def to_log(entry: raft.Entry) -> wal.Entry:
    """An entry of the core as the log keeps it."""
    return wal.Entry(entry.term, entry.index, int(entry.type), entry.data)


def from_log(entry: wal.Entry) -> raft.Entry:
    """An entry of the log as the core knows it. ValueError for a kind that this version does not know."""
    return raft.Entry(entry.term, entry.index, raft.EntryType(entry.kind), entry.data)


def pack_conf(conf: raft.ConfState) -> bytes:
    """A membership as a mark in the log carries it."""
    parts = (conf.voters, conf.voters_outgoing, conf.learners, conf.learners_next)
    packed: bytes = msgpack.packb([*map(list, parts), conf.auto_leave])
    return packed


def unpack_conf(data: bytes) -> raft.ConfState:
    """The membership in a mark. ValueError where it is none."""
    voters, outgoing, learners, learners_next, auto_leave = msgpack.unpackb(data)
    return raft.ConfState(tuple(voters), tuple(outgoing), tuple(learners), tuple(learners_next), auto_leave)


def changed(conf: raft.ConfState, change: raft.ConfChange, last_index: int) -> raft.ConfState:
    """The membership after a committed change. ConfChangeError where it does not allow it."""
    tracker = ProgressTracker(raft.NO_LIMIT, raft.NO_LIMIT)
    tracker.switch(*raft.confchange.restore(tracker, last_index, conf))
    changer = Changer(tracker, last_index)
    if change.leaves_joint:
        config, _ = changer.leave_joint()
    elif change.enters_joint:
        config, _ = changer.enter_joint(change.changes, auto_leave=change.auto_leave)
    else:
        config, _ = changer.simple(change.changes)
    return config.conf_state()


class Memberships:
    """Who belonged to a group from which index on, as far back as its log goes."""

    __slots__ = ("_confs", "_since", "newest")

    def __init__(self, since: int, conf: raft.ConfState) -> None:
        self._since = [since]
        self._confs = [conf]
        self.newest = conf
        """As of the last change that was applied."""

    @property
    def since(self) -> int:
        """From which index on the newest holds."""
        return self._since[-1]

    def all(self) -> tuple[raft.ConfState, ...]:
        """All that are remembered, the oldest first."""
        return tuple(self._confs)

    def at(self, index: int) -> raft.ConfState:
        """As of an entry that is in the log, or the one before its first."""
        return self._confs[max(0, bisect_right(self._since, index) - 1)]

    def add(self, index: int, conf: raft.ConfState) -> None:
        """The entry at `index` changed it. One that is known already is no news."""
        if index > self._since[-1]:
            self._since.append(index)
            self._confs.append(conf)
            self.newest = conf

    def forget(self, index: int) -> None:
        """The log begins behind `index` now."""
        kept = bisect_right(self._since, index) - 1
        if kept > 0:
            del self._since[:kept], self._confs[:kept]


class Fresh:
    """The newest entries that went to the log and were not handed out to be applied yet, as they were.

    Nearly all that is applied is found here, and need not be read back. They
    are consecutive; whether they are durable yet is the storage's business.
    """

    __slots__ = ("_entries", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.clear()

    def clear(self) -> None:
        """Remember none."""
        self._entries: list[raft.Entry] = []
        self._size = 0

    def put(self, entries: Sequence[raft.Entry]) -> None:
        """Remember entries in the place of any from the first of them on; all or none, within the limit."""
        held = self._entries
        if held:
            kept = entries[0].index - held[0].index
            if not 0 <= kept <= len(held):
                self.clear()
            elif kept < len(held):
                del held[kept:]
                self._size = payload_size(held)
        self._size += payload_size(entries)
        self._entries += entries
        if self._size > self._limit:
            self.clear()

    def drop(self, index: int) -> None:
        """Forget those up to `index`."""
        held = self._entries
        if held and held[0].index <= index:
            self._size -= payload_size(held[: index + 1 - held[0].index])
            del held[: index + 1 - held[0].index]

    def get(self, low: int, high: int) -> Sequence[raft.Entry]:
        """Those from `low` to `high` - 1; none unless all of them are here."""
        held = self._entries
        if not held or low < held[0].index or high > held[-1].index + 1:
            return ()
        return held[low - held[0].index : high - held[0].index]


class WalStorage:
    """A `raft.Storage` over one group of the log.

    The core must see only what is durable, and must find all that it has seen.
    So this keeps bounds of its own, which move when the host says so: `end`
    rises once a write is durable, `begin` before entries are dropped.
    `capture` gives a snapshot, (index, content), or raises LookupError. Up to
    `fresh_bytes` of entries are kept in memory between the log and the state.
    """

    def __init__(
        self,
        log: wal.Wal,
        group: int,
        founders: Iterable[int],
        capture: Callable[[], tuple[int, bytes]],
        fresh_bytes: int,
    ) -> None:
        self.fresh = Fresh(fresh_bytes)
        self._log = log
        self._group = group
        self._capture = capture
        state = log.state(group)
        self.first = state.first_index
        self.last = state.last_index
        self.hard_state = raft.HardState(
            state.hard_state.term, state.hard_state.vote, state.hard_state.commit
        )
        mark = state.snapshot
        conf = unpack_conf(mark.conf) if mark and mark.conf else raft.ConfState(tuple(founders))
        self.memberships = Memberships(self.first - 1, conf)
        self.applied = self.first - 1
        """As of which index the core is to begin."""

    def replay_memberships(self, applied: int) -> None:
        """Go through the changes up to the applied index, so that the core begins with what they led to."""
        log, conf = self._log, self.memberships.newest
        if applied < self.first:
            return
        for index in log.of_other_kinds(self._group, self.first, applied + 1):
            (entry,) = log.entries(self._group, index, index + 1)
            conf = changed(conf, raft.from_entry(from_log(entry)), index)
            self.memberships.add(index, conf)

    # What the core reads

    def initial_state(self) -> tuple[raft.HardState, raft.ConfState]:
        """See `raft.Storage`. What a mark covers was committed, even if that was never written."""
        hard = self.hard_state
        if hard != raft.EMPTY_HARD_STATE and hard.commit < self.first - 1:
            hard = raft.HardState(hard.term, hard.vote, self.first - 1)
        return hard, self.memberships.at(self.applied)

    def entries(self, low: int, high: int, max_size: int) -> Sequence[raft.Entry]:
        """See `raft.Storage`."""
        self._check(low, high - 1)
        if fresh := self.fresh.get(low, high):
            return limit_size(fresh, max_size)
        found = self._log.entries(self._group, low, high, max_bytes=max_size)
        return limit_size([from_log(entry) for entry in found], max_size)

    def term(self, index: int) -> int:
        """See `raft.Storage`."""
        self._check(index + 1, index)
        return self._log.term(self._group, index)

    def _check(self, low: int, high: int) -> None:
        if low < self.first:
            raise raft.CompactedError(f"the log begins at {self.first}, and {low} was asked for")
        if high > self.last:
            raise raft.UnavailableError(f"the log ends at {self.last}, and {high} was asked for")

    def first_index(self) -> int:
        """See `raft.Storage`."""
        return self.first

    def last_index(self) -> int:
        """See `raft.Storage`."""
        return self.last

    def snapshot(self) -> raft.Snapshot:
        """See `raft.Storage`."""
        try:
            index, data = self._capture()
        except LookupError as none:
            raise raft.SnapshotUnavailableError(str(none)) from none
        if not self.first - 1 <= index <= self.last or index == 0:
            raise raft.SnapshotUnavailableError(f"the state as of entry {index} is not in this log")
        return raft.Snapshot(index, self.term(index), data, self.memberships.at(index))
