"""How hard a search must look for a recall: measured on each segment when it is built.

Queries that are rows of a graph flatter it, for their own links lead to their neighbours: on Fashion-MNIST
at efSearch 32 they see recall 0.991 where true queries see 0.983. So the builder holds a sample of rows out
of the graph, measures with those, and only then inserts them. Where none could be held out the rows of the
graph serve, themselves excluded from their results, and count with a wider margin. Lists are not flattered:
a row's own place in one leads nowhere.

Where candidates are found by codes, one search for many of them says how deep to look as well: a true
neighbour among the first n candidates is a hit whenever so many or more are re-ranked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vecdb_index.knn import F32, I64, Index, faiss, search
from vecdb_index.near import CALIBRATED_K, Effort, Near

RECALLS: Final = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
SAMPLE: Final = 1024
FEW: Final = 64
# Where a search costs as much as comparing so many rows, a quarter of the sample must do: most of the time
# goes there, and misses are few.
DEAR: Final = 6144

# The share of the allowed misses that the sample may show. Rows that were held out are about as hard to find
# as queries from outside, in some runs more and in some less (on Fashion-MNIST 0.991 at efSearch 64 where
# true queries saw 0.994, and 0.991 at 48 where those saw 0.989); rows inside the graph are easier.
HELD_OUT_MARGIN: Final = 0.85
INSIDE_MARGIN: Final = 0.3


@dataclass(frozen=True, slots=True)
class Level:
    """The effort for a recall at k=10, and the recall that the sample saw with it."""

    recall: float
    effort: Effort
    seen: float


@dataclass(frozen=True, slots=True)
class Efforts:
    """What an index was calibrated for: levels by rising recall."""

    levels: tuple[Level, ...]

    def effort(self, recall: float) -> Effort | None:
        """The effort for a recall at k=10; None beyond what was calibrated."""
        for level in self.levels:
            if level.recall >= recall:
                return level.effort
        return None

    def measured(self, recall: float) -> float | None:
        """The recall that the sample saw with the effort for ``recall``."""
        return next((level.seen for level in self.levels if level.recall >= recall), None)

    def pack(self) -> list[tuple[float, int, float, int]]:
        """As plain values."""
        return [(level.recall, level.effort.width, level.seen, level.effort.depth) for level in self.levels]

    @classmethod
    def unpack(cls, packed: tuple[tuple[Any, ...], ...]) -> Efforts:
        """The inverse of ``pack``; levels without a depth were written before there were codes."""
        return cls(
            tuple(Level(recall, Effort(width, *depth), seen) for recall, width, seen, *depth in packed)
        )


def calibrate(near: Near, flat: Index, queries: F32, own_rows: I64 | None) -> Efforts:
    """Measure an index against exact search over the same rows.

    ``queries`` (n, dim) are held-out rows, or, where ``own_rows`` (n,) gives their rows, rows of the index.
    """
    widths, hardest = near.widths, near.hardest
    k = min(CALIBRATED_K, flat.ntotal - 1)
    if k < 1 or not len(queries):
        return Efforts(tuple(Level(recall, hardest, 1.0) for recall in RECALLS))
    margin = INSIDE_MARGIN if near.kind == "hnsw" and own_rows is not None else HELD_OUT_MARGIN
    whole = _sample(flat, queries, own_rows, k)
    quarter = whole.thinned() if len(queries) >= 4 * FEW else whole

    @functools.cache
    def measured(at: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The recall that the sample sees at widths[at], by candidates, and the one to reckon with."""
        sample = whole if near.cost(widths[at], near.rows) < DEAR else quarter
        seen = sample.recalls(near, flat, widths[at])
        # A standard error for the luck of the draw: there are few queries, so few misses, at high recalls.
        missed = 1.0 - seen + np.sqrt(seen * (1.0 - seen) / (len(sample.queries) * k))
        return seen, 1.0 - missed / margin

    def reaches(recall: float, at: int) -> bool:
        return bool(measured(at)[1][-1] >= recall)

    levels = []
    at = 0
    for recall in RECALLS:
        at = first(at, len(widths) - 1, functools.partial(reaches, recall))
        seen, reckoned = measured(at)
        enough = np.flatnonzero(reckoned >= recall)
        last = int(enough[0]) if len(enough) else len(seen) - 1
        depth = min(last + 1, near.deepest(widths[at]))
        levels.append(Level(recall, Effort(widths[at], depth), float(seen[last])))
    return Efforts(tuple(levels))


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Queries, their true neighbours (n, k), the worst scores of those (n, 1), and own rows if any."""

    queries: F32
    truth: I64
    worst: F32
    own_rows: I64 | None

    def thinned(self) -> _Sample:
        """A quarter of it."""
        own_rows = None if self.own_rows is None else self.own_rows[::4]
        return _Sample(self.queries[::4].copy(), self.truth[::4], self.worst[::4], own_rows)

    def recalls(self, near: Near, flat: Index, width: int) -> npt.NDArray[np.float64]:
        """The mean recall if only the first one, two, ... candidates count, up to all that are found.

        Found is a row that is among the true ones, or ties with the last of them.
        """
        k = self.truth.shape[1]
        count = min(near.rows, max(k + (self.own_rows is not None), near.deepest(width)))
        _, rows = search(near.finder, self.queries, count, near.finding(width, count))
        good = _no_worse(flat, _scores(flat, self.queries, rows), self.worst) & (rows >= 0)
        good |= (rows[:, :, None] == self.truth[:, None, :]).any(axis=2)
        if self.own_rows is not None:
            good &= rows != self.own_rows[:, None]
        curve: npt.NDArray[np.float64] = np.minimum(np.cumsum(good, axis=1), k).mean(axis=0) / k
        return curve


def _sample(flat: Index, queries: F32, own_rows: I64 | None, k: int) -> _Sample:
    if own_rows is None:
        _, rows = search(flat, queries, k)
    else:
        _, rows = search(flat, queries, k + 1)
        own = rows == own_rows[:, None]
        own[~own.any(axis=1), k] = True  # an equal vector took its place: drop the last
        rows = np.ascontiguousarray(rows[~own].reshape(-1, k))
    return _Sample(queries, rows, _scores(flat, queries, rows)[:, -1:], own_rows)


def _scores(flat: Index, queries: F32, rows: I64) -> F32:
    """Scores (n, m) of rows (n, m); of the same rows they are the same to the bit, whoever found them."""
    scores = np.empty(rows.shape, dtype=np.float32)
    pointer = faiss.swig_ptr
    faiss.downcast_index(flat).compute_distance_subset(
        len(queries), pointer(queries), rows.shape[1], pointer(scores), pointer(rows)
    )
    return scores


def _no_worse(flat: Index, scores: F32, worst: F32) -> npt.NDArray[np.bool_]:
    better: npt.NDArray[np.bool_] = (
        scores >= worst if flat.metric_type == faiss.METRIC_INNER_PRODUCT else scores <= worst
    )
    return better


def first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first place from ``low`` on at which a test holds that goes on holding; ``high`` if it never does.

    By strides that double, then by halves: wide searches are the dear ones, so none is tried far beyond need.
    """
    stride, top = 1, low
    while top < high and not holds(top):
        low, top, stride = top + 1, min(high, top + stride), 2 * stride
    while low < top:
        middle = (low + top) // 2
        low, top = (low, middle) if holds(middle) else (middle + 1, top)
    return top
