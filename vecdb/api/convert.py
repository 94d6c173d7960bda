"""Messages to values and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgpack
from google.rpc import code_pb2
from vecdb_index import Row
from vecdb_proto.v1 import collections_pb2, common_pb2, documents_pb2

from vecdb.api import checks
from vecdb.catalog import MAX_FIELDS, CollectionRecord
from vecdb.query import Freshness, Positions
from vecdb.query.reads import EVERYTHING, Parts
from vecdb.query.sessions import ANY, Level
from vecdb.query.writes import Outcome

METRICS: Final = {
    common_pb2.METRIC_UNSPECIFIED: "cosine",
    common_pb2.METRIC_COSINE: "cosine",
    common_pb2.METRIC_DOT: "dot",
    common_pb2.METRIC_L2: "l2",
}
METRIC_NUMBERS: Final = {
    "cosine": common_pb2.METRIC_COSINE,
    "dot": common_pb2.METRIC_DOT,
    "l2": common_pb2.METRIC_L2,
}
INDEXES: Final = {
    collections_pb2.INDEX_KIND_UNSPECIFIED: "hnsw",
    collections_pb2.INDEX_KIND_HNSW: "hnsw",
    collections_pb2.INDEX_KIND_FLAT: "flat",
    collections_pb2.INDEX_KIND_IVF: "ivf",
}
INDEX_NUMBERS: Final = {
    "hnsw": collections_pb2.INDEX_KIND_HNSW,
    "flat": collections_pb2.INDEX_KIND_FLAT,
    "ivf": collections_pb2.INDEX_KIND_IVF,
}
STORAGES: Final = {
    collections_pb2.STORAGE_UNSPECIFIED: "f32",
    collections_pb2.STORAGE_F32: "f32",
    collections_pb2.STORAGE_F16: "f16",
    collections_pb2.STORAGE_SQ8: "sq8",
    collections_pb2.STORAGE_RABITQ: "rabitq",
}
STORAGE_NUMBERS: Final = {
    "f32": collections_pb2.STORAGE_F32,
    "f16": collections_pb2.STORAGE_F16,
    "sq8": collections_pb2.STORAGE_SQ8,
    "rabitq": collections_pb2.STORAGE_RABITQ,
}
FIELD_TYPES: Final = {
    collections_pb2.FIELD_TYPE_KEYWORD: "keyword",
    collections_pb2.FIELD_TYPE_INT: "int",
    collections_pb2.FIELD_TYPE_FLOAT: "float",
    collections_pb2.FIELD_TYPE_BOOL: "bool",
    collections_pb2.FIELD_TYPE_DATETIME: "datetime",
    collections_pb2.FIELD_TYPE_GEO: "geo",
    collections_pb2.FIELD_TYPE_TEXT: "text",
}
FIELD_NUMBERS: Final = {name: number for number, name in FIELD_TYPES.items()}
_MAX_PAYLOAD_FIELDS: Final = 256
# Documents that are made messages of on the loop: a few microseconds each, or where payloads are cut as much
# as these take to unpack.
_INLINE_DOCUMENTS: Final = 2_000
_INLINE_CUT: Final = 100


# --- requests -----------------------------------------------------------------


def freshness(read: common_pb2.ReadOptions) -> Freshness:
    """What a read demands."""
    session = None
    if read.HasField("session"):
        token = read.session
        session = Positions(
            token.epoch, token.catalogue, {place.shard: place.index for place in token.positions}
        )
    elif not read.consistency and not read.require_all:
        return ANY
    try:
        level = Level(read.consistency)
    except ValueError:
        raise checks.invalid("read.consistency", f"{read.consistency} is unknown") from None
    return Freshness(level, session, read.require_all)


def parts(request: Any) -> Parts:
    """Which parts of documents a request wants; payload and text where it does not say."""
    if not request.HasField("projection"):
        return EVERYTHING
    wanted = request.projection
    if wanted.vector_names:
        raise checks.not_served("projection.vector_names", "named vectors")
    count = len(wanted.payload_fields)
    if count > _MAX_PAYLOAD_FIELDS:
        problem = f"has {count} keys; the limit is {_MAX_PAYLOAD_FIELDS}"
        raise checks.invalid("projection.payload_fields", problem, "LIMIT_EXCEEDED")
    fields = frozenset(wanted.payload_fields)
    return Parts(wanted.payload or bool(fields), wanted.text, wanted.vector, fields)


# --- replies ------------------------------------------------------------------


def session_token(positions: Positions) -> common_pb2.SessionToken:
    """What a reply tells of the logs."""
    token = common_pb2.SessionToken(epoch=positions.epoch, catalogue=positions.catalogue)
    for shard, index in positions.shards.items():
        token.positions.add(shard=shard, index=index)
    return token


def source(packed: bytes) -> common_pb2.Source:
    """The source that ingestion stored with a document."""
    return common_pb2.Source(**msgpack.unpackb(packed))


def fill_document(document: common_pb2.Document, row: Row, fields: frozenset[str]) -> None:
    """Write a stored document into a message."""
    id_, version, author, written_at_ms, origin, payload, text, _, vector = row
    document.id = id_
    document.version = version
    if author:
        document.author = author
    document.written_at_ms = written_at_ms
    if payload:
        document.payload = projected(payload, fields) if fields else payload
    if text:
        document.text = text
    if origin:
        document.source.CopyFrom(source(origin))
    if vector is not None:
        document.vector = vector.tobytes()


def projected(payload: bytes, fields: frozenset[str]) -> bytes:
    """A payload with only these top-level keys."""
    # Timestamps are kept as the objects they came as, so that they go out as they came in.
    kept = msgpack.unpackb(payload, timestamp=0, strict_map_key=False)
    cut: bytes = msgpack.packb({key: value for key, value in kept.items() if key in fields})
    return cut


def is_heavy(count: int, parts: Parts) -> bool:
    """Whether to make messages of so many documents takes longer than the loop can spare."""
    return count > (_INLINE_CUT if parts.fields else _INLINE_DOCUMENTS)


def documents(rows: Iterable[Row], fields: frozenset[str]) -> list[common_pb2.Document]:
    """Messages of stored documents."""
    made = []
    for row in rows:
        document = common_pb2.Document()
        fill_document(document, row, fields)
        made.append(document)
    return made


def fill_write(reply: documents_pb2.WriteResponse, outcome: Outcome, positions: Positions) -> None:
    """Write the outcome of a write into its reply."""
    reply.count = outcome.count
    reply.session.CopyFrom(session_token(positions))
    for shard, index in sorted(outcome.positions.items()):
        reply.positions.add(shard=shard, index=index)
    for refusal in outcome.failures:
        reply.failures.add(
            position=refusal.position,
            code=code_pb2.Code.Value(refusal.code),
            message=refusal.message,
            reason=refusal.reason,
        )


def config(record: CollectionRecord) -> collections_pb2.CollectionConfig:
    """A collection's configuration with every default filled in."""
    made = collections_pb2.CollectionConfig(
        name=record.name,
        model=record.model,
        dim=record.dim,
        metric=METRIC_NUMBERS[record.metric],
        index=INDEX_NUMBERS[record.index],
        storage=STORAGE_NUMBERS[record.storage],
        target_recall=record.target_recall,
        shards=len(record.shards),
        replicas=record.replicas,
        language=record.language,
    )
    for field_name, kind in record.fields:
        made.fields.add(name=field_name, type=FIELD_NUMBERS[kind])
    return made


def fields(declared: Iterable[collections_pb2.Field], where: str) -> tuple[tuple[str, str], ...]:
    """Field declarations, checked."""
    found: dict[str, str] = {}
    for at, field in enumerate(declared):
        size = len(field.name.encode())
        if not 1 <= size <= 256 or field.name.startswith("@"):
            raise checks.invalid(f"{where}[{at}].name", "must have 1 to 256 bytes and not begin with '@'")
        if not field.name.strip() or "" in field.name.split(".") or any(map(checks.is_control, field.name)):
            problem = "must be a dotted path: no part empty, no control characters, not only blanks"
            raise checks.invalid(f"{where}[{at}].name", problem)
        if field.type not in FIELD_TYPES:
            raise checks.invalid(f"{where}[{at}].type", "must be a type of field")
        if found.setdefault(field.name, FIELD_TYPES[field.type]) != FIELD_TYPES[field.type]:
            raise checks.invalid(f"{where}[{at}].name", f"{field.name!r} is declared twice")
    if len(found) > MAX_FIELDS:
        raise checks.invalid(where, f"has {len(found)} fields; the limit is {MAX_FIELDS}", "LIMIT_EXCEEDED")
    return tuple(found.items())
