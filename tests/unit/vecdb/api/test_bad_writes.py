"""Bad writes: each is answered with its status, reason and words, and changes nothing."""

from __future__ import annotations

import grpc
import msgpack
import pytest
from vecdb_proto.v1 import (
    access_pb2,
    cluster_pb2,
    collections_pb2,
    common_pb2,
    documents_pb2,
    knowledge_pb2,
)

from tests.support.inprocess import InProcessNode, refusal
from tests.unit.vecdb.api.bad_input import (
    GOOD,
    INVALID,
    NOT_FOUND,
    PACKED,
    PRECONDITION,
    UNIMPLEMENTED,
    Case,
    check,
    config,
    deep,
    grant,
    matrix,
    method,
    state_of,
    token,
    upsert,
    year,
)

WRITES = {
    "wrong dimension": Case(
        "documents.Upsert", upsert(vectors=matrix(GOOD[:3], GOOD[:3])),
        INVALID, "WRONG_DIMENSION", "vectors", ("2 x 4", "3 dimensions"),
    ),
    "ragged bytes": Case(
        "documents.Upsert", upsert(vectors=matrix(GOOD, GOOD)[:-1]),
        INVALID, "WRONG_DIMENSION", "vectors", ("31 bytes",),
    ),
    "NaN": Case(
        "documents.Upsert", upsert(vectors=matrix(GOOD, [1, float("nan"), 1, 1])),
        INVALID, "NOT_FINITE", "vectors[1]", ("NaN",),
    ),
    "infinity": Case(
        "documents.Upsert", upsert(vectors=matrix([float("-inf"), 0, 0, 0], GOOD)),
        INVALID, "NOT_FINITE", "vectors[0]", ("infinity",),
    ),
    "a norm beyond float32": Case(
        "documents.Upsert", upsert(vectors=matrix(GOOD, [3e38, 0, 0, 0])),
        INVALID, "NOT_FINITE", "vectors[1]", ("overflows",),
    ),
    "a vector whose distances overflow": Case(
        "documents.Upsert", upsert(vectors=matrix(GOOD, [-9.3e18, 0, 0, 0])),
        INVALID, "NOT_FINITE", "vectors[1]", ("too large", "8.42e+37"),
    ),
    "a zero vector under cosine": Case(
        "documents.Upsert", upsert(vectors=matrix(GOOD, [0, 0, 0, 0])),
        INVALID, "ZERO_VECTOR", "vectors[1]", ("zero",),
    ),
    "no ids": Case("documents.Upsert", upsert(ids=[]), INVALID, "BAD_ARGUMENT", "ids", ("empty",)),
    "an empty id": Case(
        "documents.Upsert", upsert(ids=["x", ""]), INVALID, "BAD_ID", "ids[1]", ("1 to 512",)
    ),
    "an id of 10,000 characters": Case(
        "documents.Upsert", upsert(ids=["x" * 10_000, "y"]),
        INVALID, "BAD_ID", "ids[0]", ("10000 bytes", "512"),
    ),
    "an id of 200 characters and 600 bytes": Case(
        "documents.Upsert", upsert(ids=["x", "\u20ac" * 200]), INVALID, "BAD_ID", "ids[1]", ("600 bytes",)
    ),
    "an id with a control character": Case(
        "documents.Upsert", upsert(ids=["x", "a\nb"]), INVALID, "BAD_ID", "ids[1]", ("control",)
    ),
    "a duplicate id": Case(
        "documents.Upsert", upsert(ids=["x", "x"]), INVALID, "DUPLICATE_ID", "ids[1]", ("'x'", "twice")
    ),
    "a long duplicate id is shortened": Case(
        "documents.Upsert", upsert(ids=["x" * 100] * 2), INVALID, "DUPLICATE_ID", "ids[1]", ("...",)
    ),
    "too many ids": Case(
        "documents.Upsert", upsert(ids=[str(i) for i in range(51)]),
        INVALID, "LIMIT_EXCEEDED", "ids", ("51", "50", "max_batch"),
    ),
    "neither vectors nor texts": Case(
        "documents.Upsert", upsert(vectors=b""), INVALID, "BAD_ARGUMENT", "vectors", ("vectors are needed",)
    ),
    "text without a model": Case(
        "documents.Upsert", upsert(vectors=b"", texts=["a", "b"]),
        INVALID, "MODEL_REQUIRED", "texts", ("no model",),
    ),
    "neither, with a model": Case(
        "documents.Upsert", upsert(collection="docs", vectors=b""),
        INVALID, "BAD_ARGUMENT", "vectors", ("vectors or texts",),
    ),
    "a column of another length": Case(
        "documents.Upsert", upsert(payloads=[b"\x80"]), INVALID, "BAD_ARGUMENT", "payloads", ("1 entries",)
    ),
    "a text too long": Case(
        "documents.Upsert", upsert(texts=["a", "\u00e4" * 513]),
        INVALID, "LIMIT_EXCEEDED", "texts[1]", ("1026", "1024", "max_text_bytes"),
    ),
    "malformed msgpack": Case(
        "documents.Upsert", upsert(payloads=[b"\x80", b"\x82\xa1a"]),
        INVALID, "BAD_PAYLOAD", "payloads[1]", ("msgpack",),
    ),
    "msgpack with bytes left over": Case(
        "documents.Upsert", upsert(payloads=[b"\x80", b"\x80\x80"]), INVALID, "BAD_PAYLOAD", "payloads[1]"
    ),
    "a string that is no UTF-8": Case(
        "documents.Upsert", upsert(payloads=[b"\x81\xa1a\xa1\xff", b""]),
        INVALID, "BAD_PAYLOAD", "payloads[0]",
    ),
    "a payload that is no map": Case(
        "documents.Upsert", upsert(payloads=[PACKED([1]), b""]),
        INVALID, "BAD_PAYLOAD", "payloads[0]", ("map", "list"),
    ),
    "a key that is no string": Case(
        "documents.Upsert", upsert(payloads=[PACKED({1: 2}), b""]),
        INVALID, "BAD_PAYLOAD", "payloads[0]", ("no string",),
    ),
    "an extension type": Case(
        "documents.Upsert", upsert(payloads=[PACKED({"a": msgpack.ExtType(5, b"x")}), b""]),
        INVALID, "BAD_PAYLOAD", "payloads[0]", ("extension type 5",),
    ),
    "a payload too large": Case(
        "documents.Upsert", upsert(payloads=[PACKED({"a": "x" * 2000}), b""]),
        INVALID, "LIMIT_EXCEEDED", "payloads[0]", ("1024", "max_payload_bytes"),
    ),
    "a payload too deep": Case(
        "documents.Upsert", upsert(payloads=[b"", b"\x81\xa1a" + b"\x91" * 900 + b"\xc0"]),
        INVALID, "BAD_PAYLOAD", "payloads[1]", ("max_payload_depth",),
    ),
    "a version below -1": Case(
        "documents.Upsert", upsert(if_versions=[-2, 0]), INVALID, "BAD_ARGUMENT", "if_versions[0]", ("-2",)
    ),
    "a session id of five bytes": Case(
        "documents.Upsert", upsert(options=common_pb2.WriteOptions(session_id=b"12345", sequence=1)),
        INVALID, "BAD_ARGUMENT", "options.session_id", ("16 bytes",),
    ),
    "a session without a sequence": Case(
        "documents.Upsert", upsert(options=common_pb2.WriteOptions(session_id=bytes(16))),
        INVALID, "BAD_ARGUMENT", "options.sequence",
    ),
    "named vectors": Case(
        "documents.Upsert", upsert(named_vectors=[documents_pb2.VectorColumn(name="v")]),
        UNIMPLEMENTED, "NOT_IMPLEMENTED", "named_vectors",
    ),
    "an update of nothing": Case(
        "documents.Update", documents_pb2.UpdateRequest(collection="vecs", ids=["a"]),
        INVALID, "BAD_ARGUMENT", "payload", ("nothing to change",),
    ),
    "too many keys to remove": Case(
        "documents.Update",
        documents_pb2.UpdateRequest(collection="vecs", ids=["a"], remove_keys=["k"] * 257),
        INVALID, "LIMIT_EXCEEDED", "remove_keys", ("257", "256"),
    ),
    "a key to remove that is too long": Case(
        "documents.Update",
        documents_pb2.UpdateRequest(collection="vecs", ids=["a"], remove_keys=["k", "é" * 129]),
        INVALID, "LIMIT_EXCEEDED", "remove_keys[1]", ("258", "256"),
    ),
    "an empty key to remove": Case(
        "documents.Update",
        documents_pb2.UpdateRequest(collection="vecs", ids=["a"], remove_keys=[""]),
        INVALID, "LIMIT_EXCEEDED", "remove_keys[0]", ("0 bytes",),
    ),
    "an update of ids and a filter": Case(
        "documents.Update",
        documents_pb2.UpdateRequest(collection="vecs", ids=["a"], filter=year(1), payload=PACKED({"a": 1})),
        INVALID, "BAD_ARGUMENT", "ids", ("not both",),
    ),
    "a malformed payload of an update": Case(
        "documents.Update", documents_pb2.UpdateRequest(collection="vecs", ids=["a"], payload=b"\xc1"),
        INVALID, "BAD_PAYLOAD", "payload",
    ),
    "an update of nobody": Case(
        "documents.Update",
        documents_pb2.UpdateRequest(collection="vecs", payload=PACKED({"a": 1})),
        INVALID, "BAD_ARGUMENT", "ids", ("ids or a filter",),
    ),
    "versions with a filter": Case(
        "documents.Delete", documents_pb2.DeleteRequest(collection="vecs", filter=year(1), if_versions=[1]),
        INVALID, "BAD_ARGUMENT", "if_versions",
    ),
    "a source with ids": Case(
        "documents.Delete", documents_pb2.DeleteRequest(collection="vecs", ids=["a"], source="s"),
        INVALID, "BAD_ARGUMENT", "source",
    ),
    "a deletion of nothing": Case(
        "documents.Delete", documents_pb2.DeleteRequest(collection="vecs"), INVALID, "BAD_ARGUMENT", "ids"
    ),
    "a deletion under a deep filter": Case(
        "documents.Delete", documents_pb2.DeleteRequest(collection="vecs", filter=deep(5)),
        INVALID, "BAD_FILTER", "filter" + ".not" * 5, ("max_filter_depth",),
    ),
    "an unknown collection": Case(
        "documents.Upsert", upsert(collection="nope"), NOT_FOUND, "COLLECTION_NOT_FOUND", "", ("'nope'",)
    ),
    "a dropped field that is not there": Case(
        "collections.Alter", collections_pb2.AlterCollectionRequest(collection="vecs", drop_fields=["nope"]),
        NOT_FOUND, "BAD_ARGUMENT", "", ("'nope'",),
    ),
    "a field declared as something else": Case(
        "collections.Alter",
        collections_pb2.AlterCollectionRequest(
            collection="vecs",
            add_fields=[collections_pb2.Field(name="year", type=collections_pb2.FIELD_TYPE_KEYWORD)],
        ),
        grpc.StatusCode.ALREADY_EXISTS, "BAD_ARGUMENT", "", ("'year'", "int"),
    ),
    "a recall that cannot be": Case(
        "collections.Alter", collections_pb2.AlterCollectionRequest(collection="vecs", target_recall=1.5),
        INVALID, "BAD_ARGUMENT", "target_recall", ("0.5 to 1",),
    ),
    "too many fields": Case(
        "collections.Alter",
        collections_pb2.AlterCollectionRequest(
            collection="vecs", add_fields=[collections_pb2.Field(name=f"f{i}", type=2) for i in range(64)]
        ),
        INVALID, "LIMIT_EXCEEDED", "add_fields", ("64",),
    ),
    "another model": Case(
        "collections.Alter", collections_pb2.AlterCollectionRequest(collection="vecs", model="wordllama-256"),
        PRECONDITION, "MODEL_MISMATCH", "", ("wordllama-256",),
    ),
    "a collection that aliases point to": Case(
        "collections.Drop", collections_pb2.DropCollectionRequest(collection="plain"),
        PRECONDITION, "BAD_ARGUMENT", "", ("alias",),
    ),
    "a drop by alias": Case(
        "collections.Drop", collections_pb2.DropCollectionRequest(collection="alias"),
        PRECONDITION, "BAD_ARGUMENT", "", ("alias",),
    ),
    "a drop of nothing": Case(
        "collections.Drop", collections_pb2.DropCollectionRequest(collection="nope"),
        NOT_FOUND, "COLLECTION_NOT_FOUND", "", ("nope",),
    ),
    "an alias to nothing": Case(
        "collections.UpdateAliases",
        collections_pb2.UpdateAliasesRequest(
            changes=[
                collections_pb2.AliasChange(alias="other", collection="vecs"),
                collections_pb2.AliasChange(alias="x", collection="nope"),
            ]
        ),
        NOT_FOUND, "COLLECTION_NOT_FOUND", "", ("nope",),
    ),
    "an alias that is a collection": Case(
        "collections.UpdateAliases",
        collections_pb2.UpdateAliasesRequest(
            changes=[collections_pb2.AliasChange(alias="vecs", collection="plain")]
        ),
        grpc.StatusCode.ALREADY_EXISTS, "COLLECTION_EXISTS", "", ("vecs",),
    ),
    "no alias": Case(
        "collections.UpdateAliases", collections_pb2.UpdateAliasesRequest(),
        INVALID, "BAD_ARGUMENT", "changes", ("1 to 64",),
    ),
    "a bad alias": Case(
        "collections.UpdateAliases",
        collections_pb2.UpdateAliasesRequest(
            changes=[collections_pb2.AliasChange(alias="a b", collection="vecs")]
        ),
        INVALID, "BAD_ARGUMENT", "changes[0].alias",
    ),
    "a collection that is there": Case(
        "collections.Create", config(name="vecs"),
        grpc.StatusCode.ALREADY_EXISTS, "COLLECTION_EXISTS", "", ("a collection", "vecs"),
    ),
    "a collection named as an alias": Case(
        "collections.Create", config(name="alias"),
        grpc.StatusCode.ALREADY_EXISTS, "COLLECTION_EXISTS", "", ("an alias",),
    ),
    "a name with a slash": Case(
        "collections.Create", config(name="../" + "x" * 99), INVALID, "BAD_ARGUMENT", "config.name", ("...",)
    ),
    "no dimension": Case("collections.Create", config(dim=0), INVALID, "BAD_ARGUMENT", "config.dim"),
    "a dimension too large": Case(
        "collections.Create", config(dim=16_385),
        INVALID, "LIMIT_EXCEEDED", "config.dim", ("16384", "max_dim"),
    ),
    "an unknown model": Case(
        "collections.Create", config(model="gpt-9"), NOT_FOUND, "MODEL_NOT_FOUND", "", ("gpt-9",)
    ),
    "a dimension that is not the model's": Case(
        "collections.Create", config(model="wordllama-256"),
        INVALID, "WRONG_DIMENSION", "config.dim", ("256",),
    ),
    "an unknown metric": Case(
        "collections.Create", config(metric=9), INVALID, "BAD_ARGUMENT", "config.metric"
    ),
    "an unknown index": Case("collections.Create", config(index=9), INVALID, "BAD_ARGUMENT", "config.index"),
    "an unknown storage": Case(
        "collections.Create", config(storage=9), INVALID, "BAD_ARGUMENT", "config.storage"
    ),
    "codes that nothing would be found by": Case(
        "collections.Create",
        config(index=collections_pb2.INDEX_KIND_FLAT, storage=collections_pb2.STORAGE_SQ8),
        INVALID, "BAD_ARGUMENT", "config.storage", ("F32", "FLAT"),
    ),
    "named vectors of a collection": Case(
        "collections.Create", config(vectors=[collections_pb2.NamedVectorConfig(name="v")]),
        UNIMPLEMENTED, "NOT_IMPLEMENTED", "config.vectors",
    ),
    "sparse vectors of a collection": Case(
        "collections.Create", config(sparse_vectors=[collections_pb2.SparseVectorConfig(name="v")]),
        UNIMPLEMENTED, "NOT_IMPLEMENTED", "config.sparse_vectors",
    ),
    "a target recall too low": Case(
        "collections.Create", config(target_recall=0.2), INVALID, "BAD_ARGUMENT", "config.target_recall"
    ),
    "too many shards": Case(
        "collections.Create", config(shards=257), INVALID, "BAD_ARGUMENT", "config.shards", ("256",)
    ),
    "copies on a lone node": Case(
        "collections.Create", config(replicas=3), INVALID, "BAD_ARGUMENT", "config.replicas", ("alone",)
    ),
    "a reserved field": Case(
        "collections.Create", config(fields=[collections_pb2.Field(name="@author", type=1)]),
        INVALID, "BAD_ARGUMENT", "config.fields[0].name",
    ),
    "a field without a type": Case(
        "collections.Create", config(fields=[collections_pb2.Field(name="a")]),
        INVALID, "BAD_ARGUMENT", "config.fields[0].type",
    ),
    "a field declared twice": Case(
        "collections.Create",
        config(fields=[collections_pb2.Field(name="a", type=1), collections_pb2.Field(name="a", type=2)]),
        INVALID, "BAD_ARGUMENT", "config.fields[1].name", ("twice",),
    ),
    "sixty-five fields": Case(
        "collections.Create",
        config(fields=[collections_pb2.Field(name=f"f{i}", type=1) for i in range(65)]),
        INVALID, "LIMIT_EXCEEDED", "config.fields", ("64",),
    ),
    "no sources to delete": Case(
        "knowledge.DeleteSources", knowledge_pb2.DeleteSourcesRequest(collection="docs"),
        INVALID, "BAD_ARGUMENT", "uris",
    ),
    "an empty uri to delete": Case(
        "knowledge.DeleteSources", knowledge_pb2.DeleteSourcesRequest(collection="docs", uris=["a", ""]),
        INVALID, "BAD_ARGUMENT", "uris[1]",
    ),
    "a token for nobody": Case(
        "access.CreateToken", access_pb2.CreateTokenRequest(),
        INVALID, "BAD_ARGUMENT", "token.principal", ("1 to 128",),
    ),
    "a token for a name with a space": Case(
        "access.CreateToken", token(principal="ann b"), INVALID, "BAD_ARGUMENT", "token.principal",
    ),
    "a token for a name that is too long": Case(
        "access.CreateToken", token(principal="a" * 129), INVALID, "BAD_ARGUMENT", "token.principal",
    ),
    "a token for root": Case(
        "access.CreateToken", token(principal="root"), INVALID, "BAD_ARGUMENT", "token.principal",
    ),
    "a token for anonymous": Case(
        "access.CreateToken", token(principal="anonymous"), INVALID, "BAD_ARGUMENT", "token.principal",
    ),
    "a token without a grant": Case(
        "access.CreateToken", token(grants=[]), INVALID, "BAD_ARGUMENT", "token.grants",
    ),
    "a grant without a role": Case(
        "access.CreateToken", token(grants=[grant(), grant("docs", 0)]),
        INVALID, "BAD_ARGUMENT", "token.grants[1].role",
    ),
    "a grant of an unknown role": Case(
        "access.CreateToken", token(grants=[grant("docs", 4)]),
        INVALID, "BAD_ARGUMENT", "token.grants[0].role",
    ),
    "a grant on what is no name": Case(
        "access.CreateToken", token(grants=[grant("a b")]),
        INVALID, "BAD_ARGUMENT", "token.grants[0].collection",
    ),
    "two grants on one collection": Case(
        "access.CreateToken", token(grants=[grant("a"), grant("a", 2)]),
        INVALID, "BAD_ARGUMENT", "token.grants[1].collection", ("twice",),
    ),
    "sixty-five grants": Case(
        "access.CreateToken", token(grants=[grant(f"c{n}") for n in range(65)]),
        INVALID, "LIMIT_EXCEEDED", "token.grants", ("64",),
    ),
    "a token that expired": Case(
        "access.CreateToken", token(expires_at_ms=1_000), INVALID, "BAD_ARGUMENT", "token.expires_at_ms",
    ),
    "a token that expires before there was time": Case(
        "access.CreateToken", token(expires_at_ms=-1), INVALID, "BAD_ARGUMENT", "token.expires_at_ms",
    ),
    "a token for longer than calendars go": Case(
        "access.CreateToken", token(expires_at_ms=2**62), INVALID, "BAD_ARGUMENT", "token.expires_at_ms",
    ),
    "a token with too high a rate": Case(
        "access.CreateToken", token(requests_per_second=1_000_001),
        INVALID, "BAD_ARGUMENT", "token.requests_per_second",
    ),
    "a token for too many requests at a time": Case(
        "access.CreateToken", token(concurrent_requests=100_001),
        INVALID, "BAD_ARGUMENT", "token.concurrent_requests",
    ),
    "a token under half a session": Case(
        "access.CreateToken", token(session=b"short"), INVALID, "BAD_ARGUMENT", "options.session_id",
    ),
    "nobody to quarantine": Case(
        "access.QuarantineAuthor", access_pb2.QuarantineAuthorRequest(), INVALID, "BAD_ARGUMENT", "author",
    ),
    "an author with a line break": Case(
        "access.QuarantineAuthor", access_pb2.QuarantineAuthorRequest(author="a\nb"),
        INVALID, "BAD_ARGUMENT", "author",
    ),
    "an author that is too long": Case(
        "access.QuarantineAuthor", access_pb2.QuarantineAuthorRequest(author="a" * 513),
        INVALID, "BAD_ARGUMENT", "author", ("512",),
    ),
    "a reason that is too long": Case(
        "access.QuarantineAuthor", access_pb2.QuarantineAuthorRequest(author="a", reason="\u00fc" * 513),
        INVALID, "BAD_ARGUMENT", "reason", ("1024",),
    ),
    "nobody to release": Case(
        "access.ReleaseAuthor", access_pb2.ReleaseAuthorRequest(), INVALID, "BAD_ARGUMENT", "author",
    ),
    "somebody to release who is free": Case(
        "access.ReleaseAuthor", access_pb2.ReleaseAuthorRequest(author="a"), NOT_FOUND, "AUTHOR_NOT_FOUND",
    ),
    "no token to revoke": Case(
        "access.RevokeToken", access_pb2.RevokeTokenRequest(), INVALID, "BAD_ARGUMENT", "token_id",
    ),
    "a token that is not there to revoke": Case(
        "access.RevokeToken", access_pb2.RevokeTokenRequest(token_id="no"), NOT_FOUND, "TOKEN_NOT_FOUND",
    ),
    "an invitation": Case(
        "cluster.Invite", cluster_pb2.InviteRequest(), UNIMPLEMENTED, "NOT_IMPLEMENTED", "", ("Invite",)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
def test_a_bad_write_is_refused_and_changes_nothing(node: InProcessNode, name: str) -> None:
    """Status, reason, field and limit are told; collections, counts, indexes and hashes stay."""
    case = WRITES[name]
    before = state_of(node)
    check(refusal(lambda: method(node, case.method)(case.request)), case)
    assert state_of(node) == before
