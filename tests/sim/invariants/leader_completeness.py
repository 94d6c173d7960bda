"""Leader completeness: a leader has every entry committed in earlier terms (Raft paper, 5.4 and figure 3)."""

from __future__ import annotations

from vecdb_replication import raft

from tests.sim.facts import Look, fail


def check(look: Look) -> None:
    """On being elected: all that is committed is in its log, or in the snapshot that it begins with.

    One entry tells for all before it, which log matching looks after: the last one that was committed
    in an older term. What was committed in later terms need not be in the log of a leader that is
    being replaced.
    """
    facts, node = look.facts, look.node
    if node.role is not raft.Role.LEADER or node.term in facts.leaders:
        return
    index = facts.commit
    while index and facts.committed[index] >= node.term:
        index -= 1
    wanted = facts.committed.get(index, 0)
    if index >= node._raft.log.first_index() and look.term_at(index) != wanted:
        fail(f"{look} leads in term {node.term} without entry {index} of term {wanted}, which is committed")
