"""What the server says about itself: collections, models, sources, tokens, the cluster.

Plain values that mirror vecdb.v1, enums as words, times as datetimes (UTC,
None for never), so that `dataclasses.asdict` gives something to print.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from vecdb_proto.v1 import (
    access_pb2,
    cluster_pb2,
    collections_pb2,
    knowledge_pb2,
    models_pb2,
)

from vecdb_client._views import timestamp
from vecdb_client._words import FIELD_TYPES, INDEX_KINDS, METRICS, ROLES, STORAGES, Words

INDEX_STATES = Words("index state", collections_pb2.IndexState, "INDEX_STATE_")
MEMBER_STATES = Words("member state", cluster_pb2.MemberState, "MEMBER_STATE_")
OUTCOMES = Words("outcome", knowledge_pb2.IngestOutcome, "INGEST_OUTCOME_")


@dataclass(frozen=True, slots=True)
class NamedVector:
    """A further dense vector that documents of a collection may have."""

    dim: int
    metric: str = ""
    index: str = ""
    storage: str = ""


@dataclass(frozen=True, slots=True)
class CollectionConfig:
    """What a collection was made with, every default filled in. See `Client.create_collection`."""

    name: str
    model: str
    dim: int
    metric: str
    index: str
    storage: str
    target_recall: float
    shards: int
    replicas: int
    fields: Mapping[str, str]
    vectors: Mapping[str, NamedVector]
    sparse_vectors: tuple[str, ...]
    language: str

    @classmethod
    def of(cls, message: collections_pb2.CollectionConfig) -> CollectionConfig:
        """The configuration that the message describes."""
        vectors = {
            v.name: NamedVector(
                v.dim, METRICS.word(v.metric), INDEX_KINDS.word(v.index), STORAGES.word(v.storage)
            )
            for v in message.vectors
        }
        return cls(
            name=message.name,
            model=message.model,
            dim=message.dim,
            metric=METRICS.word(message.metric),
            index=INDEX_KINDS.word(message.index),
            storage=STORAGES.word(message.storage),
            target_recall=round(message.target_recall, 6),
            shards=message.shards,
            replicas=message.replicas,
            fields={field.name: FIELD_TYPES.word(field.type) for field in message.fields},
            vectors=vectors,
            sparse_vectors=tuple(v.name for v in message.sparse_vectors),
            language=message.language,
        )


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One segment of a shard: "growing" or "sealed".

    `effort` is the efSearch or nprobe that calibration chose (0 for exact
    search), `reranked` how many candidates are compared again for ten hits,
    `recall` what it measured at k=10 with both. `storage` is what candidates
    are found by. Of its `bytes`, `index_bytes` are links, lists and codes,
    `vector_bytes` full vectors.
    """

    state: str
    index: str
    rows: int
    tombstones: int
    bytes: int
    effort: int
    recall: float
    storage: str
    reranked: int
    index_bytes: int
    vector_bytes: int

    @classmethod
    def of(cls, message: collections_pb2.SegmentInfo) -> SegmentInfo:
        """The segment that the message describes."""
        return cls(
            state=message.state,
            index=message.index,
            rows=message.rows,
            tombstones=message.tombstones,
            bytes=message.bytes,
            effort=message.effort,
            recall=message.recall,
            storage=STORAGES.word(message.storage),
            reranked=message.reranked,
            index_bytes=message.index_bytes,
            vector_bytes=message.vector_bytes,
        )


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One shard: log positions, rows waiting for an index, bytes on disk, who holds it (PeerIDs)."""

    shard: int
    documents: int
    applied_index: int
    durable_index: int
    unindexed: int
    disk_bytes: int
    segments: tuple[SegmentInfo, ...]
    content_hash: str
    replicas: tuple[str, ...]
    leader: str

    @classmethod
    def of(cls, message: collections_pb2.ShardInfo) -> ShardInfo:
        """The shard that the message describes; its content hash in hex."""
        return cls(
            shard=message.shard,
            documents=message.documents,
            applied_index=message.applied_index,
            durable_index=message.durable_index,
            unindexed=message.unindexed,
            disk_bytes=message.disk_bytes,
            segments=tuple(SegmentInfo.of(segment) for segment in message.segments),
            content_hash=message.content_hash.hex(),
            replicas=tuple(message.replicas),
            leader=message.leader,
        )


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a collection is and how it does.

    `index_state` is "indexed" or "indexing"; `unindexed` rows are searched
    exactly meanwhile. Of `bytes_per_document`, those of the index are links,
    lists and codes, those of vectors full vectors. Recalls are at k=10; `measured_recall` is 0 where no
    sample was taken yet. `shards` is empty in a listing.
    """

    config: CollectionConfig
    collection_id: int
    documents: int
    index_state: str
    unindexed: int
    disk_bytes: int
    bytes_per_document: float
    index_bytes_per_document: float
    vector_bytes_per_document: float
    calibrated_recall: float
    measured_recall: float
    model_fingerprint: str
    created_at: datetime | None
    aliases: tuple[str, ...]
    shards: tuple[ShardInfo, ...]

    @classmethod
    def of(cls, message: collections_pb2.CollectionInfo) -> CollectionInfo:
        """The collection that the message describes."""
        return cls(
            config=CollectionConfig.of(message.config),
            collection_id=message.collection_id,
            documents=message.documents,
            index_state=INDEX_STATES.word(message.index_state),
            unindexed=message.unindexed,
            disk_bytes=message.disk_bytes,
            bytes_per_document=message.bytes_per_document,
            index_bytes_per_document=message.index_bytes_per_document,
            vector_bytes_per_document=message.vector_bytes_per_document,
            calibrated_recall=message.calibrated_recall,
            measured_recall=message.measured_recall,
            model_fingerprint=message.model_fingerprint,
            created_at=timestamp(message.created_at_ms),
            aliases=tuple(message.aliases),
            shards=tuple(ShardInfo.of(shard) for shard in message.shards),
        )

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.config.name

    @property
    def model(self) -> str:
        """The embedding model it is paired with; empty for none."""
        return self.config.model

    @property
    def dim(self) -> int:
        """Dimensions of the default vector."""
        return self.config.dim

    @property
    def metric(self) -> str:
        """ "cosine", "dot" or "l2"."""
        return self.config.metric

    @property
    def fields(self) -> Mapping[str, str]:
        """The declared payload fields and their types."""
        return self.config.fields

    @property
    def indexed(self) -> bool:
        """Whether everything that should be in an index is."""
        return self.index_state == "indexed" and self.unindexed == 0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """An embedding model that the node is configured with."""

    name: str
    dim: int
    metric: str
    provider: str
    fingerprint: str
    query_prefix: str
    passage_prefix: str

    @classmethod
    def of(cls, m: models_pb2.ModelInfo) -> ModelInfo:
        """The model that the message describes."""
        return cls(
            m.name, m.dim, METRICS.word(m.metric), m.provider, m.fingerprint, m.query_prefix, m.passage_prefix
        )


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A source of a collection and how many passages it was cut into."""

    uri: str
    title: str
    content_hash: str
    passages: int

    @classmethod
    def of(cls, message: knowledge_pb2.SourceInfo) -> SourceInfo:
        """The source that the message describes."""
        return cls(message.uri, message.title, message.content_hash, message.passages)


@dataclass(frozen=True, slots=True)
class Grant:
    """A role ("read", "write" or "admin") on one collection, or on all of them ("")."""

    role: str
    collection: str = ""

    @classmethod
    def of(cls, message: access_pb2.Grant) -> Grant:
        """The grant that the message describes."""
        return cls(ROLES.word(message.role), message.collection)

    def message(self) -> access_pb2.Grant:
        """The grant as it goes over the wire."""
        return access_pb2.Grant(role=ROLES.number(self.role), collection=self.collection)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who the caller is, and what it may do."""

    name: str
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """An access token, without its secret. Limits are 0 for none."""

    token_id: str
    principal: str
    grants: tuple[Grant, ...]
    created_at: datetime | None
    expires_at: datetime | None
    requests_per_second: int
    concurrent_requests: int

    @classmethod
    def of(cls, message: access_pb2.TokenInfo) -> TokenInfo:
        """The token that the message describes."""
        return cls(
            token_id=message.token_id,
            principal=message.principal,
            grants=tuple(Grant.of(grant) for grant in message.grants),
            created_at=timestamp(message.created_at_ms),
            expires_at=timestamp(message.expires_at_ms),
            requests_per_second=message.requests_per_second,
            concurrent_requests=message.concurrent_requests,
        )


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made: `secret` is shown this once."""

    token: TokenInfo
    secret: str

    def __repr__(self) -> str:
        return f"NewToken(token={self.token!r}, secret=...)"  # a log is no place for it


@dataclass(frozen=True, slots=True)
class QuarantinedAuthor:
    """An author whose documents are left out of every answer, and why."""

    author: str
    reason: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Member:
    """A node admitted to the cluster. `state` is "up", "suspect", "down", "draining" or "removed"."""

    peer_id: str
    address: str
    peer_address: str
    zone: str
    state: str
    version: str
    disk_total_bytes: int
    disk_free_bytes: int
    uptime_seconds: float
    devices: tuple[str, ...]
    shards: int
    detail: str

    @classmethod
    def of(cls, message: cluster_pb2.Member) -> Member:
        """The member that the message describes."""
        return cls(
            peer_id=message.peer_id,
            address=message.address,
            peer_address=message.peer_address,
            zone=message.zone,
            state=MEMBER_STATES.word(message.state),
            version=message.version,
            disk_total_bytes=message.disk_total_bytes,
            disk_free_bytes=message.disk_free_bytes,
            uptime_seconds=message.uptime_seconds,
            devices=tuple(message.devices),
            shards=message.shards,
            detail=message.detail,
        )


@dataclass(frozen=True, slots=True)
class ClusterShard:
    """A shard and the collection it belongs to."""

    collection: str
    info: ShardInfo


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """Members, shards and their health, as the answering node (`node`, a PeerID) sees them."""

    cluster_id: str
    node: str
    members: tuple[Member, ...]
    shards: tuple[ClusterShard, ...]
    catalogue_index: int
    catalogue_leader: str

    @classmethod
    def of(cls, message: cluster_pb2.ClusterStatusResponse) -> ClusterStatus:
        """The status that the message describes."""
        return cls(
            cluster_id=message.cluster_id,
            node=message.node,
            members=tuple(Member.of(member) for member in message.members),
            shards=tuple(ClusterShard(s.collection, ShardInfo.of(s.info)) for s in message.shards),
            catalogue_index=message.catalogue_index,
            catalogue_leader=message.catalogue_leader,
        )


@dataclass(frozen=True, slots=True)
class Invitation:
    """A single-use invitation for a new member, and the multiaddrs to join by."""

    invitation: str
    expires_at: datetime | None
    addresses: tuple[str, ...]
