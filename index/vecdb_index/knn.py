"""FAISS without copies: flat indexes over memory that numpy or the page cache owns, and raw search calls.

FAISS keeps an index's vectors in a "maybe owned" array; giving it a view makes an IndexFlat search a memory
map or a preallocated matrix in place, so exact search, selectors and the storage of an HNSW graph all work
on vectors that exist once. Such an index must never be added to, and the memory must outlive it: every
object here that holds an index also holds its array.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import faiss as _faiss
import numpy as np
import numpy.typing as npt

from vecdb_index.schema import Metric

F32: TypeAlias = npt.NDArray[np.float32]
I64: TypeAlias = npt.NDArray[np.int64]
Bits: TypeAlias = npt.NDArray[np.uint8]
Index: TypeAlias = Any

faiss: Any = _faiss  # its stubs know little of what SWIG and its own wrappers add

HNSW_LINKS: Final = 16
HNSW_EF_CONSTRUCTION: Final = 40

# Vectors whose norm differs from 1 by less are unit vectors to cosine: their scores would move in the last
# bit, and their normalized copy need not be stored.
UNIT_TOLERANCE: Final = 1e-6

# Views name an owner, here none: the memory is somebody else's. SWIG hands out the address of the null owner
# inside this index, which therefore lives as long as the module.
_ANCHOR: Final = faiss.IndexFlat(1)
_UNOWNED: Final = _ANCHOR.codes.owner


def faiss_metric(metric: Metric) -> int:
    """FAISS's metric for ours; cosine is the inner product of normalized vectors."""
    return int(faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)


def flat_over(vectors: F32, metric: Metric) -> Index:
    """An IndexFlat that searches ``vectors`` (n, dim), C-contiguous, in place."""
    rows, dim = vectors.shape
    index = faiss.IndexFlat(dim, faiss_metric(metric))
    if rows:
        index.codes = view_of(vectors)
        index.ntotal = rows
    return index


def view_of(array: npt.NDArray[Any]) -> Any:
    """The bytes of a C-contiguous array, as what FAISS takes for codes; it holds their address alone."""
    assert array.flags.c_contiguous, "FAISS reads rows one after the other"
    codes = array.view(np.uint8).reshape(-1)
    return faiss.MaybeOwnedVectorUInt8.create_view(faiss.swig_ptr(codes), codes.size, _UNOWNED)


def keep(holder: Any, *held: Any) -> None:
    """Let a FAISS object that knows only addresses keep the Python objects behind them alive."""
    object.__setattr__(holder, "_vecdb_keeps", held)


def kept(holder: Any) -> tuple[Any, ...]:
    """What ``keep`` was given last."""
    held: tuple[Any, ...] = getattr(holder, "_vecdb_keeps", ())
    return held


def as_bytes(array: npt.NDArray[Any]) -> memoryview:
    """The bytes of a C-contiguous array, not copied."""
    return memoryview(array).cast("B")  # type: ignore[arg-type]  # numpy before 2.3 has no typed buffer


def new_graph(dim: int, metric: Metric) -> Index:
    """An empty HNSW index that owns its vectors."""
    graph = faiss.IndexHNSWFlat(dim, HNSW_LINKS, faiss_metric(metric))
    graph.hnsw.efConstruction = HNSW_EF_CONSTRUCTION
    return graph


def search(index: Index, queries: F32, k: int, params: Any = None) -> tuple[F32, I64]:
    """Scores (nq, k) and rows (nq, k; -1: none) of the best for ``queries`` (nq, dim), C-contiguous.

    The wrapper in faiss checks and converts more than the hot path needs; this calls below it. The arrays
    are named, so they outlive the call during which FAISS holds their addresses without the GIL.
    """
    count = len(queries)
    scores = np.empty((count, k), dtype=np.float32)
    rows = np.empty((count, k), dtype=np.int64)
    pointer = faiss.swig_ptr
    index.search_c(count, pointer(queries), k, pointer(scores), pointer(rows), params)
    return scores, rows


def normalized(vectors: F32) -> F32:
    """Rows scaled to norm 1; the very same array where all of them have it. Zero rows stay zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    odd = np.abs(norms - 1.0) >= UNIT_TOLERANCE
    if not odd.any():
        return vectors
    norms[(norms == 0.0) | ~odd] = 1.0
    scaled: F32 = (vectors / norms[:, None]).astype(np.float32)
    return scaled
