"""Leader completeness: a leader has every entry committed in earlier terms (Raft paper, 5.4 and figure 3)."""

from __future__ import annotations

from vecdb_replication import raft

from tests.sim.facts import Look, demand


def check(look: Look) -> None:
    """On being elected: all that is committed is in its log, or in the snapshot that it begins with."""
    if look.node.role is not raft.Role.LEADER or look.node.term in look.facts.leaders:
        return
    log = look.node._raft.log
    term = look.node.term
    for index in range(log.first_index(), look.facts.commit + 1):
        wanted = look.facts.committed.get(index)
        # What was committed in later terms need not be in the log of a leader that is being replaced.
        if wanted is not None and wanted < term:
            demand(
                look.term_at(index) == wanted,
                f"{look} leads in term {term} without entry {index} of term {wanted}, which is committed",
            )
