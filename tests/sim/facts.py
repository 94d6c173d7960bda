"""What the simulator knows and no node does: what each disk has, what is committed, who led when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vecdb_replication import raft, wal


class Violation(AssertionError):
    """An invariant does not hold; the message says which."""


def demand(holds: bool, what: str) -> None:
    """Raise Violation unless it holds."""
    if not holds:
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
        if (mark := update.snapshot) is not None:
            if self.term_at(mark.index) == mark.term:
                self.entries = {i: entry for i, entry in self.entries.items() if i > mark.index}
            else:
                self.entries = {}
            self.first, self.first_term = mark.index + 1, mark.term
        for entry in update.entries:
            if entry is update.entries[0]:
                self.entries = {i: kept for i, kept in self.entries.items() if i < entry.index}
            self.entries[entry.index] = (entry.term, entry.kind, entry.data)
        if (hard := update.hard_state) is not None:
            self.term, self.vote, self.commit = hard.term, hard.vote, hard.commit


@dataclass(slots=True)
class GroupFacts:
    """One group, as history will tell of it."""

    disks: dict[int, DurableLog] = field(default_factory=dict)
    """By replica id, also of replicas that are no more."""
    committed: dict[int, int] = field(default_factory=dict)
    """The term of each committed entry."""
    commit: int = 0
    applied: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)
    appended: dict[tuple[int, int], tuple[int, int, bytes]] = field(default_factory=dict)
    """By (index, term): the term before it, its kind, its data."""
    leaders: dict[int, int] = field(default_factory=dict)
    writers: dict[bytes, int] = field(default_factory=dict)
    """Where each client's entry was applied."""
    seen: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    """By replica: life, term, commit, applied, as last looked at."""


@dataclass(slots=True)
class Look:
    """A replica after a step of the simulation."""

    group: int
    replica: int
    life: int
    node: raft.RawNode
    applied: int
    facts: GroupFacts

    def term_at(self, index: int) -> int:
        return self.node._raft.log.term_or_zero(index)

    def __str__(self) -> str:
        return f"replica {self.replica} of group {self.group}"


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
