"""What the tests of bad requests share: well-formed requests to spoil, and what a refusal must be."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import msgpack
from vecdb_proto.v1 import (
    access_pb2,
    collections_pb2,
    common_pb2,
    documents_pb2,
    filter_pb2,
    search_pb2,
)

from tests.support.inprocess import InProcessNode, Refused

DIM = 4
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


def matrix(*rows: list[float]) -> bytes:
    return b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)


GOOD = [1.0, 2.0, 3.0, 4.0]


def upsert(**changes: Any) -> documents_pb2.UpsertRequest:
    fields: dict[str, Any] = {"collection": "vecs", "ids": ["x", "y"], "vectors": matrix(GOOD, GOOD)}
    return documents_pb2.UpsertRequest(**fields | changes)


def search(query: search_pb2.Query | None = None, **options: Any) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(
        collection="vecs",
        query=query or search_pb2.Query(vector=matrix(GOOD)),
        options=search_pb2.SearchOptions(**options),
    )


def diversity(relevance: float, candidates: int = 0) -> search_pb2.Diversity:
    # A keyword in Python.
    return search_pb2.Diversity(**{"lambda": relevance}, candidates=candidates)


def config(**changes: Any) -> collections_pb2.CreateCollectionRequest:
    return collections_pb2.CreateCollectionRequest(
        config=collections_pb2.CollectionConfig(**{"name": "new", "dim": 4} | changes)
    )


def grant(collection: str = "", role: int = 1) -> access_pb2.Grant:
    return access_pb2.Grant(collection=collection, role=role)  # type: ignore[arg-type]


def token(session: bytes = b"", **changes: Any) -> access_pb2.CreateTokenRequest:
    info = access_pb2.TokenInfo(**{"principal": "ann", "grants": [grant()]} | changes)
    return access_pb2.CreateTokenRequest(token=info, options=common_pb2.WriteOptions(session_id=session))


def year(value: int) -> filter_pb2.Filter:
    return filter_pb2.Filter(
        equals=filter_pb2.FieldValue(field="year", value=filter_pb2.Value(int_value=value))
    )


def deep(levels: int) -> filter_pb2.Filter:
    made = year(1)
    for _ in range(levels):
        made = filter_pb2.Filter(**{"not": made})
    return made


@dataclass(frozen=True)
class Case:
    """A method, its request, and what the refusal must be: `field` is blamed, `words` are in the message."""

    method: str
    request: Any
    code: grpc.StatusCode
    reason: str
    field: str = ""
    words: tuple[str, ...] = ()


PACKED = msgpack.packb
READ = common_pb2.ReadOptions


def method(node: InProcessNode, name: str) -> Callable[[Any], Any]:
    service, _, called = name.partition(".")
    found: Callable[[Any], Any] = getattr(getattr(node, service), called)
    return found


def state_of(node: InProcessNode) -> Any:
    listed = node.collections.List(collections_pb2.ListCollectionsRequest())
    aliases = [(each.config.name, list(each.aliases)) for each in listed.collections]
    tokens = [each.token_id for each in node.access.ListTokens(access_pb2.ListTokensRequest()).tokens]
    hidden = [
        each.author for each in node.access.ListQuarantined(access_pb2.ListQuarantinedRequest()).authors
    ]
    return aliases, tokens, hidden, [node.fingerprint(name) for name, _ in aliases]


def check(refused: Refused, case: Case) -> None:
    assert (refused.code, refused.reason) == (case.code, case.reason), refused.message
    if case.field:
        assert refused.fields == [case.field]
        assert case.field in refused.message
    for words in case.words:
        assert words in refused.message
    assert len(refused.message) < 1_000
