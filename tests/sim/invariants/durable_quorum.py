"""Committed entries never change, and are on the disks of a quorum (Raft paper, 5.3; thesis, 3.8 and 10.2.1).

In a joint configuration of both quorums (thesis, 4.3). What counts is what a power cut at this
moment would leave, not what was written.
"""

from __future__ import annotations

from vecdb_replication import wal

from tests.sim.facts import DurableLog, GroupFacts, Look, fail
from tests.sim.invariants import membership


def check(look: Look) -> None:
    """Go through what the replica's commit index passed since it was looked at last.

    Of a new life the last committed entry tells for all before it, which log matching looks after.
    """
    facts, node = look.facts, look.node
    life, _, commit, _ = facts.seen.get(look.id, (0, 0, 0, 0))
    start = commit + 1 if life == look.life else min(node.committed, facts.commit + 1)
    start = max(start, node._raft.log.first_index())
    config = node._raft.tracker.config
    for index in range(start, node.committed + 1):
        term = look.term_at(index)
        known = facts.committed.setdefault(index, term)
        if known != term:
            fail(f"{look} committed entry {index} of term {term}; before it was of term {known}")
        if index <= facts.commit:
            continue
        if index != facts.commit + 1:
            fail(f"{look} committed entry {index}; nobody did {facts.commit + 1}")
        for voters in (config.voters, config.outgoing):
            having = [v for v in sorted(voters) if v in facts.disks and facts.disks[v].has(index, term)]
            if voters and len(having) <= len(voters) // 2:
                only = f"of {sorted(voters)} only {having} have it"
                fail(f"{look} committed entry {index} of term {term}; {only}")
        facts.commit = index
        _, kind, data = facts.appended[index, term]
        membership.committed(facts, index, kind, data)


def check_overwriting(group: int, facts: GroupFacts, disk: DurableLog, update: wal.GroupUpdate) -> None:
    """A record is about to replace entries of a disk: none of them is committed."""
    if not update.entries:
        return
    new = {entry.index: entry.term for entry in update.entries}
    for index in range(max(update.entries[0].index, disk.first), disk.last + 1):
        term = disk.term_at(index)
        if term == facts.committed.get(index) and new.get(index) != term:
            fail(f"group {group}: entry {index} of term {term}, which is committed, is replaced on a disk")
