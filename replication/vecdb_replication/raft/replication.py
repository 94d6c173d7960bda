"""What a leader sends to bring the others up: appends, snapshots, heartbeats."""

from .errors import CompactedError, RaftFatal, SnapshotUnavailableError, UnavailableError
from .messages import Entry, MessageType
from .progress import Progress, ProgressState
from .sizes import payload_size
from .state import Raft


def send_append(raft: Raft, to: int, *, if_empty: bool = True) -> bool:
    """Send one follower what it lacks, as far as its flow allows; whether something was sent.

    `if_empty` also sends an append without entries, which carries the commit index.
    """
    progress = raft.tracker.progress[to]
    if progress.paused:
        return False
    previous = progress.next - 1
    try:
        previous_term = raft.log.term(previous)
    except (CompactedError, UnavailableError):
        return _send_snapshot(raft, to, progress)
    entries: tuple[Entry, ...] = ()
    # Into a full window only an empty append goes. Should all that filled it be lost, its rejection
    # opens the window again.
    if progress.state is not ProgressState.REPLICATE or not progress.inflights.full:
        entries = tuple(raft.log.entries(progress.next, raft.config.max_size_per_msg))
    if not entries and not if_empty:
        return False
    raft.send(
        MessageType.APP,
        to,
        index=previous,
        log_term=previous_term,
        entries=entries,
        commit=raft.log.committed,
    )
    progress.sent_entries(len(entries), payload_size(entries))
    progress.sent_commit(raft.log.committed)
    return True


def _send_snapshot(raft: Raft, to: int, progress: Progress) -> bool:
    """Send a snapshot in place of entries that are gone, to a follower that is known to be there."""
    if not progress.recent_active:
        return False
    try:
        snapshot = raft.log.snapshot()
    except SnapshotUnavailableError:
        return False
    if snapshot.index == 0:
        raise RaftFatal("the storage gave an empty snapshot")
    progress.become_snapshot(snapshot.index)
    raft.send(MessageType.SNAP, to, snapshot=snapshot)
    return True


def broadcast_append(raft: Raft) -> None:
    """Send everyone what they lack, or at least the commit index."""
    for peer in raft.tracker.others(raft.id):
        send_append(raft, peer)


def broadcast_heartbeat(raft: Raft) -> None:
    """Tell everyone who leads, and ask them to confirm it for the reads that wait."""
    context = raft.reads.context()
    for peer in raft.tracker.others(raft.id):
        progress = raft.tracker.progress[peer]
        # No further than what is known to match: the follower may lack the rest, or have another.
        commit = min(progress.match, raft.log.committed)
        raft.send(MessageType.HEARTBEAT, peer, commit=commit, context=context)
        progress.sent_commit(commit)
