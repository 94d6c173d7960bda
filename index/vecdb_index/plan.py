"""How to search a part under a filter: through its index, or exactly over the rows that match.

Measured on 60,000 x 784, one thread: at 50 % selectivity a graph search at efSearch 32 keeps recall 0.987; at
10 % it takes 128 for 0.997 (500 microseconds, as long as exact search over 3,000 rows); at 1 % even 512 stays
at 0.95, while exact search over the 600 matching rows takes 100 microseconds. So the width grows as
selectivity falls, what a width costs is put in rows (``Near.cost``), and the cheaper way wins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from vecdb_index.near import CALIBRATED_K, Effort, Near
from vecdb_index.parts import Part

_WIDENING: Final = 0.7  # of a graph, the power of the selectivity by which its width grows
# Of lists, that of the rows that k hits are among, selected or not: on 30,000 x 784 in 173 lists, three to
# eight of them reach recalls of 0.9 to 0.99 at 10 hits; at 10 and 1 % selectivity, or for 50 and 200 hits, it
# takes as many times that as powers of 0.14 to 0.33 (0.42 once) say. Where lists are short, their rows must
# also suffice: as many lists more as have twice the rows.
_WIDENING_OF_LISTS: Final = 0.4
_ROOM: Final = 2
_LEAST: Final = 1e-6  # the least selectivity to reckon with


@dataclass(frozen=True, slots=True)
class Wish:
    """How good the caller wants the answer."""

    recall: float
    ef: int | None = None
    exact: bool = False


def effort_for(part: Part, wish: Wish, k: int, matching: int | None) -> Effort | None:
    """How to search the part's index for k hits, or None to search exactly.

    ``matching`` is the number of living rows that a filter left, None without one.
    """
    rows = part.rows
    near = rows.near
    if near is None or rows.efforts is None or wish.exact or (wish.ef is None and wish.recall >= 1.0):
        return None
    effort = rows.efforts.effort(wish.recall) or near.hardest
    # Tombstones select too: half of the rows dead is a filter of 50 %.
    left = part.living if matching is None else matching
    base, share = effort.width if wish.ef is None else wish.ef, left / len(rows)
    if near.kind == "hnsw":
        width = _graph_width(base, k, share, asked=wish.ef is not None)
    else:
        width = _lists_width(near, base, k if wish.ef is None else CALIBRATED_K, share)
    width = min(width, near.limit)
    # An exact pass also beats an index on few rows, and when k is a good part of what there is.
    if (matching is not None or k > CALIBRATED_K) and left <= near.cost(width, left):
        return None
    return effort if width == effort.width else Effort(width, effort.depth)


def _graph_width(width: int, k: int, selectivity: float, *, asked: bool) -> int:
    """The efSearch for k hits among a share of the rows, given one asked for, or calibrated for fewer."""
    # The candidates beyond the k-th, not the width alone, are what finds the k-th.
    base = max(k, width if asked else width + 2 * max(0, k - CALIBRATED_K))
    return base if selectivity >= 1.0 else math.ceil(base / math.pow(max(selectivity, _LEAST), _WIDENING))


def _lists_width(near: Near, width: int, k: int, selectivity: float) -> int:
    """How many lists to search for k hits among a share of the rows."""
    among = k / max(selectivity, _LEAST)
    if among <= CALIBRATED_K:
        return width
    grown = width * math.pow(among / CALIBRATED_K, _WIDENING_OF_LISTS)
    room = width + _ROOM * (among - CALIBRATED_K) * near.lists / near.rows
    return math.ceil(max(grown, room))
