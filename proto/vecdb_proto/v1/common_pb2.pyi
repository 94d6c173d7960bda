from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Metric(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METRIC_UNSPECIFIED: _ClassVar[Metric]
    METRIC_COSINE: _ClassVar[Metric]
    METRIC_DOT: _ClassVar[Metric]
    METRIC_L2: _ClassVar[Metric]

class Consistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSISTENCY_UNSPECIFIED: _ClassVar[Consistency]
    CONSISTENCY_EVENTUAL: _ClassVar[Consistency]
    CONSISTENCY_SESSION: _ClassVar[Consistency]
    CONSISTENCY_LINEARIZABLE: _ClassVar[Consistency]
METRIC_UNSPECIFIED: Metric
METRIC_COSINE: Metric
METRIC_DOT: Metric
METRIC_L2: Metric
CONSISTENCY_UNSPECIFIED: Consistency
CONSISTENCY_EVENTUAL: Consistency
CONSISTENCY_SESSION: Consistency
CONSISTENCY_LINEARIZABLE: Consistency

class ShardPosition(_message.Message):
    __slots__ = ("shard", "index")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    shard: int
    index: int
    def __init__(self, shard: _Optional[int] = ..., index: _Optional[int] = ...) -> None: ...

class SessionToken(_message.Message):
    __slots__ = ("epoch", "catalogue", "positions")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    catalogue: int
    positions: _containers.RepeatedCompositeFieldContainer[ShardPosition]
    def __init__(self, epoch: _Optional[int] = ..., catalogue: _Optional[int] = ..., positions: _Optional[_Iterable[_Union[ShardPosition, _Mapping]]] = ...) -> None: ...

class ReadOptions(_message.Message):
    __slots__ = ("consistency", "session", "require_all")
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_ALL_FIELD_NUMBER: _ClassVar[int]
    consistency: Consistency
    session: SessionToken
    require_all: bool
    def __init__(self, consistency: _Optional[_Union[Consistency, str]] = ..., session: _Optional[_Union[SessionToken, _Mapping]] = ..., require_all: _Optional[bool] = ...) -> None: ...

class WriteOptions(_message.Message):
    __slots__ = ("session_id", "sequence")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    sequence: int
    def __init__(self, session_id: _Optional[bytes] = ..., sequence: _Optional[int] = ...) -> None: ...

class WriteFailure(_message.Message):
    __slots__ = ("position", "code", "message", "reason")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    position: int
    code: int
    message: str
    reason: str
    def __init__(self, position: _Optional[int] = ..., code: _Optional[int] = ..., message: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SparseVector(_message.Message):
    __slots__ = ("indices", "values")
    INDICES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    indices: bytes
    values: bytes
    def __init__(self, indices: _Optional[bytes] = ..., values: _Optional[bytes] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("uri", "title", "start", "end", "ordinal", "section", "page", "content_hash", "count")
    URI_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    SECTION_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    uri: str
    title: str
    start: int
    end: int
    ordinal: int
    section: str
    page: int
    content_hash: str
    count: int
    def __init__(self, uri: _Optional[str] = ..., title: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., ordinal: _Optional[int] = ..., section: _Optional[str] = ..., page: _Optional[int] = ..., content_hash: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class Document(_message.Message):
    __slots__ = ("id", "vector", "vectors", "sparse_vectors", "text", "payload", "version", "author", "written_at_ms", "source")
    class VectorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    class SparseVectorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: SparseVector
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[SparseVector, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    SPARSE_VECTORS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_AT_MS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    vector: bytes
    vectors: _containers.ScalarMap[str, bytes]
    sparse_vectors: _containers.MessageMap[str, SparseVector]
    text: str
    payload: bytes
    version: int
    author: str
    written_at_ms: int
    source: Source
    def __init__(self, id: _Optional[str] = ..., vector: _Optional[bytes] = ..., vectors: _Optional[_Mapping[str, bytes]] = ..., sparse_vectors: _Optional[_Mapping[str, SparseVector]] = ..., text: _Optional[str] = ..., payload: _Optional[bytes] = ..., version: _Optional[int] = ..., author: _Optional[str] = ..., written_at_ms: _Optional[int] = ..., source: _Optional[_Union[Source, _Mapping]] = ...) -> None: ...

class Projection(_message.Message):
    __slots__ = ("payload", "text", "vector", "payload_fields", "vector_names")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELDS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_NAMES_FIELD_NUMBER: _ClassVar[int]
    payload: bool
    text: bool
    vector: bool
    payload_fields: _containers.RepeatedScalarFieldContainer[str]
    vector_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, payload: _Optional[bool] = ..., text: _Optional[bool] = ..., vector: _Optional[bool] = ..., payload_fields: _Optional[_Iterable[str]] = ..., vector_names: _Optional[_Iterable[str]] = ...) -> None: ...
