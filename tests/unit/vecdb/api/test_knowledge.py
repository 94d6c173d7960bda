"""Sources in, cited passages out, through a running node."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgpack
import pytest
from vecdb_proto.v1 import collections_pb2, common_pb2, documents_pb2, knowledge_pb2, models_pb2, search_pb2

from tests.support.inprocess import InProcessNode, Refused, refusal

Part = knowledge_pb2.IngestRequest
ADDED, UPDATED, UNCHANGED, FAILED = 1, 2, 3, 4

TOPICS = {
    "bees.txt": "Bees make honey. A hive has one queen. Worker bees dance to tell where flowers are. ",
    "whales.txt": "Whales are mammals. They breathe air at the surface. The blue whale is very large. ",
    "volcanoes.txt": "Volcanoes erupt lava and ash. Magma rises from the mantle. Iceland has many of them. ",
}
_names = itertools.count()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessNode]:
    with InProcessNode(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def docs(served: InProcessNode) -> str:
    name = f"docs{next(_names)}"
    config = collections_pb2.CollectionConfig(name=name, model="wordllama-256", shards=2)
    served.collections.Create(collections_pb2.CreateCollectionRequest(config=config))
    return name


def header(collection: str, payload: dict[str, Any] | None = None, **chunking: int) -> Part:
    packed = msgpack.packb(payload) if payload is not None else b""
    options = knowledge_pb2.ChunkOptions(**chunking)
    return Part(header=knowledge_pb2.IngestHeader(collection=collection, payload=packed, chunking=options))


def source(uri: str, data: bytes, size: int | None = None, **fields: str) -> Part:
    length = len(data) if size is None else size
    return Part(source=knowledge_pb2.SourceHeader(uri=uri, size=length, **fields))


def upload(uri: str, text: str | bytes, piece: int = 1 << 20) -> list[Part]:
    data = text.encode() if isinstance(text, str) else text
    return [source(uri, data), *(Part(data=data[at : at + piece]) for at in range(0, len(data), piece))]


def ingest(node: InProcessNode, parts: Iterable[Part]) -> list[knowledge_pb2.IngestResponse]:
    return list(node.knowledge.Ingest(iter(parts)))


def listed(node: InProcessNode, collection: str, **fields: Any) -> knowledge_pb2.ListSourcesResponse:
    return node.knowledge.ListSources(knowledge_pb2.ListSourcesRequest(collection=collection, **fields))


def count(node: InProcessNode, collection: str) -> int:
    return node.documents.Count(documents_pb2.CountRequest(collection=collection)).count


def test_citations_point_into_the_sources(served: InProcessNode, docs: str) -> None:
    """Each citation's offsets cut exactly its text out of the source, and the context holds it by number."""
    texts = {uri: text * 40 for uri, text in TOPICS.items()}
    parts = [header(docs, target_tokens=32, max_tokens=48)]
    for uri, text in texts.items():
        parts += upload(uri, text, piece=700)
    replies = ingest(served, parts)
    assert [(reply.uri, reply.outcome) for reply in replies] == [(uri, ADDED) for uri in texts]
    assert count(served, docs) == sum(reply.passages for reply in replies)
    reply = served.knowledge.Retrieve(
        knowledge_pb2.RetrieveRequest(collection=docs, question="Which animal makes honey?", token_budget=300)
    )
    assert reply.citations[0].source.uri == "bees.txt"
    assert 0 < reply.tokens <= 300
    for citation in reply.citations:
        whole = texts[citation.source.uri]
        assert whole[citation.source.start : citation.source.end].split() == citation.text.split()
        assert f"[{citation.number}]" in reply.text
        assert citation.text in reply.text
        assert citation.author == "anonymous"
        assert citation.version > 0
        stored = served.documents.Get(documents_pb2.GetRequest(collection=docs, ids=citation.ids)).documents
        assert len(stored) == len(citation.ids)
        assert {each.source.uri for each in stored} == {citation.source.uri}
        assert min(each.source.start for each in stored) == citation.source.start
    assert [citation.number for citation in reply.citations] == list(range(1, len(reply.citations) + 1))


def test_a_budget_is_kept_and_filters_hold(served: InProcessNode, docs: str) -> None:
    """A smaller budget gives fewer tokens; filter, threshold and candidates choose among the passages."""
    for uri, text in TOPICS.items():
        ingest(served, [header(docs, {"topic": uri}), *upload(uri, text * 30)])

    def retrieve(**fields: Any) -> knowledge_pb2.RetrieveResponse:
        return served.knowledge.Retrieve(
            knowledge_pb2.RetrieveRequest(collection=docs, question="lava and magma", **fields)
        )

    sizes = [retrieve(token_budget=budget).tokens for budget in (64, 200, 2_000)]
    assert sizes == sorted(sizes)
    assert all(size <= budget for size, budget in zip(sizes, (64, 200, 2_000), strict=True))
    only = {"equals": {"field": "topic", "value": {"string_value": "whales.txt"}}}
    assert {each.source.uri for each in retrieve(filter=only).citations} == {"whales.txt"}
    assert not retrieve(score_threshold=2.0).citations
    assert len(retrieve(candidates=1).citations) == 1
    assert not retrieve().partial


def test_ingesting_again_writes_what_changed(served: InProcessNode, docs: str) -> None:
    """Unchanged sources are skipped; of a changed one the new passages come and the old ones go."""
    first = ingest(served, [header(docs), *upload("a.txt", TOPICS["bees.txt"] * 60)])[0]
    assert (first.outcome, first.sources, first.unchanged, first.deleted) == (ADDED, 1, 0, 0)
    assert first.session.positions
    again = ingest(served, [header(docs), *upload("a.txt", TOPICS["bees.txt"] * 60)])[0]
    assert (again.outcome, again.unchanged, again.passages, again.deleted) == (UNCHANGED, 1, 0, 0)
    changed = ingest(served, [header(docs), *upload("a.txt", TOPICS["whales.txt"])])[0]
    assert (changed.outcome, changed.deleted) == (UPDATED, first.passages)
    assert count(served, docs) == changed.passages
    (info,) = listed(served, docs).sources
    assert (info.uri, info.passages) == ("a.txt", changed.passages)


def test_a_container_is_answered_once_with_sums(served: InProcessNode, docs: str) -> None:
    """A .jsonl file holds many sources: one answer counts them, and records change one by one."""
    lines = [f'{{"id": "r{n}", "text": "Record number {n} speaks of lava.", "n": {n}}}' for n in range(150)]
    (reply,) = ingest(served, [header(docs), *upload("data.jsonl", "\n".join(lines))])
    assert (reply.outcome, reply.sources, reply.unchanged) == (ADDED, 150, 0)
    assert reply.passages == count(served, docs)
    lines[7] = '{"id": "r7", "text": "Record number 7 speaks of bees now.", "n": 7}'
    (reply,) = ingest(served, [header(docs), *upload("data.jsonl", "\n".join(lines))])
    assert (reply.outcome, reply.sources, reply.unchanged, reply.passages, reply.deleted) == (
        UPDATED, 150, 149, 1, 1,
    )  # fmt: skip
    stored = served.documents.Delete(documents_pb2.DeleteRequest(collection=docs, source="data.jsonl#r7"))
    assert stored.count == 1


def test_payloads_go_to_every_passage(served: InProcessNode, docs: str) -> None:
    """The header's payload is set in every passage and wins over the source's own metadata; a moment
    beyond Python's calendar is kept as it came."""
    moment = msgpack.Timestamp(1 << 45, 5_000)
    line = '{"id": "r", "text": "Words.", "lang": "en", "year": 1999}'
    ingest(served, [header(docs, {"lang": "de", "at": moment}), *upload("x.jsonl", line)])
    page = served.documents.Scroll(documents_pb2.ScrollRequest(collection=docs))
    (payload,) = [msgpack.unpackb(each.payload) for each in page.documents]
    assert (payload["lang"], payload["year"], payload["at"]) == ("de", 1999, moment)


def test_sources_are_listed_page_by_page_and_deleted(served: InProcessNode, docs: str) -> None:
    """Every source once, by uri, over pages and prefixes; deleting one leaves its neighbours."""
    uris = sorted(["a/1.txt", "a/2.txt", "a/20.txt", "b.txt", "a.txt"])
    parts = [header(docs, target_tokens=16, max_tokens=32)]
    for uri in uris:
        parts += upload(uri, TOPICS["bees.txt"] * 5)
    ingest(served, parts)
    served.documents.Upsert(
        documents_pb2.UpsertRequest(collection=docs, ids=["a/no-source"], texts=["not ingested"])
    )
    for limit in (1, 2, 5, 0):
        seen: list[str] = []
        cursor = b""
        while not seen or cursor:
            reply = listed(served, docs, limit=limit, cursor=cursor)
            seen += [info.uri for info in reply.sources]
            cursor = reply.next_cursor
        assert seen == uris
    assert [info.uri for info in listed(served, docs, prefix="a/2").sources] == ["a/2.txt", "a/20.txt"]
    before = count(served, docs)
    passages = {info.uri: info.passages for info in listed(served, docs).sources}
    assert len({info.content_hash for info in listed(served, docs).sources}) == 1
    request = knowledge_pb2.DeleteSourcesRequest(collection=docs, uris=["a/2.txt", "none", "b.txt"])
    gone = served.knowledge.DeleteSources(request)
    assert gone.count == passages["a/2.txt"] + passages["b.txt"] == before - count(served, docs)
    assert gone.session.positions
    assert [info.uri for info in listed(served, docs).sources] == ["a.txt", "a/1.txt", "a/20.txt"]


def test_a_bad_source_is_told_and_the_stream_goes_on(served: InProcessNode, docs: str) -> None:
    """What cannot be read is FAILED with its reason; sources before and behind it are taken."""
    parts = [header(docs), *upload("a.txt", "Bees."), *upload("bad.pdf", b"%PDF-1.4 nonsense")]
    parts += [source("x.bin", b"ab", format="exe"), Part(data=b"ab"), *upload("b.md", "# Whales\n\nBig.")]
    parts += [source("empty.txt", b"")]
    replies = ingest(served, parts)
    assert [reply.outcome for reply in replies][:4] == [ADDED, FAILED, FAILED, ADDED]
    assert [reply.uri for reply in replies] == ["a.txt", "bad.pdf", "x.bin", "b.md", "empty.txt"]
    assert replies[1].code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert replies[1].message
    assert "'exe'" in replies[2].message
    assert [info.uri for info in listed(served, docs).sources] == ["a.txt", "b.md"]


def test_formats_go_by_extension_or_media_type(served: InProcessNode, docs: str) -> None:
    """A format may be said as "md", ".html" or a media type, whatever the uri."""
    for at, (name, text) in enumerate(
        [
            ("md", "# T\n\nWords."),
            (".html", "<p>Words.</p>"),
            ("text/html", "<p>Words.</p>"),
            ("txt", "Words."),
        ]
    ):
        data = text.encode()
        (reply,) = ingest(served, [header(docs), source(f"u{at}", data, format=name), Part(data=data)])
        assert reply.outcome == ADDED, (name, reply.message)


BAD_STREAMS: dict[str, tuple[list[Part], str, str]] = {
    "no header": ([source("a.txt", b"x")], "header", "BAD_ARGUMENT"),
    "two headers": ([header("DOCS"), header("DOCS")], "header", "BAD_ARGUMENT"),
    "data without a source": ([header("DOCS"), Part(data=b"x")], "data", "BAD_ARGUMENT"),
    "an empty message": ([header("DOCS"), Part()], "data", "BAD_ARGUMENT"),
    "a source in a source": (
        [header("DOCS"), source("a.txt", b"xx"), source("b.txt", b"x")], "source", "BAD_ARGUMENT"
    ),
    "too much data": ([header("DOCS"), source("a.txt", b"x"), Part(data=b"xy")], "data", "BAD_ARGUMENT"),
    "an end too early": (
        [header("DOCS"), source("a.txt", b"xyz"), Part(data=b"x")], "source", "BAD_ARGUMENT"
    ),
    "a piece too large": (
        [header("DOCS"), source("a.txt", b"", size=3 << 20), Part(data=bytes((1 << 20) + 1))],
        "data", "LIMIT_EXCEEDED",
    ),
    "a source too large": (
        [header("DOCS"), source("a.txt", b"", size=1 << 40)], "source.size", "LIMIT_EXCEEDED"
    ),
    "no uri": ([header("DOCS"), source("", b"x")], "source.uri", "BAD_ARGUMENT"),
    "a uri too long": ([header("DOCS"), source("x" * 1025, b"x")], "source.uri", "BAD_ARGUMENT"),
    "a uri with a newline": ([header("DOCS"), source("a\nb", b"x")], "source.uri", "BAD_ARGUMENT"),
    "passages too small": (
        [header("DOCS", target_tokens=3)], "header.chunking.target_tokens", "BAD_ARGUMENT"
    ),
    "a limit below the aim": (
        [header("DOCS", target_tokens=100, max_tokens=50)], "header.chunking.max_tokens", "BAD_ARGUMENT"
    ),
    "an overlap too large": (
        [header("DOCS", overlap_sentences=9)], "header.chunking.overlap_sentences", "BAD_ARGUMENT"
    ),
    "a payload that is none": (
        [Part(header=knowledge_pb2.IngestHeader(collection="DOCS", payload=b"\x91\x01"))],
        "header.payload", "BAD_PAYLOAD",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_STREAMS)
def test_a_bad_stream_is_refused(served: InProcessNode, docs: str, name: str) -> None:
    """A stream that does not keep to the contract ends in INVALID_ARGUMENT and has written nothing."""
    parts, field, reason = BAD_STREAMS[name]
    for part in parts:
        if part.WhichOneof("part") == "header":
            part.header.collection = docs
    refused = refusal(lambda: ingest(served, parts))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert refused.fields == [field]
    assert count(served, docs) == 0


def test_metadata_too_large_for_a_payload_fails_its_source(served: InProcessNode, docs: str) -> None:
    """A record whose metadata passes max_payload_bytes is FAILED, naming the limit."""
    line = '{"id": "r", "text": "Words.", "fill": "' + "x" * (70 << 10) + '"}'
    (reply,) = ingest(served, [header(docs), *upload("x.jsonl", line)])
    assert reply.outcome == FAILED
    assert "max_payload_bytes" in reply.message


def test_a_collection_without_a_model_takes_no_sources(served: InProcessNode) -> None:
    """Ingest needs a model, and a collection that exists."""
    config = collections_pb2.CollectionConfig(name="plain", dim=2)
    served.collections.Create(collections_pb2.CreateCollectionRequest(config=config))
    assert refusal(lambda: ingest(served, [header("plain")])).reason == "MODEL_REQUIRED"
    refused = refusal(lambda: ingest(served, [header("nope")]))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND")


def test_text_is_embedded_by_the_collections_model(served: InProcessNode, docs: str) -> None:
    """Upserts and searches by text agree with Embed: what is stored is the passage's vector."""
    served.documents.Upsert(
        documents_pb2.UpsertRequest(
            collection=docs, ids=["rain", "sun"], texts=["It rains.", "The sun shines."]
        )
    )
    passages = served.models.Embed(
        models_pb2.EmbedRequest(
            model="wordllama-256", texts=["It rains."], kind=models_pb2.EMBED_KIND_PASSAGE
        )
    )
    (stored,) = served.documents.Get(
        documents_pb2.GetRequest(collection=docs, ids=["rain"], projection=common_pb2.Projection(vector=True))
    ).documents
    assert stored.vector == passages.vectors
    assert passages.dim == 256
    info = served.collections.Describe(collections_pb2.DescribeCollectionRequest(collection=docs)).collection
    assert info.model_fingerprint == passages.fingerprint
    texts = search_pb2.SearchBatchRequest(
        collection=docs, texts=["rain", "sun"], options=search_pb2.SearchOptions(k=1)
    )
    assert list(served.search.SearchBatch(texts).ids) == ["rain", "sun"]
    query = search_pb2.SearchRequest(collection=docs, query=search_pb2.Query(text="sunny"))
    assert served.search.Search(query).hits[0].document.id == "sun"


def test_the_models_are_listed(served: InProcessNode, docs: str) -> None:
    """Models.List tells name, dimension, metric, kind, and the fingerprint once it is known."""
    (model,) = served.models.List(models_pb2.ListModelsRequest()).models
    assert (model.name, model.dim, model.provider) == ("wordllama-256", 256, "wordllama")
    assert model.metric == common_pb2.METRIC_COSINE
    assert re.fullmatch(r"\S{16,}", model.fingerprint)


def test_documents_without_text_are_not_cited(served: InProcessNode, docs: str) -> None:
    """A document that has only a vector is no passage; one that was not ingested is cited by its id."""
    vectors = served.models.Embed(
        models_pb2.EmbedRequest(model="wordllama-256", texts=["honey", "honey bees"])
    )
    served.documents.Upsert(
        documents_pb2.UpsertRequest(
            collection=docs, ids=["bare", "told"], vectors=vectors.vectors, texts=["", "Honey is sweet."]
        )
    )
    reply = served.knowledge.Retrieve(knowledge_pb2.RetrieveRequest(collection=docs, question="honey"))
    (citation,) = reply.citations
    assert (list(citation.ids), citation.source.uri, citation.text) == (["told"], "told", "Honey is sweet.")
    assert (citation.source.start, citation.source.end) == (0, 15)


def test_sources_whose_passages_interleave_are_listed_once(served: InProcessNode, docs: str) -> None:
    """A source, and records whose ids come between its passages: each once over the pages, with its size."""
    parts = [header(docs, target_tokens=16, max_tokens=24)]
    for uri in ("x", "x#1", "x#2#3"):
        parts += upload(uri, f"This is about {uri}. " + TOPICS["bees.txt"] * 10)
    sizes = {answer.uri: answer.passages for answer in ingest(served, parts)}
    assert min(sizes.values()) > 3
    found, cursor = [], b""
    while not found or cursor:
        page = listed(served, docs, limit=1, cursor=cursor)
        assert len(page.sources) == 1
        found += [(info.uri, info.passages) for info in page.sources]
        cursor = page.next_cursor
    assert sorted(found) == sorted(sizes.items())


def test_a_prefix_longer_than_ids_hold_is_refused(served: InProcessNode, docs: str) -> None:
    """Beyond 400 bytes a prefix could miss sources, so it is no prefix."""
    refused = refusal(lambda: listed(served, docs, prefix="u" * 401))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "prefix" in refused.message


def test_sources_in_progress_are_limited(tmp_path: Path) -> None:
    """What streams have sent of sources that are not complete is bounded together, and freed as they end."""
    size, last = 16 << 20, threading.Event()

    def unfinished() -> Iterator[Part]:
        yield header("docs")
        yield source("a.txt", b"", size)
        for piece in range(16):
            yield Part(data=bytes((1 << 20) - (piece == 15)))
        last.wait(60)

    def small() -> str:
        try:
            (reply,) = ingest(node, [header("docs"), *upload("small.txt", TOPICS["bees.txt"])])
        except grpc.RpcError as error:
            refused = Refused(error)
            assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert refused.retry_after == 1.0
            return refused.reason
        return "" if reply.outcome in (ADDED, UNCHANGED) else "failed"

    def until(answer: str, streams: list[Any]) -> None:
        deadline = time.monotonic() + 30
        while small() != answer:
            assert time.monotonic() < deadline, f"a small source is never answered {answer!r}"
            # A stream whose last bytes met the small source was refused instead of that.
            streams[:] = [node.knowledge.Ingest(unfinished()) if each.done() else each for each in streams]
            time.sleep(0.05)

    limits = {"min_free_disk_bytes": 0, "max_source_bytes": size}
    with InProcessNode(tmp_path, limits=limits) as node:
        config = collections_pb2.CollectionConfig(name="docs", model="wordllama-256")
        node.collections.Create(collections_pb2.CreateCollectionRequest(config=config))
        assert small() == ""
        streams = [node.knowledge.Ingest(unfinished()) for _ in range(4)]
        until("OVERLOADED", streams)
        for stream in streams:
            stream.cancel()
        until("", [])
        last.set()
