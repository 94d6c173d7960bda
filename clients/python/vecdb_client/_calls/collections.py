"""Collections: made, described, altered, dropped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vecdb_proto.v1 import collections_pb2

from vecdb_client import _methods as methods
from vecdb_client._infos import CollectionInfo, NamedVector
from vecdb_client._plans import Call, Core
from vecdb_client._words import FIELD_TYPES, INDEX_KINDS, METRICS, STORAGES


def _nothing(_reply: Any) -> None:
    return None


def _info(reply: Any) -> CollectionInfo:
    return CollectionInfo.of(reply.collection)


def _infos(reply: collections_pb2.ListCollectionsResponse) -> list[CollectionInfo]:
    return [CollectionInfo.of(message) for message in reply.collections]


def _fields(fields: Mapping[str, str] | None) -> list[collections_pb2.Field]:
    return [
        collections_pb2.Field(name=name, type=FIELD_TYPES.number(t)) for name, t in (fields or {}).items()
    ]


def _vectors(vectors: Mapping[str, NamedVector] | None) -> list[collections_pb2.NamedVectorConfig]:
    return [
        collections_pb2.NamedVectorConfig(
            name=name,
            dim=vector.dim,
            metric=METRICS.number(vector.metric or None),
            index=INDEX_KINDS.number(vector.index or None),
            storage=STORAGES.number(vector.storage or None),
        )
        for name, vector in (vectors or {}).items()
    ]


def create_collection(
    core: Core,
    name: str,
    *,
    model: str | None = None,
    dim: int | None = None,
    metric: str | None = None,
    shards: int = 1,
    replicas: int | None = None,
    index: str = "hnsw",
    storage: str | None = None,
    target_recall: float | None = None,
    fields: Mapping[str, str] | None = None,
    vectors: Mapping[str, NamedVector] | None = None,
    sparse_vectors: Iterable[str] = (),
    language: str | None = None,
    if_not_exists: bool = False,
    timeout: float | None = None,
) -> Call[CollectionInfo]:
    """Makes a collection and says what it is, every default filled in.

    With a `model` (a name from `models()`) texts are embedded by the server,
    and `dim` and `metric` come from it; without one `dim` is needed. `metric`
    is "cosine" (the default), "dot" or "l2"; `index` is "hnsw", "flat" or
    "ivf"; `storage` is what the index finds candidates by, "f32" (the default
    and the only one of "flat"), "f16", "sq8" or "rabitq".
    `target_recall` (0.95 where left out) is the recall at k=10 that searches
    aim at. `fields` declares payload fields to index, by dotted path:
    "keyword", "int", "float", "bool", "datetime", "geo" or "text". `vectors`
    and `sparse_vectors` name further vectors that documents may have.
    `replicas` left out means 3, or as many as there are members.

    Raises AlreadyExistsError where the name is taken (with `if_not_exists`
    only where its configuration differs), NotFoundError for an unknown model,
    InvalidArgumentError for values out of bounds, ValueError for unknown words.
    """
    config = collections_pb2.CollectionConfig(
        name=name,
        model=model or "",
        dim=dim or 0,
        metric=METRICS.number(metric),
        index=INDEX_KINDS.number(index),
        storage=STORAGES.number(storage),
        target_recall=target_recall or 0.0,
        shards=shards,
        replicas=replicas or 0,
        fields=_fields(fields),
        vectors=_vectors(vectors),
        sparse_vectors=[collections_pb2.SparseVectorConfig(name=sparse) for sparse in sparse_vectors],
        language=language or "",
    )
    request = collections_pb2.CreateCollectionRequest(
        config=config, if_not_exists=if_not_exists, options=core.writes.options()
    )
    return Call(methods.CREATE_COLLECTION, request, _info, timeout)


def describe(
    core: Core, collection: str, *, consistency: str | None = None, timeout: float | None = None
) -> Call[CollectionInfo]:
    """Says what a collection (or the one an alias points to) is and how it does.

    Raises NotFoundError.
    """
    request = collections_pb2.DescribeCollectionRequest(collection=collection, read=core.read(consistency))
    return Call(methods.DESCRIBE_COLLECTION, request, _info, timeout)


def list_collections(
    core: Core, *, consistency: str | None = None, timeout: float | None = None
) -> Call[list[CollectionInfo]]:
    """Every collection, by name, without its shards."""
    request = collections_pb2.ListCollectionsRequest(read=core.read(consistency))
    return Call(methods.LIST_COLLECTIONS, request, _infos, timeout)


def alter_collection(
    core: Core,
    collection: str,
    *,
    add_fields: Mapping[str, str] | None = None,
    drop_fields: Iterable[str] = (),
    target_recall: float | None = None,
    model: str | None = None,
    timeout: float | None = None,
) -> Call[CollectionInfo]:
    """Changes a collection in one atomic step.

    `add_fields` and `drop_fields` change the declared payload fields; `model`
    renames the model, whose fingerprint must be the pinned one. Raises
    NotFoundError, InvalidArgumentError, FailedPreconditionError.
    """
    if isinstance(drop_fields, str):
        raise TypeError("drop_fields must be a list of names, not one string")
    request = collections_pb2.AlterCollectionRequest(
        collection=collection,
        add_fields=_fields(add_fields),
        drop_fields=drop_fields,
        target_recall=target_recall,
        model=model,
        options=core.writes.options(),
    )
    return Call(methods.ALTER_COLLECTION, request, _info, timeout)


def set_aliases(core: Core, aliases: Mapping[str, str | None], *, timeout: float | None = None) -> Call[None]:
    """Points aliases to collections, all in one atomic step; None removes one.

    Raises NotFoundError for an unknown collection.
    """
    changes = [collections_pb2.AliasChange(alias=a, collection=c or "") for a, c in aliases.items()]
    request = collections_pb2.UpdateAliasesRequest(changes=changes, options=core.writes.options())
    return Call(methods.UPDATE_ALIASES, request, _nothing, timeout)


def drop_collection(core: Core, collection: str, *, timeout: float | None = None) -> Call[None]:
    """Drops a collection and its documents for good.

    Raises NotFoundError, and FailedPreconditionError while an alias points to it.
    """
    request = collections_pb2.DropCollectionRequest(collection=collection, options=core.writes.options())
    return Call(methods.DROP_COLLECTION, request, _nothing, timeout)
