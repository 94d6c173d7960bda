"""Committed entries never change, and are on the disks of a quorum (Raft paper, 5.3; thesis, 3.8 and 10.2.1).

In a joint configuration of both quorums (thesis, 4.3). What counts is what a power cut at this
moment would leave, not what was written.
"""

from __future__ import annotations

from tests.sim.facts import Look, demand


def check(look: Look) -> None:
    """Go through what the replica's commit index passed since it was looked at last."""
    facts, node = look.facts, look.node
    life, _, commit, _ = facts.seen.get(look.replica, (0, 0, 0, 0))
    start = node._raft.log.first_index()
    if life == look.life:
        start = max(start, commit + 1)
    config = node._raft.tracker.config
    for index in range(start, node.committed + 1):
        term = look.term_at(index)
        known = facts.committed.setdefault(index, term)
        demand(known == term, f"{look} committed entry {index} of term {term}; before it was of term {known}")
        if index <= facts.commit:
            continue
        for voters in (config.voters, config.outgoing):
            having = [v for v in sorted(voters) if v in facts.disks and facts.disks[v].has(index, term)]
            demand(
                not voters or len(having) > len(voters) // 2,
                f"{look} committed entry {index} of term {term}; of {sorted(voters)} only {having} have it",
            )
        facts.commit = index
