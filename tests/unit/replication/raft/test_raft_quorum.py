"""Majorities and pairs of them."""

from hypothesis import given, settings
from hypothesis import strategies as st
from vecdb_replication.raft.messages import NO_LIMIT
from vecdb_replication.raft.quorum import (
    VoteResult,
    joint_commit,
    joint_vote,
    majority_commit,
    majority_vote,
)

VOTERS = st.frozensets(st.integers(1, 9), max_size=7)
ACKED = st.dictionaries(st.integers(1, 9), st.integers(0, 20))
VOTES = st.dictionaries(st.integers(1, 9), st.booleans())


def naive_commit(voters: frozenset[int], acked: dict[int, int]) -> int:
    """The largest index for which more than half of the voters can be counted."""
    if not voters:
        return NO_LIMIT
    return max(
        index
        for index in {0, *acked.values()}
        if sum(acked.get(voter, 0) >= index for voter in voters) > len(voters) / 2
    )


def test_the_index_of_a_majority() -> None:
    """Half of the voters are not enough, one more is; who has said nothing has nothing."""
    table = [
        ((), {}, NO_LIMIT),
        ((1,), {}, 0),
        ((1,), {1: 12}, 12),
        ((1, 2), {1: 12}, 0),
        ((1, 2), {1: 12, 2: 5}, 5),
        ((1, 2, 3), {1: 12, 2: 5}, 5),
        ((1, 2, 3), {1: 12, 2: 5, 3: 6}, 6),
        ((1, 2, 3), {1: 101, 2: 101, 3: 100}, 101),
        ((1, 2, 3, 4), {1: 101, 2: 104, 3: 103, 4: 103}, 103),
        ((1, 2, 3, 4, 5), {1: 101, 2: 104, 3: 103, 4: 103}, 103),
        ((1, 2, 3, 4, 5), {1: 99, 2: 101, 3: 102}, 99),
    ]
    for voters, acked, index in table:
        assert majority_commit(voters, acked) == index, (voters, acked)


def test_the_index_of_two_majorities() -> None:
    """Both have to agree; an empty one agrees with anything."""
    assert joint_commit((1, 2, 3), (), {1: 100, 2: 101, 3: 99}) == 100
    assert joint_commit((1,), (2,), {1: 100, 2: 50}) == 50
    assert joint_commit((1, 2), (3, 4), {1: 100, 2: 101, 3: 99}) == 0
    assert joint_commit((1, 2, 3), (1, 4, 5), {1: 9, 2: 5, 4: 3}) == 3
    assert joint_commit((), (), {}) == NO_LIMIT


@settings(deadline=None)
@given(VOTERS, VOTERS, ACKED)
def test_the_fast_index_is_the_naive_one(
    incoming: frozenset[int], outgoing: frozenset[int], acked: dict[int, int]
) -> None:
    """Sorting finds what counting finds, for one half and for both."""
    assert majority_commit(incoming, acked) == naive_commit(incoming, acked)
    assert joint_commit(incoming, outgoing, acked) == min(
        naive_commit(incoming, acked), naive_commit(outgoing, acked)
    )


@settings(deadline=None)
@given(VOTERS, ACKED)
def test_an_index_never_falls_when_more_is_acknowledged(
    voters: frozenset[int], acked: dict[int, int]
) -> None:
    """Acknowledging one more entry never takes a commitment back."""
    more = {voter: index + 1 for voter, index in acked.items()}
    assert majority_commit(voters, more) >= majority_commit(voters, acked)


def test_the_outcome_of_a_vote() -> None:
    """Won with a majority, lost once that is out of reach, pending before; nobody to ask: won."""
    won, lost, pending = VoteResult.WON, VoteResult.LOST, VoteResult.PENDING
    table = [
        ((), {}, won),
        ((1,), {}, pending),
        ((1,), {1: False}, lost),
        ((1,), {1: True}, won),
        ((1, 2), {1: True}, pending),
        ((1, 2), {1: False}, lost),
        ((1, 2), {1: True, 2: True}, won),
        ((1, 2, 3), {1: False}, pending),
        ((1, 2, 3), {1: False, 2: True}, pending),
        ((1, 2, 3), {1: False, 2: False}, lost),
        ((1, 2, 3), {1: False, 2: True, 3: True}, won),
        ((1, 2, 3, 4), {1: True, 2: True}, pending),
        ((1, 2, 3, 4), {1: True, 2: True, 3: False, 4: False}, lost),
        ((1, 2, 3), {7: True, 8: True}, pending),
    ]
    for voters, votes, result in table:
        assert majority_vote(voters, votes) is result, (voters, votes)


def test_the_outcome_of_two_votes() -> None:
    """One lost half loses; else the undecided half rules; two won halves win."""
    assert joint_vote((1,), (2,), {1: True, 2: False}) is VoteResult.LOST
    assert joint_vote((1,), (2,), {1: True}) is VoteResult.PENDING
    assert joint_vote((1,), (2,), {2: False}) is VoteResult.LOST
    assert joint_vote((1,), (2,), {1: True, 2: True}) is VoteResult.WON
    assert joint_vote((1, 2), (), {1: True, 2: True}) is VoteResult.WON


@settings(deadline=None)
@given(VOTERS, VOTERS, VOTES)
def test_a_joint_vote_is_symmetric_and_no_easier_than_its_halves(
    incoming: frozenset[int], outgoing: frozenset[int], votes: dict[int, bool]
) -> None:
    """Which half comes first does not matter, and winning needs both."""
    result = joint_vote(incoming, outgoing, votes)
    assert result is joint_vote(outgoing, incoming, votes)
    halves = {majority_vote(incoming, votes), majority_vote(outgoing, votes)}
    assert (result is VoteResult.WON) == (halves == {VoteResult.WON})
    assert (result is VoteResult.LOST) == (VoteResult.LOST in halves)
