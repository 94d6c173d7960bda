"""No message leaves ahead of what it vouches for (Raft paper, figure 2: updated on stable storage before
responding; thesis, 3.8 and 10.2.1)."""

from __future__ import annotations

from typing import NoReturn

from vecdb_replication import raft
from vecdb_replication.raft import MessageType

from tests.sim.facts import GroupFacts, fail

VOUCHING = frozenset({MessageType.VOTE, MessageType.VOTE_RESP, MessageType.APP_RESP})


def check(group: int, facts: GroupFacts, message: raft.Message, believed: int) -> None:
    """A vote is on the voter's disk, an acknowledged entry on the disk of who acknowledges it.

    `believed` is the term of the entry at the message's index as its sender's core has it, 0 where it is
    compacted there.
    """
    disk = facts.disks[message.from_]
    if message.reject or disk.term > message.term:
        # Whatever it says of an older term: an acknowledgement may be of entries that the new leader
        # replaced before they were written. It is harmless: the replica had them when it voted, or did
        # not vote at all.
        return
    kind, index = message.type, message.index
    if disk.term < message.term:
        _fail(group, message, f"its disk is in term {disk.term}")
    if kind is MessageType.VOTE_RESP and disk.vote != message.to:
        _fail(group, message, f"its disk has a vote for {disk.vote}")
    # Asked for twice in a term, with another log the second time, votes for the first could be counted.
    # Where somebody was elected meanwhile they never will, and the log may follow the leader's already.
    asks = kind is MessageType.VOTE and message.term not in facts.leaders
    if asks and not (disk.vote == message.from_ and disk.has(index, message.log_term)):
        _fail(group, message, f"its disk has a vote for {disk.vote} and ends at {disk.last}")
    if kind is MessageType.APP_RESP:
        # By now the core may follow a newer leader, whose entry took the place of the one that is meant.
        told = believed if believed <= message.term else 0
        if index <= disk.last and (not told or disk.has(index, told)):
            return
        there = f"there is one of term {disk.term_at(index)}, not {told}"
        _fail(group, message, f"its disk ends at {disk.last}, and {there}")


def _fail(group: int, message: raft.Message, why: str) -> NoReturn:
    fail(
        f"replica {message.from_} of group {group} sends {message.to} a {message.type.value}"
        f" in term {message.term} about entry {message.index}; {why}"
    )
