"""RawNode: the core as its host sees it."""

from collections.abc import Iterable

from .changes import ConfChange, to_entry
from .config import Config
from .errors import LocalMessageError, RaftFatal, UnknownPeerError
from .membership import apply_conf_change
from .messages import (
    APPEND_THREAD,
    APPLY_THREAD,
    EMPTY_HARD_STATE,
    LOCAL_TYPES,
    RESPONSE_TYPES,
    THREADS,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Ready,
    Role,
    Snapshot,
)
from .sizes import entries_size
from .state import Raft
from .status import Status
from .step import step, tick


class RawNode:
    """One replica's consensus: inputs go in by the methods, work comes out by `ready`.

    Not thread-safe, never blocks, knows no clock. The package's docstring is the contract. Any
    method may raise RaftFatal; the node must not be used afterwards.
    """

    def __init__(self, config: Config) -> None:
        self._raft = Raft(config)
        self._async = config.async_storage_writes
        self._soft_state = self._raft.soft_state()
        self._hard_state = self._raft.hard_state()
        self._steps_on_advance: list[Message] = []

    # What goes in

    def tick(self) -> None:
        """One unit of time has passed."""
        tick(self._raft)

    def campaign(self) -> None:
        """Stand for election now, if this node may."""
        step(self._raft, Message(MessageType.HUP))

    def propose(self, data: bytes) -> None:
        """Propose one normal entry. Raises ProposalDroppedError where it is not taken or passed on."""
        self.propose_batch((data,))

    def propose_batch(self, batch: Iterable[bytes]) -> None:
        """Propose several normal entries at once: all are taken, in this order, or none.

        Raises ProposalDroppedError where they are not.
        """
        self._propose(tuple(Entry(data=data) for data in batch))

    def propose_conf_change(self, change: ConfChange) -> None:
        """Propose a change of membership.

        One that must not be now is replaced by an empty normal entry; that is not an error.
        Raises ProposalDroppedError where not even that is taken, ValueError for an invalid v1 change.
        """
        self._propose((to_entry(change),))

    def _propose(self, entries: tuple[Entry, ...]) -> None:
        step(self._raft, Message(MessageType.PROP, from_=self._raft.id, entries=entries))

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        """Apply a committed change of membership; call it for each, before `advance`.

        Gives the membership from now on, to be stored with the applied index.
        """
        return apply_conf_change(self._raft, change)

    def step(self, message: Message) -> None:
        """Take in a message from a peer or a storage thread.

        Raises LocalMessageError for one that only the node itself may send, UnknownPeerError for a
        response of somebody who is no member, ProposalDroppedError for a proposal that is not taken.
        """
        if message.from_ not in THREADS:
            if message.type in LOCAL_TYPES:
                raise LocalMessageError(f"a {message.type.value} came from {message.from_}")
            if message.type in RESPONSE_TYPES and message.from_ not in self._raft.tracker.progress:
                raise UnknownPeerError(
                    f"a {message.type.value} came from {message.from_}, which is no member"
                )
        step(self._raft, message)

    def transfer_leader(self, to: int) -> None:
        """Ask for leadership to be handed to `to`."""
        step(self._raft, Message(MessageType.TRANSFER_LEADER, from_=to))

    def forget_leader(self) -> None:
        """As a follower, drop the leader, so that pre-votes are granted before a timeout."""
        step(self._raft, Message(MessageType.FORGET_LEADER))

    def report_unreachable(self, peer: int) -> None:
        """Something sent to `peer` was probably lost."""
        step(self._raft, Message(MessageType.UNREACHABLE, from_=peer))

    def report_snapshot(self, peer: int, *, failed: bool) -> None:
        """The snapshot that was sent to `peer` arrived, or did not."""
        step(self._raft, Message(MessageType.SNAP_STATUS, from_=peer, reject=failed))

    def read_index(self, context: bytes) -> None:
        """Ask from which index on a read would be linearizable.

        The answer comes in a later Ready's `read_states`, with the context, or never (no leader, or
        it changed): use a context of its own for each read and ask again after a while.
        """
        step(self._raft, Message(MessageType.READ_INDEX, entries=(Entry(data=context),)))

    def set_randomized_election_timeout(self, ticks: int) -> None:
        """Replace the timeout that was drawn, until the next one is."""
        self._raft.randomized_election_timeout = ticks

    # What comes out

    def has_ready(self) -> bool:
        """Whether `ready` would hand out anything."""
        raft, hard, soft = self._raft, self._hard_state, self._soft_state
        # Asked after every input: in this order, and without calls, because that shows.
        return bool(
            raft.log.committed != hard.commit
            or raft.messages_after_append
            or raft.messages
            or raft.read_states
            or raft.term != hard.term
            or raft.vote != hard.vote
            or raft.lead != soft.lead
            or raft.role is not soft.role
            or raft.log.unstable.has_next
            or (raft.log.applying < raft.log.committed and raft.log.has_next_committed(not self._async))
        )

    @property
    def restoring(self) -> bool:
        """Whether a snapshot has begun to take the log's place, and is not stored yet."""
        return self._raft.log.restoring

    def _hard_state_changed(self) -> bool:
        raft, before = self._raft, self._hard_state
        return raft.log.committed != before.commit or raft.term != before.term or raft.vote != before.vote

    def _soft_state_changed(self) -> bool:
        raft, before = self._raft, self._soft_state
        return raft.lead != before.lead or raft.role is not before.role

    def ready(self) -> Ready:
        """Hand out all there is to do, once: nothing of it comes again.

        Call `advance` when it is done, before the next `ready`; with asynchronous storage writes,
        the messages to the storage threads take the place of both.
        """
        raft = self._raft
        unstable = raft.log.unstable
        before = self._hard_state
        hard_state = raft.hard_state() if self._hard_state_changed() else None
        soft_state = raft.soft_state() if self._soft_state_changed() else None
        entries = tuple(unstable.next_entries())
        committed = tuple(raft.log.next_committed(not self._async))
        snapshot = unstable.next_snapshot()
        ready = Ready(
            soft_state,
            hard_state,
            tuple(raft.read_states),
            entries,
            snapshot,
            committed,
            self._outgoing(hard_state, entries, snapshot, committed),
            bool(entries) or raft.term != before.term or raft.vote != before.vote,
        )
        self._soft_state = soft_state or self._soft_state
        self._hard_state = hard_state or before
        self._accept(committed)
        return ready

    def _outgoing(
        self,
        hard_state: HardState | None,
        entries: tuple[Entry, ...],
        snapshot: Snapshot | None,
        committed: tuple[Entry, ...],
    ) -> tuple[Message, ...]:
        """The messages to hand out, those to the storage threads included; notes what `advance` owes."""
        raft = self._raft
        deferred = raft.messages_after_append
        stored = []
        # Also while earlier entries are still being written: their own answer may have been dropped
        # because of a change of term, and then this one takes its place.
        if raft.log.unstable.entries or snapshot:
            stored.append(self._stored(snapshot))
        applied = []
        if committed:
            applied.append(Message(MessageType.STORAGE_APPLY_RESP, raft.id, APPLY_THREAD, entries=committed))
        if not self._async:
            if self._steps_on_advance:
                raise RaftFatal("a Ready was taken before the last one was advanced")
            self._steps_on_advance = [m for m in deferred if m.to == raft.id] + stored + applied
            return (*raft.messages, *(m for m in deferred if m.to != raft.id))
        out = list(raft.messages)
        if entries or hard_state or snapshot or deferred:
            kept = hard_state or EMPTY_HARD_STATE
            out.append(
                Message(
                    MessageType.STORAGE_APPEND,
                    APPEND_THREAD,
                    raft.id,
                    term=kept.term,
                    vote=kept.vote,
                    commit=kept.commit,
                    entries=entries,
                    snapshot=snapshot,
                    responses=(*deferred, *stored),
                )
            )
        if committed:
            out.append(
                Message(
                    MessageType.STORAGE_APPLY,
                    APPLY_THREAD,
                    raft.id,
                    entries=committed,
                    responses=tuple(applied),
                )
            )
        return tuple(out)

    def _stored(self, snapshot: Snapshot | None) -> Message:
        """What to step once all that is unstable now is stored.

        It names the end of the log as of now, under the current term. Should the term change before
        it comes back, the entries may have been replaced by others that are not stored yet, and
        replaced back: an answer from an older term therefore makes no entries stable.
        """
        log = self._raft.log
        any_entries = bool(log.unstable.entries)
        return Message(
            MessageType.STORAGE_APPEND_RESP,
            self._raft.id,
            APPEND_THREAD,
            term=self._raft.term,
            index=log.last_index() if any_entries else 0,
            log_term=log.last_term() if any_entries else 0,
            snapshot=snapshot,
        )

    def _accept(self, committed: tuple[Entry, ...]) -> None:
        raft = self._raft
        raft.read_states = []
        raft.messages = []
        raft.messages_after_append = []
        raft.log.unstable.accept()
        if committed:
            raft.log.accept_applying(committed[-1].index, entries_size(committed), not self._async)

    def advance(self) -> None:
        """The last Ready is done: stored as far as it had to be, and its committed entries applied.

        Raises RaftFatal with asynchronous storage writes, where the threads' responses say so.
        """
        if self._async:
            raise RaftFatal("with asynchronous storage writes there is no advance")
        steps, self._steps_on_advance = self._steps_on_advance, []
        for message in steps:
            step(self._raft, message)

    # Alone

    @property
    def leads_alone(self) -> bool:
        """Whether this node leads a group that nobody else belongs to, not even as a learner."""
        raft = self._raft
        return raft.role is Role.LEADER and len(raft.tracker.progress) == 1

    @property
    def is_settled(self) -> bool:
        """Whether all of the log is committed, and every change of membership in it applied."""
        log = self._raft.log
        return log.committed == log.last_index() and not self.is_changing

    @property
    def is_changing(self) -> bool:
        """Whether a change of membership may be in the log and is not applied."""
        return self._raft.pending_conf_index > self._raft.log.applied

    def commit_alone(self, index: int) -> HardState:
        """Take note of entries that a leader who is alone has put into its storage itself.

        They are of its term, follow all that it had, are durable up to `index`, and thus committed.
        They will not be handed out to be applied. Gives the hard state as of now, to be stored with
        whatever is stored next. Raises RaftFatal unless the node leads alone and its own last entry
        is stored.
        """
        raft, log = self._raft, self._raft.log
        if not self.leads_alone or log.unstable.entries:
            raise RaftFatal(f"entries up to {index} were committed past a node that does not lead alone")
        log.unstable.offset = log.unstable.in_progress = index + 1
        raft.tracker.progress[raft.id].maybe_update(index)
        log.commit_to(index)
        log.applying = index
        self._hard_state = raft.hard_state()
        return self._hard_state

    def apply_alone(self, index: int) -> None:
        """Entries up to `index`, which were noted by `commit_alone`, are applied."""
        self._raft.log.applied_to(index, 0)

    # How it stands

    def status(self) -> Status:
        """Everything worth showing."""
        return Status.of(self._raft)

    @property
    def id(self) -> int:
        """This replica's id."""
        return self._raft.id

    @property
    def term(self) -> int:
        """The current term."""
        return self._raft.term

    @property
    def lead(self) -> int:
        """The leader's id, NO_NODE while none is known."""
        return self._raft.lead

    @property
    def role(self) -> Role:
        """What this replica takes itself for."""
        return self._raft.role

    @property
    def last_index(self) -> int:
        """Index of the last entry of the log, stored or not."""
        return self._raft.log.last_index()

    def term_of(self, index: int) -> int:
        """Term of an entry, stored or not; zero where it cannot be known."""
        return self._raft.log.term_or_zero(index)

    @property
    def committed(self) -> int:
        """The commit index."""
        return self._raft.log.committed

    @property
    def applied(self) -> int:
        """The highest index reported as applied."""
        return self._raft.log.applied
