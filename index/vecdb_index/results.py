"""What applying, reading and searching return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a document (its position in the mutation's ids; -1: the whole mutation) was not written.

    Codes: ``aborted`` (a condition did not hold; nothing of the mutation was applied), ``not_found`` (an
    update of an id that is not there; the others were applied), ``invalid`` (nothing was applied),
    ``expired`` (a retry older than the window; nothing was applied now).
    """

    position: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What one entry did: the log index under which it was applied, and the documents it touched."""

    index: int
    count: int
    failures: tuple[Failure, ...] = ()


class Row(NamedTuple):
    """A document as stored. A tuple, for ten of them are made in the time a search takes."""

    id: str
    version: int
    author: str
    written_at_ms: int
    source: bytes | None
    payload: bytes
    text: str | None
    docno: int
    vector: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """Hits of all queries, one after the other, best first.

    ``counts`` (nq,) int32 hits a query; ``docnos`` (sum,) int64; ``scores`` (sum,) float32.
    """

    counts: npt.NDArray[np.int32]
    docnos: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    explain: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SegmentStats:
    """One sealed segment.

    ``kind`` is "hnsw", "ivf" or "flat", ``storage`` what its index finds candidates by (where codes cannot
    reach the target recall those are the full vectors, whatever the schema says), ``state`` "indexed" or
    "pending". At the target recall: ``effort`` (efSearch or nprobe), ``reranked`` candidates for ten hits,
    and the ``recall`` measured. Of its ``bytes``, ``index_bytes`` are links, lists and codes,
    ``vector_bytes`` the full vectors, which an index without codes searches.
    """

    id: int
    kind: str
    storage: str
    state: str
    rows: int
    tombstones: int
    bytes: int
    index_bytes: int
    vector_bytes: int
    effort: int | None
    reranked: int
    recall: float | None


@dataclass(frozen=True, slots=True)
class ShardStats:
    """A shard at a glance.

    ``state`` is "ready" (nothing waits to be indexed), "indexing", "failing" (the last background job met
    ``error`` and is tried again) or "damaged". ``recall`` is the lowest measured among the indexes.
    """

    documents: int
    segments: tuple[SegmentStats, ...]
    growing_rows: int
    unindexed_rows: int
    disk_bytes: int
    state: str
    recall: float | None
    applied_index: int
    durable_index: int
    error: str | None = None
