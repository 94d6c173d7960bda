"""Searching a view: every part, merged, ties by id.

The hot path is one query over one sealed segment and a small growing block. Everything around the two FAISS
calls is a handful of numpy calls on arrays of 2 k entries; there is no loop over rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from vecdb_index import knn
from vecdb_index.errors import DeadlineExceeded
from vecdb_index.knn import F32, I64, faiss
from vecdb_index.near import Effort, Near
from vecdb_index.parts import Part, View, bits_of, candidate_rows, selector_of
from vecdb_index.plan import Wish, effort_for
from vecdb_index.results import SearchResult

# Hits that tie with the k-th are all fetched, so that the smallest ids win, but no more than this many: of
# more equal vectors than that, which ones are cut off is arbitrary.
MAX_TIES: Final = 4096

Ids = Callable[[list[int]], dict[int, str]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a search stops: scores on the worse side of ``threshold``, the time.monotonic() ``deadline``."""

    threshold: float | None
    deadline: float | None

    def check(self) -> None:
        """DeadlineExceeded once it has passed."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise DeadlineExceeded("the search ran past its deadline")


@dataclass(frozen=True, slots=True)
class Query:
    """What to search for. ``vectors`` (nq, dim) float32, C-contiguous, normalized for cosine."""

    vectors: F32
    k: int
    wish: Wish
    descending: bool
    matching: BitMap | None = None
    threshold: float | None = None
    deadline: float | None = None  # time.monotonic()


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A part, how to search it, and the rows that a filter left of it (None: no filter)."""

    part: Part
    effort: Effort | None  # None: exactly
    rows: I64 | None

    @property
    def size(self) -> int:
        """The number of rows that may be hits."""
        return self.part.living if self.rows is None else len(self.rows)

    def search(self, vectors: F32, k: int) -> tuple[F32, I64]:
        """Scores and docnos (nq, min(k, size)), best first; docno -1 where there is no more to find."""
        k = min(k, self.size)
        rows = self.part.rows
        if self.effort is None or rows.near is None:
            return self._named(*knn.search(rows.flat, vectors, k, self._flat_params()))
        scores, at = rows.near.search(vectors, k, self._near_params(rows.near, self.effort, k))
        if at.min() < 0:
            short = np.flatnonzero(at[:, -1] < 0)
            # An index under a selector may give up early; what it owes is there, so look at every row. Once:
            # what that does not find either has no score.
            some = np.ascontiguousarray(vectors[short])
            scores[short], at[short] = knn.search(rows.flat, some, k, self._flat_params())
        return self._named(scores, at)

    def _named(self, scores: F32, at: I64) -> tuple[F32, I64]:
        """Docnos for rows. A row is -1 where nothing was left that has a score: distances can overflow."""
        docnos = self.part.rows.docnos[at]
        if at.min() < 0:
            docnos[at < 0] = -1
        return scores, docnos

    def _near_params(self, near: Near, effort: Effort, k: int) -> Any:
        if self.rows is None:
            return self.part.near_params(near, effort, k)
        return near.params(effort, k, selector_of(bits_of(self.rows, len(self.part.rows))))

    def _flat_params(self) -> Any:
        if self.rows is None:
            return self.part.flat_params()
        # FAISS goes through an array of rows by itself, without a look at the others.
        selector = faiss.IDSelectorArray(len(self.rows), faiss.swig_ptr(self.rows))
        return faiss.SearchParameters(sel=selector)


def run_on(threads: int | None, view: View, query: Query, ids: Ids) -> SearchResult:
    """``run`` with so many OpenMP threads (None: FAISS's default), a setting of the thread that calls."""
    if threads is None or len(query.vectors) == 1:  # FAISS answers one query on one thread anyway
        return run(view, query, ids)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        return run(view, query, ids)
    finally:
        faiss.omp_set_num_threads(before)


def run(view: View, query: Query, ids: Ids) -> SearchResult:
    """The hits of each query. Raises DeadlineExceeded between parts."""
    targets = plan(view, query)
    total = sum(target.size for target in targets)
    count = len(query.vectors)
    if not total or not count:
        return SearchResult(np.zeros(count, np.int32), np.empty(0, np.int64), np.empty(0, np.float32))
    keys, docnos = _nearest(targets, query, query.vectors, min(query.k + 1, total))
    if (keys[:, 1:] == keys[:, :-1]).any():
        tied = _tied_beyond(keys, docnos, query.k)
        if len(tied):
            keys, docnos = _widen(targets, query, keys, docnos, tied, total)
        break_ties(keys, docnos, ids)
    return cut(keys, docnos, query.k, query.threshold, query.descending)


def plan(view: View, query: Query) -> list[Target]:
    """The parts that can have hits, and how each is searched."""
    targets = []
    for part in view.parts:
        rows = None if query.matching is None else candidate_rows(part, query.matching)
        if rows is not None and not len(rows):
            continue
        effort = effort_for(part, query.wish, query.k, None if rows is None else len(rows))
        targets.append(Target(part, effort, rows))
    return targets


def _nearest(targets: list[Target], query: Query, vectors: F32, k: int) -> tuple[F32, I64]:
    """Keys (ascending: the smaller, the nearer) and docnos (nq, k) of the nearest rows of all targets."""
    found = []
    for target in targets:
        if query.deadline is not None and time.monotonic() > query.deadline:
            raise DeadlineExceeded("the search ran past its deadline")
        found.append(target.search(vectors, k))
    if len(found) == 1:
        scores, docnos = found[0]
        return (-scores if query.descending else scores), docnos
    scores = np.concatenate([item[0] for item in found], axis=1)
    docnos = np.concatenate([item[1] for item in found], axis=1)
    keys = -scores if query.descending else scores
    order = np.argsort(keys, axis=1, kind="stable")[:, :k]
    if len(vectors) == 1:
        return keys[:, order[0]], docnos[:, order[0]]
    return np.take_along_axis(keys, order, axis=1), np.take_along_axis(docnos, order, axis=1)


def _tied_beyond(keys: F32, docnos: I64, k: int) -> I64:
    """The queries whose k-th and next hits tie. Places without a hit are all alike, and no tie."""
    if keys.shape[1] <= k:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero((keys[:, k - 1] == keys[:, k]) & (docnos[:, k] >= 0))


def _widen(
    targets: list[Target], query: Query, keys: F32, docnos: I64, tied: I64, total: int
) -> tuple[F32, I64]:
    """Search again for those queries, wider, until the ties at the end are all in."""
    most = min(total, query.k + MAX_TIES)
    k = keys.shape[1]
    while len(tied) and k < most:
        k = min(most, 4 * k)
        wider_keys, wider_docnos = _nearest(targets, query, np.ascontiguousarray(query.vectors[tied]), k)
        # Rows that were not searched again are filled up with what sorts last and is no document.
        keys, docnos = _padded(keys, k, np.inf), _padded(docnos, k, -1)
        keys[tied], docnos[tied] = wider_keys, wider_docnos
        tied = tied[wider_keys[:, query.k - 1] == wider_keys[:, -1]]
    return keys, docnos


def _padded(array: npt.NDArray[Any], width: int, value: float) -> npt.NDArray[Any]:
    padded = np.full((len(array), width), value, dtype=array.dtype)
    padded[:, : array.shape[1]] = array
    return padded


def break_ties(keys: F32, docnos: I64, ids: Ids) -> None:
    """Sort runs of equal keys by id, in place."""
    equal = keys[:, 1:] == keys[:, :-1]
    for row in np.flatnonzero(equal.any(axis=1)).tolist():
        # Runs: where an equal pair begins after an unequal one, and the other way round.
        edges = np.flatnonzero(np.diff(np.concatenate(([0], equal[row].view(np.int8), [0]))))
        for start, stop in zip(edges[::2].tolist(), (edges[1::2] + 1).tolist(), strict=True):
            run_of = docnos[row, start:stop].tolist()
            names = ids([docno for docno in run_of if docno >= 0])
            run_of.sort(key=lambda docno: (docno not in names, names.get(docno, "")))
            docnos[row, start:stop] = run_of


def cut(keys: F32, docnos: I64, k: int, threshold: float | None, descending: bool) -> SearchResult:
    """The first k of each query's keys and docnos, as far as they are good enough, as a result."""
    keys, docnos = keys[:, :k], docnos[:, :k]
    if threshold is None and docnos.min() >= 0:
        counts = np.full(len(keys), keys.shape[1], dtype=np.int32)
        keys, docnos = keys.ravel(), docnos.ravel()
    else:
        good = docnos >= 0
        if threshold is not None:
            good &= keys <= (-threshold if descending else threshold)
        counts = good.sum(axis=1, dtype=np.int32)
        keys, docnos = keys[good], docnos[good]
    return SearchResult(counts, docnos, -keys if descending else keys)


def describe(target: Target) -> dict[str, Any]:
    """A target for ``explain``."""
    rows, effort = target.part.rows, target.effort
    lists = rows.near is not None and rows.near.kind == "ivf"
    return {
        "segment": None if rows.manifest is None else rows.manifest.id,
        "plan": "exact" if effort is None else "lists" if lists else "graph",
        "ef": None if effort is None or lists else effort.width,
        "nprobe": effort.width if effort is not None and lists else None,
        "reranked": effort.depth if effort is not None else 0,
        "rows": len(rows),
        "tombstones": target.part.dead,
        "searched": target.size,
    }
