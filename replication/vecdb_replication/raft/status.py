"""A look at a core from outside."""

from dataclasses import dataclass

from .messages import ConfState, Role
from .progress import Progress, ProgressState
from .state import Raft


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer in the eyes of the leader; `inflight` counts append messages."""

    match: int
    next: int
    state: ProgressState
    learner: bool
    paused: bool
    pending_snapshot: int
    inflight: int
    inflight_full: bool
    recent_active: bool

    @classmethod
    def of(cls, progress: Progress) -> "PeerStatus":
        """What there is to tell of a peer's progress."""
        return cls(
            progress.match,
            progress.next,
            progress.state,
            progress.is_learner,
            progress.paused,
            progress.pending_snapshot,
            len(progress.inflights),
            progress.inflights.full,
            progress.recent_active,
        )


@dataclass(frozen=True, slots=True)
class Status:
    """One replica; `progress` is empty unless it leads."""

    id: int
    term: int
    vote: int
    commit: int
    applied: int
    lead: int
    lead_transferee: int
    role: Role
    first_index: int
    last_index: int
    config: ConfState
    progress: dict[int, PeerStatus]

    @classmethod
    def of(cls, raft: Raft) -> "Status":
        """The replica as of now."""
        leads = raft.role is Role.LEADER
        return cls(
            raft.id,
            raft.term,
            raft.vote,
            raft.log.committed,
            raft.log.applied,
            raft.lead,
            raft.lead_transferee,
            raft.role,
            raft.log.first_index(),
            raft.log.last_index(),
            raft.tracker.config.conf_state(),
            {peer: PeerStatus.of(progress) for peer, progress in raft.tracker} if leads else {},
        )
