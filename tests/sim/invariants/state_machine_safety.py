"""State machine safety: no two replicas apply different entries at an index (Raft paper, 5.4.3).

And none is applied twice: what a client proposed once has one index (thesis, 6.3). The same entries in
the same order leave the same state, also where a snapshot took the place of some of them (7).
"""

from __future__ import annotations

from tests.sim.facts import GroupFacts, fail


def check(group: int, facts: GroupFacts, index: int, data: bytes, digest: object) -> None:
    """An entry was applied somewhere, and left a state of this checksum."""
    known, before = facts.applied.setdefault(index, (data, digest))
    if known != data:
        fail(f"group {group}: {data!r} was applied at {index}, and elsewhere {known!r}")
    if before != digest:
        fail(f"group {group}: entry {index} leads to another state here than elsewhere")
    first = facts.writers.setdefault(data, index)
    if first != index:
        fail(f"group {group}: {data!r} was applied at {index}, having been at {first}")


def check_snapshot(group: int, facts: GroupFacts, index: int, digest: object) -> None:
    """A snapshot was installed: its state is that of the last entry up to its index."""
    at = max((each for each in facts.applied if each <= index), default=0)
    known = facts.applied[at][1] if at else (0, 0)
    if digest != known:
        fail(f"group {group}: the snapshot of {index} is not what entry {at} led to")
