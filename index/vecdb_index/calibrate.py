"""How wide a graph search must be for a recall: measured on each segment when it is built.

Queries that are rows of the graph flatter it, for their own links lead to their neighbours: on Fashion-MNIST
at efSearch 32 they see recall 0.991 where true queries see 0.983. So the builder holds a sample of rows out
of the graph, measures with those, and only then inserts them. Where none could be held out the rows of the
graph serve, themselves excluded from their results, and count with a wider margin.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from vecdb_index.knn import F32, I64, Index, faiss, search

CALIBRATED_K: Final = 10
RECALLS: Final = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
# Steps of an eighth or less: what a step is too wide, every search pays for.
EFS: Final = (
    *(10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 88),
    *(96, 104, 112, 120, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416, 448, 480, 512),
    *(576, 640, 704, 768, 832, 896, 960, 1024),
)
SAMPLE: Final = 1024
FEW: Final = 64
# From this width on a quarter of the sample must do: most of the time goes there, and misses are few.
WIDE: Final = 192

# The share of the allowed misses that the sample may show. Rows that were held out are about as hard to find
# as queries from outside, in some runs more and in some less (on Fashion-MNIST 0.991 at efSearch 64 where
# true queries saw 0.994, and 0.991 at 48 where those saw 0.989); rows inside the graph are easier.
HELD_OUT_MARGIN: Final = 0.85
INSIDE_MARGIN: Final = 0.3


@dataclass(frozen=True, slots=True)
class EfTable:
    """Rising pairs (recall at k=10, efSearch that reaches it), and the recall measured at each."""

    levels: tuple[tuple[float, int, float], ...]

    def ef(self, recall: float, k: int) -> int:
        """The efSearch for a recall. Beyond what was calibrated: the widest search there is."""
        width = EFS[-1]
        for level, ef, _ in self.levels:
            if level >= recall:
                width = ef
                break
        # Measured at k=10. The candidates beyond the k-th, not the width alone, are what finds the k-th.
        return width if k <= CALIBRATED_K else width + 2 * (k - CALIBRATED_K)

    def measured(self, recall: float) -> float | None:
        """The recall that the sample saw at the efSearch for ``recall``."""
        return next((seen for level, _, seen in self.levels if level >= recall), None)


def calibrate(graph: Index, flat: Index, queries: F32, own_rows: I64 | None) -> EfTable:
    """Measure a graph against exact search over the same rows.

    ``queries`` (n, dim) are held-out rows, or, where ``own_rows`` (n,) gives their rows, rows of the graph.
    """
    k = min(CALIBRATED_K, flat.ntotal - 1)
    if k < 1 or not len(queries):
        return EfTable(tuple((recall, EFS[-1], 1.0) for recall in RECALLS))
    margin = HELD_OUT_MARGIN if own_rows is None else INSIDE_MARGIN
    truth = _neighbours(flat, queries, own_rows, k, None)
    whole = _Sample(queries, truth, own_rows)
    quarter = whole.thinned() if len(queries) >= 4 * FEW else whole

    @functools.cache
    def measured(at: int) -> tuple[float, float]:
        """The recall that the sample sees at EFS[at], and the one to reckon with."""
        sample = whole if EFS[at] < WIDE else quarter
        params = faiss.SearchParametersHNSW(efSearch=EFS[at])
        found = _neighbours(graph, sample.queries, sample.own_rows, k, params)
        seen = _recall(sample.truth, found, flat.metric_type)
        # A standard error for the luck of the draw: there are few queries, so few misses, at high recalls.
        missed = 1.0 - seen + math.sqrt(seen * (1.0 - seen) / (len(sample.queries) * k))
        return seen, 1.0 - missed / margin

    def reaches(recall: float, at: int) -> bool:
        return measured(at)[1] >= recall

    levels = []
    at = 0
    for recall in RECALLS:
        at = first(at, len(EFS) - 1, functools.partial(reaches, recall))
        levels.append((recall, EFS[at], measured(at)[0]))
    return EfTable(tuple(levels))


@dataclass(frozen=True, slots=True)
class _Sample:
    """Queries, their true neighbours (scores, rows), and their own rows where they have any."""

    queries: F32
    truth: tuple[F32, I64]
    own_rows: I64 | None

    def thinned(self) -> _Sample:
        """A quarter of it."""
        own_rows = None if self.own_rows is None else self.own_rows[::4]
        return _Sample(self.queries[::4].copy(), (self.truth[0][::4], self.truth[1][::4]), own_rows)


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


def _neighbours(index: Index, queries: F32, own_rows: I64 | None, k: int, params: object) -> tuple[F32, I64]:
    """Scores and rows (n, k) of the nearest rows other than the query itself."""
    if own_rows is None:
        return search(index, queries, k, params)
    scores, rows = search(index, queries, k + 1, params)
    own = rows == own_rows[:, None]
    own[~own.any(axis=1), k] = True  # an equal vector took its place, or it was missed: drop the last
    keep = ~own
    return scores[keep].reshape(-1, k), rows[keep].reshape(-1, k)


def _recall(truth: tuple[F32, I64], found: tuple[F32, I64], metric: int) -> float:
    """The share of found rows that are among the true ones, or tie with the last of them."""
    last, slack = truth[0][:, -1:], np.abs(truth[0][:, -1:]) * 1e-6
    with np.errstate(over="ignore"):  # where a row is missing its score is the largest there is
        near = found[0] >= last - slack if metric == faiss.METRIC_INNER_PRODUCT else found[0] <= last + slack
    same = (found[1][:, :, None] == truth[1][:, None, :]).any(axis=2)
    return float((near | same).mean())
