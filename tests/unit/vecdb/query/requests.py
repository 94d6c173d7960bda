"""Requests to a running node, as short as tests like them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgpack
import numpy as np
from vecdb_proto.v1 import collections_pb2, common_pb2, documents_pb2, filter_pb2, search_pb2

from tests.support.inprocess import InProcessNode

ALL = common_pb2.Projection(payload=True, text=True, vector=True)


def packed(rows: Any) -> bytes:
    """Vectors as they go over the wire."""
    return np.asarray(rows, dtype="<f4").tobytes()


def unpacked(data: bytes) -> list[float]:
    """One vector as it came over the wire."""
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def create(node: InProcessNode, name: str, **config: Any) -> collections_pb2.CollectionInfo:
    """A collection of two dimensions under l2, unless said otherwise."""
    settings = {"dim": 2, "metric": common_pb2.METRIC_L2} | config
    request = collections_pb2.CreateCollectionRequest(
        config=collections_pb2.CollectionConfig(name=name, **settings)
    )
    return node.collections.Create(request).collection


def write(session: int, sequence: int) -> common_pb2.WriteOptions:
    """What makes a write safe to repeat."""
    return common_pb2.WriteOptions(session_id=session.to_bytes(16, "big"), sequence=sequence)


def upsert(
    node: InProcessNode,
    collection: str,
    ids: Sequence[str],
    vectors: Any = None,
    payloads: Sequence[Mapping[str, Any]] | None = None,
    **fields: Any,
) -> documents_pb2.WriteResponse:
    """Write documents; ones without vectors lie along the first axis in order."""
    rows = [[float(at), 0.0] for at in range(len(ids))] if vectors is None else vectors
    if payloads is not None:
        fields["payloads"] = [msgpack.packb(each) for each in payloads]
    return node.documents.Upsert(
        documents_pb2.UpsertRequest(collection=collection, ids=ids, vectors=packed(rows), **fields)
    )


def get(node: InProcessNode, collection: str, ids: Sequence[str], **fields: Any) -> list[common_pb2.Document]:
    """Documents by id."""
    request = documents_pb2.GetRequest(collection=collection, ids=ids, **fields)
    return list(node.documents.Get(request).documents)


def payload_of(document: common_pb2.Document) -> Any:
    """A document's payload, unpacked."""
    return msgpack.unpackb(document.payload)


def count(node: InProcessNode, collection: str, where: filter_pb2.Filter | None = None, **read: Any) -> int:
    """How many documents there are, or match."""
    options = common_pb2.ReadOptions(**read)
    request = documents_pb2.CountRequest(collection=collection, filter=where, read=options)
    return node.documents.Count(request).count


def search(
    node: InProcessNode, collection: str, vector: Sequence[float], **options: Any
) -> search_pb2.SearchResponse:
    """The nearest documents, exactly unless said otherwise."""
    request = search_pb2.SearchRequest(
        collection=collection,
        query=search_pb2.Query(vector=packed(vector)),
        options=search_pb2.SearchOptions(**{"exact": True} | options),
    )
    return node.search.Search(request)


def found(reply: search_pb2.SearchResponse) -> list[tuple[str, float]]:
    """The hits' ids and scores."""
    return [(hit.document.id, hit.score) for hit in reply.hits]


def value(plain: Any) -> filter_pb2.Value:
    """A value of a filter."""
    kinds = {bool: "bool_value", int: "int_value", float: "float_value", str: "string_value"}
    return filter_pb2.Value(**{kinds[type(plain)]: plain})


def equals(field: str, plain: Any) -> filter_pb2.Filter:
    """The condition that a field equals a value."""
    return filter_pb2.Filter(equals=filter_pb2.FieldValue(field=field, value=value(plain)))


def both(*conditions: filter_pb2.Filter) -> filter_pb2.Filter:
    """Every one of the conditions."""
    return filter_pb2.Filter(all=filter_pb2.FilterList(filters=conditions))


def shard_positions(token: common_pb2.SessionToken) -> dict[int, int]:
    """The positions of a session token."""
    return {each.shard: each.index for each in token.positions}


def ids_of(documents: Iterable[common_pb2.Document]) -> list[str]:
    """The ids of documents."""
    return [document.id for document in documents]
