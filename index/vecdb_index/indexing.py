"""Making a segment's index findable: codes of its rows, and how hard to look.

Codes that cannot reach the target recall, however hard one looks, are given up for the full vectors: vectors
of few dimensions have no bits to lose, and numbers beyond a half's range no half.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from vecdb_index.calibrate import Efforts, calibrate
from vecdb_index.codes import Codec, flat_codec
from vecdb_index.knn import F32, I64, Bits, Index, faiss, flat_over, keep, kept
from vecdb_index.lists import Clusters, list_codec
from vecdb_index.near import Near, coded_graph, over_lists
from vecdb_index.schema import Schema
from vecdb_index.sealed import Made


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredGraph:
    """How hard to look in a graph, and, where it is searched by codes, the codec and its rows' codes."""

    efforts: Efforts
    codec: Codec | None = None
    packed: bytes | None = None  # the codec, without rows
    codes: Bits | None = None

    def made(self, graph: Index) -> Made:
        """The index of the graph, to which more rows may have been added since."""
        if self.codec is None or self.codes is None:
            return Made(self.efforts, graph)
        late = self.codec.encode(vectors_of(graph)[len(self.codes) :])
        return Made(self.efforts, graph, None, self.packed, np.concatenate([self.codes, late]))


def measure_graph(graph: Index, schema: Schema, queries: F32, own_rows: I64 | None) -> MeasuredGraph:
    """Calibrate a graph that owns its vectors, by codes of them if those are good enough.

    ``queries`` and ``own_rows`` are those of ``calibrate``.
    """
    flat = faiss.downcast_index(graph.storage)
    if schema.storage != "f32":
        vectors = vectors_of(graph)
        codec = flat_codec(schema.storage, schema.metric, vectors)
        packed, codes = codec.pack(), codec.encode(vectors)
        with _lent(graph):
            efforts = calibrate(coded_graph(graph, codec, codes, flat), flat, queries, own_rows)
        if _reaches(efforts, schema):
            return MeasuredGraph(efforts, codec, packed, codes)
    return MeasuredGraph(calibrate(Near("hnsw", graph, graph, graph.ntotal), flat, queries, own_rows))


def index_lists(clusters: Clusters, schema: Schema, vectors: F32, sample: int) -> Made:
    """Lists over vectors (n, dim) that are in the order of the lists, calibrated with ``sample`` of them."""
    flat = flat_over(vectors, schema.metric)
    random = np.random.default_rng(0)
    own = random.choice(len(vectors), min(sample, len(vectors)), replace=False)
    queries = vectors[own]
    if schema.storage != "f32":
        codec = list_codec(schema.storage, schema.metric, clusters)
        packed, codes = codec.pack(), codec.encode(vectors, clusters.lists)
        near = over_lists(codec, clusters.sizes, codes, flat, coded=True)
        efforts = calibrate(near, flat, queries, own)
        if _reaches(efforts, schema):
            return Made(efforts, None, clusters.sizes, packed, codes)
    codec = list_codec("f32", schema.metric, clusters)
    packed = codec.pack()
    near = over_lists(codec, clusters.sizes, vectors, flat, coded=False)
    return Made(calibrate(near, flat, queries, own), None, clusters.sizes, packed)


def vectors_of(graph: Index) -> F32:
    """The vectors (n, dim) that a graph owns, in place: until it is added to."""
    flat = faiss.downcast_index(graph.storage)
    found: F32 = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
    return found


@contextmanager
def _lent(graph: Index) -> Iterator[None]:
    """A graph that has its own vectors again afterwards, whatever it was made to search meanwhile."""
    storage, owned, dim, held = graph.storage, graph.own_fields, graph.d, kept(graph)
    try:
        yield
    finally:
        graph.storage, graph.own_fields, graph.d = storage, owned, dim
        keep(graph, *held)


def _reaches(efforts: Efforts, schema: Schema) -> bool:
    seen = efforts.measured(schema.target_recall)
    return seen is None or seen >= schema.target_recall
