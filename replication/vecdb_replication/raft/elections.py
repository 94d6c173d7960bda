"""Standing for election, and voting (Raft paper 5.2 and 5.4.1, thesis 9.6 and 3.10)."""

from enum import Enum

from .errors import RaftFatal
from .messages import NO_NODE, EntryType, Message, MessageType, Role
from .roles import become_candidate, become_pre_candidate
from .state import Raft


class Campaign(Enum):
    """Why, and how far, a node campaigns."""

    PRE_ELECTION = "CampaignPreElection"
    ELECTION = "CampaignElection"
    TRANSFER = "CampaignTransfer"


TRANSFER_CONTEXT = Campaign.TRANSFER.value.encode()
"""Marks votes asked for at the leader's own wish: these are not turned away during its lease."""

_RESPONSE = {
    MessageType.VOTE: MessageType.VOTE_RESP,
    MessageType.PRE_VOTE: MessageType.PRE_VOTE_RESP,
}


def start(raft: Raft) -> None:
    """Campaign because no leader was heard of, or because the host says so."""
    hup(raft, Campaign.PRE_ELECTION if raft.config.pre_vote else Campaign.ELECTION)


def hup(raft: Raft, kind: Campaign) -> None:
    """Campaign, unless this node leads already or must not lead."""
    if raft.role is Role.LEADER or not raft.promotable or _unapplied_conf_change(raft):
        return
    campaign(raft, kind)


def _unapplied_conf_change(raft: Raft) -> bool:
    """Whether a committed change of membership is still to be applied.

    Campaigning without it could win by the majority of a configuration that is no longer in force.
    """
    log = raft.log
    unapplied = log.scan(log.applied + 1, log.committed + 1, raft.config.max_applying_size)
    return any(entry.type is not EntryType.NORMAL for entry in unapplied)


def campaign(raft: Raft, kind: Campaign) -> None:
    """Become a candidate of this kind and ask every voter; the own vote counts once it is durable."""
    if kind is Campaign.PRE_ELECTION:
        become_pre_candidate(raft)
        request, term = MessageType.PRE_VOTE, raft.term + 1
    else:
        become_candidate(raft)
        request, term = MessageType.VOTE, raft.term
    last_index, last_term = raft.log.last_index(), raft.log.last_term()
    context = TRANSFER_CONTEXT if kind is Campaign.TRANSFER else b""
    for voter in sorted(raft.tracker.config.all_voters):
        if voter == raft.id:
            raft.send(_RESPONSE[request], voter, term=term)
        else:
            raft.send(request, voter, term=term, index=last_index, log_term=last_term, context=context)


def cast_vote(raft: Raft, m: Message) -> None:
    """Answer a request for a vote or pre-vote of this term, or a pre-vote of a later one.

    A learner votes too: it may have been made a voter without knowing it yet, and then its vote can
    be the one that is needed for it to learn.
    """
    free = raft.vote == NO_NODE and raft.lead == NO_NODE
    ahead = m.type is MessageType.PRE_VOTE and m.term > raft.term
    if (raft.vote == m.from_ or free or ahead) and raft.log.is_up_to_date(m.log_term, m.index):
        # With the term of the request: a pre-candidate's is not this node's term, and an answer in
        # an older term than its own would be ignored.
        _send_vote(raft, m, m.term, reject=False)
        if m.type is MessageType.VOTE:
            raft.election_elapsed = 0
            raft.vote = m.from_
    else:
        _send_vote(raft, m, raft.term, reject=True)


def reject_pre_vote(raft: Raft, m: Message) -> None:
    """Tell a pre-candidate of an older term about this one, or it would ask for ever."""
    _send_vote(raft, m, raft.term, reject=True)


def _send_vote(raft: Raft, m: Message, term: int, *, reject: bool) -> None:
    if term == 0:
        raise RaftFatal(f"a {m.type.value} must have a term")
    # With its term, so that the candidate can tell whether it has the same entry.
    committed = raft.log.committed if reject and raft.config.commit_in_rejections else 0
    log_term = raft.log.term_or_zero(committed)
    raft.send(_RESPONSE[m.type], m.from_, term=term, reject=reject, commit=committed, log_term=log_term)
