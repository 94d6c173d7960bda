"""Terms, commit and applied indexes only rise; a term has one vote (Raft paper, 5.1 and figure 2).

Between lives of a replica only what is durable counts: a commit index may be forgotten, a term may not
once it was synced, and what a new life begins with is `recovered_log`'s business.
"""

from __future__ import annotations

from tests.sim.facts import DurableLog, Look, fail


def check(look: Look) -> None:
    """Compare a replica with itself a step ago, in the same life."""
    life, term, commit, applied = look.facts.seen.get(look.id, (0, 0, 0, 0))
    node = look.node
    if look.life == life:
        if node.term < term:
            fail(f"{look} went back from term {term} to {node.term}")
        if node.committed < commit:
            fail(f"{look} went back from commit {commit} to {node.committed}")
        if node.applied < applied:
            fail(f"{look} went back from applied {applied} to {node.applied}")
    if node.applied > node.committed:
        fail(f"{look} applied {node.applied} beyond {node.committed}")


def check_disk(group: int, replica: int, before: tuple[int, int], now: DurableLog) -> None:
    """Compare a disk with its (term, vote) a sync ago."""
    term, vote = before
    name = f"replica {replica} of group {group}"
    if now.term < term:
        fail(f"the disk of {name} went back from term {term} to {now.term}")
    changed = now.term == term and vote not in (0, now.vote)
    if changed:
        fail(f"{name} voted for {vote} and {now.vote} in term {now.term}")
