"""Configurations derived from others: simple and joint changes, and restoring."""

import contextlib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vecdb_replication.raft import Change, ChangeType, ConfChangeError, ConfState
from vecdb_replication.raft.confchange import Changer, check_invariants, restore
from vecdb_replication.raft.progress import Progress
from vecdb_replication.raft.tracker import ProgressTracker, TrackerConfig

LETTERS = {
    "v": ChangeType.ADD_VOTER,
    "l": ChangeType.ADD_LEARNER,
    "r": ChangeType.REMOVE,
    "u": ChangeType.UPDATE,
}


def changes(text: str) -> list[Change]:
    return [Change(LETTERS[word[0]], int(word[1:])) for word in text.split()]


class Group:
    """A configuration under change; the log grows by one entry with each."""

    def __init__(self) -> None:
        self.tracker = ProgressTracker()
        self.last_index = 0

    def __call__(self, kind: str, text: str = "") -> str:
        changer = Changer(self.tracker, self.last_index)
        self.last_index += 1
        if kind == "simple":
            result = changer.simple(changes(text))
        elif kind == "leave":
            result = changer.leave_joint()
        else:
            result = changer.enter_joint(changes(text), auto_leave=kind == "enter auto")
        self.tracker.switch(*result)
        return self.text()

    def text(self) -> str:
        def ids(peers: Iterable[int]) -> str:
            return "(" + " ".join(map(str, sorted(peers))) + ")"

        config = self.tracker.config
        text = ids(config.voters) + ("&&" + ids(config.outgoing)) * config.joint
        text += (" learners=" + ids(config.learners)) * bool(config.learners)
        text += (" next=" + ids(config.learners_next)) * bool(config.learners_next)
        return text + " auto" * config.auto_leave

    def progress(self) -> list[tuple[int, int, int, bool]]:
        return [(peer, pr.match, pr.next, pr.is_learner) for peer, pr in self.tracker]


def test_one_voter_at_a_time() -> None:
    """Simple changes add, remove, promote and demote one voter, and any number of learners."""
    group = Group()
    assert group("simple", "v1") == "(1)"
    assert group("simple", "v2") == "(1 2)"
    assert group("simple", "l3 l4") == "(1 2) learners=(3 4)"
    assert group("simple", "v3") == "(1 2 3) learners=(4)"
    assert group("simple", "l3") == "(1 2) learners=(3 4)"
    assert group("simple", "l3 l3 u7 v0 r9") == "(1 2) learners=(3 4)"
    assert group("simple", "r1") == "(2) learners=(3 4)"
    assert group("simple", "r4") == "(2) learners=(3)"
    assert group("simple", "l3 v5") == "(2 5) learners=(3)"
    assert group("simple", "v1 l1") == "(2 5) learners=(1 3)"


def test_a_new_member_is_probed_from_the_end_of_the_log() -> None:
    """Nothing is known of it; it counts as active, so that a check of the quorum does not hit it."""
    group = Group()
    group("simple", "v1")
    group("simple", "v2")
    group("simple", "l3")
    assert group.progress() == [(1, 0, 1, False), (2, 0, 1, False), (3, 0, 2, True)]
    assert all(progress.recent_active for _, progress in group.tracker)


@pytest.mark.parametrize(
    ("before", "kind", "text", "reason"),
    [
        ([], "simple", "l1", "removed all voters"),
        ([], "simple", "", "removed all voters"),
        ([], "simple", "v1 v2", "more than one voter"),
        ([], "enter", "v1", "zero-voter"),
        ([], "leave", "", "can't leave a non-joint"),
        ([("simple", "v1")], "simple", "r1", "removed all voters"),
        ([("simple", "v1")], "simple", "v2 v3", "more than one voter"),
        ([("simple", "v1")], "simple", "v2 r1", "more than one voter"),
        ([("simple", "v1"), ("simple", "v2")], "simple", "v3 r1", "more than one voter"),
        ([("simple", "v1")], "enter", "r1", "removed all voters"),
        ([("simple", "v1"), ("enter", "v2")], "enter", "v3", "already joint"),
        ([("simple", "v1"), ("enter", "v2")], "simple", "l3", "in joint config"),
    ],
)
def test_what_is_refused(before: list[tuple[str, str]], kind: str, text: str, reason: str) -> None:
    """A change that is not allowed says why, and leaves the configuration as it was."""
    group = Group()
    for earlier in before:
        group(*earlier)
    config, progress = group.tracker.config, group.progress()
    with pytest.raises(ConfChangeError, match=reason):
        group(kind, text)
    assert (group.tracker.config, group.progress()) == (config, progress)


def test_a_joint_state_keeps_both_majorities() -> None:
    """The voters before are the outgoing majority until it is left; demoted ones learn only then."""
    group = Group()
    for peer in ["v1", "v2", "v3"]:
        group("simple", peer)
    assert group("enter auto", "r3 l2 v4") == "(1 4)&&(1 2 3) next=(2) auto"
    assert [peer for peer, *_ in group.progress()] == [1, 2, 3, 4]
    assert group("leave") == "(1 4) learners=(2)"
    assert group.progress() == [(1, 0, 1, False), (2, 0, 1, True), (4, 0, 3, False)]
    assert group("enter", "") == "(1 4)&&(1 4) learners=(2)"
    assert group("leave") == "(1 4) learners=(2)"


def test_changing_ones_mind_within_a_joint_change() -> None:
    """The last word about a node counts, however often it is added, demoted and removed before."""
    group = Group()
    group("simple", "v1")
    assert group("enter auto", "r1 r2 r9 v2 v3 v4 v2 v3 v4 l2 l2 r4 r4 l1 l1") == (
        "(3)&&(1) learners=(2) next=(1) auto"
    )
    assert group("leave") == "(3) learners=(1 2)"
    assert group("enter", "v1 l1 v1") == "(1 3)&&(3) learners=(2)"
    assert group("leave") == "(1 3) learners=(2)"
    assert group("enter", "l3 r3") == "(1)&&(1 3) learners=(2)"
    assert group("leave") == "(1) learners=(2)"


def test_contradictions_are_found() -> None:
    """Nobody learns and votes at once, everyone is tracked, and only joint states are left."""

    def tracked(*learners: bool) -> dict[int, Progress]:
        window = ProgressTracker().new_inflights()
        return {
            peer: Progress(0, 1, window, is_learner=is_learner) for peer, is_learner in enumerate(learners, 1)
        }

    one, two = frozenset({1}), frozenset({2})
    table = [
        (TrackerConfig(one | two), tracked(False), "no progress for 2"),
        (TrackerConfig(one, learners_next=one), tracked(False), "no outgoing voter"),
        (TrackerConfig(one, two, learners_next=two), tracked(False, True), "already counts"),
        (TrackerConfig(one, learners=one), tracked(False), "both learner and voter"),
        (TrackerConfig(one, learners=two), tracked(False, False), "does not count as one"),
        (TrackerConfig(one, auto_leave=True), tracked(False), "only a joint config"),
    ]
    for config, progress, reason in table:
        with pytest.raises(ConfChangeError, match=reason):
            check_invariants(config, progress)


@pytest.mark.parametrize(
    "state",
    [
        ConfState(),
        ConfState((1, 2, 3)),
        ConfState((1, 2, 3), learners=(4, 5, 6)),
        ConfState((1, 2, 3), (1, 2, 4, 6), (5,), (4,)),
        ConfState((1, 2, 3), (1, 2, 4, 6), (5,), (4,), auto_leave=True),
        ConfState((4,), (1, 2)),
    ],
)
def test_a_configuration_is_restored_from_what_a_snapshot_names(state: ConfState) -> None:
    """Restoring gives exactly the configuration that was written."""
    tracker = ProgressTracker()
    tracker.switch(*restore(tracker, 20, state))
    assert tracker.config.conf_state() == state


def test_a_configuration_without_voters_cannot_be_restored() -> None:
    """No sequence of changes leads to learners alone."""
    with pytest.raises(ConfChangeError):
        restore(ProgressTracker(), 20, ConfState(learners=(1,)))


STEPS = st.lists(
    st.tuples(st.sampled_from([*LETTERS.values()]), st.integers(1, 6)).map(lambda pair: Change(*pair)),
    max_size=8,
)


@settings(deadline=None)
@given(STEPS, STEPS)
def test_a_joint_change_ends_where_the_same_simple_changes_end(
    setup: list[Change], steps: list[Change]
) -> None:
    """Through a joint state or one by one: the same configuration, and everyone in it tracked.

    Simple changes that would leave no voter are skipped in both.
    """
    simple = ProgressTracker()
    simple.switch(*Changer(simple, 5).simple(changes("v1")))
    for change in setup:
        apply_if_allowed(simple, change)
    joint = ProgressTracker()
    joint.switch(simple.config, {peer: progress.clone() for peer, progress in simple.progress.items()})

    taken = [change for change in steps if apply_if_allowed(simple, change)]
    joint.switch(*Changer(joint, 5).enter_joint(taken, auto_leave=True))
    assert joint.config.joint
    joint.switch(*Changer(joint, 5).leave_joint())

    assert joint.config == simple.config
    assert sorted(joint.progress) == sorted(simple.progress)
    assert {peer: pr.is_learner for peer, pr in joint} == {peer: pr.is_learner for peer, pr in simple}


def apply_if_allowed(tracker: ProgressTracker, change: Change) -> bool:
    try:
        tracker.switch(*Changer(tracker, 5).simple([change]))
    except ConfChangeError:
        return False
    return True


@settings(deadline=None)
@given(STEPS, STEPS)
def test_any_reachable_configuration_can_be_restored(setup: list[Change], steps: list[Change]) -> None:
    """Simple or joint, what changes led to is rebuilt from its ConfState alone."""
    tracker = ProgressTracker()
    tracker.switch(*Changer(tracker, 5).simple(changes("v1")))
    for change in setup:
        apply_if_allowed(tracker, change)
    with contextlib.suppress(ConfChangeError):
        tracker.switch(*Changer(tracker, 5).enter_joint(steps, auto_leave=False))
    again = ProgressTracker()
    again.switch(*restore(again, 5, tracker.config.conf_state()))
    assert again.config == tracker.config
    assert again.config.conf_state().equivalent(tracker.config.conf_state())
