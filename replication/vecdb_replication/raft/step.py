"""Taking in a message: first its term (Raft paper 5.1), then whatever the role makes of it."""

from collections.abc import Callable

from . import elections
from .candidate import step_candidate
from .errors import ProposalDroppedError
from .follower import step_follower
from .leader import check_quorum, propose, step_leader
from .messages import NO_NODE, Entry, EntryType, Message, MessageType, Role, Snapshot
from .replication import broadcast_heartbeat
from .roles import become_follower
from .sizes import entries_size, payload_size
from .state import Raft

_VOTES = frozenset({MessageType.VOTE, MessageType.PRE_VOTE})
_FROM_LEADER = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})

# An empty change, which leaves a joint state; without data, no limit on sizes can refuse it.
_LEAVE_JOINT = Entry(type=EntryType.CONF_CHANGE_V2)


def step(raft: Raft, m: Message) -> None:
    """Handle one message, from a peer, a storage thread or this node itself (then without a term).

    Raises ProposalDroppedError for a proposal that is not taken, RaftFatal for what no correct
    peer or storage can have sent.
    """
    if m.term > raft.term:
        if not _meet_newer_term(raft, m):
            return
    elif 0 < m.term < raft.term:
        _answer_older_term(raft, m)
        return
    handler = _HANDLERS.get(m.type)
    if handler:
        handler(raft, m)
    else:
        _BY_ROLE[raft.role](raft, m)


def _meet_newer_term(raft: Raft, m: Message) -> bool:
    """Move on to the message's term where that is due; false if the message is to be ignored."""
    if m.type in _VOTES and raft.in_lease and m.context != elections.TRANSFER_CONTEXT:
        # A removed or partitioned node must not depose a leader that others still hear (thesis 4.2.3).
        return False
    if m.type is MessageType.PRE_VOTE:
        return True
    if m.type is MessageType.PRE_VOTE_RESP and not m.reject:
        # The term is the one asked about. A rejection's is the voter's own, which this node missed.
        return True
    become_follower(raft, m.term, m.from_ if m.type in _FROM_LEADER else NO_NODE)
    return True


def _answer_older_term(raft: Raft, m: Message) -> None:
    if m.type in (MessageType.HEARTBEAT, MessageType.APP) and (
        raft.config.check_quorum or raft.config.pre_vote
    ):
        # This node may be stuck at a term it cannot win, ignored by all: that leader has to hear of it.
        raft.send(MessageType.APP_RESP, m.from_)
    elif m.type is MessageType.PRE_VOTE:
        elections.reject_pre_vote(raft, m)
    elif m.type is MessageType.STORAGE_APPEND_RESP and m.snapshot:
        # The entries may have been replaced since, but a snapshot is committed state in any term.
        _snapshot_stored(raft, m.snapshot)


def _on_append_stored(raft: Raft, m: Message) -> None:
    if m.index:
        raft.log.unstable.stable_to(m.log_term, m.index)
    if m.snapshot:
        _snapshot_stored(raft, m.snapshot)


def _snapshot_stored(raft: Raft, snapshot: Snapshot) -> None:
    raft.log.unstable.stable_snapshot_to(snapshot.index)
    _applied_to(raft, snapshot.index, 0)


def _on_applied(raft: Raft, m: Message) -> None:
    if m.entries:
        _applied_to(raft, m.entries[-1].index, entries_size(m.entries))
        raft.reduce_uncommitted(payload_size(m.entries))


def _applied_to(raft: Raft, index: int, size: int) -> None:
    raft.log.applied_to(max(index, raft.log.applied), size)
    due = raft.tracker.config.auto_leave and raft.log.applied >= raft.pending_conf_index
    if due and raft.role is Role.LEADER:
        try:
            propose(raft, [_LEAVE_JOINT])
        except ProposalDroppedError:
            # Leadership is being transferred. The next leader leaves the joint state, or this one
            # does at the next entry it applies.
            return


_HANDLERS: dict[MessageType, Callable[[Raft, Message], None]] = {
    MessageType.HUP: lambda raft, _: elections.start(raft),
    MessageType.STORAGE_APPEND_RESP: _on_append_stored,
    MessageType.STORAGE_APPLY_RESP: _on_applied,
    MessageType.VOTE: elections.cast_vote,
    MessageType.PRE_VOTE: elections.cast_vote,
}

_BY_ROLE: dict[Role, Callable[[Raft, Message], None]] = {
    Role.FOLLOWER: step_follower,
    Role.PRE_CANDIDATE: step_candidate,
    Role.CANDIDATE: step_candidate,
    Role.LEADER: step_leader,
}


def tick(raft: Raft) -> None:
    """A unit of time passes."""
    if raft.role is Role.LEADER:
        _tick_leader(raft)
        return
    raft.election_elapsed += 1
    if raft.promotable and raft.election_elapsed >= raft.randomized_election_timeout:
        raft.election_elapsed = 0
        elections.start(raft)


def _tick_leader(raft: Raft) -> None:
    raft.heartbeat_elapsed += 1
    raft.election_elapsed += 1
    if raft.election_elapsed >= raft.config.election_tick:
        raft.election_elapsed = 0
        if raft.config.check_quorum:
            check_quorum(raft)
        # A transfer that took this long has failed; stepping down has ended it already.
        raft.lead_transferee = NO_NODE
    if raft.role is Role.LEADER and raft.heartbeat_elapsed >= raft.config.heartbeat_tick:
        raft.heartbeat_elapsed = 0
        broadcast_heartbeat(raft)
