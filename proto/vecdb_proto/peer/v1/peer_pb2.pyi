from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hello(_message.Message):
    __slots__ = ("version", "cluster", "peer")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    version: int
    cluster: str
    peer: str
    def __init__(self, version: _Optional[int] = ..., cluster: _Optional[str] = ..., peer: _Optional[str] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("hello", "group", "type", "to", "term", "log_term", "index", "commit", "vote", "reject_hint", "reject", "context", "entries", "snapshots", "entry_term", "entry_type", "entry_data", "piece", "continued")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    REJECT_HINT_FIELD_NUMBER: _ClassVar[int]
    REJECT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    ENTRY_TERM_FIELD_NUMBER: _ClassVar[int]
    ENTRY_TYPE_FIELD_NUMBER: _ClassVar[int]
    ENTRY_DATA_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    CONTINUED_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    group: _containers.RepeatedScalarFieldContainer[int]
    type: bytes
    to: _containers.RepeatedScalarFieldContainer[int]
    term: _containers.RepeatedScalarFieldContainer[int]
    log_term: _containers.RepeatedScalarFieldContainer[int]
    index: _containers.RepeatedScalarFieldContainer[int]
    commit: _containers.RepeatedScalarFieldContainer[int]
    vote: _containers.RepeatedScalarFieldContainer[int]
    reject_hint: _containers.RepeatedScalarFieldContainer[int]
    reject: _containers.RepeatedScalarFieldContainer[bool]
    context: _containers.RepeatedScalarFieldContainer[bytes]
    entries: _containers.RepeatedScalarFieldContainer[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[Snapshot]
    entry_term: _containers.RepeatedScalarFieldContainer[int]
    entry_type: bytes
    entry_data: _containers.RepeatedScalarFieldContainer[bytes]
    piece: bytes
    continued: bool
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., group: _Optional[_Iterable[int]] = ..., type: _Optional[bytes] = ..., to: _Optional[_Iterable[int]] = ..., term: _Optional[_Iterable[int]] = ..., log_term: _Optional[_Iterable[int]] = ..., index: _Optional[_Iterable[int]] = ..., commit: _Optional[_Iterable[int]] = ..., vote: _Optional[_Iterable[int]] = ..., reject_hint: _Optional[_Iterable[int]] = ..., reject: _Optional[_Iterable[bool]] = ..., context: _Optional[_Iterable[bytes]] = ..., entries: _Optional[_Iterable[int]] = ..., snapshots: _Optional[_Iterable[_Union[Snapshot, _Mapping]]] = ..., entry_term: _Optional[_Iterable[int]] = ..., entry_type: _Optional[bytes] = ..., entry_data: _Optional[_Iterable[bytes]] = ..., piece: _Optional[bytes] = ..., continued: _Optional[bool] = ..., **kwargs) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("index", "term", "data", "voters", "voters_outgoing", "learners", "learners_next", "auto_leave")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    VOTERS_FIELD_NUMBER: _ClassVar[int]
    VOTERS_OUTGOING_FIELD_NUMBER: _ClassVar[int]
    LEARNERS_FIELD_NUMBER: _ClassVar[int]
    LEARNERS_NEXT_FIELD_NUMBER: _ClassVar[int]
    AUTO_LEAVE_FIELD_NUMBER: _ClassVar[int]
    index: int
    term: int
    data: bytes
    voters: _containers.RepeatedScalarFieldContainer[int]
    voters_outgoing: _containers.RepeatedScalarFieldContainer[int]
    learners: _containers.RepeatedScalarFieldContainer[int]
    learners_next: _containers.RepeatedScalarFieldContainer[int]
    auto_leave: bool
    def __init__(self, index: _Optional[int] = ..., term: _Optional[int] = ..., data: _Optional[bytes] = ..., voters: _Optional[_Iterable[int]] = ..., voters_outgoing: _Optional[_Iterable[int]] = ..., learners: _Optional[_Iterable[int]] = ..., learners_next: _Optional[_Iterable[int]] = ..., auto_leave: _Optional[bool] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("group", "snapshot", "name", "offset")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    group: int
    snapshot: str
    name: str
    offset: int
    def __init__(self, group: _Optional[int] = ..., snapshot: _Optional[str] = ..., name: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
