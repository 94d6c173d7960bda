"""How wide a graph search must be for a recall: measured on each segment when it is built.

Queries that are rows of the graph flatter it, for their own links lead to their neighbours: on Fashion-MNIST
at efSearch 32 they see recall 0.991 where true queries see 0.983. So the builder holds a sample of rows out
of the graph, measures with those, and only then inserts them. Where none could be held out the rows of the
graph serve, themselves excluded from their results, and count with a wider margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from vecdb_index.knn import F32, I64, Index, faiss, search

CALIBRATED_K: Final = 10
RECALLS: Final = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
EFS: Final = (10, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256, 384, 512, 768, 1024)
SAMPLE: Final = 1024
FEW: Final = 64
# From this width on a quarter of the sample must do: most of the time goes there, and misses are few.
WIDE: Final = 128

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
    levels: list[tuple[float, int, float]] = []
    wanted = list(RECALLS)
    seen = 0.0
    for ef in EFS:
        if ef == WIDE and len(queries) >= 4 * FEW:
            queries, truth = queries[::4].copy(), (truth[0][::4], truth[1][::4])
            own_rows = None if own_rows is None else own_rows[::4]
        params = faiss.SearchParametersHNSW(efSearch=ef)
        seen = _recall(truth, _neighbours(graph, queries, own_rows, k, params), flat.metric_type)
        # A standard error for the luck of the draw: there are few queries, so few misses, at high recalls.
        missed = 1.0 - seen + math.sqrt(seen * (1.0 - seen) / (len(queries) * k))
        while wanted and missed <= (1.0 - wanted[0]) * margin:
            levels.append((wanted.pop(0), ef, seen))
        if not wanted:
            break
    return EfTable(tuple(levels) + tuple((recall, EFS[-1], seen) for recall in wanted))


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
