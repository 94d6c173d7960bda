"""What a candidate or pre-candidate does with a message of its term."""

from .elections import Campaign, campaign
from .errors import ProposalDroppedError
from .follower import step_follower
from .messages import NO_NODE, Message, MessageType, Role
from .quorum import VoteResult
from .replication import broadcast_append
from .roles import become_follower, become_leader
from .state import Raft

_FROM_LEADER = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})


def step_candidate(raft: Raft, m: Message) -> None:
    """Handle one message. Raises ProposalDroppedError for any proposal: there is no leader."""
    if m.type is MessageType.PROP:
        raise ProposalDroppedError("there is no leader")
    if m.type in _FROM_LEADER:
        become_follower(raft, m.term, m.from_)
        step_follower(raft, m)
    elif m.type is _awaited(raft):
        _count_vote(raft, m)


def _awaited(raft: Raft) -> MessageType:
    # A candidate may still get answers to its pre-candidacy, which count no more.
    if raft.role is Role.PRE_CANDIDATE:
        return MessageType.PRE_VOTE_RESP
    return MessageType.VOTE_RESP


def _count_vote(raft: Raft, m: Message) -> None:
    if m.log_term and raft.log.maybe_commit(m.log_term, m.commit):
        # Committed is committed, whoever says so. Where a change of membership is among it, these votes
        # may be those of a configuration that is no longer in force: stand again once it is applied.
        become_follower(raft, raft.term, NO_NODE)
        return
    result = raft.tracker.record_vote(m.from_, not m.reject)
    if result is VoteResult.LOST:
        become_follower(raft, raft.term, NO_NODE)
    elif result is VoteResult.WON and raft.role is Role.PRE_CANDIDATE:
        campaign(raft, Campaign.ELECTION)
    elif result is VoteResult.WON:
        become_leader(raft)
        broadcast_append(raft)
