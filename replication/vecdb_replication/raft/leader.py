"""What a leader does with a message of its term."""

from collections.abc import Callable, Sequence

from .changes import from_entry
from .config import ReadOnlyOption
from .errors import ProposalDroppedError, RaftFatal
from .messages import NO_NODE, Entry, EntryType, Message, MessageType, ReadState
from .progress import Progress, ProgressState
from .replication import broadcast_append, broadcast_heartbeat, send_append
from .roles import become_follower
from .state import Raft

# Proposals


def propose(raft: Raft, entries: Sequence[Entry]) -> None:
    """Append entries and send them out. Raises ProposalDroppedError where they are not taken."""
    if not entries:
        raise RaftFatal("a proposal without entries")
    if raft.id not in raft.tracker.progress:
        raise ProposalDroppedError("the leader is no longer a member")
    if raft.lead_transferee != NO_NODE:
        raise ProposalDroppedError(f"leadership is being transferred to {raft.lead_transferee}")
    if not raft.append([_admitted(raft, entry, offset) for offset, entry in enumerate(entries)]):
        raise ProposalDroppedError("too much is uncommitted")
    broadcast_append(raft)


def _admitted(raft: Raft, entry: Entry, offset: int) -> Entry:
    """The entry, or an empty one in place of a change of membership that must not be now.

    The empty one keeps the indexes of a proposal of several entries, and tells the proposer, who
    finds it at its index. Only one change may be under way: see `pending_conf_index`.
    """
    if entry.type is EntryType.NORMAL:
        return entry
    try:
        leaves = not from_entry(entry).changes
    except ValueError as error:
        raise RaftFatal(f"a proposed change of membership cannot be read: {error}") from error
    pending = raft.pending_conf_index > raft.log.applied
    refused = pending or raft.tracker.config.joint != leaves
    if refused and not raft.config.disable_conf_change_validation:
        return Entry()
    raft.pending_conf_index = raft.log.last_index() + offset + 1
    return entry


def _on_propose(raft: Raft, m: Message) -> None:
    propose(raft, m.entries)


# Being the leader at all


def check_quorum(raft: Raft) -> None:
    """Step down unless a quorum was heard of since the last check."""
    if not raft.tracker.quorum_active():
        become_follower(raft, raft.term, NO_NODE)
    for peer, progress in raft.tracker:
        if peer != raft.id:
            progress.recent_active = False


# Reads


def _on_read_index(raft: Raft, m: Message) -> None:
    if not m.entries:
        raise RaftFatal("a read without a context")
    # Until something of its own term is committed, a leader's commit index may lag behind what
    # earlier leaders have acknowledged (thesis 6.4). Being alone does not help against that.
    if raft.committed_in_term:
        _begin_read(raft, m)
    else:
        raft.postponed_reads.append(m)


def _begin_read(raft: Raft, m: Message) -> None:
    if raft.tracker.singleton or raft.config.read_only is ReadOnlyOption.LEASE:
        _answer_read(raft, m, raft.log.committed)
        return
    raft.reads.add(m, raft.log.committed)
    raft.reads.acknowledge(raft.id, raft.reads.context())
    broadcast_heartbeat(raft)


def _answer_read(raft: Raft, m: Message, index: int) -> None:
    if m.from_ in (NO_NODE, raft.id):
        raft.read_states.append(ReadState(index, m.entries[0].data))
    else:
        raft.send(MessageType.READ_INDEX_RESP, m.from_, index=index, entries=m.entries)


def _release_postponed_reads(raft: Raft) -> None:
    postponed, raft.postponed_reads = raft.postponed_reads, []
    for read in postponed:
        _begin_read(raft, read)


# Answers from followers


def _on_append_response(raft: Raft, m: Message, progress: Progress) -> None:
    progress.recent_active = True
    if m.reject:
        _on_rejection(raft, m, progress)
        return
    # An answer that tells nothing new still ends a probe, as after an unreachable peer came back.
    probed = progress.state is ProgressState.PROBE and progress.match == m.index
    if progress.maybe_update(m.index) or probed:
        _on_acknowledged(raft, m, progress)


def _on_rejection(raft: Raft, m: Message, progress: Progress) -> None:
    hint = m.reject_hint
    if m.log_term:
        # The follower's log has no higher term up to there, so neither has what both may share.
        hint, _ = raft.log.find_conflict_by_term(hint, m.log_term)
    if progress.maybe_decrease(m.index, hint):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        send_append(raft, m.from_)


def _on_acknowledged(raft: Raft, m: Message, progress: Progress) -> None:
    if progress.state is ProgressState.PROBE:
        progress.become_replicate()
    elif progress.state is ProgressState.REPLICATE:
        progress.inflights.free_to(m.index)
    elif progress.match + 1 >= raft.log.first_index():
        # Whichever snapshot it was, the log can go on from there.
        progress.become_probe()
        progress.become_replicate()

    if raft.maybe_commit():
        _release_postponed_reads(raft)
        broadcast_append(raft)
    elif m.from_ != raft.id and progress.can_bump_commit(raft.log.committed):
        send_append(raft, m.from_)
    if m.from_ != raft.id:
        # Room in the window may be enough for several messages.
        while send_append(raft, m.from_, if_empty=False):
            pass
    if m.from_ == raft.lead_transferee and progress.match == raft.log.last_index():
        raft.send(MessageType.TIMEOUT_NOW, m.from_)


def _on_heartbeat_response(raft: Raft, m: Message, progress: Progress) -> None:
    progress.recent_active = True
    progress.paused_flow = False
    # Into a full window this sends an empty append, and to a probed follower a new probe: both find
    # out what became of messages that may be lost.
    if progress.match < raft.log.last_index() or progress.state is ProgressState.PROBE:
        send_append(raft, m.from_)
    if raft.config.read_only is ReadOnlyOption.SAFE and m.context:
        raft.reads.acknowledge(m.from_, m.context)
        for read in raft.reads.advance(raft.tracker.config):
            _answer_read(raft, read.request, read.index)


def _on_snapshot_status(raft: Raft, m: Message, progress: Progress) -> None:
    if progress.state is not ProgressState.SNAPSHOT:
        return
    if m.reject:
        # Not installed: probe from what is known to match, not from the snapshot.
        progress.pending_snapshot = 0
    progress.become_probe()
    # Installed, its own answer comes next; failed, a heartbeat's time passes before the next try.
    progress.paused_flow = True


def _on_unreachable(_: Raft, __: Message, progress: Progress) -> None:
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def _on_transfer(raft: Raft, m: Message, progress: Progress) -> None:
    """Hand leadership to the sender, once its log is complete (thesis 3.10)."""
    if progress.is_learner or m.from_ == raft.lead_transferee:
        return
    raft.lead_transferee = NO_NODE
    if m.from_ == raft.id:
        return
    # It has an election timeout from now to succeed.
    raft.election_elapsed = 0
    raft.lead_transferee = m.from_
    if progress.match == raft.log.last_index():
        raft.send(MessageType.TIMEOUT_NOW, m.from_)
    else:
        send_append(raft, m.from_)


_HANDLERS: dict[MessageType, Callable[[Raft, Message], None]] = {
    MessageType.PROP: _on_propose,
    MessageType.READ_INDEX: _on_read_index,
    MessageType.BEAT: lambda raft, _: broadcast_heartbeat(raft),
    MessageType.CHECK_QUORUM: lambda raft, _: check_quorum(raft),
}

_PEER_HANDLERS: dict[MessageType, Callable[[Raft, Message, Progress], None]] = {
    MessageType.APP_RESP: _on_append_response,
    MessageType.HEARTBEAT_RESP: _on_heartbeat_response,
    MessageType.SNAP_STATUS: _on_snapshot_status,
    MessageType.UNREACHABLE: _on_unreachable,
    MessageType.TRANSFER_LEADER: _on_transfer,
}


def step_leader(raft: Raft, m: Message) -> None:
    """Handle one message. Raises ProposalDroppedError for a proposal that is not taken."""
    handler = _HANDLERS.get(m.type)
    if handler:
        handler(raft, m)
        return
    peer_handler = _PEER_HANDLERS.get(m.type)
    progress = raft.tracker.progress.get(m.from_)
    if peer_handler and progress:
        peer_handler(raft, m, progress)
