"""Majorities, and pairs of them while membership changes (joint consensus, Raft thesis 4.3)."""

from collections.abc import Iterable, Mapping
from enum import Enum

from .messages import NO_LIMIT


class VoteResult(Enum):
    """The state of an election."""

    PENDING = "pending"
    LOST = "lost"
    WON = "won"


def majority_commit(voters: Iterable[int], acked: Mapping[int, int]) -> int:
    """The largest index that a majority has acknowledged; a missing voter counts as zero.

    No voters at all give `NO_LIMIT`: an empty half of a joint quorum then never holds the other
    half back.
    """
    indexes = sorted(acked.get(voter, 0) for voter in voters)
    if not indexes:
        return NO_LIMIT
    # Sorted upwards, the last n//2+1 are a majority, and this is the smallest of them.
    return indexes[(len(indexes) - 1) // 2]


def joint_commit(incoming: Iterable[int], outgoing: Iterable[int], acked: Mapping[int, int]) -> int:
    """The largest index that a majority of each half has acknowledged."""
    return min(majority_commit(incoming, acked), majority_commit(outgoing, acked))


def majority_vote(voters: Iterable[int], votes: Mapping[int, bool]) -> VoteResult:
    """Whether the votes cast so far decide the election. Without voters it is won, by convention."""
    cast = [votes.get(voter) for voter in voters]
    if not cast:
        return VoteResult.WON
    needed = len(cast) // 2 + 1
    granted = cast.count(True)
    if granted >= needed:
        return VoteResult.WON
    if granted + cast.count(None) >= needed:
        return VoteResult.PENDING
    return VoteResult.LOST


def joint_vote(incoming: Iterable[int], outgoing: Iterable[int], votes: Mapping[int, bool]) -> VoteResult:
    """The outcome where both halves must be won: one lost half loses, else the undecided one rules."""
    results = {majority_vote(incoming, votes), majority_vote(outgoing, votes)}
    for result in (VoteResult.LOST, VoteResult.PENDING):
        if result in results:
            return result
    return VoteResult.WON
