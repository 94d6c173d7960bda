"""What a leader keeps of a follower: progress and the window of messages in flight."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vecdb_replication.raft import NO_LIMIT, RaftFatal
from vecdb_replication.raft.inflights import Inflights
from vecdb_replication.raft.progress import Progress, ProgressState


def progress(match: int = 0, next_index: int = 1, state: ProgressState = ProgressState.PROBE) -> Progress:
    made = Progress(match, next_index, Inflights(256, NO_LIMIT))
    made.state = state
    return made


def test_the_window_closes_at_either_limit() -> None:
    """Full by messages or by bytes; the message that crosses the byte limit still fits."""
    window = Inflights(3, 100)
    for index, size in ((1, 10), (2, 10), (3, 10)):
        assert not window.full
        window.add(index, size)
    assert window.full
    window.free_to(2)
    assert len(window) == 1
    window.add(4, 90)
    assert window.full
    window.free_to(3)
    assert not window.full
    window.add(5, 1000)
    assert window.full
    with pytest.raises(RaftFatal, match="full window"):
        window.add(6, 0)
    window.reset()
    assert len(window) == 0
    assert not window.full


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=40))
def test_the_window_holds_what_was_added_and_not_freed(steps: list[tuple[bool, int]]) -> None:
    """Against a plain list: count, bytes and fullness agree at every step."""
    window, model, last = Inflights(5, 150), [], 0
    for adds, number in steps:
        if adds and not window.full:
            last += 1
            window.add(last, number)
            model.append((last, number))
        elif not adds:
            window.free_to(last - number % 4)
            model = [sent for sent in model if sent[0] > last - number % 4]
        assert len(window) == len(model)
        assert window.full == (len(model) >= 5 or sum(size for _, size in model) >= 150)


def test_when_appends_are_held_back() -> None:
    """Always behind a snapshot; otherwise while the flow is paused."""
    table = [
        (ProgressState.PROBE, False, False),
        (ProgressState.PROBE, True, True),
        (ProgressState.REPLICATE, False, False),
        (ProgressState.REPLICATE, True, True),
        (ProgressState.SNAPSHOT, False, True),
        (ProgressState.SNAPSHOT, True, True),
    ]
    for state, flow, paused in table:
        made = progress(state=state)
        made.paused_flow = flow
        assert made.paused is paused


def test_probing_begins_after_what_matches_or_after_the_snapshot() -> None:
    """From replication: what matches. From a snapshot: the later of both, or what matches if it failed."""
    replicating = progress(1, 5, ProgressState.REPLICATE)
    replicating.become_probe()
    assert (replicating.match, replicating.next) == (1, 2)
    for pending, next_index in ((10, 11), (0, 2)):
        made = progress(1, 5)
        made.become_snapshot(10)
        assert (made.state, made.next, made.pending_snapshot) == (ProgressState.SNAPSHOT, 11, 10)
        made.pending_snapshot = pending
        made.become_probe()
        assert (made.state, made.next, made.pending_snapshot) == (ProgressState.PROBE, next_index, 0)


def test_replication_begins_after_what_matches() -> None:
    """With an empty window and no pause."""
    made = progress(1, 5)
    made.paused_flow = True
    made.become_replicate()
    assert (made.state, made.match, made.next, made.paused) == (ProgressState.REPLICATE, 1, 2, False)


def test_an_acknowledgement_never_takes_back() -> None:
    """A lower index than the last tells nothing; a higher one moves match, and next before it."""
    for index, match, next_index, told in (
        (2, 3, 5, False),
        (3, 3, 5, False),
        (4, 4, 5, True),
        (6, 6, 7, True),
    ):
        made = progress(3, 5)
        made.paused_flow = True
        assert made.maybe_update(index) is told
        assert (made.match, made.next, made.paused_flow) == (match, next_index, not told)


@pytest.mark.parametrize(
    ("state", "match", "next_index", "rejected", "hint", "told", "after"),
    [
        (ProgressState.REPLICATE, 5, 10, 5, 5, False, 10),
        (ProgressState.REPLICATE, 5, 10, 4, 4, False, 10),
        (ProgressState.REPLICATE, 5, 10, 9, 9, True, 6),
        (ProgressState.PROBE, 0, 0, 0, 0, False, 0),
        (ProgressState.PROBE, 0, 10, 5, 5, False, 10),
        (ProgressState.PROBE, 0, 10, 9, 9, True, 9),
        (ProgressState.PROBE, 0, 2, 1, 1, True, 1),
        (ProgressState.PROBE, 0, 1, 0, 0, True, 1),
        (ProgressState.PROBE, 0, 10, 9, 2, True, 3),
        (ProgressState.PROBE, 0, 10, 9, 0, True, 1),
        (ProgressState.PROBE, 4, 10, 9, 2, True, 5),
    ],
)
def test_a_rejection_moves_next_back_unless_it_is_stale(
    state: ProgressState, match: int, next_index: int, rejected: int, hint: int, told: bool, after: int
) -> None:
    """To the hint while probing, to what matches while replicating, never below what matches."""
    made = progress(match, next_index, state)
    assert made.maybe_decrease(rejected, hint) is told
    assert (made.match, made.next) == (match, after)


def test_the_commit_index_is_sent_until_it_covers_what_was_sent() -> None:
    """No more messages for a commit index that cannot move the follower's."""
    made = progress(5, 6, ProgressState.REPLICATE)
    made.sent_commit(3)
    assert made.can_bump_commit(4)
    assert not made.can_bump_commit(3)
    made.sent_commit(5)
    assert not made.can_bump_commit(9)
    made.sent_entries(2, 10)
    assert made.can_bump_commit(9)
    made.become_snapshot(20)
    assert not made.can_bump_commit(20)


def test_flow_pauses_after_a_probe_and_when_the_window_is_full() -> None:
    """Empty probes do not pause; a pipelined append does so only once nothing more fits."""
    probing = progress()
    probing.sent_entries(0, 0)
    assert not probing.paused
    probing.sent_entries(1, 5)
    assert probing.paused
    piping = Progress(0, 1, Inflights(2, NO_LIMIT))
    piping.become_replicate()
    piping.sent_entries(1, 5)
    assert (piping.next, piping.paused) == (2, False)
    piping.sent_entries(3, 5)
    assert (piping.next, piping.paused) == (5, True)
    piping.maybe_update(1)
    piping.sent_entries(0, 0)
    assert piping.paused


def test_a_clone_may_change_its_role() -> None:
    """The copy starts equal, and its role is its own; the window is shared."""
    made = progress(3, 9, ProgressState.SNAPSHOT)
    made.pending_snapshot, made.paused_flow, made.recent_active = 8, True, True
    made.sent_commit(3)
    copy = made.clone()
    for name in Progress.__slots__:
        assert getattr(copy, name) == getattr(made, name), name
    copy.is_learner = True
    assert not made.is_learner
