"""`vecdb collections` against a real server with written answers."""

import json
from typing import Any

import grpc
import pytest
from vecdb_proto.v1 import collections_pb2 as pb
from vecdb_proto.v1 import common_pb2

from tests.clients.scripted import Fail, ScriptedServer
from vecdb.cli.collections import FIELD_TYPES

INFO = pb.CollectionInfo(
    config=pb.CollectionConfig(
        name="docs",
        model="wordllama-256",
        dim=256,
        metric=common_pb2.METRIC_COSINE,
        index=pb.INDEX_KIND_HNSW,
        storage=pb.STORAGE_F32,
        target_recall=0.95,
        shards=1,
        replicas=1,
        fields=[pb.Field(name="year", type=pb.FIELD_TYPE_INT)],
    ),
    documents=1234,
    index_state=pb.INDEX_STATE_INDEXING,
    unindexed=34,
    disk_bytes=3 << 20,
    calibrated_recall=0.9712,
    created_at_ms=1_700_000_000_000,
    bytes_per_document=2549.1,
    index_bytes_per_document=199.6,
    vector_bytes_per_document=1024,
    shards=[pb.ShardInfo(shard=7, documents=1234, applied_index=99, durable_index=90, disk_bytes=3 << 20)],
)


def test_list(cli: Any, server: ScriptedServer) -> None:
    """A table for people, everything for machines; an empty node has an empty list."""
    server.script("Collections/List", pb.ListCollectionsResponse(collections=[INFO]))
    outcome = cli("collections", "list")
    assert outcome.code == 0
    assert "docs" in outcome.out
    assert "3.0 MiB" in outcome.out
    (listed,) = json.loads(cli("collections", "list", "--json").out)
    assert (listed["config"]["name"], listed["documents"]) == ("docs", 1234)
    assert listed["created_at"].startswith("2023-11-14T22:13:20")
    server.script("Collections/List", pb.ListCollectionsResponse())
    assert json.loads(cli("collections", "list", "--json").out) == []


def test_create_for_a_model(cli: Any, server: ScriptedServer) -> None:
    """What was asked for arrives, and what was made is shown."""
    server.script("Collections/Create", pb.CreateCollectionResponse(collection=INFO))
    outcome = cli(
        "collections", "create", "docs", "--model", "wordllama-256", "--field", "year:int", "--if-not-exists"
    )
    assert outcome.code == 0
    (request,) = server.requests["Collections/Create"]
    assert (request.config.name, request.config.model, request.if_not_exists) == (
        "docs",
        "wordllama-256",
        True,
    )
    assert [(field.name, field.type) for field in request.config.fields] == [("year", pb.FIELD_TYPE_INT)]
    facts = {
        key.strip(): value.strip()
        for key, _, value in (line.partition("  ") for line in outcome.out.splitlines())
    }
    assert facts["fields"] == "year:int"
    assert facts["recall"] == "0.971 calibrated"


def test_the_types_are_the_contracts() -> None:
    """Every type of field that the contract has can be asked for."""
    assert {f"FIELD_TYPE_{name.upper()}" for name in FIELD_TYPES} == set(pb.FieldType.keys()) - {
        "FIELD_TYPE_UNSPECIFIED"
    }


def test_create_for_vectors(cli: Any, server: ScriptedServer) -> None:
    """A collection of vectors has its dimension, metric, index and recall from the command line."""
    server.script("Collections/Create", pb.CreateCollectionResponse(collection=INFO))
    options = ("--dim", 784, "--metric", "l2", "--index", "ivf", "--storage", "sq8")
    options += ("--target-recall", 0.99, "--shards", 2)
    assert cli("collections", "create", "vecs", *options, "--language", "de", "--json").code == 0
    (request,) = server.requests["Collections/Create"]
    config = request.config
    assert (config.dim, config.metric, config.index, config.shards) == (784, 3, pb.INDEX_KIND_IVF, 2)
    assert config.storage == pb.STORAGE_SQ8
    assert config.target_recall == pytest.approx(0.99)
    assert config.language == "de"


def test_describe(cli: Any, server: ScriptedServer) -> None:
    """Configuration, state and shards, with measured recall where there is one."""
    info = pb.CollectionInfo()
    info.CopyFrom(INFO)
    info.measured_recall = 0.96
    server.script("Collections/Describe", pb.DescribeCollectionResponse(collection=info))
    out = cli("collections", "describe", "docs").out
    for part in (
        "wordllama-256",
        "hnsw (f32)",
        "0.960 measured",
        "34 rows unindexed",
        "2549 bytes a document (index 200, vectors 1024)",
        "99",
        "90",
    ):
        assert part in out
    described = json.loads(cli("collections", "describe", "docs", "--json").out)
    assert described["shards"][0]["applied_index"] == 99
    bare = pb.CollectionInfo(config=pb.CollectionConfig(name="v", dim=3))
    server.script("Collections/Describe", pb.DescribeCollectionResponse(collection=bare))
    out = cli("collections", "describe", "v").out
    assert "not calibrated yet" in out
    assert "applied" not in out


def test_alter(cli: Any, server: ScriptedServer) -> None:
    """Changes arrive together in one request."""
    server.script("Collections/Alter", pb.AlterCollectionResponse(collection=INFO))
    changes = ("--field", "lang:keyword", "--drop-field", "year", "--target-recall", 0.9)
    assert cli("collections", "alter", "docs", *changes).code == 0
    (request,) = server.requests["Collections/Alter"]
    assert [(field.name, field.type) for field in request.add_fields] == [("lang", pb.FIELD_TYPE_KEYWORD)]
    assert list(request.drop_fields) == ["year"]
    assert request.target_recall == pytest.approx(0.9)


def test_drop_asks_first(cli: Any, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropping is for good: a script must say --yes, a person is asked."""
    server.script("Collections/Drop", pb.DropCollectionResponse())
    assert "--yes" in cli("collections", "drop", "docs").error
    assert not server.requests
    outcome = cli("collections", "drop", "docs", "--yes")
    assert (outcome.code, outcome.out) == (0, "dropped docs\n")
    (request,) = server.requests["Collections/Drop"]
    assert request.collection == "docs"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "x"), "give --model for texts, or --dim"),
        (("create", "x", "--model", "m", "--dim", "3"), "give --model for texts, or --dim"),
        (("create", "x", "--dim", "3", "--field", "year"), "write name:type"),
        (("create", "x", "--dim", "3", "--field", ":int"), "write name:type"),
        (("create", "x", "--dim", "3", "--field", "year:number"), "the type must be one of keyword, int"),
        (("create", "x", "--dim", "0"), "'--dim'"),
        (("create", "x", "--dim", "3", "--target-recall", "2"), "'--target-recall'"),
        (("alter", "x"), "nothing to change"),
    ],
)
def test_usage_errors(cli: Any, server: ScriptedServer, arguments: tuple[str, ...], words: str) -> None:
    """What makes no sense is refused before the server is asked."""
    outcome = cli("collections", *arguments)
    assert outcome.code == 2
    assert words in outcome.error
    assert not server.requests


def test_a_missing_collection(cli: Any, server: ScriptedServer) -> None:
    """The server's refusal is the one line, also with --json."""
    server.script(
        "Collections/Describe", Fail(grpc.StatusCode.NOT_FOUND, "no collection 'x'", "COLLECTION_NOT_FOUND")
    )
    outcome = cli("collections", "describe", "x", "--json")
    assert (outcome.code, outcome.out) == (2, "")
    assert "no collection 'x'" in outcome.error
