"""Terms, commit and applied indexes only rise; a term has one vote (Raft paper, 5.1 and figure 2)."""

from __future__ import annotations

from tests.sim.facts import DurableLog, Look, demand


def check(look: Look) -> None:
    """Compare a replica with itself a step ago. A new life of it may have forgotten commits, not terms."""
    life, term, commit, applied = look.facts.seen.get(look.replica, (0, 0, 0, 0))
    node = look.node
    if look.life == life:
        demand(node.term >= term, f"{look} went back from term {term} to {node.term}")
        demand(node.committed >= commit, f"{look} went back from commit {commit} to {node.committed}")
        demand(look.applied >= applied, f"{look} went back from applied {applied} to {look.applied}")
    demand(look.applied <= node.committed, f"{look} applied {look.applied} beyond {node.committed}")


def check_disk(group: int, replica: int, before: DurableLog, now: DurableLog) -> None:
    """Compare a disk with itself a sync ago."""
    name = f"replica {replica} of group {group}"
    demand(now.term >= before.term, f"the disk of {name} went back from term {before.term} to {now.term}")
    changed = now.term == before.term and before.vote not in (0, now.vote)
    demand(not changed, f"{name} voted for {before.vote} and {now.vote} in term {now.term}")
