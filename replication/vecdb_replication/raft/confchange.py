"""Changing the configuration: one voter at a time, or any number through a joint state.

The two safe ways of the Raft thesis, chapter 4. A change is checked and applied to copies, so a
refused one changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .changes import Change, ChangeType
from .errors import ConfChangeError
from .messages import ConfState
from .progress import Progress
from .tracker import ProgressTracker, TrackerConfig

Result = tuple[TrackerConfig, dict[int, Progress]]


class _Draft:
    """A configuration being changed, and the progress that goes with it."""

    def __init__(self, config: TrackerConfig, progress: Mapping[int, Progress]) -> None:
        self.voters = set(config.voters)
        self.outgoing = set(config.outgoing)
        self.learners = set(config.learners)
        self.learners_next = set(config.learners_next)
        self.progress = {peer: known.clone() for peer, known in progress.items()}

    def finish(self, *, auto_leave: bool = False) -> Result:
        config = TrackerConfig(
            frozenset(self.voters),
            frozenset(self.outgoing),
            frozenset(self.learners),
            frozenset(self.learners_next),
            auto_leave,
        )
        check_invariants(config, self.progress)
        return config, self.progress


@dataclass(frozen=True, slots=True)
class Changer:
    """Derives new configurations from the tracker's, which it leaves alone.

    `last_index` is the last of the leader's log: where probing of a new member begins. Every
    method raises ConfChangeError for what the configuration does not allow.
    """

    tracker: ProgressTracker
    last_index: int

    def simple(self, changes: Iterable[Change]) -> Result:
        """Apply changes that alter the voters by one at most."""
        draft = self._draft()
        if draft.outgoing:
            raise ConfChangeError("can't apply simple config change in joint config")
        self._apply(draft, changes)
        if len(self.tracker.config.voters ^ draft.voters) > 1:
            raise ConfChangeError("more than one voter changed without entering joint config")
        return draft.finish()

    def enter_joint(self, changes: Iterable[Change], *, auto_leave: bool) -> Result:
        """Keep the voters as the outgoing majority and apply the changes to the incoming one."""
        draft = self._draft()
        if draft.outgoing:
            raise ConfChangeError("config is already joint")
        if not draft.voters:
            raise ConfChangeError("can't make a zero-voter config joint")
        draft.outgoing = set(draft.voters)
        self._apply(draft, changes)
        return draft.finish(auto_leave=auto_leave)

    def leave_joint(self) -> Result:
        """Let the incoming majority decide alone; demoted voters become learners."""
        draft = self._draft()
        if not draft.outgoing:
            raise ConfChangeError("can't leave a non-joint config")
        for peer in draft.learners_next:
            draft.learners.add(peer)
            draft.progress[peer].is_learner = True
        draft.learners_next.clear()
        for peer in draft.outgoing - draft.voters - draft.learners:
            del draft.progress[peer]
        draft.outgoing.clear()
        return draft.finish()

    def _draft(self) -> _Draft:
        check_invariants(self.tracker.config, self.tracker.progress)
        return _Draft(self.tracker.config, self.tracker.progress)

    def _apply(self, draft: _Draft, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.node == 0 or change.type is ChangeType.UPDATE:
                continue
            if change.type is ChangeType.ADD_VOTER:
                self._make_voter(draft, change.node)
            elif change.type is ChangeType.ADD_LEARNER:
                self._make_learner(draft, change.node)
            else:
                self._remove(draft, change.node)
        if not draft.voters:
            raise ConfChangeError("removed all voters")

    def _make_voter(self, draft: _Draft, peer: int) -> None:
        known = draft.progress.get(peer)
        if known is None:
            draft.progress[peer] = self._new_progress(is_learner=False)
        else:
            known.is_learner = False
        draft.learners.discard(peer)
        draft.learners_next.discard(peer)
        draft.voters.add(peer)

    def _make_learner(self, draft: _Draft, peer: int) -> None:
        known = draft.progress.get(peer)
        if known is None:
            draft.progress[peer] = self._new_progress(is_learner=True)
            draft.learners.add(peer)
            return
        if known.is_learner:
            return
        self._remove(draft, peer)
        draft.progress[peer] = known
        if peer in draft.outgoing:
            # Nobody is voter and learner at once: it learns once the outgoing majority is left.
            draft.learners_next.add(peer)
        else:
            known.is_learner = True
            draft.learners.add(peer)

    def _remove(self, draft: _Draft, peer: int) -> None:
        if peer not in draft.progress:
            return
        draft.voters.discard(peer)
        draft.learners.discard(peer)
        draft.learners_next.discard(peer)
        if peer not in draft.outgoing:
            del draft.progress[peer]

    def _new_progress(self, *, is_learner: bool) -> Progress:
        # Counted as active at first: otherwise a check of the quorum could depose the leader before
        # a new member had a chance to speak.
        return Progress(
            0,
            max(self.last_index, 1),
            self.tracker.new_inflights(),
            is_learner=is_learner,
            recent_active=True,
        )


def check_invariants(config: TrackerConfig, progress: Mapping[int, Progress]) -> None:
    """Raise ConfChangeError where configuration and progress contradict themselves or each other."""
    for peer in sorted(config.all_voters | config.learners | config.learners_next):
        if peer not in progress:
            raise ConfChangeError(f"no progress for {peer}")
    for peer in sorted(config.learners_next):
        if peer not in config.outgoing:
            raise ConfChangeError(f"{peer} is to become a learner but is no outgoing voter")
        if progress[peer].is_learner:
            raise ConfChangeError(f"{peer} is to become a learner but already counts as one")
    for peer in sorted(config.learners):
        if peer in config.all_voters:
            raise ConfChangeError(f"{peer} is both learner and voter")
        if not progress[peer].is_learner:
            raise ConfChangeError(f"{peer} is a learner but does not count as one")
    if config.auto_leave and not config.joint:
        raise ConfChangeError("only a joint config can be left automatically")


def restore(tracker: ProgressTracker, last_index: int, state: ConfState) -> Result:
    """Build the configuration that a snapshot names, with the limits of `tracker`.

    It is rebuilt by the changes that could have led to it: the outgoing voters, if any, join one by
    one, then one joint change replaces them. Raises ConfChangeError if no changes lead there.
    """
    incoming = [Change(ChangeType.REMOVE, peer) for peer in state.voters_outgoing]
    incoming += [Change(ChangeType.ADD_VOTER, peer) for peer in state.voters]
    incoming += [Change(ChangeType.ADD_LEARNER, peer) for peer in (*state.learners, *state.learners_next)]
    outgoing = [Change(ChangeType.ADD_VOTER, peer) for peer in state.voters_outgoing]

    stage = tracker.fresh()
    for change in outgoing or incoming:
        stage.switch(*Changer(stage, last_index).simple([change]))
    if outgoing:
        stage.switch(*Changer(stage, last_index).enter_joint(incoming, auto_leave=state.auto_leave))
    return stage.config, stage.progress
