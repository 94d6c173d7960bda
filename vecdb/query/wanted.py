"""What a search is to find, beside what it looks for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vecdb_index.filters import Filter

from vecdb.query.budget import UNBOUNDED
from vecdb.query.reads import EVERYTHING, Parts


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many hits, which of them, and what of each.

    `deadline` is a time.monotonic() value, `max_bytes` what the hits of all queries may take together.
    """

    k: int
    offset: int = 0
    where: Filter | None = None
    recall: float | None = None
    ef: int | None = None
    exact: bool = False
    threshold: float | None = None
    parts: Parts = EVERYTHING
    explain: bool = False
    deadline: float | None = None
    max_bytes: int = UNBOUNDED

    def widened(self, k: int) -> Wanted:
        """The same search for more hits, from the first one on."""
        return replace(self, k=k, offset=0)
