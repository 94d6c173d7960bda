from __future__ import annotations

import dataclasses
import json
import time
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import vecdb_client as vc
from vecdb_proto.v1 import access_pb2, cluster_pb2, collections_pb2, common_pb2

from tests.clients.scripted import Fail, ScriptedServer

CREATE = "Collections/Create"

CONFIG = collections_pb2.CollectionConfig(
    name="vecs",
    dim=784,
    metric=common_pb2.METRIC_L2,
    index=collections_pb2.INDEX_KIND_HNSW,
    storage=collections_pb2.STORAGE_F16,
    target_recall=0.99,
    shards=2,
    replicas=3,
    fields=[collections_pb2.Field(name="year", type=collections_pb2.FIELD_TYPE_INT)],
    vectors=[collections_pb2.NamedVectorConfig(name="title", dim=8, metric=common_pb2.METRIC_DOT)],
    sparse_vectors=[collections_pb2.SparseVectorConfig(name="words")],
    language="de",
)
SHARD = collections_pb2.ShardInfo(
    shard=7,
    documents=3,
    applied_index=9,
    durable_index=8,
    unindexed=1,
    disk_bytes=100,
    segments=[
        collections_pb2.SegmentInfo(
            state="sealed",
            index="hnsw",
            rows=3,
            bytes=90,
            effort=32,
            recall=1,
            storage=collections_pb2.STORAGE_SQ8,
            reranked=12,
            index_bytes=20,
            vector_bytes=60,
        )
    ],
    content_hash=b"\x01\xff",
    replicas=["p1"],
    leader="p1",
)
INFO = collections_pb2.CollectionInfo(
    config=CONFIG,
    collection_id=5,
    documents=3,
    index_state=collections_pb2.INDEX_STATE_INDEXED,
    disk_bytes=100,
    calibrated_recall=1,
    created_at_ms=1_000,
    aliases=["current"],
    shards=[SHARD],
    bytes_per_document=33.5,
    index_bytes_per_document=7,
    vector_bytes_per_document=20.25,
)


def test_every_setting_of_a_collection_goes_over(server: ScriptedServer, db: Any) -> None:
    """create_collection sends what it was told, in the contract's words, and gives back what was made."""
    server.script(CREATE, collections_pb2.CreateCollectionResponse(collection=INFO))
    info = db.create_collection(
        "vecs",
        dim=784,
        metric="l2",
        shards=2,
        replicas=3,
        index="hnsw",
        storage="f16",
        target_recall=0.99,
        fields={"year": "int"},
        vectors={"title": vc.NamedVector(8, "dot")},
        sparse_vectors=["words"],
        language="de",
        if_not_exists=True,
    )
    (request,) = server.requests[CREATE]
    assert request.config == CONFIG
    assert request.if_not_exists
    assert request.options.sequence == 1
    assert info.config == vc.CollectionConfig(
        name="vecs",
        model="",
        dim=784,
        metric="l2",
        index="hnsw",
        storage="f16",
        target_recall=0.99,
        shards=2,
        replicas=3,
        fields={"year": "int"},
        vectors={"title": vc.NamedVector(8, "dot")},
        sparse_vectors=("words",),
        language="de",
    )


def test_defaults_are_left_to_the_server(server: ScriptedServer, db: Any) -> None:
    """With a model alone, dimension, metric and the rest stay unset."""
    server.script(CREATE, collections_pb2.CreateCollectionResponse())
    db.create_collection("docs", model="wordllama-256")
    expected = collections_pb2.CollectionConfig(
        name="docs", model="wordllama-256", shards=1, index=collections_pb2.INDEX_KIND_HNSW
    )
    assert server.requests[CREATE][0].config == expected


@pytest.mark.parametrize(
    "wrong",
    [{"metric": "euclid"}, {"index": "lsh"}, {"storage": "f8"}, {"fields": {"a": "number"}}, {"metric": []}],
)
def test_unknown_words_are_named(db: Any, wrong: dict[str, Any]) -> None:
    """A word that the contract has not is a ValueError that lists those it has."""
    with pytest.raises(ValueError, match="must be one of"):
        db.create_collection("c", dim=2, **wrong)


def test_a_description_says_everything(server: ScriptedServer, db: Any) -> None:
    """describe and list_collections tell all that the server knows, ready to print."""
    server.script("Collections/Describe", collections_pb2.DescribeCollectionResponse(collection=INFO))
    info = db.describe("current")
    assert (info.name, info.model, info.dim, info.metric, info.fields) == (
        "vecs",
        "",
        784,
        "l2",
        {"year": "int"},
    )
    assert (info.collection_id, info.documents, info.index_state, info.indexed) == (5, 3, "indexed", True)
    assert (info.aliases, info.created_at) == (("current",), datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    (shard,) = info.shards
    assert (shard.shard, shard.content_hash, shard.replicas, shard.leader) == (7, "01ff", ("p1",), "p1")
    assert shard.segments == (vc.SegmentInfo("sealed", "hnsw", 3, 0, 90, 32, 1.0, "sq8", 12, 20, 60),)
    assert (info.bytes_per_document, info.index_bytes_per_document, info.vector_bytes_per_document) == (
        33.5,
        7.0,
        20.25,
    )
    assert json.dumps(dataclasses.asdict(info), default=str)
    server.script("Collections/List", collections_pb2.ListCollectionsResponse(collections=[INFO, INFO]))
    assert db.list_collections() == [info, info]


def test_a_newer_servers_words_are_shown_as_numbers(server: ScriptedServer, db: Any) -> None:
    """An enum value that this client does not know is not an error."""
    newer = collections_pb2.CollectionInfo(index_state=77)
    server.script("Collections/Describe", collections_pb2.DescribeCollectionResponse(collection=newer))
    assert db.describe("c").index_state == "77"


def test_alter_aliases_and_drop(server: ScriptedServer, db: Any) -> None:
    """Each sends exactly its change, under a number of its own."""
    server.script("Collections/Alter", collections_pb2.AlterCollectionResponse(collection=INFO))
    server.script("Collections/UpdateAliases", collections_pb2.UpdateAliasesResponse())
    server.script("Collections/Drop", collections_pb2.DropCollectionResponse())
    assert (
        db.alter_collection("c", add_fields={"a": "text"}, drop_fields=["b"], target_recall=0.5).name
        == "vecs"
    )
    db.set_aliases({"new": "c", "old": None})
    assert db.drop_collection("c") is None
    (alter,) = server.requests["Collections/Alter"]
    assert alter.add_fields[0] == collections_pb2.Field(name="a", type=collections_pb2.FIELD_TYPE_TEXT)
    assert (list(alter.drop_fields), alter.target_recall, alter.HasField("model")) == (["b"], 0.5, False)
    (aliases,) = server.requests["Collections/UpdateAliases"]
    assert [(change.alias, change.collection) for change in aliases.changes] == [("new", "c"), ("old", "")]
    (drop,) = server.requests["Collections/Drop"]
    assert [r.options.sequence for r in (alter, aliases, drop)] == [1, 2, 3]
    with pytest.raises(TypeError, match="one string"):
        db.alter_collection("c", drop_fields="b")


def test_wait_indexed_waits(server: ScriptedServer, db: Any) -> None:
    """It returns once the index is complete, and raises a TimeoutError where that takes too long."""
    busy = collections_pb2.CollectionInfo(
        config=CONFIG, index_state=collections_pb2.INDEX_STATE_INDEXING, unindexed=4
    )
    waiting = collections_pb2.DescribeCollectionResponse(collection=busy)
    done = collections_pb2.DescribeCollectionResponse(collection=INFO)
    server.script("Collections/Describe", waiting, waiting, done)
    assert db.wait_indexed("vecs").indexed
    assert len(server.requests["Collections/Describe"]) == 3
    server.script("Collections/Describe", waiting)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="4 documents of vecs"):
        db.wait_indexed("vecs", timeout=0.2)
    assert time.monotonic() - began < 5
    server.script("Collections/Describe", Fail(grpc.StatusCode.NOT_FOUND))
    with pytest.raises(vc.NotFoundError):
        db.wait_indexed("vecs")


def test_access_is_managed(server: ScriptedServer, db: Any) -> None:
    """Tokens are made, listed and revoked; authors quarantined and released; secrets stay out of logs."""
    grant = access_pb2.Grant(collection="c", role=access_pb2.ROLE_WRITE)
    token = access_pb2.TokenInfo(
        token_id="t1", principal="ann", grants=[grant], expires_at_ms=5_000, requests_per_second=9
    )
    server.script("Access/WhoAmI", access_pb2.WhoAmIResponse(principal="ann", grants=[grant]))
    server.script("Access/CreateToken", access_pb2.CreateTokenResponse(token=token, secret="hush"))
    server.script("Access/ListTokens", access_pb2.ListTokensResponse(tokens=[token]))
    server.script("Access/RevokeToken", access_pb2.RevokeTokenResponse())
    server.script("Access/QuarantineAuthor", access_pb2.QuarantineAuthorResponse())
    server.script("Access/ReleaseAuthor", access_pb2.ReleaseAuthorResponse())
    author = access_pb2.QuarantinedAuthor(author="eve", reason="spam", since_ms=1000)
    server.script("Access/ListQuarantined", access_pb2.ListQuarantinedResponse(authors=[author]))

    assert db.whoami() == vc.Principal("ann", (vc.Grant("write", "c"),))
    expires = datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    made = db.create_token("ann", [vc.Grant("write", "c")], expires_at=expires, requests_per_second=9)
    assert (made.secret, made.token.expires_at, made.token.created_at) == ("hush", expires, None)
    assert "hush" not in repr(made)
    (request,) = server.requests["Access/CreateToken"]
    assert list(request.token.grants) == [grant]
    assert request.token.expires_at_ms == 5_000
    assert db.list_tokens() == [made.token]
    db.revoke_token("t1")
    db.quarantine_author("eve", "spam")
    db.release_author("eve")
    assert server.requests["Access/RevokeToken"][0].token_id == "t1"
    assert server.requests["Access/QuarantineAuthor"][0].reason == "spam"
    assert server.requests["Access/ReleaseAuthor"][0].author == "eve"
    assert db.list_quarantined() == [
        vc.QuarantinedAuthor("eve", "spam", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    ]
    with pytest.raises(ValueError, match="time zone"):
        db.create_token("ann", [], expires_at=datetime(2030, 1, 1))
    with pytest.raises(ValueError, match="role"):
        db.create_token("ann", [vc.Grant("owner")])


def test_the_cluster_is_shown_and_changed(server: ScriptedServer, db: Any) -> None:
    """Status tells members and shards; invite, drain, remove and move send what they were told."""
    member = cluster_pb2.Member(
        peer_id="p1", address="h:7700", state=cluster_pb2.MEMBER_STATE_UP, devices=["cpu"], shards=1
    )
    status = cluster_pb2.ClusterStatusResponse(
        cluster_id="ab",
        node="p1",
        members=[member],
        shards=[cluster_pb2.ClusterShard(collection="c", info=SHARD)],
        catalogue_index=4,
        catalogue_leader="p1",
    )
    server.script("Cluster/Status", status)
    shown = db.cluster_status()
    assert (shown.cluster_id, shown.node, shown.catalogue_index) == ("ab", "p1", 4)
    assert (shown.members[0].state, shown.members[0].devices) == ("up", ("cpu",))
    assert (shown.shards[0].collection, shown.shards[0].info.shard) == ("c", 7)

    invitation = cluster_pb2.InviteResponse(invitation="i", expires_at_ms=2_000, addresses=["/ip4/1"])
    server.script("Cluster/Invite", invitation)
    assert db.invite(ttl_seconds=60) == vc.Invitation(
        "i", datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC), ("/ip4/1",)
    )
    server.script("Cluster/DrainMember", cluster_pb2.DrainMemberResponse())
    server.script("Cluster/RemoveMember", cluster_pb2.RemoveMemberResponse())
    server.script("Cluster/MoveReplica", cluster_pb2.MoveReplicaResponse())
    db.drain_member("p1")
    db.remove_member("p2")
    db.move_replica(7, "p1", "p2", configuration_index=3)
    assert server.requests["Cluster/DrainMember"][0].peer_id == "p1"
    assert server.requests["Cluster/RemoveMember"][0].peer_id == "p2"
    expected = cluster_pb2.MoveReplicaRequest(shard=7, from_peer="p1", to_peer="p2", configuration_index=3)
    assert server.requests["Cluster/MoveReplica"] == [expected]
