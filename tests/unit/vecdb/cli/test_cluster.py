"""`vecdb cluster` against a real server with written answers."""

import json
from typing import Any

import pytest
from vecdb_proto.v1 import cluster_pb2, collections_pb2

from tests.clients.scripted import ScriptedServer

STATUS = cluster_pb2.ClusterStatusResponse(
    cluster_id="ab" * 16,
    node="12D3KooA",
    members=[
        cluster_pb2.Member(
            peer_id="12D3KooA",
            address="127.0.0.1:7700",
            zone="a",
            state=cluster_pb2.MEMBER_STATE_UP,
            version="0.1.0",
            disk_free_bytes=5 << 30,
            shards=1,
        )
    ],
    shards=[
        cluster_pb2.ClusterShard(
            collection="docs", info=collections_pb2.ShardInfo(shard=7, documents=10, applied_index=3)
        )
    ],
    catalogue_index=12,
    catalogue_leader="12D3KooA",
)


def test_status(cli: Any, server: ScriptedServer) -> None:
    """Members and shards, for people and for machines."""
    server.script("Cluster/Status", STATUS)
    outcome = cli("cluster", "status")
    assert outcome.code == 0
    for part in ("ab" * 16, "12D3KooA", "5.0 GiB", "up", "docs", "index 12"):
        assert part in outcome.out
    status = json.loads(cli("cluster", "status", "--json").out)
    assert status["members"][0]["state"] == "up"
    assert status["shards"][0]["info"]["applied_index"] == 3


def test_invite(cli: Any, server: ScriptedServer) -> None:
    """The invitation alone goes to stdout, so that it can be piped into a file."""
    server.script(
        "Cluster/Invite", cluster_pb2.InviteResponse(invitation="secret", addresses=["/ip4/1.2.3.4/p2p/x"])
    )
    outcome = cli("cluster", "invite", "--ttl", 600)
    assert (outcome.out, outcome.err) == ("secret\n", "join by: /ip4/1.2.3.4/p2p/x\n")
    assert server.requests["Cluster/Invite"][0].ttl_seconds == 600
    assert json.loads(cli("cluster", "invite", "--json").out)["invitation"] == "secret"


def test_remove_drains_first(cli: Any, server: ScriptedServer) -> None:
    """A member is drained unless it is said to be lost."""
    server.script("Cluster/DrainMember", cluster_pb2.DrainMemberResponse())
    server.script("Cluster/RemoveMember", cluster_pb2.RemoveMemberResponse())
    assert cli("cluster", "remove", "12D3KooB").out == "draining 12D3KooB\n"
    assert "Cluster/RemoveMember" not in server.requests
    assert cli("cluster", "remove", "12D3KooB", "--now").out == "removed 12D3KooB\n"
    assert server.requests["Cluster/RemoveMember"][0].peer_id == "12D3KooB"


def test_move(cli: Any, server: ScriptedServer) -> None:
    """Shard, both members and the configuration that was seen arrive."""
    server.script("Cluster/MoveReplica", cluster_pb2.MoveReplicaResponse())
    outcome = cli("cluster", "move", 7, "--from", "A", "--to", "B", "--configuration-index", 5)
    assert outcome.code == 0
    (request,) = server.requests["Cluster/MoveReplica"]
    assert (request.shard, request.from_peer, request.to_peer, request.configuration_index) == (
        7,
        "A",
        "B",
        5,
    )


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("invite",), ("remove", "A"), ("move", "1", "--from", "A", "--to", "B")],
)
def test_what_a_server_cannot_do_yet(cli: Any, server: ScriptedServer, arguments: tuple[str, ...]) -> None:
    """UNIMPLEMENTED shows the server's message and ends with 69."""
    outcome = cli("cluster", *arguments)
    assert outcome.code == 69
    assert "has no script (UNIMPLEMENTED)" in outcome.error
