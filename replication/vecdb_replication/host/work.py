"""What goes in and out of the host's core: proposals, reads, messages, writes, tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from vecdb_replication import raft, wal
from vecdb_replication.host.incidents import Incident
from vecdb_replication.host.machine import FileMachine, StateMachine


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


class Nowhere:
    """The outbox of a node that knows no other."""

    def send(self, peer: str, envelope: Envelope) -> None:
        """See `Outbox.send`: there is no such peer."""


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
    it out again. A batch with `install` has no entries: it is a snapshot's. One
    that is `alone` did not come by way of the core, see `Replica.log_alone`.
    """

    epoch: int
    last: int
    items: Sequence[Item]
    changes: Sequence[raft.Entry] = ()
    responses: tuple[raft.Message, ...] = ()
    install: int = 0
    alone: bool = False

    def reject(self, error: Exception) -> None:
        """Tell whoever waits for these entries that they do so in vain."""
        for item in self.items:
            proposal, item.proposal = item.proposal, None
            if proposal is not None:
                proposal.reject(error)

    @property
    def size(self) -> int:
        """Bytes of the entries' data."""
        return sum(len(item.entry.data) for item in self.items)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it for the state machine."""
        return not self.install and not any(item.is_for_machine for item in self.items)


@dataclass(frozen=True, slots=True)
class Append:
    """What one Ready of one replica wants durable, and what may be said once it is.

    `batches` are its entries where being durable is all that they need to be committed.
    """

    group: int
    epoch: int
    update: wal.GroupUpdate | None
    responses: tuple[raft.Message, ...] = ()
    snapshot: raft.Snapshot | None = None
    batches: Sequence[Batch] = ()


@dataclass(slots=True)
class Output:
    """What a replica asks for."""

    messages: list[raft.Message] = field(default_factory=list)
    appends: list[Append] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    reads: list[Reader] = field(default_factory=list)
    """Their indexes are known now."""


@dataclass(frozen=True, slots=True, eq=False)
class Staging:
    """A snapshot to be staged by its machine, before anything more of its group goes to the log."""

    group: int
    machine: StateMachine
    snapshot: raft.Snapshot


@dataclass(frozen=True, slots=True)
class Write:
    """One submission to the log: all that one pass found. One record, one sync.

    The tasks that are `foreseen` may begin as soon as it is durable, before
    `written` is through; their results come after it. Where it was refused
    they are void.
    """

    appends: Sequence[Append]
    updates: Sequence[wal.GroupUpdate]
    foreseen: Sequence[Task] = ()

    def failure_of(self, group: int, error: Exception | None) -> Exception | None:
        """What the write's error means for one group: another's may be the only one at fault."""
        if isinstance(error, wal.GroupsRefused) and group not in error.groups:
            return None
        return error


@dataclass(frozen=True, slots=True)
class Task:
    """Something for a worker: entries to apply, or a snapshot to install. One a group at a time.

    `append` is the one that has to be durable first, where that is not known yet.
    """

    group: int
    machine: StateMachine
    batches: Sequence[Batch]
    entries: Sequence[tuple[int, bytes]]
    install: int = 0
    append: Append | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Fetch:
    """A snapshot's message that waits until the snapshot's files are here."""

    group: int
    sender: str
    machine: FileMachine
    message: raft.Message

    @property
    def snapshot(self) -> raft.Snapshot:
        """What is offered."""
        assert self.message.snapshot is not None, "only snapshots are fetched"
        return self.message.snapshot


@dataclass(slots=True)
class Pass:
    """What one pass of the core asks for."""

    envelopes: dict[str, Envelope] = field(default_factory=dict)
    """May leave at once, and before the write."""
    write: Write | None = None
    tasks: list[Task] = field(default_factory=list)
    stagings: list[Staging] = field(default_factory=list)
    """What became of them is told by `staged`."""
    retries: list[int] = field(default_factory=list)
    """Groups that ask to be tried again after a while, by `retry`."""
    snapshots: list[int] = field(default_factory=list)
    """Groups that need a newer snapshot to bring somebody up: one is to be prepared."""
    fetches: list[Fetch] = field(default_factory=list)
    """Their files are to be fetched, and then they come back by `fetched`."""
    incidents: list[Incident] = field(default_factory=list)


MAX_ENTRY_BYTES: Final = 256 << 20
"""An entry of any group. All nodes of a cluster have to hold to the same limit."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the groups of a host behave. Ticks are of `tick_seconds`, sizes in bytes."""

    tick_seconds: float = 0.1
    election_ticks: int = 8
    heartbeat_ticks: int = 2
    snapshot_ticks: int = 600
    """How long a leader waits to hear what became of a snapshot before it takes it for lost.

    While somebody fetches its files it waits on.
    """
    read_ticks: int = 5
    """How long an unanswered read waits before it is asked again."""
    max_entry_bytes: int = MAX_ENTRY_BYTES
    """What may be proposed as one entry, also by a group of one: it may have others to send it to one day."""
    max_message_bytes: int = 1 << 20
    max_inflight_messages: int = 64
    max_inflight_bytes: int = 32 << 20
    max_apply_bytes: int = 32 << 20
    """One apply call takes at most so much: a longer one would hold up the answers of all it carries."""
    max_kept_bytes: int = 1 << 30
    """How long the node's log may become for the sake of followers that are being brought up."""

    def of_core(
        self, replica: int, storage: raft.Storage, draw: Callable[[int], int], applied: int
    ) -> raft.Config:
        """How the core of a replica behaves, which begins as of an applied index."""
        return raft.Config(
            replica,
            storage,
            draw,
            election_tick=self.election_ticks,
            heartbeat_tick=self.heartbeat_ticks,
            applied=applied,
            pre_vote=True,
            check_quorum=True,
            async_storage_writes=True,
            max_inflight_msgs=self.max_inflight_messages,
            max_inflight_bytes=self.max_inflight_bytes,
            max_size_per_msg=self.max_message_bytes,
            max_committed_size_per_ready=self.max_apply_bytes,
            max_uncommitted_entries_size=0,
            disable_proposal_forwarding=True,
            step_down_on_removal=True,
            commit_in_rejections=True,
        )
