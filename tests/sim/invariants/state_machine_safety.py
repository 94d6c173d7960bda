"""State machine safety: no two replicas apply different entries at an index (Raft paper, 5.4.3).

And none is applied twice: what a client proposed once has one index (thesis, 6.3).
"""

from __future__ import annotations

from tests.sim.facts import GroupFacts, demand


def check(group: int, facts: GroupFacts, index: int, data: bytes) -> None:
    """An entry was applied somewhere."""
    known = facts.applied.setdefault(index, (0, 0, data))
    demand(known[2] == data, f"group {group}: {data!r} was applied at {index}, and elsewhere {known[2]!r}")
    first = facts.writers.setdefault(data, index)
    demand(first == index, f"group {group}: {data!r} was applied at {index}, having been at {first}")
