from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import grpc
import msgpack
import numpy as np
import pytest
import vecdb_client as vc
from google.rpc import status_pb2
from vecdb_client import Filter as F
from vecdb_proto.v1 import common_pb2, documents_pb2, search_pb2

from tests.clients.scripted import Fail, ScriptedServer

Code = grpc.StatusCode
SEARCH = "Search/Search"


def stored(name: str, **fields: Any) -> common_pb2.Document:
    return common_pb2.Document(id=name, **fields)


@pytest.fixture
def asked(server: ScriptedServer) -> list[Any]:
    server.script(SEARCH, search_pb2.SearchResponse())
    return server.requests[SEARCH]


def test_a_hit_says_everything(server: ScriptedServer, db: Any) -> None:
    """Each field of a hit is the document's, decoded."""
    source = common_pb2.Source(
        uri="a.md", title="A", start=1, end=9, ordinal=2, section="S", page=3, content_hash="ff"
    )
    document = stored(
        "a",
        text="words",
        payload=msgpack.packb({"year": 2024}),
        vector=np.array([1, 2], "<f4").tobytes(),
        vectors={"t": np.array([3], "<f4").tobytes()},
        sparse_vectors={
            "s": common_pb2.SparseVector(
                indices=np.array([4], "<u4").tobytes(), values=np.array([0.5], "<f4").tobytes()
            )
        },
        version=7,
        author="ann",
        written_at_ms=1_700_000_000_123,
        source=source,
    )
    server.script(
        SEARCH,
        search_pb2.SearchResponse(hits=[search_pb2.Hit(score=0.5, document=document, group="g")]),
    )
    hits = db.search("c", vector=[1.0, 2.0], with_vector=True, group_by="lang")
    (hit,) = hits
    assert (hit.id, hit.score, hit.text, hit.payload) == ("a", 0.5, "words", {"year": 2024})
    assert (hit.version, hit.author, hit.group) == (7, "ann", "g")
    assert hit.vector.tolist() == [1, 2]
    assert hit.vectors["t"].tolist() == [3]
    assert hit.sparse_vectors == {"s": vc.SparseVector((4,), (0.5,))}
    assert hit.written_at == datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=UTC)
    assert hit.source == vc.Source("a.md", "A", 1, 9, 2, "S", 3, "ff")
    assert hit.raw_payload == msgpack.packb({"year": 2024})
    assert "'a'" in repr(hits)
    assert (hits.ids, hits.scores.tolist()) == (["a"], [0.5])
    assert (hits.partial, hits.missing_shards, hits.explain) == (False, (), ())
    assert hits[0] is hit
    assert hits[:1] == [hit]


def test_what_a_document_lacks_is_empty(server: ScriptedServer, db: Any) -> None:
    """No text is "", no payload {}, no vector and no source None."""
    server.script(SEARCH, search_pb2.SearchResponse(hits=[search_pb2.Hit(document=stored("a"))]))
    (hit,) = db.search("c", vector=[1.0])
    assert (hit.text, hit.payload, hit.vector, hit.source, hit.written_at) == ("", {}, None, None, None)
    assert (hit.vectors, hit.sparse_vectors) == ({}, {})


def test_a_partial_answer_and_its_explanation_are_told(server: ScriptedServer, db: Any) -> None:
    """Missing shards and the planner's steps reach the caller."""
    step = search_pb2.ExplainStep(name="shard 7", microseconds=12, details={"plan": "exact"})
    server.script(
        SEARCH,
        search_pb2.SearchResponse(partial=True, missing_shards=[7], explain=search_pb2.Explain(steps=[step])),
    )
    hits = db.search("c", vector=[1.0], explain=True)
    assert (hits.partial, hits.missing_shards) == (True, (7,))
    assert hits.explain == (vc.ExplainStep("shard 7", 12, {"plan": "exact"}),)
    assert "partial=True" in repr(hits)


def test_a_plain_search_sends_little(db: Any, asked: list[Any]) -> None:
    """Defaults are left to the server: only the query and k go over."""
    db.search("c", np.array([1, 2], np.float64))
    expected = search_pb2.SearchRequest(
        collection="c",
        query=search_pb2.Query(vector=np.array([1, 2], "<f4").tobytes()),
        options=search_pb2.SearchOptions(k=10),
    )
    assert asked == [expected]


def test_every_option_goes_over(db: Any, asked: list[Any]) -> None:
    """Each argument of search sets exactly its field."""
    db.search(
        "c",
        text="how",
        mode="hybrid",
        k=5,
        offset=2,
        filter=F("year") >= 2020,
        with_payload=True,
        with_text=False,
        with_vector=True,
        payload_fields=["year"],
        vector_names=["title"],
        recall=0.9,
        ef=64,
        exact=True,
        score_threshold=0.25,
        vector_name="title",
        group_by="lang",
        group_size=2,
        diversity=vc.Diversity(0.5, 100),
        hybrid=vc.HybridWeights(0.75, 0.25, 30),
        explain=True,
        require_all=True,
    )
    options = search_pb2.SearchOptions(
        k=5,
        offset=2,
        mode=search_pb2.SEARCH_MODE_HYBRID,
        vector_name="title",
        filter=(F("year") >= 2020).message(),
        projection=common_pb2.Projection(
            payload=True, vector=True, payload_fields=["year"], vector_names=["title"]
        ),
        recall=0.9,
        ef=64,
        exact=True,
        score_threshold=0.25,
        group_by=search_pb2.GroupBy(field="lang", size=2),
        diversity=search_pb2.Diversity(**{"lambda": 0.5, "candidates": 100}),
        hybrid=search_pb2.HybridWeights(vector=0.75, text=0.25, rank_constant=30),
        explain=True,
    )
    expected = search_pb2.SearchRequest(
        collection="c",
        query=search_pb2.Query(text="how"),
        options=options,
        read=common_pb2.ReadOptions(require_all=True),
    )
    assert asked == [expected]


def test_examples_and_sparse_vectors_are_queries(db: Any, asked: list[Any]) -> None:
    """Ids to be like and unlike, and a sparse vector, each make their kind of query."""
    db.search("c", like=["a"], unlike=["b", "c"])
    db.search("c", sparse={5: 1.5})
    assert list(asked[0].query.examples.positive) == ["a"]
    assert list(asked[0].query.examples.negative) == ["b", "c"]
    assert asked[1].options.mode == search_pb2.SEARCH_MODE_SPARSE
    assert np.frombuffer(asked[1].query.sparse.values, "<f4").tolist() == [1.5]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, TypeError, "search takes"),
        ({"unlike": ["a"]}, TypeError, "search takes"),
        ({"vector": [[1.0]]}, ValueError, "search_batch"),
        ({"vector": ["x"]}, TypeError, "real numbers"),
        ({"text": "x", "k": 0}, ValueError, "at least 1"),
        ({"text": "x", "mode": "fuzzy"}, ValueError, "'hybrid'"),
        ({"text": "x", "filter": {"a": 1}}, TypeError, "condition"),
        ({"text": "x", "payload_fields": "year"}, TypeError, "one string"),
        ({"like": "abc"}, TypeError, "one string"),
        ({"text": "x", "consistency": "strong"}, ValueError, "consistency"),
    ],
)
def test_wrong_searches_are_refused_unsent(
    db: Any, asked: list[Any], arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    """What is wrong on its face raises before anything is sent."""
    with pytest.raises(error, match=says):
        db.search("c", **arguments)
    assert not asked


def columns(request: search_pb2.SearchBatchRequest, _context: Any) -> search_pb2.SearchBatchResponse:
    """Answers query n (its first component) with n % 3 hits, in columns."""
    first = (
        np.frombuffer(request.vectors, "<f4").reshape(-1, 2)[:, 0]
        if request.vectors
        else np.arange(len(request.texts))
    )
    counts = [int(n) % 3 for n in first]
    reply = search_pb2.SearchBatchResponse(counts=counts, author_names=["ann", "bob"], missing_shards=[4])
    scores: list[float] = []
    for n, count in zip(first, counts, strict=True):
        for rank in range(count):
            reply.ids.append(f"{int(n)}-{rank}")
            scores.append(float(n) - rank)
            reply.versions.append(rank + 1)
            reply.authors.append(rank % 2)
            reply.payloads.append(msgpack.packb({"n": int(n)}))
            reply.texts.append(f"text {int(n)}")
    reply.scores = np.array(scores, "<f4").tobytes()
    if request.options.projection.vector:
        reply.vectors = np.repeat(np.array(scores, "<f4"), 2).tobytes()
    return reply


def test_a_batch_comes_back_query_by_query(server: ScriptedServer, db: Any) -> None:
    """Columns are cut by counts; each hit finds its own score, version, author, payload, text and vector."""
    server.script("Search/SearchBatch", columns)
    answers = db.search_batch("c", vectors=[[0, 0], [1, 0], [2, 0]], k=3, with_vector=True)
    assert [answer.ids for answer in answers] == [[], ["1-0"], ["2-0", "2-1"]]
    assert [answer.scores.tolist() for answer in answers] == [[], [1], [2, 1]]
    last = answers[2][1]
    assert (last.id, last.score, last.version, last.author) == ("2-1", 1.0, 2, "bob")
    assert (last.payload, last.text, last.vector.tolist()) == ({"n": 2}, "text 2", [1, 1])
    assert (last.source, last.written_at, last.vectors, last.sparse_vectors) == (None, None, {}, {})
    assert [len(answer) for answer in answers] == [0, 1, 2]
    assert [hit.id for hit in answers[2]] == ["2-0", "2-1"]
    assert answers[2][0] is answers[2][0]
    assert "2-1" in repr(answers[2])
    assert answers[0].missing_shards == (4,)


def test_a_batch_without_columns_asked_for(server: ScriptedServer, db: Any) -> None:
    """Empty columns read as absent: ids and scores alone make hits."""
    reply = search_pb2.SearchBatchResponse(counts=[1], ids=["a"], scores=np.array([2], "<f4").tobytes())
    server.script("Search/SearchBatch", reply)
    ((hit,),) = db.search_batch("c", vectors=[[1.0]], with_payload=False, with_text=False)
    assert (hit.id, hit.score, hit.payload, hit.text, hit.vector) == ("a", 2.0, {}, "", None)
    assert (hit.version, hit.author) == (0, "")


def test_a_large_batch_is_cut_and_joined_in_order(server: ScriptedServer, db: Any) -> None:
    """More than 1,000 queries, or many hits each, take several requests; answers stay in order."""
    server.script("Search/SearchBatch", columns)
    queries = np.zeros((2500, 2), np.float32)
    queries[:, 0] = np.arange(2500)
    answers = db.search_batch("c", vectors=queries)
    assert [len(answer) for answer in answers] == [n % 3 for n in range(2500)]
    assert answers[2499 - 1].ids == ["2498-0", "2498-1"]
    sizes = sorted(len(r.vectors) // 8 for r in server.requests["Search/SearchBatch"])
    assert sizes == [500, 1000, 1000]
    server.requests["Search/SearchBatch"].clear()
    assert len(db.search_batch("c", texts=["a", "b", "c"], k=10_000)) == 3
    assert len(db.search_batch("c", texts=[str(i) for i in range(25)], k=10_000)) == 25
    assert [len(r.texts) for r in server.requests["Search/SearchBatch"][:1]] == [3]
    assert sorted(len(r.texts) for r in server.requests["Search/SearchBatch"][1:]) == [5, 10, 10]
    assert db.search_batch("c", vectors=np.zeros((0, 2))) == []


def test_a_batch_is_cut_by_all_that_it_asks_for(server: ScriptedServer, db: Any) -> None:
    """Members of groups, offsets and candidates of diverse answers count as hits do."""
    server.script("Search/SearchBatch", columns)
    queries = np.zeros((30, 2), np.float32)
    for options, largest in (
        ({"k": 90, "offset": 10, "group_by": "a", "group_size": 50}, 20),
        ({"k": 50, "diversity": vc.Diversity(0.5, 10_000)}, 10),
        ({"k": 2_500, "diversity": vc.Diversity()}, 10),
    ):
        server.requests["Search/SearchBatch"].clear()
        assert len(db.search_batch("c", vectors=queries, **options)) == 30
        assert max(len(r.vectors) // 8 for r in server.requests["Search/SearchBatch"]) == largest


def test_a_failed_part_fails_the_batch(server: ScriptedServer, db: Any) -> None:
    """Part of a read is no answer: the first error is raised."""
    server.script("Search/SearchBatch", Fail(Code.INVALID_ARGUMENT, "wrong dimension", "WRONG_DIMENSION"))
    with pytest.raises(vc.InvalidArgumentError, match="wrong dimension"):
        db.search_batch("c", vectors=np.zeros((3000, 2)))
    for wrong in ({}, {"vectors": [[1.0]], "texts": ["a"]}, {"texts": "abc"}):
        with pytest.raises(TypeError):
            db.search_batch("c", **wrong)


def test_get_keeps_the_order_asked(server: ScriptedServer, db: Any) -> None:
    """Documents come in the order asked, also over several requests; missing ones are left out."""

    def get(request: documents_pb2.GetRequest, _context: Any) -> documents_pb2.GetResponse:
        return documents_pb2.GetResponse(documents=[stored(i) for i in request.ids if int(i) % 2])

    server.script("Documents/Get", get)
    ids = [str(i) for i in range(2500, 0, -1)]
    documents = db.get("c", ids, with_vector=True, with_text=False)
    assert [document.id for document in documents] == [i for i in ids if int(i) % 2]
    assert all(
        r.projection == common_pb2.Projection(payload=True, vector=True)
        for r in server.requests["Documents/Get"]
    )
    assert db.get("c", []) == []
    with pytest.raises(TypeError, match="one string"):
        db.get("c", "abc")


def pages(request: documents_pb2.ScrollRequest, _context: Any) -> documents_pb2.ScrollResponse:
    """Pages over 25 documents."""
    start = int(request.cursor or b"0")
    end = min(25, start + request.limit)
    names = [stored(f"{i:02}") for i in range(start, end)]
    return documents_pb2.ScrollResponse(documents=names, next_cursor=b"" if end == 25 else str(end).encode())


@pytest.mark.parametrize(("limit", "count"), [(None, 25), (7, 7), (20, 20), (25, 25), (100, 25), (0, 0)])
def test_scroll_pages_by_itself(server: ScriptedServer, db: Any, limit: int | None, count: int) -> None:
    """Every document once, in order, up to the limit; never more is asked for than wanted."""
    server.script("Documents/Scroll", pages)
    found = list(db.scroll("c", filter=F("a").exists(), limit=limit, page_size=10))
    assert [document.id for document in found] == [f"{i:02}" for i in range(count)]
    requests = server.requests["Documents/Scroll"]
    assert all(request.filter.exists == "a" and request.read.require_all for request in requests)
    assert len(requests) == (count + 9) // 10
    if limit is not None:
        assert sum(request.limit for request in requests) <= max(limit, 25) + 9


def test_scroll_checks_before_it_is_iterated(db: Any) -> None:
    """A wrong argument raises where scroll is called, not later where it is consumed."""
    for wrong in ({"limit": -1}, {"page_size": 0}, {"page_size": 10_001}):
        with pytest.raises(ValueError):
            db.scroll("c", **wrong)


def test_scroll_goes_on_after_a_hiccup(server: ScriptedServer, db: Any) -> None:
    """A page that fails once is asked for again with the same cursor."""
    first = pages(documents_pb2.ScrollRequest(limit=20), None)
    last = pages(documents_pb2.ScrollRequest(limit=20, cursor=b"20"), None)
    server.script("Documents/Scroll", first, Fail(Code.UNAVAILABLE), last)
    assert len(list(db.scroll("c"))) == 25
    assert [r.cursor for r in server.requests["Documents/Scroll"]] == [b"", b"20", b"20"]


def test_count_wants_every_shard(server: ScriptedServer, db: Any) -> None:
    """A number cannot say that it is partial, so every shard must answer unless told otherwise."""
    server.script("Documents/Count", documents_pb2.CountResponse(count=3))
    assert db.count("c", filter=F("a") == 1) == 3
    assert db.count("c", require_all=False) == 3
    first, second = server.requests["Documents/Count"]
    assert first.read.require_all
    assert first.filter == (F("a") == 1).message()
    assert not second.HasField("read")


def answer_stream(requests: Any, _context: Any) -> Any:
    for message in requests:
        reply = search_pb2.SearchStreamResponse(tag=message.tag)
        if message.request.query.text == "bad":
            reply.error.CopyFrom(status_pb2.Status(code=3, message="bad query"))
        else:
            hit = search_pb2.Hit(score=message.tag, document=stored(message.request.query.text or "v"))
            reply.response.hits.append(hit)
            place = common_pb2.ShardPosition(shard=1, index=message.tag + 1)
            reply.response.session.positions.append(place)
        yield reply


def test_a_stream_answers_each_query(server: ScriptedServer, db: Any) -> None:
    """Answers carry their query's number; a failed one does not end the stream; positions are merged."""
    server.script("Search/SearchStream", answer_stream)
    answers = list(db.search_stream("c", ["one", "bad", [1.0, 2.0]], k=3))
    assert [answer.index for answer in answers] == [0, 1, 2]
    assert answers[0].hits.ids == ["one"]
    assert answers[2].hits.ids == ["v"]
    assert isinstance(answers[1].error, vc.InvalidArgumentError)
    with pytest.raises(vc.InvalidArgumentError, match="bad query"):
        _ = answers[1].hits
    assert db.session


def test_a_stream_raises_what_is_wrong_with_its_queries(server: ScriptedServer, db: Any) -> None:
    """A query that cannot be sent ends the stream and raises, after the answers before it."""
    server.script("Search/SearchStream", answer_stream)
    stream = db.search_stream("c", ["one", [["x"]]])
    with pytest.raises(TypeError, match="real numbers"):
        list(stream)
    server.script("Search/SearchStream", Fail(Code.PERMISSION_DENIED, "no"))
    with pytest.raises(vc.PermissionDeniedError):
        list(db.search_stream("c", ["one"]))


def test_a_stream_may_be_left_early(server: ScriptedServer, db: Any, connect: Callable[..., Any]) -> None:
    """Closing the iterator ends the stream; the client goes on to serve."""
    server.script("Search/SearchStream", answer_stream)
    stream = db.search_stream("c", (str(i) for i in range(1_000)))
    assert next(stream).index == 0
    stream.close()
    server.script("Documents/Count", documents_pb2.CountResponse(count=1))
    assert db.count("c") == 1
