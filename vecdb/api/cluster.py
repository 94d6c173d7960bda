"""vecdb.v1.Cluster, as far as a node alone can answer it."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vecdb_index import ShardClosed, ShardDamaged
from vecdb_proto.v1 import cluster_pb2 as pb
from vecdb_proto.v1.collections_pb2 import ShardInfo

from vecdb.api import convert
from vecdb.api.collections import shard_info
from vecdb.api.dispatch import Call
from vecdb.catalog import CollectionRecord
from vecdb.query import Database
from vecdb.security import Role
from vecdb.shards import UnknownShard
from vecdb.telemetry.version import version


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node says of itself. `started` is by time.monotonic()."""

    node_id: str
    address: str
    peer_address: str
    zone: str
    data_dir: Path
    started: float


class ClusterService:
    """See proto/vecdb/v1/cluster.proto."""

    def __init__(self, db: Database, facts: NodeFacts) -> None:
        self._db = db
        self._facts = facts

    async def Status(self, request: pb.ClusterStatusRequest, call: Call) -> pb.ClusterStatusResponse:
        """The one member and its shards."""
        call.principal.require(Role.READ)
        db, facts = self._db, self._facts
        state = db.state
        disk = await db.run(shutil.disk_usage, facts.data_dir)
        problems = [status.problem for group in db.host.groups() if (status := db.host.status(group)).problem]
        problems += db.shards.troubles().values()
        reply = pb.ClusterStatusResponse(
            cluster_id=state.cluster_id,
            node=facts.node_id,
            catalogue_index=state.applied,
            catalogue_leader=facts.node_id,
            session=convert.session_token(db.positions([])),
        )
        reply.members.add(
            peer_id=facts.node_id,
            address=facts.address,
            peer_address=facts.peer_address,
            zone=facts.zone,
            state=pb.MEMBER_STATE_SUSPECT if problems else pb.MEMBER_STATE_UP,
            version=version(),
            disk_total_bytes=disk.total,
            disk_free_bytes=disk.free,
            uptime_seconds=time.monotonic() - facts.started,
            devices=["cpu"],
            shards=len(db.shards),
            detail="; ".join(problems),
        )
        for record in state.collections.values():
            for info in await db.run(self._shards, record):
                reply.shards.add(collection=record.name, info=info)
        return reply

    def _shards(self, record: CollectionRecord) -> list[ShardInfo]:
        """What there is to say of a collection's shards; of one that is not open, its id. Blocks."""
        infos = []
        for shard in record.shards:
            info = ShardInfo(shard=shard)
            with suppress(UnknownShard, ShardClosed, ShardDamaged):
                opened = self._db.shards.get(shard)
                info = shard_info(shard, opened, opened.stats())
                info.replicas.append(self._facts.node_id)
                info.leader = self._facts.node_id
            infos.append(info)
        return infos
