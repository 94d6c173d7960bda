"""Texts through models that are away, changed, gone or busy: told, and never mixed with other vectors."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from vecdb_proto.v1 import collections_pb2, documents_pb2, models_pb2, search_pb2

from tests.support.embedding_server import EmbeddingServer, Reply, serve_embeddings
from tests.support.inprocess import InProcessNode, Refused, refusal
from tests.unit.vecdb.query.requests import count, packed
from vecdb.models import ModelBusy
from vecdb.query import RequestError
from vecdb.query.embedding import _guarded


@pytest.fixture
def endpoint() -> Iterator[EmbeddingServer]:
    with serve_embeddings() as server:
        yield server


def remote(url: str, model: str = "m-1", **options: Any) -> list[dict[str, Any]]:
    entry = {"name": "remote", "kind": "openai", "base_url": url, "model": model, "retry_seconds": 0.2}
    return [entry | options]


def create(node: InProcessNode, model: str = "remote") -> None:
    config = collections_pb2.CollectionConfig(name="c", model=model)
    node.collections.Create(collections_pb2.CreateCollectionRequest(config=config))


def write(node: InProcessNode, *texts: str) -> documents_pb2.WriteResponse:
    ids = [f"{text}-{at}" for at, text in enumerate(texts)]
    return node.documents.Upsert(documents_pb2.UpsertRequest(collection="c", ids=ids, texts=texts))


def check(refused: Refused, code: grpc.StatusCode, reason: str) -> None:
    assert (refused.code, refused.reason) == (code, reason), refused.message


def test_trouble_of_an_endpoint_is_told(tmp_path: Path, endpoint: EmbeddingServer) -> None:
    """Away is UNAVAILABLE with the endpoint's own hint, a refused text INVALID_ARGUMENT; nothing is written,
    and the next try goes through."""
    with InProcessNode(tmp_path, models=remote(endpoint.url)) as node:
        create(node)
        before = node.fingerprint("c")
        endpoint.script.append(Reply(status=503, headers={"Retry-After": "400"}))
        refused = refusal(lambda: write(node, "a"))
        check(refused, grpc.StatusCode.UNAVAILABLE, "EMBEDDING_FAILED")
        assert refused.retry_after == 400
        endpoint.script.append(Reply(status=400, body=b'{"error": {"message": "no"}}'))
        refused = refusal(lambda: write(node, "b"))
        check(refused, grpc.StatusCode.INVALID_ARGUMENT, "EMBEDDING_FAILED")
        assert refused.fields == ["texts"]
        assert node.fingerprint("c") == before
        assert write(node, "a", "b").count == 2


def test_an_empty_text_has_no_vector(tmp_path: Path) -> None:
    """Where texts are embedded, an empty one is refused by its place rather than stored without meaning."""
    with InProcessNode(tmp_path) as node:
        create(node, "wordllama-256")
        refused = refusal(lambda: write(node, "words", ""))
        check(refused, grpc.StatusCode.INVALID_ARGUMENT, "EMBEDDING_FAILED")
        assert refused.fields == ["texts"]
        assert count(node, "c") == 0


def test_another_model_is_not_mixed_in(tmp_path: Path, endpoint: EmbeddingServer) -> None:
    """A node whose model of the name is another refuses to embed for the collection; vectors still work."""
    with InProcessNode(tmp_path, models=remote(endpoint.url)) as node:
        create(node)
        write(node, "a")
        request = collections_pb2.DescribeCollectionRequest(collection="c")
        pinned = node.collections.Describe(request).collection.model_fingerprint.split(":")[1][:12]
    with InProcessNode(tmp_path, models=remote(endpoint.url, model="m-2")) as node:
        query = search_pb2.Query(text="a")
        search = search_pb2.SearchRequest(collection="c", query=query)
        for call in (lambda: write(node, "b"), lambda: node.search.Search(search)):
            refused = refusal(call)
            check(refused, grpc.StatusCode.FAILED_PRECONDITION, "MODEL_MISMATCH")
            assert refused.metadata == {"model": "remote", "collection": "c"}
            assert f"{pinned} is expected" in refused.message
        assert count(node, "c") == 1
        search.query.text = ""
        search.query.vector = packed([1.0] * 8)
        assert len(node.search.Search(search).hits) == 1
        change = collections_pb2.AlterCollectionRequest(collection="c", model="remote")
        check(
            refusal(lambda: node.collections.Alter(change)),
            grpc.StatusCode.FAILED_PRECONDITION,
            "MODEL_MISMATCH",
        )


def test_a_model_that_is_gone_leaves_its_documents_readable(
    tmp_path: Path, endpoint: EmbeddingServer
) -> None:
    """Without the model in the configuration, texts are MODEL_NOT_FOUND, and what is stored is still read."""
    with InProcessNode(tmp_path, models=remote(endpoint.url)) as node:
        create(node)
        write(node, "a")
    with InProcessNode(tmp_path) as node:
        check(refusal(lambda: write(node, "b")), grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
        assert count(node, "c") == 1


@pytest.mark.parametrize(
    ("models", "code", "reason"),
    [
        (remote("http://127.0.0.1:9/v1"), "UNAVAILABLE", "EMBEDDING_FAILED"),
        ([{"name": "remote", "kind": "onnx", "path": "/nonexistent"}], "INTERNAL", "MODEL_NOT_FOUND"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_told(
    tmp_path: Path, models: list[dict[str, Any]], code: str, reason: str
) -> None:
    """An endpoint that does not answer, and files that are not there: a creation is refused, and not made."""
    with InProcessNode(tmp_path, models=models) as node:
        check(refusal(lambda: create(node)), grpc.StatusCode[code], reason)
        embed = models_pb2.EmbedRequest(model="remote", texts=["a"])
        check(refusal(lambda: node.models.Embed(embed)), grpc.StatusCode[code], reason)
        assert not node.collections.List(collections_pb2.ListCollectionsRequest()).collections


async def test_a_busy_model_asks_to_come_again() -> None:
    """A full queue is RESOURCE_EXHAUSTED with a hint, not a wait without end."""

    async def busy() -> None:
        raise ModelBusy("too many")

    work: Callable[[], Coroutine[Any, Any, None]] = busy
    with pytest.raises(RequestError) as caught:
        await _guarded(work(), "texts")
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "MODEL_BUSY")
    assert caught.value.retry_after
