"""Collections, the cluster's state and the services beside the contract, through a running node."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from vecdb_proto.v1 import (
    access_pb2,
    cluster_pb2,
    collections_pb2,
    common_pb2,
    documents_pb2,
    search_pb2,
)

from tests.support.inprocess import InProcessNode, refusal

C = collections_pb2
SERVICES = ("Access", "Cluster", "Collections", "Documents", "Knowledge", "Models", "Search")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessNode]:
    with InProcessNode(tmp_path_factory.mktemp("node"), zone="here") as node:
        yield node


def create(node: InProcessNode, name: str, again: bool = False, **config: Any) -> C.CollectionInfo:
    made = C.CollectionConfig(name=name, **{"dim": 2} | config)
    return node.collections.Create(C.CreateCollectionRequest(config=made, if_not_exists=again)).collection


def describe(node: InProcessNode, name: str) -> C.CollectionInfo:
    return node.collections.Describe(C.DescribeCollectionRequest(collection=name)).collection


def names(node: InProcessNode) -> list[str]:
    return [each.config.name for each in node.collections.List(C.ListCollectionsRequest()).collections]


def aliases(node: InProcessNode, **changes: str) -> None:
    made = [C.AliasChange(alias=alias, collection=target) for alias, target in changes.items()]
    node.collections.UpdateAliases(C.UpdateAliasesRequest(changes=made))


def field(name: str, kind: int) -> C.Field:
    return C.Field(name=name, type=kind)  # type: ignore[arg-type]


def test_a_collection_is_described_with_its_defaults(served: InProcessNode) -> None:
    """Create and Describe tell every default that was filled in, and what the shards hold."""
    made = create(served, "defaults", fields=[field("year", C.FIELD_TYPE_INT)])
    config = made.config
    assert (config.dim, config.metric, config.index) == (2, common_pb2.METRIC_COSINE, C.INDEX_KIND_HNSW)
    assert (config.storage, config.shards, config.replicas, config.language) == (C.STORAGE_F32, 1, 1, "en")
    assert config.target_recall == pytest.approx(0.95)
    assert made.collection_id > 0
    assert made.created_at_ms > 1_600_000_000_000
    served.documents.Upsert(
        documents_pb2.UpsertRequest(collection="defaults", ids=["a"], vectors=b"\0\0\x80?" * 2)
    )
    info = describe(served, "defaults")
    assert (info.documents, info.index_state, info.calibrated_recall) == (1, C.INDEX_STATE_INDEXED, 1.0)
    assert info.bytes_per_document == info.disk_bytes > 0
    (shard,) = info.shards
    assert (shard.documents, len(shard.content_hash)) == (1, 32)
    (segment,) = shard.segments
    assert (segment.state, segment.rows, segment.recall) == ("growing", 1, 1.0)
    listed = served.collections.List(C.ListCollectionsRequest()).collections
    assert not any(each.shards for each in listed)


def test_kinds_and_storages_are_served_and_told(served: InProcessNode) -> None:
    """A collection keeps the index and storage it was made with, and tells what its segments take."""
    config = create(served, "coded", dim=16, index=C.INDEX_KIND_IVF, storage=C.STORAGE_SQ8).config
    assert (config.index, config.storage) == (C.INDEX_KIND_IVF, C.STORAGE_SQ8)
    vectors = np.random.default_rng(0).standard_normal((1200, 16)).astype("<f4")
    ids = [f"d{at}" for at in range(1200)]
    served.documents.Upsert(
        documents_pb2.UpsertRequest(collection="coded", ids=ids, vectors=vectors.tobytes())
    )
    with served.client() as client:
        info = client.wait_indexed("coded")
        assert [hit.id for hit in client.search("coded", vector=vectors[7], k=1)] == ["d7"]
    (segment,) = info.shards[0].segments
    assert (segment.index, segment.storage, segment.rows) == ("ivf", "sq8", 1200)
    assert segment.reranked >= 10
    assert segment.index_bytes > 16 * 1200
    assert segment.vector_bytes >= 64 * 1200
    assert info.index_bytes_per_document == segment.index_bytes / 1200
    assert info.vector_bytes_per_document == segment.vector_bytes / 1200
    assert info.index_bytes_per_document + info.vector_bytes_per_document < info.bytes_per_document


def test_ids_of_collections_and_shards_are_never_used_again(served: InProcessNode) -> None:
    """Dropping and creating under the same name gives new ids, and none of the old documents."""
    first = create(served, "again", shards=2)
    served.documents.Upsert(
        documents_pb2.UpsertRequest(collection="again", ids=["a"], vectors=b"\0\0\x80?" * 2)
    )
    served.collections.Drop(C.DropCollectionRequest(collection="again"))
    assert "again" not in names(served)
    refused = refusal(lambda: describe(served, "again"))
    assert refused.code is grpc.StatusCode.NOT_FOUND
    second = create(served, "again", shards=2)
    assert second.collection_id > first.collection_id
    assert not {each.shard for each in first.shards} & {each.shard for each in second.shards}
    assert second.documents == 0


def test_if_not_exists_takes_the_same_and_refuses_another(served: InProcessNode) -> None:
    """An equal configuration answers with what is there; any difference is ALREADY_EXISTS."""
    fields = [field("a", C.FIELD_TYPE_INT), field("b", C.FIELD_TYPE_KEYWORD)]
    first = create(served, "same", fields=fields)
    assert create(served, "same", again=True, fields=fields[::-1]).collection_id == first.collection_id
    for change in ({"dim": 3}, {"shards": 2}, {"fields": []}, {"metric": common_pb2.METRIC_L2}):
        refused = refusal(lambda change=change: create(served, "same", True, **{"fields": fields} | change))  # type: ignore[misc]
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "COLLECTION_EXISTS")
        assert "another configuration" in refused.message
    aliases(served, other="same")
    assert refusal(lambda: create(served, "other", True)).code is grpc.StatusCode.ALREADY_EXISTS


def test_concurrent_creations_of_one_name_make_one(served: InProcessNode) -> None:
    """With if_not_exists many creators at once are answered with one collection; lists never fail."""
    made: list[int] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        made.append(create(served, "contended", again=True, shards=3).collection_id)

    def look() -> None:
        while not done.is_set():
            try:
                served.collections.List(C.ListCollectionsRequest())
                served.cluster.Status(cluster_pb2.ClusterStatusRequest())
            except grpc.RpcError as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(5)]
    looking = threading.Thread(target=look)
    looking.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(3):
        served.collections.Drop(C.DropCollectionRequest(collection="contended"))
        create(served, "contended", shards=3)
    done.set()
    looking.join()
    assert len(made) == 5
    assert len(set(made)) == 1
    assert failures == []


def test_fields_are_altered_with_their_documents_there(served: InProcessNode) -> None:
    """A field declared later finds the documents that are there; altering survives a restart."""
    create(served, "altered", fields=[field("year", C.FIELD_TYPE_INT)])
    served.documents.Upsert(
        documents_pb2.UpsertRequest(
            collection="altered", ids=["a"], vectors=b"\0\0\x80?" * 2, payloads=[b"\x81\xa4lang\xa2en"]
        )
    )
    request = C.AlterCollectionRequest(
        collection="altered",
        add_fields=[field("lang", C.FIELD_TYPE_KEYWORD)],
        drop_fields=["year"],
        target_recall=0.8,
    )
    altered = served.collections.Alter(request).collection
    assert [(each.name, each.type) for each in altered.config.fields] == [("lang", C.FIELD_TYPE_KEYWORD)]
    assert altered.config.target_recall == pytest.approx(0.8)
    served.restart()
    assert describe(served, "altered").config == altered.config
    condition = {"equals": {"field": "lang", "value": {"string_value": "en"}}}
    found = served.documents.Count(documents_pb2.CountRequest(collection="altered", filter=condition))
    assert found.count == 1


def test_the_models_name_may_be_changed_to_itself(served: InProcessNode) -> None:
    """Altering to a model with the pinned fingerprint is taken; an unknown one is NOT_FOUND."""
    create(served, "modelled", dim=0, model="wordllama-256")
    request = C.AlterCollectionRequest(collection="modelled", model="wordllama-256")
    assert served.collections.Alter(request).collection.config.model == "wordllama-256"
    request.model = "nope"
    assert refusal(lambda: served.collections.Alter(request)).reason == "MODEL_NOT_FOUND"


def test_aliases_stand_for_their_collection(served: InProcessNode) -> None:
    """Reads and writes go through an alias; switching it is atomic; it must go before its collection."""
    create(served, "blue")
    create(served, "green")
    aliases(served, live="blue")
    served.documents.Upsert(
        documents_pb2.UpsertRequest(collection="live", ids=["a"], vectors=b"\0\0\x80?" * 2)
    )
    assert describe(served, "blue").documents == 1
    assert list(describe(served, "live").aliases) == ["live"]
    aliases(served, live="green", old="blue")
    assert describe(served, "live").config.name == "green"
    refused = refusal(lambda: served.collections.Drop(C.DropCollectionRequest(collection="green")))
    assert (refused.code, "live" in refused.message) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    aliases(served, live="", old="")
    served.collections.Drop(C.DropCollectionRequest(collection="green"))
    assert "green" not in names(served)


@pytest.mark.parametrize("language", ["english", "EN", "e", "e1", "de-CH", "\n\n", "ää", "en\n"])
def test_a_language_is_a_code_of_two_letters(served: InProcessNode, language: str) -> None:
    """Anything else than two lower-case letters is INVALID_ARGUMENT."""
    refused = refusal(lambda: create(served, "spoken", language=language))
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["config.language"])


def test_a_language_is_kept(served: InProcessNode) -> None:
    """A code that is one is told as it was given."""
    assert create(served, "norsk", language="no").config.language == "no"


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "\x7f", "a\x85", " ", "\u2003", ".", "a.", ".a", "a..b"])
def test_a_field_that_no_path_leads_to_is_refused(served: InProcessNode, name: str) -> None:
    """Control characters, empty parts of a path and mere blanks, at a creation and later."""
    create(served, "pathless", again=True)
    fields = [field("ok.path", C.FIELD_TYPE_INT), field(name, C.FIELD_TYPE_INT)]
    alter = C.AlterCollectionRequest(collection="pathless", add_fields=fields)
    for call, where in (
        (lambda: create(served, "refused", fields=fields), "config.fields"),
        (lambda: served.collections.Alter(alter), "add_fields"),
    ):
        refused = refusal(call)
        assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [f"{where}[1].name"])


def test_aliases_are_limited(served: InProcessNode) -> None:
    """There are at most 1,000; what makes no more of them is taken at the limit too."""
    create(served, "many")
    held = len(served.node_database().state.aliases)
    for begin in range(0, 1_000 - held, 50):
        aliases(served, **{f"alias{n}": "many" for n in range(begin, min(begin + 50, 1_000 - held))})
    refused = refusal(lambda: aliases(served, more="many"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    aliases(served, alias0="", more="many")
    assert len(served.node_database().state.aliases) == 1_000


def test_the_cluster_tells_of_its_one_member(served: InProcessNode) -> None:
    """Status has the member with its disk and zone, and every shard with its leader."""
    create(served, "told", shards=2)
    status = served.cluster.Status(cluster_pb2.ClusterStatusRequest())
    (member,) = status.members
    assert (member.peer_id, member.zone, member.state) == (status.node, "here", cluster_pb2.MEMBER_STATE_UP)
    assert member.address == served.address
    assert 0 < member.disk_free_bytes <= member.disk_total_bytes
    assert member.uptime_seconds > 0
    assert member.detail == ""
    assert len(status.cluster_id) == 32
    shards = [each for each in status.shards if each.collection == "told"]
    assert [(each.info.leader, list(each.info.replicas)) for each in shards] == [
        (status.node, [status.node])
    ] * 2
    assert member.shards == len(status.shards)
    assert status.catalogue_leader == status.node
    assert status.session.catalogue == status.catalogue_index


def test_an_open_node_takes_everyone_for_an_admin(served: InProcessNode) -> None:
    """Without a token file the caller is anonymous, with the admin's role on everything."""
    reply = served.access.WhoAmI(access_pb2.WhoAmIRequest())
    assert reply.principal == "anonymous"
    assert [(each.collection, each.role) for each in reply.grants] == [("", access_pb2.ROLE_ADMIN)]


def test_health_is_told_for_the_node_and_each_service(served: InProcessNode) -> None:
    """The standard health service says SERVING; an unknown service is NOT_FOUND."""
    stub = health_pb2_grpc.HealthStub(served.channel)
    for service in ("", *(f"vecdb.v1.{each}" for each in SERVICES)):
        reply = stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    refused = refusal(lambda: stub.Check(health_pb2.HealthCheckRequest(service="vecdb.v1.Nope")))
    assert refused.code is grpc.StatusCode.NOT_FOUND


def test_reflection_describes_the_contract(served: InProcessNode) -> None:
    """A generic client finds the services and can fetch the file of each."""
    stub = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    request = reflection_pb2.ServerReflectionRequest
    asked = [request(list_services=""), request(file_containing_symbol="vecdb.v1.Search")]
    listed, file = stub.ServerReflectionInfo(iter(asked))
    found = {each.name for each in listed.list_services_response.service}
    assert {f"vecdb.v1.{each}" for each in SERVICES} <= found
    assert b"SearchStream" in file.file_descriptor_response.file_descriptor_proto[0]


def test_metrics_count_requests_by_their_outcome(served: InProcessNode) -> None:
    """After a good and a bad request, /metrics has both, the shard's documents, and synced writes."""
    create(served, "metered")
    served.documents.Upsert(
        documents_pb2.UpsertRequest(collection="metered", ids=["a"], vectors=b"\0\0\x80?" * 2)
    )
    refusal(lambda: served.search.Search(search_pb2.SearchRequest(collection="metered")))
    list(served.search.SearchStream(iter([])))
    with urllib.request.urlopen(f"{served.http_url}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()

    def has(*parts: str) -> bool:
        return any(all(part in line for part in parts) and not line.endswith(" 0.0") for line in lines)

    assert has('method="Search"', "INVALID_ARGUMENT"), "\n".join(lines)
    assert has('method="Upsert"', '"OK"')
    assert has('method="SearchStream"', '"OK"')
    assert has('collection="metered"', "documents", " 1.0")
    assert has("vecdb_log_batches")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_told_over_http(served: InProcessNode, path: str) -> None:
    """A node that serves is alive and ready."""
    with urllib.request.urlopen(served.http_url + path, timeout=10) as reply:
        assert reply.status == 200
