"""Election safety: at most one leader in a term (Raft paper, 5.2 and figure 3)."""

from __future__ import annotations

from vecdb_replication import raft

from tests.sim.facts import Look, fail


def check(look: Look) -> None:
    """A replica that leads is the only one that ever did in its term."""
    if look.node.role is raft.Role.LEADER:
        term = look.node.term
        first = look.facts.leaders.setdefault(term, look.id)
        if first != look.id:
            fail(f"{look} leads in term {term}, and so did replica {first}")
