"""What finds the nearest rows of a segment without a look at each: a graph, or lists.

Either works on the full vectors or on codes of them. What is found by codes is candidates: more of them than
are wanted, which FAISS compares again by the full vectors, mapped from their file, and of which it keeps the
nearest. So scores are always those of the vectors as they were written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from vecdb_index.codes import Codec
from vecdb_index.knn import F32, I64, Bits, Index, faiss, keep, search, view_of

# What efforts are calibrated for.
CALIBRATED_K: Final = 10
# Steps of an eighth or less: what a step is too wide, every search pays for.
EFS: Final = (
    *(10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 88),
    *(96, 104, 112, 120, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416, 448, 480, 512),
    *(576, 640, 704, 768, 832, 896, 960, 1024),
)
# Candidates that are re-ranked for ten hits, at most: codes that need more of them say too little.
_DEEPEST: Final = 512
# A step of width of a graph costs about as much as to compare so many rows one by one.
_ROWS_PER_WIDTH: Final = 32
# To see that a row of a list is not wanted costs about this part of comparing it.
_SKIPPED: Final = 1 / 16


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to look. ``width`` is efSearch, or how many lists to search (nprobe); ``depth`` how many
    candidates are compared again for ten hits, 0 where nothing is.
    """

    width: int
    depth: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Near:
    """An index of ``rows`` rows; ``lists`` is how many lists it has, 0 for a graph.

    ``finder`` finds candidates; ``index`` is the same, or re-ranks what that finds. ``rotates``: whether
    queries are rotated before.
    """

    kind: Literal["hnsw", "ivf"]
    finder: Index
    index: Index
    rows: int
    lists: int = 0
    rotates: bool = False

    @property
    def coded(self) -> bool:
        """Whether candidates are found by codes."""
        return self.index is not self.finder

    @property
    def limit(self) -> int:
        """The width beyond which there is nothing left to find."""
        return self.lists or self.rows

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths to choose from, ascending."""
        return EFS if self.kind == "hnsw" else list_widths(self.lists)

    def deepest(self, width: int) -> int:
        """The most candidates worth re-ranking, of a search so wide."""
        if not self.coded:
            return 0
        return min(_DEEPEST, self.rows, width if self.kind == "hnsw" else self.rows)

    @property
    def hardest(self) -> Effort:
        """The most that a search can do."""
        width = self.widths[-1]
        return Effort(width, self.deepest(width))

    def cost(self, width: int, wanted: int) -> float:
        """About how many rows could be compared one by one in the time of a search so wide, of which only
        ``wanted`` rows may be hits.
        """
        if self.kind == "hnsw":
            return float(_ROWS_PER_WIDTH * width)
        return self.lists + width / self.lists * (wanted + _SKIPPED * self.rows)

    def search(self, queries: F32, k: int, params: Any) -> tuple[F32, I64]:
        """Scores and rows (nq, k; -1: none) of the best found for ``queries`` (nq, dim), C-contiguous."""
        if not self.rotates or len(queries) > 1:
            return search(self.index, queries, k, params)
        # FAISS would rotate even one query on all threads, which takes far longer to share out than to do.
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            return search(self.index, queries, k, params)
        finally:
            faiss.omp_set_num_threads(before)

    def finding(self, width: int, k: int, selector: Any = None) -> Any:
        """FAISS's parameters for finding k rows."""
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(width, k), sel=selector)
        return faiss.SearchParametersIVF(nprobe=min(width, self.lists), sel=selector)

    def params(self, effort: Effort, k: int, selector: Any = None) -> Any:
        """FAISS's parameters for searching ``index`` for k hits."""
        if not self.coded:
            return self.finding(effort.width, k, selector)
        depth = max(k, effort.depth if k <= CALIBRATED_K else math.ceil(effort.depth * k / CALIBRATED_K))
        # The selector belongs to what finds: what re-ranks would pass over it without a word.
        found = self.finding(effort.width, depth, selector)
        return faiss.IndexRefineSearchParameters(k_factor=(depth + 0.5) / k, base_index_params=found)


def list_widths(lists: int) -> tuple[int, ...]:
    """Numbers of lists to search, from one to all, in steps of an eighth or less."""
    widths = [1]
    while widths[-1] < lists:
        widths.append(min(lists, widths[-1] + max(1, widths[-1] // 8)))
    return tuple(widths)


def plain_graph(graph: Index, flat: Index) -> Near:
    """A graph over the full vectors, those of ``flat``, which stays somebody else's."""
    graph.storage = flat
    graph.own_fields = False
    keep(graph, flat)  # FAISS holds a bare pointer
    return Near("hnsw", graph, graph, flat.ntotal)


def coded_graph(graph: Index, codec: Codec, codes: Bits, flat: Index) -> Near:
    """A graph over codes (n, size), re-ranked by the vectors of ``flat``. The codec must be no other's."""
    _check(codes, len(codes) == graph.ntotal == flat.ntotal, codec)
    codec.inner.codes = view_of(codes)
    codec.inner.ntotal = len(codes)
    graph.storage = codec.inner
    graph.own_fields = False
    graph.d = codec.inner.d  # which FAISS steps through queries by
    keep(graph, codec, codes)
    return _reranked("hnsw", codec, codec.around(graph), flat, graph)


def over_lists(codec: Codec, sizes: I64, codes: npt.NDArray[Any], flat: Index, *, coded: bool) -> Near:
    """Lists of ``sizes`` over codes (n, size) in their order, or over full vectors where not ``coded``."""
    matrix = codes.view(np.uint8)
    _check(matrix, len(matrix) == int(sizes.sum()) == flat.ntotal, codec)
    filled = _fill(codec.inner, sizes, matrix)
    keep(codec.inner, filled, matrix)
    if not coded:
        return Near("ivf", codec.inner, codec.inner, flat.ntotal, len(sizes))
    codec.whole.ntotal = flat.ntotal
    return _reranked("ivf", codec, codec.whole, flat, codec.inner, lists=len(sizes))


def _check(codes: Bits, fits: bool, codec: Codec) -> None:
    """ValueError for parts that do not belong together: FAISS would read beyond their ends."""
    if not fits or codes.shape[1:] != (codec.size,):
        raise ValueError(f"codes of shape {codes.shape} do not fit their index")


def _reranked(
    kind: Literal["hnsw", "ivf"], codec: Codec, finder: Index, flat: Index, held: Index, *, lists: int = 0
) -> Near:
    refined = faiss.IndexRefine(finder, flat)
    keep(refined, codec, finder, flat, held)
    return Near(kind, finder, refined, flat.ntotal, lists, codec.rotation is not None)


def _fill(inner: Index, sizes: I64, codes: Bits) -> Any:
    """Let an index of lists search codes, list after list, in place; ids are the rows' numbers.

    Returns the lists, which hold addresses alone: they and the codes must outlive the index.
    """
    lists = faiss.ArrayInvertedLists(len(sizes), 1)
    runs = faiss.MaybeOwnedVectorUInt8Vector()
    # FAISS wants codes and ids together, and offers no view of ids: these are copied, with a byte a row that
    # makes room for the views of codes.
    room = np.zeros(int(sizes.max(initial=0)), dtype=np.uint8)
    start = 0
    for number, size in enumerate(sizes.tolist()):
        ids = np.arange(start, start + size, dtype=np.int64)
        if size:
            lists.add_entries(number, size, faiss.swig_ptr(ids), faiss.swig_ptr(room))
        runs.push_back(view_of(codes[start : start + size]) if size else faiss.MaybeOwnedVectorUInt8())
        start += size
    lists.codes = runs
    lists.code_size = inner.code_size
    inner.replace_invlists(lists, False)
    inner.ntotal = start
    return lists
