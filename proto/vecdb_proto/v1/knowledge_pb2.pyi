from vecdb_proto.v1 import common_pb2 as _common_pb2
from vecdb_proto.v1 import filter_pb2 as _filter_pb2
from vecdb_proto.v1 import search_pb2 as _search_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IngestOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INGEST_OUTCOME_UNSPECIFIED: _ClassVar[IngestOutcome]
    INGEST_OUTCOME_ADDED: _ClassVar[IngestOutcome]
    INGEST_OUTCOME_UPDATED: _ClassVar[IngestOutcome]
    INGEST_OUTCOME_UNCHANGED: _ClassVar[IngestOutcome]
    INGEST_OUTCOME_FAILED: _ClassVar[IngestOutcome]
INGEST_OUTCOME_UNSPECIFIED: IngestOutcome
INGEST_OUTCOME_ADDED: IngestOutcome
INGEST_OUTCOME_UPDATED: IngestOutcome
INGEST_OUTCOME_UNCHANGED: IngestOutcome
INGEST_OUTCOME_FAILED: IngestOutcome

class ChunkOptions(_message.Message):
    __slots__ = ("target_tokens", "max_tokens", "overlap_sentences")
    TARGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_SENTENCES_FIELD_NUMBER: _ClassVar[int]
    target_tokens: int
    max_tokens: int
    overlap_sentences: int
    def __init__(self, target_tokens: _Optional[int] = ..., max_tokens: _Optional[int] = ..., overlap_sentences: _Optional[int] = ...) -> None: ...

class IngestHeader(_message.Message):
    __slots__ = ("collection", "chunking", "payload")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    CHUNKING_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    collection: str
    chunking: ChunkOptions
    payload: bytes
    def __init__(self, collection: _Optional[str] = ..., chunking: _Optional[_Union[ChunkOptions, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class SourceHeader(_message.Message):
    __slots__ = ("uri", "format", "size")
    URI_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    uri: str
    format: str
    size: int
    def __init__(self, uri: _Optional[str] = ..., format: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class IngestRequest(_message.Message):
    __slots__ = ("header", "source", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: IngestHeader
    source: SourceHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[IngestHeader, _Mapping]] = ..., source: _Optional[_Union[SourceHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class IngestResponse(_message.Message):
    __slots__ = ("uri", "outcome", "passages", "deleted", "code", "message", "session", "sources", "unchanged")
    URI_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    uri: str
    outcome: IngestOutcome
    passages: int
    deleted: int
    code: int
    message: str
    session: _common_pb2.SessionToken
    sources: int
    unchanged: int
    def __init__(self, uri: _Optional[str] = ..., outcome: _Optional[_Union[IngestOutcome, str]] = ..., passages: _Optional[int] = ..., deleted: _Optional[int] = ..., code: _Optional[int] = ..., message: _Optional[str] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ..., sources: _Optional[int] = ..., unchanged: _Optional[int] = ...) -> None: ...

class SourceInfo(_message.Message):
    __slots__ = ("uri", "title", "content_hash", "passages")
    URI_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    uri: str
    title: str
    content_hash: str
    passages: int
    def __init__(self, uri: _Optional[str] = ..., title: _Optional[str] = ..., content_hash: _Optional[str] = ..., passages: _Optional[int] = ...) -> None: ...

class ListSourcesRequest(_message.Message):
    __slots__ = ("collection", "prefix", "limit", "cursor", "read")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    collection: str
    prefix: str
    limit: int
    cursor: bytes
    read: _common_pb2.ReadOptions
    def __init__(self, collection: _Optional[str] = ..., prefix: _Optional[str] = ..., limit: _Optional[int] = ..., cursor: _Optional[bytes] = ..., read: _Optional[_Union[_common_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class ListSourcesResponse(_message.Message):
    __slots__ = ("sources", "next_cursor", "session")
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedCompositeFieldContainer[SourceInfo]
    next_cursor: bytes
    session: _common_pb2.SessionToken
    def __init__(self, sources: _Optional[_Iterable[_Union[SourceInfo, _Mapping]]] = ..., next_cursor: _Optional[bytes] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ...) -> None: ...

class DeleteSourcesRequest(_message.Message):
    __slots__ = ("collection", "uris", "options")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    URIS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    uris: _containers.RepeatedScalarFieldContainer[str]
    options: _common_pb2.WriteOptions
    def __init__(self, collection: _Optional[str] = ..., uris: _Optional[_Iterable[str]] = ..., options: _Optional[_Union[_common_pb2.WriteOptions, _Mapping]] = ...) -> None: ...

class DeleteSourcesResponse(_message.Message):
    __slots__ = ("count", "session")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    count: int
    session: _common_pb2.SessionToken
    def __init__(self, count: _Optional[int] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ...) -> None: ...

class RetrieveRequest(_message.Message):
    __slots__ = ("collection", "question", "token_budget", "candidates", "mode", "filter", "score_threshold", "read")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_BUDGET_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    collection: str
    question: str
    token_budget: int
    candidates: int
    mode: _search_pb2.SearchMode
    filter: _filter_pb2.Filter
    score_threshold: float
    read: _common_pb2.ReadOptions
    def __init__(self, collection: _Optional[str] = ..., question: _Optional[str] = ..., token_budget: _Optional[int] = ..., candidates: _Optional[int] = ..., mode: _Optional[_Union[_search_pb2.SearchMode, str]] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., score_threshold: _Optional[float] = ..., read: _Optional[_Union[_common_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class Citation(_message.Message):
    __slots__ = ("number", "ids", "source", "score", "author", "version", "text")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    number: int
    ids: _containers.RepeatedScalarFieldContainer[str]
    source: _common_pb2.Source
    score: float
    author: str
    version: int
    text: str
    def __init__(self, number: _Optional[int] = ..., ids: _Optional[_Iterable[str]] = ..., source: _Optional[_Union[_common_pb2.Source, _Mapping]] = ..., score: _Optional[float] = ..., author: _Optional[str] = ..., version: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class RetrieveResponse(_message.Message):
    __slots__ = ("text", "citations", "tokens", "partial", "missing_shards", "session")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    MISSING_SHARDS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    text: str
    citations: _containers.RepeatedCompositeFieldContainer[Citation]
    tokens: int
    partial: bool
    missing_shards: _containers.RepeatedScalarFieldContainer[int]
    session: _common_pb2.SessionToken
    def __init__(self, text: _Optional[str] = ..., citations: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ..., tokens: _Optional[int] = ..., partial: _Optional[bool] = ..., missing_shards: _Optional[_Iterable[int]] = ..., session: _Optional[_Union[_common_pb2.SessionToken, _Mapping]] = ...) -> None: ...
