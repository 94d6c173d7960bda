from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgpack
import numpy as np
import pytest
import vecdb_client as vc
from vecdb_client import Filter as F
from vecdb_client import _ingest
from vecdb_proto.v1 import common_pb2, knowledge_pb2, models_pb2, search_pb2

from tests.clients.scripted import Fail, ScriptedServer

Code = grpc.StatusCode
INGEST = "Knowledge/Ingest"


class Shelf:
    """Takes sources as the contract says, and remembers what came."""

    def __init__(self) -> None:
        self.header: Any = None
        self.sources: dict[str, bytes] = {}
        self.largest = 0
        self.break_after: int | None = None

    def __call__(self, messages: Iterator[Any], context: Any) -> Iterator[Any]:
        self.header = next(messages).header
        current: Any = None
        data = b""
        answered = 0
        for message in messages:
            if message.HasField("source"):
                current, data = message.source, b""
            else:
                data += message.data
                self.largest = max(self.largest, len(message.data))
            if len(data) == current.size:
                if answered == self.break_after:
                    self.break_after = None
                    context.abort(Code.UNAVAILABLE, "going down")
                yield self._answer(current, data)
                answered += 1

    def _answer(self, source: Any, data: bytes) -> Any:
        reply = knowledge_pb2.IngestResponse(uri=source.uri, passages=2, sources=1)
        reply.session.positions.add(shard=1, index=len(self.sources) + 1)
        if b"poison" in data:
            reply.outcome, reply.passages = knowledge_pb2.INGEST_OUTCOME_FAILED, 0
            reply.code, reply.message = 3, "cannot be parsed"
        elif self.sources.get(source.uri) == data:
            reply.outcome, reply.passages = knowledge_pb2.INGEST_OUTCOME_UNCHANGED, 0
        elif source.uri in self.sources:
            reply.outcome, reply.deleted = knowledge_pb2.INGEST_OUTCOME_UPDATED, 2
        else:
            reply.outcome = knowledge_pb2.INGEST_OUTCOME_ADDED
        self.sources[source.uri] = data
        return reply


@pytest.fixture
def shelf(server: ScriptedServer) -> Shelf:
    shelf = Shelf()
    server.script(INGEST, shelf)
    return shelf


def test_sources_arrive_whole_and_are_answered_in_order(db: Any, shelf: Shelf) -> None:
    """Bytes of any size, none included, arrive as they were; the report has one result each, in order."""
    sources = [("big", bytes(range(256)) * 10_000), ("empty", b""), ("bad", b"poison"), ("a.md", b"# A")]
    told: list[vc.IngestResult] = []
    report = db.ingest(
        "docs",
        sources,
        chunking=vc.Chunking(100, 200, 0),
        payload={"lang": "en"},
        progress=told.append,
    )
    assert shelf.sources == dict(sources)
    assert shelf.largest <= 1 << 20
    assert [result.uri for result in report] == ["big", "empty", "bad", "a.md"]
    assert told == list(report)
    assert (report.added, report.updated, report.unchanged, report.passages) == (3, 0, 0, 6)
    (failure,) = report.failures
    assert (failure.uri, failure.code, failure.message) == ("bad", Code.INVALID_ARGUMENT, "cannot be parsed")
    assert "failed=1" in repr(report)
    assert report[1:2] == [report[1]]
    chunking = shelf.header.chunking
    assert (chunking.target_tokens, chunking.max_tokens, chunking.overlap_sentences) == (100, 200, 0)
    assert chunking.HasField("overlap_sentences")
    assert (shelf.header.collection, msgpack.unpackb(shelf.header.payload)) == ("docs", {"lang": "en"})
    assert db.session
    again = db.ingest("docs", [("a.md", b"# A"), ("empty", b"now full")])
    assert (again.unchanged, again.updated, again[1].deleted) == (1, 1, 2)
    assert not shelf.header.chunking.HasField("overlap_sentences")


def test_paths_and_folders_are_read(db: Any, shelf: Shelf, tmp_path: Path) -> None:
    """A file's uri is its path, or what is left of it below `root`; folders are walked in order."""
    (tmp_path / "notes" / "deep").mkdir(parents=True)
    (tmp_path / "notes" / ".git").mkdir()
    for name in ("notes/b.md", "notes/a.md", "notes/deep/c.txt", "notes/.git/config", "notes/.hidden"):
        (tmp_path / name).write_bytes(name.encode())
    report = db.ingest("docs", tmp_path / "notes", root=tmp_path)
    assert [result.uri for result in report] == ["notes/a.md", "notes/b.md", "notes/deep/c.txt"]
    assert shelf.sources["notes/deep/c.txt"] == b"notes/deep/c.txt"
    report = db.ingest("docs", [str(tmp_path / "notes" / "a.md"), ("x", b"y")])
    assert [result.uri for result in report] == [(tmp_path / "notes" / "a.md").as_posix(), "x"]
    assert db.ingest("docs", ("only", b"one")).added == 1
    assert len(db.ingest("docs", [])) == 0


def test_a_file_that_cannot_be_read_fails_alone(
    db: Any, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing or oversized file is a failed result in its place; the others are taken."""
    monkeypatch.setattr(_ingest, "_SOURCE_BYTES", 1000)
    (tmp_path / "large").write_bytes(b"x" * 1001)
    sources = [("a", b"1"), tmp_path / "gone", tmp_path / "large", ("b", b"2"), tmp_path / "gone too"]
    report = db.ingest("docs", sources, root=tmp_path)
    assert [(r.uri, r.outcome) for r in report] == [
        ("a", "added"),
        ("gone", "failed"),
        ("large", "failed"),
        ("b", "added"),
        ("gone too", "failed"),
    ]
    assert "No such file" in report[1].message
    assert report[2].code is Code.INVALID_ARGUMENT
    assert "limit is 1,000" in report[2].message


def test_a_broken_stream_is_taken_up_where_it_broke(db: Any, shelf: Shelf) -> None:
    """After UNAVAILABLE the unanswered sources are sent again, each is answered once, none is lost."""
    shelf.break_after = 3
    sources = [(f"s{i}", b"x" * i) for i in range(10)]
    report = db.ingest("docs", iter(sources))
    assert [result.uri for result in report] == [uri for uri, _ in sources]
    assert shelf.sources == dict(sources)
    assert report.added == 10


def test_a_refused_ingest_raises(server: ScriptedServer, db: Any) -> None:
    """An unknown collection fails the call itself, and a node that stays away ends the attempts."""
    server.script(INGEST, Fail(Code.NOT_FOUND, "no collection", "COLLECTION_NOT_FOUND"))
    with pytest.raises(vc.NotFoundError):
        db.ingest("docs", [("a", b"1")])
    server.script(INGEST, Fail(Code.UNAVAILABLE))
    with pytest.raises(vc.UnavailableError):
        db.ingest("docs", [("a", b"1")])


def test_what_the_sources_raise_is_raised(db: Any, shelf: Shelf) -> None:
    """An error in the caller's iterator reaches the caller, after what was sent is answered."""

    def sources() -> Iterator[tuple[str, bytes]]:
        yield "a", b"1"
        raise LookupError("no more")

    told: list[vc.IngestResult] = []
    with pytest.raises(LookupError, match="no more"):
        db.ingest("docs", sources(), progress=told.append)
    assert [result.uri for result in told] == ["a"]
    for wrong in ([5], [("a", "text")], ["a", b"x"]):
        with pytest.raises((TypeError, vc.VecdbError)):
            db.ingest("docs", wrong)


def test_a_server_that_answers_wrongly_is_found_out(server: ScriptedServer, db: Any) -> None:
    """Too few answers or too many are an InternalError, never a silent gap."""
    server.script(INGEST, lambda messages, _context: iter(list(messages)[:0]))
    with pytest.raises(vc.InternalError, match="left 1 sources"):
        db.ingest("docs", [("a", b"1")])
    server.script(INGEST, lambda messages, _context: (knowledge_pb2.IngestResponse() for _ in range(3)))
    with pytest.raises(vc.InternalError, match="not sent"):
        db.ingest("docs", [])


def test_a_deadline_ends_an_ingest(server: ScriptedServer, db: Any) -> None:
    """`timeout` bounds the whole of it."""
    release = threading.Event()
    server.script(INGEST, lambda _messages, _context: iter([release.wait(30)][:0]))
    with pytest.raises(vc.DeadlineExceededError):
        db.ingest("docs", [("a", b"1")], timeout=0.2)
    release.set()


def test_retrieve_gives_a_cited_context(server: ScriptedServer, db: Any) -> None:
    """The context's text, and for each number what it stands for."""
    citation = knowledge_pb2.Citation(
        number=1,
        ids=["a", "b"],
        source=common_pb2.Source(uri="a.md", start=3, end=40),
        score=0.5,
        author="ann",
        version=4,
        text="It rains.",
    )
    reply = knowledge_pb2.RetrieveResponse(
        text="[1] It rains.", citations=[citation], tokens=5, partial=True, missing_shards=[2]
    )
    server.script("Knowledge/Retrieve", reply)
    context = db.retrieve("docs", "weather?", 300, mode="hybrid", filter=F("a") == 1, candidates=9)
    assert (context.text, context.tokens, context.partial, context.missing_shards) == (
        "[1] It rains.",
        5,
        True,
        (2,),
    )
    (source,) = context.sources
    assert (source.number, source.ids, source.text, source.author, source.version) == (
        1,
        ("a", "b"),
        "It rains.",
        "ann",
        4,
    )
    assert (source.source.uri, source.source.start, source.source.end) == ("a.md", 3, 40)
    (request,) = server.requests["Knowledge/Retrieve"]
    assert request == knowledge_pb2.RetrieveRequest(
        collection="docs",
        question="weather?",
        token_budget=300,
        candidates=9,
        mode=search_pb2.SEARCH_MODE_HYBRID,
        filter=(F("a") == 1).message(),
    )


def test_sources_are_listed_page_by_page_and_deleted(server: ScriptedServer, db: Any) -> None:
    """Every source once, cursors followed; deletions are summed over requests."""

    def listing(request: Any, _context: Any) -> Any:
        second = request.cursor == b"next"
        info = knowledge_pb2.SourceInfo(uri="b" if second else "a", title="T", content_hash="ff", passages=3)
        return knowledge_pb2.ListSourcesResponse(sources=[info], next_cursor=b"" if second else b"next")

    server.script("Knowledge/ListSources", listing)
    assert list(db.list_sources("docs", prefix="x")) == [
        vc.SourceInfo("a", "T", "ff", 3),
        vc.SourceInfo("b", "T", "ff", 3),
    ]
    assert server.requests["Knowledge/ListSources"][0].prefix == "x"
    server.script("Knowledge/DeleteSources", knowledge_pb2.DeleteSourcesResponse(count=5))
    assert db.delete_sources("docs", [str(i) for i in range(1_500)]) == 10
    assert all(r.options.sequence for r in server.requests["Knowledge/DeleteSources"])
    with pytest.raises(TypeError, match="one string"):
        db.delete_sources("docs", "abc")


def test_models_are_listed_and_embed(server: ScriptedServer, db: Any, connect: Callable[..., Any]) -> None:
    """Embeddings come as one matrix in the order of the texts, however many requests they took."""
    info = models_pb2.ModelInfo(
        name="m", dim=2, metric=common_pb2.METRIC_COSINE, provider="wordllama", fingerprint="f"
    )
    server.script("Models/List", models_pb2.ListModelsResponse(models=[info]))
    assert db.models() == [vc.ModelInfo("m", 2, "cosine", "wordllama", "f", "", "")]

    def embed(request: Any, _context: Any) -> Any:
        vectors = np.array([[float(text), 1] for text in request.texts], "<f4")
        return models_pb2.EmbedResponse(vectors=vectors.tobytes(), dim=2)

    server.script("Models/Embed", embed)
    vectors = db.embed("m", (str(i) for i in range(2_100)), kind="query")
    assert vectors.shape == (2100, 2)
    assert vectors[:, 0].tolist() == list(range(2100))
    assert db.embed("m", ["3"]).tolist() == [[3, 1]]
    kinds = {request.kind for request in server.requests["Models/Embed"]}
    assert kinds == {models_pb2.EMBED_KIND_QUERY, models_pb2.EMBED_KIND_PASSAGE}
    with pytest.raises(ValueError, match="nothing to embed"):
        db.embed("m", [])
    with pytest.raises(ValueError, match="kind"):
        db.embed("m", ["a"], kind="other")
