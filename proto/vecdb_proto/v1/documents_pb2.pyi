from vecdb_proto.v1 import common_pb2 as _common_pb2
from vecdb_proto.v1 import filter_pb2 as _filter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VectorColumn(_message.Message):
    __slots__ = ("name", "positions", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    positions: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, name: _Optional[str] = ..., positions: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class SparseVectorColumn(_message.Message):
    __slots__ = ("name", "positions", "vectors")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    name: str
    positions: _containers.RepeatedScalarFieldContainer[int]
    vectors: _containers.RepeatedCompositeFieldContainer[_common_pb2.SparseVector]
    def __init__(self, name: _Optional[str] = ..., positions: _Optional[_Iterable[int]] = ..., vectors: _Optional[_Iterable[_Union[_common_pb2.SparseVector, _Mapping]]] = ...) -> None: ...

class UpsertRequest(_message.Message):
    __slots__ = ("collection", "ids", "vectors", "texts", "payloads", "if_versions", "named_vectors", "sparse_vectors", "options")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    IF_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NAMED_VECTORS_FIELD_NUMBER: _ClassVar[int]
    SPARSE_VECTORS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    vectors: bytes
    texts: _containers.RepeatedScalarFieldContainer[str]
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    if_versions: _containers.RepeatedScalarFieldContainer[int]
    named_vectors: _containers.RepeatedCompositeFieldContainer[VectorColumn]
    sparse_vectors: _containers.RepeatedCompositeFieldContainer[SparseVectorColumn]
    options: _common_pb2.WriteOptions
    def __init__(self, collection: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., vectors: _Optional[bytes] = ..., texts: _Optional[_Iterable[str]] = ..., payloads: _Optional[_Iterable[bytes]] = ..., if_versions: _Optional[_Iterable[int]] = ..., named_vectors: _Optional[_Iterable[_Union[VectorColumn, _Mapping]]] = ..., sparse_vectors: _Optional[_Iterable[_Union[SparseVectorColumn, _Mapping]]] = ..., options: _Optional[_Union[_common_pb2.WriteOptions, _Mapping]] = ...) -> None: ...

class UpdateRequest(_message.Message):
    __slots__ = ("collection", "ids", "filter", "payload", "remove_keys", "replace", "if_versions", "options")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    REMOVE_KEYS_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    IF_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    filter: _filter_pb2.Filter
    payload: bytes
    remove_keys: _containers.RepeatedScalarFieldContainer[str]
    replace: bool
    if_versions: _containers.RepeatedScalarFieldContainer[int]
    options: _common_pb2.WriteOptions
    def __init__(self, collection: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., payload: _Optional[bytes] = ..., remove_keys: _Optional[_Iterable[str]] = ..., replace: _Optional[bool] = ..., if_versions: _Optional[_Iterable[int]] = ..., options: _Optional[_Union[_common_pb2.WriteOptions, _Mapping]] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("collection", "ids", "filter", "source", "if_versions", "options")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    IF_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    filter: _filter_pb2.Filter
    source: str
    if_versions: _containers.RepeatedScalarFieldContainer[int]
    options: _common_pb2.WriteOptions
    def __init__(self, collection: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., source: _Optional[str] = ..., if_versions: _Optional[_Iterable[int]] = ..., options: _Optional[_Union[_common_pb2.WriteOptions, _Mapping]] = ...) -> None: ...

class WriteResponse(_message.Message):
    __slots__ = ("count", "session", "positions", "failures")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    count: int
    session: _common_pb2.SessionToken
    positions: _containers.RepeatedCompositeFieldContainer[_common_pb2.ShardPosition]
    failures: _containers.RepeatedCompositeFieldContainer[_common_pb2.WriteFailure]
    def __init__(self, count: _Optional[int] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ..., positions: _Optional[_Iterable[_Union[_common_pb2.ShardPosition, _Mapping]]] = ..., failures: _Optional[_Iterable[_Union[_common_pb2.WriteFailure, _Mapping]]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("collection", "ids", "projection", "read")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    PROJECTION_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    collection: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    projection: _common_pb2.Projection
    read: _common_pb2.ReadOptions
    def __init__(self, collection: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., projection: _Optional[_Union[_common_pb2.Projection, _Mapping]] = ..., read: _Optional[_Union[_common_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("documents", "session")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedCompositeFieldContainer[_common_pb2.Document]
    session: _common_pb2.SessionToken
    def __init__(self, documents: _Optional[_Iterable[_Union[_common_pb2.Document, _Mapping]]] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ...) -> None: ...

class ScrollRequest(_message.Message):
    __slots__ = ("collection", "filter", "limit", "cursor", "projection", "read")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    PROJECTION_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: _filter_pb2.Filter
    limit: int
    cursor: bytes
    projection: _common_pb2.Projection
    read: _common_pb2.ReadOptions
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., limit: _Optional[int] = ..., cursor: _Optional[bytes] = ..., projection: _Optional[_Union[_common_pb2.Projection, _Mapping]] = ..., read: _Optional[_Union[_common_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class ScrollResponse(_message.Message):
    __slots__ = ("documents", "next_cursor", "session", "partial", "missing_shards")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    MISSING_SHARDS_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedCompositeFieldContainer[_common_pb2.Document]
    next_cursor: bytes
    session: _common_pb2.SessionToken
    partial: bool
    missing_shards: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, documents: _Optional[_Iterable[_Union[_common_pb2.Document, _Mapping]]] = ..., next_cursor: _Optional[bytes] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ..., partial: _Optional[bool] = ..., missing_shards: _Optional[_Iterable[int]] = ...) -> None: ...

class CountRequest(_message.Message):
    __slots__ = ("collection", "filter", "read")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: _filter_pb2.Filter
    read: _common_pb2.ReadOptions
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., read: _Optional[_Union[_common_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class CountResponse(_message.Message):
    __slots__ = ("count", "session", "partial", "missing_shards")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    MISSING_SHARDS_FIELD_NUMBER: _ClassVar[int]
    count: int
    session: _common_pb2.SessionToken
    partial: bool
    missing_shards: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, count: _Optional[int] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ..., partial: _Optional[bool] = ..., missing_shards: _Optional[_Iterable[int]] = ...) -> None: ...
