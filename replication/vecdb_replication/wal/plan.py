"""Turning what callers ask for into what is logged, or refusing it before a byte is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crc32c import crc32c

from vecdb_replication.wal.codec import Run, Update
from vecdb_replication.wal.errors import LogMisuse
from vecdb_replication.wal.group import GroupLog
from vecdb_replication.wal.types import Entry, GroupUpdate, SnapshotMark, Tombstone

_MAX_KIND = 255
_MAX_DATA = 2**32 - 1
_MAX_NUMBER = 2**64 - 1


class _Draft:
    """A group as it will be after the updates planned so far: bounds and terms, nothing more."""

    __slots__ = ("_first", "_log", "_mark", "_runs", "_stone", "last")

    def __init__(self, log: GroupLog | None) -> None:
        self._log = log
        self._runs: list[Run] = []
        self._mark = log.snapshot if log else None
        self._stone = log.tombstone if log else None
        self._first = log.first_index if log else 1
        self.last = log.last_index if log else 0

    def term(self, index: int) -> int | None:
        """The term at an index of the log or of the snapshot; None outside."""
        if not self._first <= index <= self.last:
            return self._mark.term if self._mark and index == self._mark.index else None
        for run in reversed(self._runs):
            if run.first <= index:
                return run.terms[index - run.first]
        assert self._log is not None
        return self._log.term(index)

    def bury(self, stone: Tombstone) -> bool:
        """Take a tombstone; returns whether it is news. Whatever follows belongs to a new replica."""
        if self._stone and stone.replica_id < self._stone.replica_id:
            raise LogMisuse(f"replica {stone.replica_id} was buried before {self._stone.replica_id}")
        if stone == self._stone:
            return False
        self._stone = stone
        self._log, self._runs, self._mark, self._first, self.last = None, [], None, 1, 0
        return True

    def install(self, mark: SnapshotMark) -> bool:
        """Take a snapshot mark; returns whether it empties the log."""
        if mark.index < 1:
            raise LogMisuse("indexes begin at 1")
        if self._mark and mark.index < self._mark.index:
            raise LogMisuse(f"a snapshot mark at {mark.index} behind the one at {self._mark.index}")
        reset = self.term(mark.index) != mark.term
        if reset and self._mark and mark.index == self._mark.index:
            raise LogMisuse(f"a second snapshot at {mark.index}, of another term")
        self._mark, self._first = mark, mark.index + 1
        if reset:
            # Older runs may stay: newer ones are found first, and cover whatever is live from here on.
            self.last = mark.index
        return reset

    def expect(self, after: tuple[int, int], *, as_last: bool) -> None:
        """Refuse what builds on another log than this one."""
        index, term = after
        here = self.term(index) if index else 0
        if here != term or (as_last and index != self.last):
            raise LogMisuse(f"entry {index} of term {term} was to come before, and is not there")

    def extend(self, run: Run) -> None:
        """Take entries, overwriting from the first of them on."""
        if not self._first <= run.first <= self.last + 1:
            raise LogMisuse(
                f"entries from {run.first} on do not fit a log of {self._first} to {self.last}:"
                " they would leave a gap or rewrite what a snapshot holds"
            )
        self._runs.append(run)
        self.last = run.first + len(run) - 1


def plan(updates: Sequence[GroupUpdate], groups: Mapping[int, GroupLog]) -> list[Update]:
    """The items to log. Raises LogMisuse for what may not follow from the groups as they are."""
    drafts: dict[int, _Draft] = {}
    items = []
    for update in updates:
        draft = drafts.get(update.group)
        if draft is None:
            draft = drafts[update.group] = _Draft(groups.get(update.group))
        try:
            _check_numbers(update.group)
            items.append(_plan(update, draft))
        except LogMisuse as misuse:
            raise LogMisuse(f"group {update.group}: {misuse}", update.group) from None
    return items


def _plan(update: GroupUpdate, draft: _Draft) -> Update:
    if update.tombstone is not None:
        if update.entries or update.hard_state or update.snapshot:
            raise LogMisuse("a tombstone comes alone")
        _check_numbers(update.tombstone.replica_id)
        news = draft.bury(update.tombstone)
        # Burying the same replica again must not empty its successor's log.
        return Update(update.group, tombstone=update.tombstone if news else None)
    if update.snapshot:
        _check_numbers(update.snapshot.index, update.snapshot.term)
    if update.hard_state:
        _check_numbers(update.hard_state.term, update.hard_state.vote, update.hard_state.commit)
    reset = draft.install(update.snapshot) if update.snapshot else False
    run = _run(update.entries) if update.entries else None
    if update.after is not None:
        draft.expect(update.after, as_last=run is None)
    if run:
        draft.extend(run)
    return Update(update.group, update.hard_state, update.snapshot, reset, None, run)


def _check_numbers(*numbers: int) -> None:
    # What the columns and msgpack cannot hold has to be refused before anything is written.
    if not 0 <= min(numbers) <= max(numbers) <= _MAX_NUMBER:
        raise LogMisuse(f"numbers go from 0 to {_MAX_NUMBER}")


def _run(entries: Sequence[Entry]) -> Run:
    first = entries[0].index
    for index, entry in enumerate(entries, start=first):
        if entry.index != index:
            raise LogMisuse(f"entry {entry.index} where {index} should follow")
        if not 0 <= entry.kind <= _MAX_KIND or len(entry.data) > _MAX_DATA:
            raise LogMisuse(f"entry {index}: kinds go up to {_MAX_KIND}, data up to {_MAX_DATA} bytes")
    terms = [entry.term for entry in entries]
    _check_numbers(first + len(entries), *terms)
    return Run(
        first,
        terms,
        bytes(entry.kind for entry in entries),
        [len(entry.data) for entry in entries],
        [crc32c(entry.data) for entry in entries],
    )
