"""An answer is bounded: in hits, and in the bytes that are read for it."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import msgpack
import numpy as np
import pytest
from vecdb_proto.v1 import collections_pb2, common_pb2, documents_pb2, filter_pb2, search_pb2

from tests.support.inprocess import InProcessNode, Refused, refusal
from tests.unit.vecdb.api.bad_input import INVALID

DIM = 4
COUNT = 320
MESSAGE = 128 << 10
IDS = [f"d{at:03}" for at in range(COUNT)]
VECTORS = np.random.default_rng(1).standard_normal((COUNT, DIM)).astype("<f4")
# All of them take about twice a message.
FILLER = "x" * 600
COLLECTIONS = ["one", "three"]
NOTHING = common_pb2.Projection()
CUT = common_pb2.Projection(payload_fields=["at"])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessNode]:
    limits = {"min_free_disk_bytes": 0, "max_message_bytes": MESSAGE}
    with InProcessNode(tmp_path_factory.mktemp("node"), limits=limits) as node:
        for name, shards in zip(COLLECTIONS, (1, 3), strict=True):
            config = collections_pb2.CollectionConfig(name=name, dim=DIM, shards=shards)
            node.collections.Create(collections_pb2.CreateCollectionRequest(config=config))
            for start in range(0, COUNT, 80):
                some = range(start, start + 80)
                request = documents_pb2.UpsertRequest(
                    collection=name,
                    ids=[IDS[at] for at in some],
                    vectors=VECTORS[start : start + 80].tobytes(),
                    payloads=[msgpack.packb({"at": at, "filler": FILLER}) for at in some],
                )
                assert node.documents.Upsert(request).count == 80
        yield node


def search(
    node: InProcessNode, name: str, k: int, projection: common_pb2.Projection | None = None, offset: int = 0
) -> search_pb2.SearchResponse:
    options = search_pb2.SearchOptions(k=k, offset=offset, exact=True, projection=projection)
    query = search_pb2.Query(vector=VECTORS[0].tobytes())
    request = search_pb2.SearchRequest(collection=name, query=query, options=options)
    answer: search_pb2.SearchResponse = node.search.Search(request)
    return answer


def batch(
    node: InProcessNode, name: str, queries: int, k: int, projection: common_pb2.Projection | None = None
) -> search_pb2.SearchBatchResponse:
    options = search_pb2.SearchOptions(k=k, exact=True, projection=projection)
    vectors = np.resize(VECTORS, (queries, DIM)).tobytes()
    request = search_pb2.SearchBatchRequest(collection=name, vectors=vectors, options=options)
    answer: search_pb2.SearchBatchResponse = node.search.SearchBatch(request)
    return answer


def check_too_large(refused: Refused) -> None:
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert f"max_message_bytes ({MESSAGE})" in refused.message
    assert refused.metadata == {"limit": "max_message_bytes"}


@pytest.mark.parametrize("name", COLLECTIONS)
def test_a_search_is_answered_within_a_message(node: InProcessNode, name: str) -> None:
    """Hits whose documents take more than a message are refused; fewer, or less of them, are answered."""
    check_too_large(refusal(lambda: search(node, name, COUNT)))
    assert len(search(node, name, 100).hits) == 100
    assert {hit.document.id for hit in search(node, name, COUNT, NOTHING).hits} == set(IDS)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_a_document_counts_as_often_as_it_is_hit(node: InProcessNode, name: str) -> None:
    """Queries of a batch that all hit the same documents are answered with as many copies, and so counted."""
    assert list(batch(node, name, 1, 100).counts) == [100]
    check_too_large(refusal(lambda: batch(node, name, 3, 100)))
    assert list(batch(node, name, 3, 100, NOTHING).counts) == [100] * 3


@pytest.mark.parametrize("name", COLLECTIONS)
def test_what_an_offset_leaves_out_is_no_part_of_the_answer(node: InProcessNode, name: str) -> None:
    """The last hits are those of the whole list, though the hits before them would not fit."""
    whole = [hit.document.id for hit in search(node, name, COUNT, NOTHING).hits]
    last = search(node, name, 50, offset=COUNT - 50)
    assert [hit.document.id for hit in last.hits] == whole[-50:]
    assert not search(node, name, 50, offset=COUNT).hits


@pytest.mark.parametrize("name", COLLECTIONS)
def test_chosen_hits_are_answered_within_a_message(node: InProcessNode, name: str) -> None:
    """Groups and diverse hits count their own documents, not those that they were chosen from."""
    query = search_pb2.Query(vector=VECTORS[0].tobytes())
    choices = (
        {"group_by": search_pb2.GroupBy(field="at")},
        {"diversity": search_pb2.Diversity(**{"lambda": 0.5}, candidates=COUNT)},
    )
    for choice in choices:
        options = search_pb2.SearchOptions(k=COUNT, exact=True, **choice)
        request = search_pb2.SearchRequest(collection=name, query=query, options=options)
        check_too_large(refusal(lambda request=request: node.search.Search(request)))  # type: ignore[misc]
        request.options.k = 100
        assert len(node.search.Search(request).hits) == 100
        request.options.k = COUNT
        request.options.projection.SetInParent()
        assert {hit.document.id for hit in node.search.Search(request).hits} == set(IDS)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_documents_by_id_are_answered_within_a_message(node: InProcessNode, name: str) -> None:
    """Get of more than a message holds is refused; without payloads it is answered."""
    request = documents_pb2.GetRequest(collection=name, ids=IDS)
    check_too_large(refusal(lambda: node.documents.Get(request)))
    request.projection.SetInParent()
    assert [document.id for document in node.documents.Get(request).documents] == IDS


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("name", COLLECTIONS)
def test_pages_end_where_a_message_does(node: InProcessNode, name: str, filtered: bool) -> None:
    """Page by page every document comes once and in order, and no page is larger than a message."""
    request = documents_pb2.ScrollRequest(collection=name, limit=COUNT)
    if filtered:
        request.filter.exists = "at"
    found: list[str] = []
    pages = 0
    while True:
        page = node.documents.Scroll(request)
        assert page.ByteSize() <= MESSAGE
        found += [document.id for document in page.documents]
        pages += 1
        if not page.next_cursor:
            break
        request.cursor = page.next_cursor
    assert found == IDS
    assert 4 <= pages <= 6


def test_hits_of_a_batch_are_limited(node: InProcessNode) -> None:
    """Queries times k is at most 200,000, whatever a collection holds, before anything is searched."""
    assert list(batch(node, "one", 2, 10_000, NOTHING).counts) == [COUNT] * 2
    refused = refusal(lambda: batch(node, "one", 1_000, 201))
    assert (refused.code, refused.reason) == (INVALID, "LIMIT_EXCEEDED")
    assert refused.fields == ["options.k"]
    assert "201000" in refused.message
    assert "200000" in refused.message


@pytest.mark.parametrize(
    ("options", "each"),
    [
        (search_pb2.SearchOptions(k=10, offset=1, group_by=search_pb2.GroupBy(field="at", size=20)), 220),
        (search_pb2.SearchOptions(k=10, diversity=search_pb2.Diversity(candidates=201)), 201),
    ],
    ids=["groups", "diversity"],
)
def test_what_a_batch_chooses_from_is_limited(
    node: InProcessNode, options: search_pb2.SearchOptions, each: int
) -> None:
    """All members of groups count as hits of a batch, and all candidates of diverse answers."""
    vectors = np.resize(VECTORS, (1_000, DIM)).tobytes()
    request = search_pb2.SearchBatchRequest(collection="one", vectors=vectors, options=options)
    refused = refusal(lambda: node.search.SearchBatch(request))
    assert (refused.code, refused.reason) == (INVALID, "LIMIT_EXCEEDED")
    assert f"{each} hits are {each * 1_000}" in refused.message


@pytest.mark.parametrize("name", COLLECTIONS)
def test_large_answers_are_what_small_ones_are(node: InProcessNode, name: str) -> None:
    """An answer that is put together beside the loop holds what the small answers hold."""
    many = batch(node, name, 220, 10, common_pb2.Projection(vector=False))
    few = batch(node, name, 3, 10, NOTHING)
    assert list(many.ids[:30]) == list(few.ids)
    assert list(many.counts) == [10] * 220
    hits = search(node, name, 120, CUT).hits
    assert [msgpack.unpackb(hit.document.payload) for hit in hits] == [
        {"at": IDS.index(hit.document.id)} for hit in hits
    ]
    request = documents_pb2.GetRequest(collection=name, ids=IDS[:120], projection=CUT)
    documents = node.documents.Get(request).documents
    assert [msgpack.unpackb(document.payload) for document in documents] == [{"at": at} for at in range(120)]


def test_vectors_and_texts_are_counted(node: InProcessNode) -> None:
    """A document's vector and text are part of what it takes, in the bytes they take in a message."""
    config = collections_pb2.CollectionConfig(name="wide", dim=4_000)
    node.collections.Create(collections_pb2.CreateCollectionRequest(config=config))
    for at in range(10):
        request = documents_pb2.UpsertRequest(
            collection="wide", ids=[f"w{at}"], vectors=np.ones(4_000, "<f4").tobytes(), texts=["é" * 8_000]
        )
        node.documents.Upsert(request)
    ids = [f"w{at}" for at in range(10)]
    for projection in (common_pb2.Projection(vector=True), common_pb2.Projection(text=True)):
        got = documents_pb2.GetRequest(collection="wide", ids=ids, projection=projection)
        check_too_large(refusal(lambda got=got: node.documents.Get(got)))  # type: ignore[misc]
        got = documents_pb2.GetRequest(collection="wide", ids=ids[:8], projection=projection)
        assert len(node.documents.Get(got).documents) == 8


def test_a_filter_that_matches_nothing_has_an_empty_page(node: InProcessNode) -> None:
    """There is no cursor where there is nothing more."""
    where = filter_pb2.Filter(exists="nope")
    page = node.documents.Scroll(documents_pb2.ScrollRequest(collection="three", filter=where))
    assert not page.documents
    assert not page.next_cursor
