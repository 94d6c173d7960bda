"""The pure functions of the core, for tables of cases."""

from ..raft import NO_LIMIT, ProgressState
from ..raft.confchange import Changer
from ..raft.inflights import Inflights
from ..raft.progress import Progress
from ..raft.quorum import joint_commit, joint_vote
from ..raft.status import PeerStatus
from ..raft.tracker import ProgressTracker, TrackerConfig
from .codec import Json, read_change, read_conf_state, write_conf_state, write_peer
from .fields import BadRequestError, Fields, names_of

_STATES = names_of(ProgressState)
_KINDS = {kind: kind for kind in ("simple", "enter_joint", "leave_joint")}


def quorum_commit(fields: Fields) -> Json:
    """The index that a (joint) quorum has acknowledged; null where nobody has to."""
    acked = {peer: value.number("value") for peer, value in fields.by_id("acked").items()}
    index = joint_commit(set(fields.numbers("incoming")), set(fields.numbers("outgoing")), acked)
    return {"index": None if index == NO_LIMIT else index}


def quorum_vote(fields: Fields) -> Json:
    """Where an election stands."""
    votes = {peer: value.flag("value") for peer, value in fields.by_id("votes").items()}
    result = joint_vote(set(fields.numbers("incoming")), set(fields.numbers("outgoing")), votes)
    return {"result": result.value, "vote": result.value}


def conf_change(fields: Fields) -> Json:
    """The configuration that changes lead to. Raises ConfChangeError where they lead nowhere."""
    kind = fields.choice("kind", _KINDS, None)
    changes = fields.each("changes", read_change)
    changer = Changer(_tracker(fields), fields.number("last_index"))
    if kind == "simple":
        config, progress = changer.simple(changes)
    elif kind == "enter_joint":
        config, progress = changer.enter_joint(changes, auto_leave=fields.flag("auto_leave"))
    elif changes:
        raise BadRequestError("leaving a joint configuration takes no changes")
    else:
        config, progress = changer.leave_joint()
    return {
        "config": write_conf_state(config.conf_state()),
        "progress": {str(peer): write_peer(PeerStatus.of(progress[peer])) for peer in sorted(progress)},
    }


def _tracker(fields: Fields) -> ProgressTracker:
    members = fields.nested("config")
    state = read_conf_state(members if members is not None else Fields({}, "config"))
    config = TrackerConfig(
        frozenset(state.voters),
        frozenset(state.voters_outgoing),
        frozenset(state.learners),
        frozenset(state.learners_next),
        state.auto_leave,
    )
    if "progress" in fields:
        known = {
            peer: _progress(value.nested("value") or Fields({}, "progress"))
            for peer, value in fields.by_id("progress").items()
        }
    else:
        last = max(fields.number("last_index"), 1)
        known = {
            peer: Progress(0, last, _window(), is_learner=peer in config.learners, recent_active=True)
            for peer in config.all_voters | config.learners | config.learners_next
        }
    tracker = ProgressTracker()
    tracker.switch(config, known)
    return tracker


def _window() -> Inflights:
    return Inflights(NO_LIMIT, NO_LIMIT)


def _progress(fields: Fields) -> Progress:
    progress = Progress(
        fields.number("match"),
        fields.number("next"),
        _window(),
        is_learner=fields.flag("learner"),
        recent_active=fields.flag("recent_active"),
    )
    progress.state = fields.choice("state", _STATES, "probe")
    progress.pending_snapshot = fields.number("pending_snapshot")
    progress.paused_flow = fields.flag("paused")
    return progress
