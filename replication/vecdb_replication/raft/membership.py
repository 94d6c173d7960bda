"""Applying changes of membership, which take effect when they are applied (not when appended)."""

from .changes import ConfChange
from .confchange import Changer, Result
from .errors import ConfChangeError, RaftFatal
from .messages import NO_NODE, ConfState, Role
from .replication import broadcast_append, send_append
from .roles import become_follower
from .state import Raft


def apply_conf_change(raft: Raft, change: ConfChange) -> ConfState:
    """Apply a committed change; the membership from now on.

    Raises RaftFatal if the configuration does not allow it: replicas would go separate ways.
    """
    try:
        config, progress = _changed(Changer(raft.tracker, raft.log.last_index()), change)
    except ConfChangeError as error:
        raise RaftFatal(f"a committed change of membership cannot be applied: {error}") from error
    raft.tracker.switch(config, progress)
    votes = raft.note_own_role()
    if raft.role is Role.LEADER:
        if votes:
            _lead_on(raft)
        elif raft.config.step_down_on_removal:
            become_follower(raft, raft.term, NO_NODE)
    return config.conf_state()


def _changed(changer: Changer, change: ConfChange) -> Result:
    if change.leaves_joint:
        return changer.leave_joint()
    if change.enters_joint:
        return changer.enter_joint(change.changes, auto_leave=change.auto_leave)
    return changer.simple(change.changes)


def _lead_on(raft: Raft) -> None:
    """A smaller quorum may have committed more; new members need not wait for a heartbeat."""
    if raft.maybe_commit():
        broadcast_append(raft)
    else:
        for peer in raft.tracker.others(raft.id):
            send_append(raft, peer, if_empty=False)
    if raft.lead_transferee not in raft.tracker.config.all_voters:
        raft.lead_transferee = NO_NODE
