"""What is kept in memory of one group: its state, and where each live entry lies.

An entry takes 29 bytes here, in six columns; its data stays in the file. The same methods run when
an update is made and when it is replayed, so that a recovered group cannot differ from the live one.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np

from vecdb_replication.wal.codec import Checkpoint, Item, Relocation, Run, Update
from vecdb_replication.wal.types import GroupState, HardState, SnapshotMark, Tombstone

# The segment of an entry that was written before the oldest segment there is. Such entries are met
# only during a replay, and have to be compacted, overwritten or relocated by its end.
ABSENT = 0


@dataclass(frozen=True, slots=True)
class Location:
    """Where an entry's data lies, and how to tell that it is still that data."""

    term: int
    kind: int
    segment: int
    offset: int
    length: int
    check: int


class GroupLog:
    """One group's part of the log."""

    __slots__ = (
        "_checks",
        "_kinds",
        "_lengths",
        "_offsets",
        "_segments",
        "_terms",
        "first_index",
        "hard_state",
        "snapshot",
        "tombstone",
    )

    def __init__(self) -> None:
        self.tombstone: Tombstone | None = None
        self._empty()

    def _empty(self) -> None:
        self.hard_state = HardState()
        self.snapshot: SnapshotMark | None = None
        self._clear(first_index=1)

    def _clear(self, first_index: int) -> None:
        self.first_index = first_index
        self._terms = array("Q")
        self._segments = array("Q")
        self._offsets = array("Q")
        self._lengths = array("I")
        self._checks = array("I")
        self._kinds = bytearray()

    @property
    def last_index(self) -> int:
        """Index of the last entry; one before the first where there is none."""
        return self.first_index + len(self._kinds) - 1

    def state(self) -> GroupState:
        """A copy of everything but the entries."""
        return GroupState(
            self.hard_state,
            self.first_index,
            self.last_index,
            self.snapshot,
            self.tombstone,
            int(np.asarray(self._lengths).sum(dtype=np.uint64)),
        )

    def checkpoint(self, group: int) -> Checkpoint:
        """What the next segment says of this group first."""
        return Checkpoint(group, self.hard_state, self.snapshot, self.tombstone, self.last_index)

    def term(self, index: int) -> int:
        """The term of a live entry."""
        return self._terms[index - self.first_index]

    def locate(self, index: int) -> Location:
        """Where a live entry lies."""
        i = index - self.first_index
        return Location(
            self._terms[i],
            self._kinds[i],
            self._segments[i],
            self._offsets[i],
            self._lengths[i],
            self._checks[i],
        )

    def of_other_kinds(self, lo: int, hi: int) -> list[int]:
        """The indexes of the live entries lo to hi - 1 whose kind is not 0."""
        if lo == hi:
            return []
        kinds = np.frombuffer(self._kinds, dtype=np.uint8)[lo - self.first_index : hi - self.first_index]
        return [lo + int(at) for at in np.flatnonzero(kinds)]

    def lengths(self, lo: int, hi: int) -> array[int]:
        """Bytes of data of the live entries lo to hi - 1."""
        return self._lengths[lo - self.first_index : hi - self.first_index]

    def within(self, segment: int) -> tuple[list[int], int]:
        """The indexes of the live entries in a segment, and the bytes of their data."""
        if not self._kinds:
            return [], 0
        here = np.frombuffer(self._segments, dtype=np.uint64) == segment
        held = int(np.frombuffer(self._lengths, dtype=np.uint32)[here].sum(dtype=np.uint64))
        return [self.first_index + int(i) for i in np.flatnonzero(here)], held

    def apply(self, item: Item, segment: int, offset: int) -> None:
        """Take over one logged item whose data begins at `offset` of `segment`.

        ValueError where the item cannot follow what came before it.
        """
        match item:
            case Update():
                self._update(item, segment, offset)
            case Relocation():
                self._relocate(item.run, segment, offset)
            case Checkpoint():
                self._restore(item)

    def _update(self, item: Update, segment: int, offset: int) -> None:
        if item.tombstone is not None:
            self._empty()
            self.tombstone = item.tombstone
        if item.snapshot is not None:
            self._install(item.snapshot, item.reset)
        if item.run is not None:
            self._extend(item.run, segment, offset)
        if item.hard_state is not None:
            self.hard_state = item.hard_state

    def _install(self, mark: SnapshotMark, reset: bool) -> None:
        self.snapshot = mark
        if reset:
            self._clear(mark.index + 1)
            return
        gone = mark.index + 1 - self.first_index
        if not 0 <= gone <= len(self._kinds):
            raise ValueError(f"a snapshot mark at {mark.index} lies outside the log")
        for column in (self._terms, self._segments, self._offsets, self._lengths, self._checks, self._kinds):
            del column[:gone]
        self.first_index = mark.index + 1

    def _extend(self, run: Run, segment: int, offset: int) -> None:
        kept = run.first - self.first_index
        if not 0 <= kept <= len(self._kinds):
            raise ValueError(f"entries from {run.first} on leave a gap behind {self.last_index}")
        for column in (self._terms, self._segments, self._offsets, self._lengths, self._checks, self._kinds):
            del column[kept:]
        self._terms.extend(run.terms)
        self._segments.extend([segment] * len(run))
        self._lengths.extend(run.lengths)
        self._checks.extend(run.checks)
        self._kinds.extend(run.kinds)
        for length in run.lengths:
            self._offsets.append(offset)
            offset += length

    def _relocate(self, run: Run, segment: int, offset: int) -> None:
        at = run.first - self.first_index
        if not 0 <= at <= len(self._kinds) - len(run):
            raise ValueError(f"entries moved from {run.first} on are not in the log")
        for i, length in enumerate(run.lengths, start=at):
            self._terms[i] = run.terms[i - at]
            self._kinds[i] = run.kinds[i - at]
            self._segments[i], self._offsets[i] = segment, offset
            self._lengths[i], self._checks[i] = length, run.checks[i - at]
            offset += length

    def _restore(self, told: Checkpoint) -> None:
        self.hard_state, self.snapshot, self.tombstone = told.hard_state, told.snapshot, told.tombstone
        self._clear(told.snapshot.index + 1 if told.snapshot else 1)
        missing = told.last_index + 1 - self.first_index
        if missing < 0:
            raise ValueError("a checkpoint ends before it begins")
        for column in (self._terms, self._segments, self._offsets, self._lengths, self._checks):
            column.frombytes(bytes(column.itemsize * missing))
        self._kinds.extend(bytes(missing))
