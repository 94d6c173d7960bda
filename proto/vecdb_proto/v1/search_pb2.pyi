from google.rpc import status_pb2 as _status_pb2
from vecdb_proto.v1 import common_pb2 as _common_pb2
from vecdb_proto.v1 import filter_pb2 as _filter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH_MODE_UNSPECIFIED: _ClassVar[SearchMode]
    SEARCH_MODE_VECTOR: _ClassVar[SearchMode]
    SEARCH_MODE_BM25: _ClassVar[SearchMode]
    SEARCH_MODE_HYBRID: _ClassVar[SearchMode]
    SEARCH_MODE_SPARSE: _ClassVar[SearchMode]
SEARCH_MODE_UNSPECIFIED: SearchMode
SEARCH_MODE_VECTOR: SearchMode
SEARCH_MODE_BM25: SearchMode
SEARCH_MODE_HYBRID: SearchMode
SEARCH_MODE_SPARSE: SearchMode

class Examples(_message.Message):
    __slots__ = ("positive", "negative")
    POSITIVE_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    positive: _containers.RepeatedScalarFieldContainer[str]
    negative: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, positive: _Optional[_Iterable[str]] = ..., negative: _Optional[_Iterable[str]] = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("vector", "text", "examples", "sparse")
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    SPARSE_FIELD_NUMBER: _ClassVar[int]
    vector: bytes
    text: str
    examples: Examples
    sparse: _common_pb2.SparseVector
    def __init__(self, vector: _Optional[bytes] = ..., text: _Optional[str] = ..., examples: _Optional[_Union[Examples, _Mapping]] = ..., sparse: _Optional[_Union[_common_pb2.SparseVector, _Mapping]] = ...) -> None: ...

class GroupBy(_message.Message):
    __slots__ = ("field", "size")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    field: str
    size: int
    def __init__(self, field: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class Diversity(_message.Message):
    __slots__ = ("candidates",)
    LAMBDA_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    candidates: int
    def __init__(self, candidates: _Optional[int] = ..., **kwargs) -> None: ...

class HybridWeights(_message.Message):
    __slots__ = ("vector", "text", "rank_constant")
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RANK_CONSTANT_FIELD_NUMBER: _ClassVar[int]
    vector: float
    text: float
    rank_constant: int
    def __init__(self, vector: _Optional[float] = ..., text: _Optional[float] = ..., rank_constant: _Optional[int] = ...) -> None: ...

class SearchOptions(_message.Message):
    __slots__ = ("k", "offset", "mode", "vector_name", "filter", "projection", "recall", "ef", "exact", "score_threshold", "group_by", "diversity", "hybrid", "explain")
    K_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_NAME_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PROJECTION_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    EF_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    HYBRID_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    k: int
    offset: int
    mode: SearchMode
    vector_name: str
    filter: _filter_pb2.Filter
    projection: _common_pb2.Projection
    recall: float
    ef: int
    exact: bool
    score_threshold: float
    group_by: GroupBy
    diversity: Diversity
    hybrid: HybridWeights
    explain: bool
    def __init__(self, k: _Optional[int] = ..., offset: _Optional[int] = ..., mode: _Optional[_Union[SearchMode, str]] = ..., vector_name: _Optional[str] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., projection: _Optional[_Union[_common_pb2.Projection, _Mapping]] = ..., recall: _Optional[float] = ..., ef: _Optional[int] = ..., exact: _Optional[bool] = ..., score_threshold: _Optional[float] = ..., group_by: _Optional[_Union[GroupBy, _Mapping]] = ..., diversity: _Optional[_Union[Diversity, _Mapping]] = ..., hybrid: _Optional[_Union[HybridWeights, _Mapping]] = ..., explain: _Optional[bool] = ...) -> None: ...

class SearchRequest(_message.Message):
    __slots__ = ("collection", "query", "options", "read")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    collection: str
    query: Query
    options: SearchOptions
    read: _common_pb2.ReadOptions
    def __init__(self, collection: _Optional[str] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., options: _Optional[_Union[SearchOptions, _Mapping]] = ..., read: _Optional[_Union[_common_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("score", "document", "group")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    score: float
    document: _common_pb2.Document
    group: str
    def __init__(self, score: _Optional[float] = ..., document: _Optional[_Union[_common_pb2.Document, _Mapping]] = ..., group: _Optional[str] = ...) -> None: ...

class ExplainStep(_message.Message):
    __slots__ = ("name", "microseconds", "details")
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    MICROSECONDS_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    name: str
    microseconds: int
    details: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., microseconds: _Optional[int] = ..., details: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Explain(_message.Message):
    __slots__ = ("steps",)
    STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[ExplainStep]
    def __init__(self, steps: _Optional[_Iterable[_Union[ExplainStep, _Mapping]]] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("hits", "partial", "missing_shards", "session", "explain")
    HITS_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    MISSING_SHARDS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    partial: bool
    missing_shards: _containers.RepeatedScalarFieldContainer[int]
    session: _common_pb2.SessionToken
    explain: Explain
    def __init__(self, hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ..., partial: _Optional[bool] = ..., missing_shards: _Optional[_Iterable[int]] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ..., explain: _Optional[_Union[Explain, _Mapping]] = ...) -> None: ...

class SearchBatchRequest(_message.Message):
    __slots__ = ("collection", "vectors", "texts", "options", "read")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    collection: str
    vectors: bytes
    texts: _containers.RepeatedScalarFieldContainer[str]
    options: SearchOptions
    read: _common_pb2.ReadOptions
    def __init__(self, collection: _Optional[str] = ..., vectors: _Optional[bytes] = ..., texts: _Optional[_Iterable[str]] = ..., options: _Optional[_Union[SearchOptions, _Mapping]] = ..., read: _Optional[_Union[_common_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class SearchBatchResponse(_message.Message):
    __slots__ = ("counts", "ids", "scores", "versions", "author_names", "authors", "payloads", "texts", "vectors", "partial", "missing_shards", "session", "explain")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_NAMES_FIELD_NUMBER: _ClassVar[int]
    AUTHORS_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    MISSING_SHARDS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    scores: bytes
    versions: _containers.RepeatedScalarFieldContainer[int]
    author_names: _containers.RepeatedScalarFieldContainer[str]
    authors: _containers.RepeatedScalarFieldContainer[int]
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    texts: _containers.RepeatedScalarFieldContainer[str]
    vectors: bytes
    partial: bool
    missing_shards: _containers.RepeatedScalarFieldContainer[int]
    session: _common_pb2.SessionToken
    explain: Explain
    def __init__(self, counts: _Optional[_Iterable[int]] = ..., ids: _Optional[_Iterable[str]] = ..., scores: _Optional[bytes] = ..., versions: _Optional[_Iterable[int]] = ..., author_names: _Optional[_Iterable[str]] = ..., authors: _Optional[_Iterable[int]] = ..., payloads: _Optional[_Iterable[bytes]] = ..., texts: _Optional[_Iterable[str]] = ..., vectors: _Optional[bytes] = ..., partial: _Optional[bool] = ..., missing_shards: _Optional[_Iterable[int]] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ..., explain: _Optional[_Union[Explain, _Mapping]] = ...) -> None: ...

class SearchStreamRequest(_message.Message):
    __slots__ = ("tag", "request")
    TAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    tag: int
    request: SearchRequest
    def __init__(self, tag: _Optional[int] = ..., request: _Optional[_Union[SearchRequest, _Mapping]] = ...) -> None: ...

class SearchStreamResponse(_message.Message):
    __slots__ = ("tag", "response", "error")
    TAG_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    tag: int
    response: SearchResponse
    error: _status_pb2.Status
    def __init__(self, tag: _Optional[int] = ..., response: _Optional[_Union[SearchResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...
