"""What goes in and out of the host's core: proposals, reads, messages, writes, tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vecdb_replication import raft, wal
from vecdb_replication.host.machine import StateMachine


@dataclass(slots=True, eq=False)
class Proposal:
    """An entry that somebody waits for. One of `resolve(index, result)` and `reject` is called, once."""

    data: bytes
    resolve: Callable[[int, object], None]
    reject: Callable[[Exception], None]
    change: raft.ConfChange | None = None


@dataclass(slots=True, eq=False)
class Reader:
    """Somebody who waits until the entry at `index` is applied; -1 until it is known which that is.

    One of `done(index)` and `failed` is called, once.
    """

    done: Callable[[int], None]
    failed: Callable[[Exception], None]
    index: int = -1


@dataclass(frozen=True, slots=True)
class Envelope:
    """All that one pass of a host has to say to one peer: (group, message), in order."""

    messages: tuple[tuple[int, raft.Message], ...]


class Outbox(Protocol):
    """The way to other nodes. Never blocks; may lose, repeat and reorder."""

    def send(self, peer: str, envelope: Envelope) -> None:
        """Take an envelope for a peer."""
        ...


@dataclass(frozen=True, slots=True)
class Append:
    """What one Ready of one replica wants durable, and what may be said once it is."""

    group: int
    epoch: int
    update: wal.GroupUpdate | None
    responses: tuple[raft.Message, ...]
    snapshot: raft.Snapshot | None = None


@dataclass(slots=True, eq=False)
class Item:
    """A committed entry on its way to the state machine, and who waits for it."""

    entry: raft.Entry
    proposal: Proposal | None

    @property
    def is_for_machine(self) -> bool:
        """An empty entry begins a term, and a change of membership is none of the machine's business."""
        return bool(self.entry.data) and self.entry.type is raft.EntryType.NORMAL


@dataclass(frozen=True, slots=True)
class Batch:
    """Committed entries of one Ready. `changes` has all its changes of membership.

    `items` lacks what was handed out before: a core that was made anew hands
    it out again. A batch with `install` has no entries: it is a snapshot's.
    """

    epoch: int
    last: int
    items: Sequence[Item]
    changes: Sequence[raft.Entry] = ()
    responses: tuple[raft.Message, ...] = ()
    install: int = 0


@dataclass(frozen=True, slots=True)
class Write:
    """One submission to the log: all that one pass found. One record, one sync.

    `stages` are snapshots, (machine, index, content), to be staged before it.
    """

    appends: Sequence[Append]
    updates: Sequence[wal.GroupUpdate]
    stages: Sequence[tuple[StateMachine, int, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """Something for a worker: entries to apply, or a snapshot to install. One a group at a time."""

    group: int
    machine: StateMachine
    batches: Sequence[Batch]
    entries: Sequence[tuple[int, bytes]]
    install: int = 0


@dataclass(slots=True)
class Pass:
    """What one pass of the core asks for."""

    envelopes: dict[str, Envelope] = field(default_factory=dict)
    """May leave at once, and before the write."""
    write: Write | None = None
    tasks: list[Task] = field(default_factory=list)
    retries: list[int] = field(default_factory=list)
    """Groups that ask to be tried again after a while, by `retry`."""
    checkpoints: list[int] = field(default_factory=list)
    """Groups that need a newer snapshot to bring somebody up: their state is to be made durable."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the groups of a host behave. Ticks are of `tick_seconds`, sizes in bytes."""

    tick_seconds: float = 0.1
    election_ticks: int = 8
    heartbeat_ticks: int = 1
    snapshot_ticks: int = 600
    """How long a leader waits to hear what became of a snapshot before it takes it for lost."""
    read_ticks: int = 5
    """How long an unanswered read waits before it is asked again."""
    max_message_bytes: int = 1 << 20
    max_inflight_messages: int = 64
    max_inflight_bytes: int = 32 << 20
    max_apply_bytes: int = 32 << 20
    """One apply call takes at most so much: a longer one would hold up the answers of all it carries."""
    max_queued_bytes: int = 256 << 20
    """Proposals that are not committed yet, of all groups."""
