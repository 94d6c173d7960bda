"""The state of one replica and the few things that every role does with it.

The roles themselves are functions over this state, in modules of their own: `elections`,
`follower`, `candidate`, `leader`, with `replication` and `membership` below them and `step` above.
"""

from collections.abc import Sequence
from dataclasses import replace

from . import confchange
from .config import Config
from .errors import ConfChangeError, RaftFatal
from .log import RaftLog
from .messages import (
    EMPTY_HARD_STATE,
    NO_LIMIT,
    NO_NODE,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    ReadState,
    Role,
    Snapshot,
    SoftState,
)
from .reads import ReadQueue
from .sizes import payload_size
from .tracker import ProgressTracker

_TERMLESS = frozenset({MessageType.PROP, MessageType.READ_INDEX})
# These vouch for something that must not be forgotten: they leave once it is durable (thesis 3.8).
_AFTER_APPEND = frozenset({MessageType.APP_RESP, MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP})


class Raft:
    """One replica. Made from a validated configuration and what its storage holds.

    Raises RaftFatal if the storage contradicts itself: a commit or applied index beyond the log, a
    configuration that cannot be.
    """

    def __init__(self, config: Config) -> None:
        config.validate()
        self.config = config
        self.id = config.id
        self.term = 0
        self.vote = NO_NODE
        self.lead = NO_NODE
        self.role = Role.FOLLOWER
        self.is_learner = False
        self.lead_transferee = NO_NODE
        self.pending_conf_index = 0
        """As a leader: no change of membership may be proposed before this index is applied."""
        self.first_own_index = 0
        """As a leader, where the entries of its own term begin."""
        self.uncommitted_size = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_timeout = 0
        self.messages: list[Message] = []
        """To other nodes, at once."""
        self.messages_after_append: list[Message] = []
        """To other nodes or to this one, once all that is unstable now is durable."""
        self.read_states: list[ReadState] = []
        self.reads = ReadQueue()
        self.postponed_reads: list[Message] = []
        """Reads that came before this leader committed anything in its term."""

        self.max_uncommitted_size = config.max_uncommitted_entries_size or NO_LIMIT
        self.log = RaftLog(config.storage, config.max_applying_size)
        self.tracker = ProgressTracker(config.max_inflight_msgs, config.max_inflight_bytes or NO_LIMIT)
        hard_state, conf_state = config.storage.initial_state()
        self.restore_configuration(conf_state)
        self._open(hard_state)

    def _open(self, hard_state: HardState) -> None:
        log = self.log
        if hard_state != EMPTY_HARD_STATE:
            if not log.committed <= hard_state.commit <= log.last_index():
                raise RaftFatal(
                    f"stored commit {hard_state.commit} is outside [{log.committed}, {log.last_index()}]"
                )
            log.committed = hard_state.commit
            self.term = hard_state.term
            self.vote = hard_state.vote
        if self.config.applied:
            # What was applied was committed, even if that news had not reached the disk.
            log.commit_to(self.config.applied)
            log.applied_to(self.config.applied, 0)
        self.reset(self.term)

    def restore_configuration(self, conf_state: ConfState) -> None:
        """Take on the membership that a snapshot names, knowing nothing of anyone's progress."""
        tracker = self.tracker.fresh()
        try:
            tracker.switch(*confchange.restore(tracker, self.log.last_index(), conf_state))
        except ConfChangeError as error:
            raise RaftFatal(f"the configuration {conf_state} cannot be restored: {error}") from error
        restored = tracker.config.conf_state()
        if not restored.equivalent(conf_state):
            raise RaftFatal(f"the configuration {conf_state} came back as {restored}")
        self.tracker = tracker
        self.note_own_role()

    def note_own_role(self) -> bool:
        """Look up what this replica is in the active configuration; whether it votes in it."""
        own = self.tracker.progress.get(self.id)
        self.is_learner = own is not None and own.is_learner
        return own is not None and not own.is_learner

    def soft_state(self) -> SoftState:
        """Leader and role as of now."""
        return SoftState(self.lead, self.role)

    def hard_state(self) -> HardState:
        """Term, vote and commit index as of now."""
        return HardState(self.term, self.vote, self.log.committed)

    @property
    def promotable(self) -> bool:
        """Whether this replica may stand for election: a voter with no snapshot under way."""
        own = self.tracker.progress.get(self.id)
        return own is not None and not own.is_learner and not self.log.restoring

    @property
    def in_lease(self) -> bool:
        """Whether a leader was heard of recently enough to turn away other candidates."""
        return (
            self.config.check_quorum
            and self.lead != NO_NODE
            and self.election_elapsed < self.config.election_tick
        )

    @property
    def committed_in_term(self) -> bool:
        """Whether this leader has committed an entry of its term."""
        if self.tracker.singleton:
            # Nobody else can know better, so take no snapshot's word for it: its own empty entry.
            return self.log.committed >= self.first_own_index
        return self.log.term_or_zero(self.log.committed) == self.term

    def reset(self, term: int) -> None:
        """Begin a term, or a role within it, from a clean slate."""
        if term != self.term:
            self.term = term
            self.vote = NO_NODE
        self.lead = NO_NODE
        self.lead_transferee = NO_NODE
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_timeout = self.config.draw_timeout(self.config.election_tick)
        self.tracker.votes = {}
        self.tracker.reset_progress(self.id, self.log.last_index())
        self.uncommitted_size = 0
        self.reads = ReadQueue()

    # Messages

    def send(
        self,
        type_: MessageType,
        to: int,
        *,
        term: int | None = None,
        log_term: int = 0,
        index: int = 0,
        entries: tuple[Entry, ...] = (),
        commit: int = 0,
        snapshot: Snapshot | None = None,
        reject: bool = False,
        reject_hint: int = 0,
        context: bytes = b"",
    ) -> None:
        """Queue a message of this node, in its own term unless another one is given."""
        message = Message(
            type_,
            to,
            self.id,
            self.term if term is None else term,
            log_term,
            index,
            entries,
            commit,
            NO_NODE,
            snapshot,
            reject,
            reject_hint,
            context,
        )
        if type_ in _AFTER_APPEND:
            self.messages_after_append.append(message)
        else:
            self.messages.append(message)

    def forward(self, message: Message) -> None:
        """Pass a request on to the leader, under its sender's name.

        Proposals and reads stay without a term: whoever leads when they arrive may take them.
        Raises RaftFatal for a request that has a term, or a leader that is this node itself.
        """
        if message.term:
            raise RaftFatal(f"a {message.type.value} must not have a term, but has {message.term}")
        if self.lead == self.id:
            raise RaftFatal(f"a {message.type.value} would be sent to the node itself")
        term = 0 if message.type in _TERMLESS else self.term
        self.messages.append(replace(message, to=self.lead, from_=message.from_ or self.id, term=term))

    # Appending as a leader

    def append(self, entries: Sequence[Entry]) -> bool:
        """Append a leader's entries, giving them their term and index; false if they are too much.

        The leader acknowledges them to itself as a follower does, once they are durable.
        """
        size = payload_size(entries)
        # Any size is let in while nothing is uncommitted, and empty payloads always are: the first
        # entry of a term and the one that leaves a joint state must not be refused.
        if self.uncommitted_size and size and self.uncommitted_size + size > self.max_uncommitted_size:
            return False
        self.uncommitted_size += size
        term, index = self.term, self.log.last_index() + 1
        last = self.log.append(
            [Entry(term, index + offset, entry.type, entry.data) for offset, entry in enumerate(entries)]
        )
        self.send(MessageType.APP_RESP, self.id, index=last)
        return True

    def reduce_uncommitted(self, size: int) -> None:
        """Payloads of `size` bytes were applied. What came from before the term was never counted."""
        self.uncommitted_size = max(self.uncommitted_size - size, 0)

    def maybe_commit(self) -> bool:
        """As the leader, commit what a quorum has acknowledged; whether that is more than before."""
        return self.log.maybe_commit(self.term, self.tracker.committed())
