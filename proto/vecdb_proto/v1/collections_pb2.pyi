from vecdb_proto.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IndexKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INDEX_KIND_UNSPECIFIED: _ClassVar[IndexKind]
    INDEX_KIND_FLAT: _ClassVar[IndexKind]
    INDEX_KIND_HNSW: _ClassVar[IndexKind]
    INDEX_KIND_IVF: _ClassVar[IndexKind]

class Storage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STORAGE_UNSPECIFIED: _ClassVar[Storage]
    STORAGE_F32: _ClassVar[Storage]
    STORAGE_F16: _ClassVar[Storage]
    STORAGE_SQ8: _ClassVar[Storage]
    STORAGE_RABITQ: _ClassVar[Storage]

class FieldType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FIELD_TYPE_UNSPECIFIED: _ClassVar[FieldType]
    FIELD_TYPE_KEYWORD: _ClassVar[FieldType]
    FIELD_TYPE_INT: _ClassVar[FieldType]
    FIELD_TYPE_FLOAT: _ClassVar[FieldType]
    FIELD_TYPE_BOOL: _ClassVar[FieldType]
    FIELD_TYPE_DATETIME: _ClassVar[FieldType]
    FIELD_TYPE_GEO: _ClassVar[FieldType]
    FIELD_TYPE_TEXT: _ClassVar[FieldType]

class IndexState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INDEX_STATE_UNSPECIFIED: _ClassVar[IndexState]
    INDEX_STATE_INDEXED: _ClassVar[IndexState]
    INDEX_STATE_INDEXING: _ClassVar[IndexState]
INDEX_KIND_UNSPECIFIED: IndexKind
INDEX_KIND_FLAT: IndexKind
INDEX_KIND_HNSW: IndexKind
INDEX_KIND_IVF: IndexKind
STORAGE_UNSPECIFIED: Storage
STORAGE_F32: Storage
STORAGE_F16: Storage
STORAGE_SQ8: Storage
STORAGE_RABITQ: Storage
FIELD_TYPE_UNSPECIFIED: FieldType
FIELD_TYPE_KEYWORD: FieldType
FIELD_TYPE_INT: FieldType
FIELD_TYPE_FLOAT: FieldType
FIELD_TYPE_BOOL: FieldType
FIELD_TYPE_DATETIME: FieldType
FIELD_TYPE_GEO: FieldType
FIELD_TYPE_TEXT: FieldType
INDEX_STATE_UNSPECIFIED: IndexState
INDEX_STATE_INDEXED: IndexState
INDEX_STATE_INDEXING: IndexState

class Field(_message.Message):
    __slots__ = ("name", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: FieldType
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[FieldType, str]] = ...) -> None: ...

class NamedVectorConfig(_message.Message):
    __slots__ = ("name", "dim", "metric", "index", "storage")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dim: int
    metric: _common_pb2.Metric
    index: IndexKind
    storage: Storage
    def __init__(self, name: _Optional[str] = ..., dim: _Optional[int] = ..., metric: _Optional[_Union[_common_pb2.Metric, str]] = ..., index: _Optional[_Union[IndexKind, str]] = ..., storage: _Optional[_Union[Storage, str]] = ...) -> None: ...

class SparseVectorConfig(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class CollectionConfig(_message.Message):
    __slots__ = ("name", "model", "dim", "metric", "index", "storage", "target_recall", "shards", "replicas", "fields", "vectors", "sparse_vectors", "language")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_RECALL_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    SPARSE_VECTORS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    dim: int
    metric: _common_pb2.Metric
    index: IndexKind
    storage: Storage
    target_recall: float
    shards: int
    replicas: int
    fields: _containers.RepeatedCompositeFieldContainer[Field]
    vectors: _containers.RepeatedCompositeFieldContainer[NamedVectorConfig]
    sparse_vectors: _containers.RepeatedCompositeFieldContainer[SparseVectorConfig]
    language: str
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., dim: _Optional[int] = ..., metric: _Optional[_Union[_common_pb2.Metric, str]] = ..., index: _Optional[_Union[IndexKind, str]] = ..., storage: _Optional[_Union[Storage, str]] = ..., target_recall: _Optional[float] = ..., shards: _Optional[int] = ..., replicas: _Optional[int] = ..., fields: _Optional[_Iterable[_Union[Field, _Mapping]]] = ..., vectors: _Optional[_Iterable[_Union[NamedVectorConfig, _Mapping]]] = ..., sparse_vectors: _Optional[_Iterable[_Union[SparseVectorConfig, _Mapping]]] = ..., language: _Optional[str] = ...) -> None: ...

class SegmentInfo(_message.Message):
    __slots__ = ("state", "index", "rows", "tombstones", "bytes", "effort", "recall", "storage", "reranked", "index_bytes", "vector_bytes")
    STATE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    EFFORT_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    RERANKED_FIELD_NUMBER: _ClassVar[int]
    INDEX_BYTES_FIELD_NUMBER: _ClassVar[int]
    VECTOR_BYTES_FIELD_NUMBER: _ClassVar[int]
    state: str
    index: str
    rows: int
    tombstones: int
    bytes: int
    effort: int
    recall: float
    storage: Storage
    reranked: int
    index_bytes: int
    vector_bytes: int
    def __init__(self, state: _Optional[str] = ..., index: _Optional[str] = ..., rows: _Optional[int] = ..., tombstones: _Optional[int] = ..., bytes: _Optional[int] = ..., effort: _Optional[int] = ..., recall: _Optional[float] = ..., storage: _Optional[_Union[Storage, str]] = ..., reranked: _Optional[int] = ..., index_bytes: _Optional[int] = ..., vector_bytes: _Optional[int] = ...) -> None: ...

class ShardInfo(_message.Message):
    __slots__ = ("shard", "documents", "applied_index", "durable_index", "unindexed", "disk_bytes", "segments", "content_hash", "replicas", "leader")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    DURABLE_INDEX_FIELD_NUMBER: _ClassVar[int]
    UNINDEXED_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    shard: int
    documents: int
    applied_index: int
    durable_index: int
    unindexed: int
    disk_bytes: int
    segments: _containers.RepeatedCompositeFieldContainer[SegmentInfo]
    content_hash: bytes
    replicas: _containers.RepeatedScalarFieldContainer[str]
    leader: str
    def __init__(self, shard: _Optional[int] = ..., documents: _Optional[int] = ..., applied_index: _Optional[int] = ..., durable_index: _Optional[int] = ..., unindexed: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., segments: _Optional[_Iterable[_Union[SegmentInfo, _Mapping]]] = ..., content_hash: _Optional[bytes] = ..., replicas: _Optional[_Iterable[str]] = ..., leader: _Optional[str] = ...) -> None: ...

class CollectionInfo(_message.Message):
    __slots__ = ("config", "collection_id", "documents", "index_state", "unindexed", "disk_bytes", "calibrated_recall", "measured_recall", "model_fingerprint", "created_at_ms", "aliases", "shards", "bytes_per_document", "index_bytes_per_document", "vector_bytes_per_document")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_ID_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    INDEX_STATE_FIELD_NUMBER: _ClassVar[int]
    UNINDEXED_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_RECALL_FIELD_NUMBER: _ClassVar[int]
    MEASURED_RECALL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    INDEX_BYTES_PER_DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_BYTES_PER_DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    config: CollectionConfig
    collection_id: int
    documents: int
    index_state: IndexState
    unindexed: int
    disk_bytes: int
    calibrated_recall: float
    measured_recall: float
    model_fingerprint: str
    created_at_ms: int
    aliases: _containers.RepeatedScalarFieldContainer[str]
    shards: _containers.RepeatedCompositeFieldContainer[ShardInfo]
    bytes_per_document: float
    index_bytes_per_document: float
    vector_bytes_per_document: float
    def __init__(self, config: _Optional[_Union[CollectionConfig, _Mapping]] = ..., collection_id: _Optional[int] = ..., documents: _Optional[int] = ..., index_state: _Optional[_Union[IndexState, str]] = ..., unindexed: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., calibrated_recall: _Optional[float] = ..., measured_recall: _Optional[float] = ..., model_fingerprint: _Optional[str] = ..., created_at_ms: _Optional[int] = ..., aliases: _Optional[_Iterable[str]] = ..., shards: _Optional[_Iterable[_Union[ShardInfo, _Mapping]]] = ..., bytes_per_document: _Optional[float] = ..., index_bytes_per_document: _Optional[float] = ..., vector_bytes_per_document: _Optional[float] = ...) -> None: ...

class CreateCollectionRequest(_message.Message):
    __slots__ = ("config", "if_not_exists", "options")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    IF_NOT_EXISTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    config: CollectionConfig
    if_not_exists: bool
    options: _common_pb2.WriteOptions
    def __init__(self, config: _Optional[_Union[CollectionConfig, _Mapping]] = ..., if_not_exists: _Optional[bool] = ..., options: _Optional[_Union[_common_pb2.WriteOptions, _Mapping]] = ...) -> None: ...

class CreateCollectionResponse(_message.Message):
    __slots__ = ("collection", "session")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    collection: CollectionInfo
    session: _common_pb2.SessionToken
    def __init__(self, collection: _Optional[_Union[CollectionInfo, _Mapping]] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ...) -> None: ...

class DescribeCollectionRequest(_message.Message):
    __slots__ = ("collection", "read")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    collection: str
    read: _common_pb2.ReadOptions
    def __init__(self, collection: _Optional[str] = ..., read: _Optional[_Union[_common_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class DescribeCollectionResponse(_message.Message):
    __slots__ = ("collection", "session")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    collection: CollectionInfo
    session: _common_pb2.SessionToken
    def __init__(self, collection: _Optional[_Union[CollectionInfo, _Mapping]] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ...) -> None: ...

class ListCollectionsRequest(_message.Message):
    __slots__ = ("read",)
    READ_FIELD_NUMBER: _ClassVar[int]
    read: _common_pb2.ReadOptions
    def __init__(self, read: _Optional[_Union[_common_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class ListCollectionsResponse(_message.Message):
    __slots__ = ("collections", "session")
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    collections: _containers.RepeatedCompositeFieldContainer[CollectionInfo]
    session: _common_pb2.SessionToken
    def __init__(self, collections: _Optional[_Iterable[_Union[CollectionInfo, _Mapping]]] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ...) -> None: ...

class AlterCollectionRequest(_message.Message):
    __slots__ = ("collection", "add_fields", "drop_fields", "target_recall", "model", "options")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELDS_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELDS_FIELD_NUMBER: _ClassVar[int]
    TARGET_RECALL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    add_fields: _containers.RepeatedCompositeFieldContainer[Field]
    drop_fields: _containers.RepeatedScalarFieldContainer[str]
    target_recall: float
    model: str
    options: _common_pb2.WriteOptions
    def __init__(self, collection: _Optional[str] = ..., add_fields: _Optional[_Iterable[_Union[Field, _Mapping]]] = ..., drop_fields: _Optional[_Iterable[str]] = ..., target_recall: _Optional[float] = ..., model: _Optional[str] = ..., options: _Optional[_Union[_common_pb2.WriteOptions, _Mapping]] = ...) -> None: ...

class AlterCollectionResponse(_message.Message):
    __slots__ = ("collection", "session")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    collection: CollectionInfo
    session: _common_pb2.SessionToken
    def __init__(self, collection: _Optional[_Union[CollectionInfo, _Mapping]] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ...) -> None: ...

class AliasChange(_message.Message):
    __slots__ = ("alias", "collection")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    alias: str
    collection: str
    def __init__(self, alias: _Optional[str] = ..., collection: _Optional[str] = ...) -> None: ...

class UpdateAliasesRequest(_message.Message):
    __slots__ = ("changes", "options")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[AliasChange]
    options: _common_pb2.WriteOptions
    def __init__(self, changes: _Optional[_Iterable[_Union[AliasChange, _Mapping]]] = ..., options: _Optional[_Union[_common_pb2.WriteOptions, _Mapping]] = ...) -> None: ...

class UpdateAliasesResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: _common_pb2.SessionToken
    def __init__(self, session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ...) -> None: ...

class DropCollectionRequest(_message.Message):
    __slots__ = ("collection", "options")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    options: _common_pb2.WriteOptions
    def __init__(self, collection: _Optional[str] = ..., options: _Optional[_Union[_common_pb2.WriteOptions, _Mapping]] = ...) -> None: ...

class DropCollectionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: _common_pb2.SessionToken
    def __init__(self, session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ...) -> None: ...
