"""Changing roles (the transitions of figure 4 of the Raft paper, and the pre-candidate's)."""

from .errors import RaftFatal
from .messages import NO_NODE, Entry, Role
from .state import Raft


def become_follower(raft: Raft, term: int, lead: int) -> None:
    """Follow `lead`, or wait for whoever will lead, in `term`."""
    raft.reset(term)
    raft.lead = lead
    raft.role = Role.FOLLOWER


def become_pre_candidate(raft: Raft) -> None:
    """Ask around before disturbing anyone: neither term nor vote changes yet (thesis 9.6)."""
    raft.tracker.votes = {}
    raft.lead = NO_NODE
    raft.role = Role.PRE_CANDIDATE


def become_candidate(raft: Raft) -> None:
    """Stand for election in a new term, with one's own vote."""
    raft.reset(raft.term + 1)
    raft.vote = raft.id
    raft.role = Role.CANDIDATE


def become_leader(raft: Raft) -> None:
    """Lead the term, beginning with an empty entry: only committing in its own term commits the rest."""
    raft.reset(raft.term)
    raft.lead = raft.id
    raft.role = Role.LEADER
    own = raft.tracker.progress.get(raft.id)
    if own is None:
        raise RaftFatal(f"node {raft.id} was elected but is no member")
    own.become_replicate()
    own.recent_active = True
    # There may be a change of membership in the tail. Rather than look, wait for all of it.
    raft.pending_conf_index = raft.log.last_index()
    raft.first_own_index = raft.log.last_index() + 1
    raft.append([Entry()])
