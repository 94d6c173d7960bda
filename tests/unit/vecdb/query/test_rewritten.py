"""A document that is there at every moment is in every answer it belongs in, however often it is written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from vecdb_proto.v1 import collections_pb2, filter_pb2, search_pb2

from tests.support.inprocess import InProcessNode
from tests.unit.vecdb.query.requests import ALL, create, equals, packed, upsert

DIM = 8
IDS = [f"d{at}" for at in range(200)]
VECTORS = np.random.default_rng(3).standard_normal((len(IDS), DIM)).astype(np.float32)
KEYWORD = collections_pb2.Field(name="kind", type=collections_pb2.FIELD_TYPE_KEYWORD)
ROUNDS = 40


@contextmanager
def rewritten(node: InProcessNode, collection: str) -> Iterator[None]:
    """While this is open, the first ten documents are written again and again."""
    stop, failed = threading.Event(), []

    def write() -> None:
        try:
            while not stop.is_set():
                upsert(node, collection, IDS[:10], VECTORS[:10], [{"kind": "all"}] * 10)
        except Exception as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()
    assert not failed


def a_collection(node: InProcessNode, name: str, shards: int) -> str:
    create(node, name, dim=DIM, shards=shards, fields=[KEYWORD])
    upsert(node, name, IDS, VECTORS, [{"kind": "all"}] * len(IDS))
    return name


def options(k: int, where: filter_pb2.Filter | None = None, **more: object) -> search_pb2.SearchOptions:
    return search_pb2.SearchOptions(k=k, filter=where, **more)  # type: ignore[arg-type]


def test_searches(node: InProcessNode, name: Callable[[], str]) -> None:
    """Searches of every kind find all that there is, of one shard or three."""
    every = equals("kind", "all")
    asked = [
        options(20),
        options(20, projection=ALL),
        options(20, every),
        options(20, exact=True),
        options(1, group_by=search_pb2.GroupBy(field="kind", size=20)),
        options(20, every, diversity=search_pb2.Diversity(**{"lambda": 0.5}, candidates=40)),
    ]
    for shards in (1, 3):
        collection = a_collection(node, name(), shards)
        with rewritten(node, collection):
            for at in range(ROUNDS):
                query = search_pb2.Query(vector=packed(VECTORS[at % 10]))
                for each in asked:
                    request = search_pb2.SearchRequest(collection=collection, query=query, options=each)
                    assert len(node.search.Search(request).hits) == 20, each


def test_batches(node: InProcessNode, name: Callable[[], str]) -> None:
    """In a batch every query finds all, and itself first."""
    collection = a_collection(node, name(), 2)
    request = search_pb2.SearchBatchRequest(
        collection=collection, vectors=packed(VECTORS[:64]), options=options(5)
    )
    with rewritten(node, collection):
        for _ in range(ROUNDS):
            reply = node.search.SearchBatch(request)
            assert list(reply.counts) == [5] * 64
            assert list(reply.ids)[::5] == IDS[:64]


def test_sessions_do_not_go_back(node: InProcessNode, name: Callable[[], str]) -> None:
    """The version that a search shows of a document never falls."""
    collection = a_collection(node, name(), 1)
    request = search_pb2.SearchRequest(
        collection=collection, query=search_pb2.Query(vector=packed(VECTORS[3])), options=options(1)
    )
    seen = 0
    with rewritten(node, collection):
        for _ in range(4 * ROUNDS):
            (hit,) = node.search.Search(request).hits
            assert (hit.document.id, hit.document.version >= seen) == (IDS[3], True)
            seen = hit.document.version
