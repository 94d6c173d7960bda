"""Which live entries keep an old segment alive, and what to do about them: move them, or wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vecdb_replication.wal.codec import Relocation, Run
from vecdb_replication.wal.group import GroupLog

# What an entry costs in a record beside its data, roughly.
_ENTRY_OVERHEAD = 24


@dataclass(frozen=True, slots=True)
class Burden:
    """The live entries of one group in one segment."""

    group: int
    indexes: Sequence[int]
    size: int


def split(groups: Mapping[int, GroupLog], segment: int, budget: int) -> tuple[list[Burden], list[Burden]]:
    """The burdens of a segment: those worth moving forward, and those that pin it.

    The smallest are moved first, as many as fit the budget; the tails of idle groups are small. What
    is left pins the segment until its group is snapshotted and compacted.
    """
    burdens = []
    for group, log in groups.items():
        indexes, held = log.within(segment)
        if indexes:
            burdens.append(Burden(group, indexes, held + _ENTRY_OVERHEAD * len(indexes)))
    burdens.sort(key=lambda burden: (burden.size, burden.group))
    moved = 0
    for count, burden in enumerate(burdens):
        moved += burden.size
        if moved > budget:
            return burdens[:count], burdens[count:]
    return burdens, []


def relocations(groups: Mapping[int, GroupLog], burdens: Sequence[Burden]) -> Iterator[Relocation]:
    """The items that move these burdens; their data is that of the entries, in the same order."""
    for burden in burdens:
        start = 0
        for at in range(1, len(burden.indexes) + 1):
            if at == len(burden.indexes) or burden.indexes[at] != burden.indexes[at - 1] + 1:
                yield Relocation(burden.group, _run(groups[burden.group], burden.indexes[start:at]))
                start = at


def _run(log: GroupLog, indexes: Sequence[int]) -> Run:
    places = [log.locate(index) for index in indexes]
    return Run(
        indexes[0],
        [place.term for place in places],
        bytes(place.kind for place in places),
        [place.length for place in places],
        [place.check for place in places],
    )
