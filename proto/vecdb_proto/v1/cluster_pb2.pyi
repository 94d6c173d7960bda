from vecdb_proto.v1 import collections_pb2 as _collections_pb2
from vecdb_proto.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MemberState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_STATE_UNSPECIFIED: _ClassVar[MemberState]
    MEMBER_STATE_UP: _ClassVar[MemberState]
    MEMBER_STATE_SUSPECT: _ClassVar[MemberState]
    MEMBER_STATE_DOWN: _ClassVar[MemberState]
    MEMBER_STATE_DRAINING: _ClassVar[MemberState]
    MEMBER_STATE_REMOVED: _ClassVar[MemberState]
MEMBER_STATE_UNSPECIFIED: MemberState
MEMBER_STATE_UP: MemberState
MEMBER_STATE_SUSPECT: MemberState
MEMBER_STATE_DOWN: MemberState
MEMBER_STATE_DRAINING: MemberState
MEMBER_STATE_REMOVED: MemberState

class Member(_message.Message):
    __slots__ = ("peer_id", "address", "peer_address", "zone", "state", "version", "disk_total_bytes", "disk_free_bytes", "uptime_seconds", "devices", "shards", "detail")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DISK_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    address: str
    peer_address: str
    zone: str
    state: MemberState
    version: str
    disk_total_bytes: int
    disk_free_bytes: int
    uptime_seconds: float
    devices: _containers.RepeatedScalarFieldContainer[str]
    shards: int
    detail: str
    def __init__(self, peer_id: _Optional[str] = ..., address: _Optional[str] = ..., peer_address: _Optional[str] = ..., zone: _Optional[str] = ..., state: _Optional[_Union[MemberState, str]] = ..., version: _Optional[str] = ..., disk_total_bytes: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., uptime_seconds: _Optional[float] = ..., devices: _Optional[_Iterable[str]] = ..., shards: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class ClusterShard(_message.Message):
    __slots__ = ("collection", "info")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    collection: str
    info: _collections_pb2.ShardInfo
    def __init__(self, collection: _Optional[str] = ..., info: _Optional[_Union[_collections_pb2.ShardInfo, _Mapping]] = ...) -> None: ...

class ClusterStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ClusterStatusResponse(_message.Message):
    __slots__ = ("cluster_id", "node", "members", "shards", "catalogue_index", "catalogue_leader", "session")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_INDEX_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_LEADER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    node: str
    members: _containers.RepeatedCompositeFieldContainer[Member]
    shards: _containers.RepeatedCompositeFieldContainer[ClusterShard]
    catalogue_index: int
    catalogue_leader: str
    session: _common_pb2.SessionToken
    def __init__(self, cluster_id: _Optional[str] = ..., node: _Optional[str] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., shards: _Optional[_Iterable[_Union[ClusterShard, _Mapping]]] = ..., catalogue_index: _Optional[int] = ..., catalogue_leader: _Optional[str] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ...) -> None: ...

class InviteRequest(_message.Message):
    __slots__ = ("ttl_seconds",)
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ttl_seconds: int
    def __init__(self, ttl_seconds: _Optional[int] = ...) -> None: ...

class InviteResponse(_message.Message):
    __slots__ = ("invitation", "expires_at_ms", "addresses")
    INVITATION_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    invitation: str
    expires_at_ms: int
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, invitation: _Optional[str] = ..., expires_at_ms: _Optional[int] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class DrainMemberRequest(_message.Message):
    __slots__ = ("peer_id",)
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    def __init__(self, peer_id: _Optional[str] = ...) -> None: ...

class DrainMemberResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RemoveMemberRequest(_message.Message):
    __slots__ = ("peer_id",)
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    def __init__(self, peer_id: _Optional[str] = ...) -> None: ...

class RemoveMemberResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MoveReplicaRequest(_message.Message):
    __slots__ = ("shard", "from_peer", "to_peer", "configuration_index")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    FROM_PEER_FIELD_NUMBER: _ClassVar[int]
    TO_PEER_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_INDEX_FIELD_NUMBER: _ClassVar[int]
    shard: int
    from_peer: str
    to_peer: str
    configuration_index: int
    def __init__(self, shard: _Optional[int] = ..., from_peer: _Optional[str] = ..., to_peer: _Optional[str] = ..., configuration_index: _Optional[int] = ...) -> None: ...

class MoveReplicaResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SnapshotFile(_message.Message):
    __slots__ = ("path", "size", "sha256")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    path: str
    size: int
    sha256: bytes
    def __init__(self, path: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ("collections", "have")
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    HAVE_FIELD_NUMBER: _ClassVar[int]
    collections: _containers.RepeatedScalarFieldContainer[str]
    have: _containers.RepeatedCompositeFieldContainer[SnapshotFile]
    def __init__(self, collections: _Optional[_Iterable[str]] = ..., have: _Optional[_Iterable[_Union[SnapshotFile, _Mapping]]] = ...) -> None: ...

class SnapshotResponse(_message.Message):
    __slots__ = ("manifest", "file", "data")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    file: SnapshotFile
    data: bytes
    def __init__(self, manifest: _Optional[bytes] = ..., file: _Optional[_Union[SnapshotFile, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("manifest", "file", "data")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    file: SnapshotFile
    data: bytes
    def __init__(self, manifest: _Optional[bytes] = ..., file: _Optional[_Union[SnapshotFile, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class RestoreResponse(_message.Message):
    __slots__ = ("bytes_done", "bytes_total", "collections", "session")
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    bytes_done: int
    bytes_total: int
    collections: _containers.RepeatedCompositeFieldContainer[_collections_pb2.CollectionInfo]
    session: _common_pb2.SessionToken
    def __init__(self, bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., collections: _Optional[_Iterable[_Union[_collections_pb2.CollectionInfo, _Mapping]]] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ...) -> None: ...
