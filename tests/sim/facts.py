"""What the simulator knows and no node does: what each disk has, what is committed, who led when."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from vecdb_replication import raft, wal
from vecdb_replication.host.replica import Replica


class Violation(AssertionError):
    """An invariant does not hold; the message says which."""


def fail(what: str) -> NoReturn:
    """Something does not hold. Raises Violation."""
    raise Violation(what)


@dataclass(slots=True)
class DurableLog:
    """What one replica's disk has for sure: a model of the log, kept beside the real one."""

    term: int = 0
    vote: int = 0
    commit: int = 0
    first: int = 1
    first_term: int = 0
    """The term of the entry before the first."""
    entries: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)
    """Term, kind and data by index."""

    @property
    def last(self) -> int:
        return self.first + len(self.entries) - 1

    @property
    def shape(self) -> tuple[int, int, int, int, int, int]:
        """What can be compared with what a log says of a group."""
        return (self.term, self.vote, self.commit, self.first, self.last, self.term_at(self.last) or 0)

    def term_at(self, index: int) -> int | None:
        if index == self.first - 1:
            return self.first_term
        found = self.entries.get(index)
        return found[0] if found else None

    def has(self, index: int, term: int) -> bool:
        """Whether the entry is there, or in the snapshot before what is there."""
        return index < self.first or self.term_at(index) == term

    def copy(self) -> DurableLog:
        return DurableLog(self.term, self.vote, self.commit, self.first, self.first_term, dict(self.entries))

    def apply(self, update: wal.GroupUpdate) -> None:
        """One more update is durable."""
        if (mark := update.snapshot) is not None:
            if self.term_at(mark.index) == mark.term:
                self._forget(self.first, mark.index)
            else:
                self.entries.clear()
            self.first, self.first_term = mark.index + 1, mark.term
        if update.entries:
            self._forget(update.entries[0].index, self.last)
        for entry in update.entries:
            self.entries[entry.index] = (entry.term, entry.kind, entry.data)
        if (hard := update.hard_state) is not None:
            self.term, self.vote, self.commit = hard.term, hard.vote, hard.commit

    def _forget(self, first: int, last: int) -> None:
        for index in range(first, last + 1):
            del self.entries[index]


@dataclass(slots=True)
class GroupFacts:
    """One group, as history will tell of it."""

    founders: raft.ConfState
    disks: dict[int, DurableLog] = field(default_factory=dict)
    """By replica id, also of replicas that are no more."""
    committed: dict[int, int] = field(default_factory=dict)
    """The term of each committed entry."""
    commit: int = 0
    applied: dict[int, tuple[bytes, object]] = field(default_factory=dict)
    """By index: what was applied, and the checksum of the state behind it."""
    appended: dict[tuple[int, int], tuple[int, int, bytes]] = field(default_factory=dict)
    """By (index, term): the term before it, its kind, its data."""
    leaders: dict[int, int] = field(default_factory=dict)
    writers: dict[bytes, int] = field(default_factory=dict)
    """Where each client's entry was applied."""
    seen: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    """By replica: life, term, commit, applied, as last looked at."""
    changes: list[tuple[int, raft.ConfState]] = field(default_factory=list)
    """Committed changes of membership, and what they led to."""

    def has_change_under_way(self) -> bool:
        """Whether some disk has a change of membership that is not committed, and may be one day."""
        return any(
            kind != raft.EntryType.NORMAL and index > self.commit
            for disk in self.disks.values()
            for index, (_, kind, _) in disk.entries.items()
        )

    def conf_at(self, index: int) -> raft.ConfState:
        """The membership that the committed entries up to an index lead to."""
        at = bisect_right(self.changes, index, key=lambda change: change[0])
        return self.changes[at - 1][1] if at else self.founders


@dataclass(slots=True)
class Look:
    """A replica after a step of the simulation."""

    group: int
    life: int
    replica: Replica
    facts: GroupFacts

    @property
    def id(self) -> int:
        return self.replica.id

    @property
    def node(self) -> raft.RawNode:
        return self.replica.node

    def term_at(self, index: int) -> int:
        return self.node._raft.log.term_or_zero(index)

    def __str__(self) -> str:
        return f"replica {self.id} of group {self.group}"


def recovered(state: wal.GroupState, last_term: int) -> tuple[int, int, int, int, int, int]:
    """The shape of what a log says of a group after it was opened."""
    hard = state.hard_state
    return (hard.term, hard.vote, hard.commit, state.first_index, state.last_index, last_term)


def after(log: DurableLog, updates: Sequence[wal.GroupUpdate]) -> DurableLog:
    """The log once these updates are durable as well."""
    copy = log.copy()
    for update in updates:
        copy.apply(update)
    return copy
