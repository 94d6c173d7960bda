"""No message leaves ahead of what it vouches for (Raft paper, figure 2: updated on stable storage before
responding; thesis, 3.8 and 10.2.1)."""

from __future__ import annotations

from vecdb_replication import raft

from tests.sim.facts import DurableLog, demand

VOUCHING = frozenset({raft.MessageType.VOTE, raft.MessageType.VOTE_RESP, raft.MessageType.APP_RESP})


def check(group: int, disk: DurableLog, message: raft.Message, believed: int) -> None:
    """A vote is on the voter's disk, an acknowledged entry on the disk of who acknowledges it.

    `believed` is the term of the entry at the message's index as its sender's core has it, 0 where it is
    compacted there.
    """
    kind, term = message.type, message.term
    who = f"replica {message.from_} of group {group}"
    if kind is raft.MessageType.VOTE_RESP and not message.reject:
        demand(
            disk.term > term or (disk.term == term and disk.vote == message.to),
            f"{who} grants {message.to} a vote in term {term}; its disk has {disk.vote} in {disk.term}",
        )
    if kind is raft.MessageType.VOTE:
        # Asked for twice in a term, with another log the second time, votes for the first could be counted.
        demand(
            disk.term > term
            or (
                disk.term == term and disk.vote == message.from_ and disk.has(message.index, message.log_term)
            ),
            f"{who} asks for votes in term {term} with entry {message.index}; its disk is behind that",
        )
    if kind is raft.MessageType.APP_RESP and not message.reject:
        demand(disk.term >= term, f"{who} acknowledges in term {term}; its disk is in {disk.term}")
        # An acknowledgement of an older term may be of entries that the new leader replaced before they
        # were written. It is harmless: the replica had them when it voted, or did not vote at all.
        demand(
            disk.term > term or message.index == 0 or disk.has(message.index, believed),
            f"{who} acknowledges entry {message.index} of term {believed};"
            f" its disk ends at {disk.last} and has {disk.term_at(message.index)} there",
        )
