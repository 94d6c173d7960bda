"""What a follower does with a message of its term."""

from collections.abc import Callable

from .config import ReadOnlyOption
from .elections import Campaign, hup
from .errors import ProposalDroppedError
from .messages import EMPTY_SNAPSHOT, NO_NODE, Message, MessageType, ReadState
from .state import Raft


def handle_append(raft: Raft, m: Message) -> None:
    """Take the leader's entries, or say where the logs may still agree."""
    log = raft.log
    if m.index < log.committed:
        raft.send(MessageType.APP_RESP, m.from_, index=log.committed)
        return
    last = log.maybe_append(m.log_term, m.index, m.entries, m.commit)
    if last is not None:
        raft.send(MessageType.APP_RESP, m.from_, index=last)
        return
    # The leader need not probe one by one through a tail whose terms its log cannot have there.
    hint, hint_term = log.find_conflict_by_term(min(m.index, log.last_index()), m.log_term)
    raft.send(MessageType.APP_RESP, m.from_, index=m.index, reject=True, reject_hint=hint, log_term=hint_term)


def handle_heartbeat(raft: Raft, m: Message) -> None:
    """Learn the commit index, and confirm to the leader that it leads."""
    raft.log.commit_to(m.commit)
    raft.send(MessageType.HEARTBEAT_RESP, m.from_, context=m.context)


def handle_snapshot(raft: Raft, m: Message) -> None:
    """Begin anew at the leader's snapshot, unless this log has all of it."""
    restored = _restore(raft, m)
    index = raft.log.last_index() if restored else raft.log.committed
    raft.send(MessageType.APP_RESP, m.from_, index=index)


def _restore(raft: Raft, m: Message) -> bool:
    snapshot = m.snapshot or EMPTY_SNAPSHOT
    if snapshot.index <= raft.log.committed:
        return False
    members = snapshot.conf_state
    # A replica that is no member would lose its place among the tracked.
    if raft.id not in (*members.voters, *members.learners, *members.voters_outgoing):
        return False
    if raft.log.match_term(snapshot.index, snapshot.term):
        raft.log.commit_to(snapshot.index)
        return False
    raft.log.restore(snapshot)
    raft.restore_configuration(members)
    return True


def _propose(raft: Raft, m: Message) -> None:
    if raft.lead == NO_NODE:
        raise ProposalDroppedError("there is no leader")
    if raft.config.disable_proposal_forwarding:
        raise ProposalDroppedError("proposals are not forwarded to the leader")
    raft.forward(m)


def _forward_if_led(raft: Raft, m: Message) -> None:
    if raft.lead != NO_NODE:
        raft.forward(m)


def _led(handle: Callable[[Raft, Message], None]) -> Callable[[Raft, Message], None]:
    def handler(raft: Raft, m: Message) -> None:
        raft.election_elapsed = 0
        raft.lead = m.from_
        handle(raft, m)

    return handler


def _forget_leader(raft: Raft, _: Message) -> None:
    # A lease rests on followers turning candidates away, which they do only while they have a leader.
    if raft.config.read_only is not ReadOnlyOption.LEASE:
        raft.lead = NO_NODE


def _timeout_now(raft: Raft, _: Message) -> None:
    # No pre-vote: the leader itself wants this, so nobody is disturbed.
    hup(raft, Campaign.TRANSFER)


def _read_answered(raft: Raft, m: Message) -> None:
    if len(m.entries) == 1:
        raft.read_states.append(ReadState(m.index, m.entries[0].data))


_HANDLERS: dict[MessageType, Callable[[Raft, Message], None]] = {
    MessageType.PROP: _propose,
    MessageType.APP: _led(handle_append),
    MessageType.HEARTBEAT: _led(handle_heartbeat),
    MessageType.SNAP: _led(handle_snapshot),
    MessageType.TRANSFER_LEADER: _forward_if_led,
    MessageType.READ_INDEX: _forward_if_led,
    MessageType.READ_INDEX_RESP: _read_answered,
    MessageType.FORGET_LEADER: _forget_leader,
    MessageType.TIMEOUT_NOW: _timeout_now,
}


def step_follower(raft: Raft, m: Message) -> None:
    """Handle one message. Raises ProposalDroppedError for a proposal that goes nowhere."""
    handler = _HANDLERS.get(m.type)
    if handler:
        handler(raft, m)
