"""The values that go in and out of the core.

Their names, and the names of the message types on the wire, are those of etcd-io/raft, so that
traces of both can be read side by side. All are immutable: a value that was handed out may be
kept, sent or compared without copying.
"""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def _value(cls: type[_T]) -> type[_T]:
    """A slotted dataclass that the type checker holds to be frozen.

    At run time it is not, because that makes a message four times as expensive to create, and the
    core creates several for each proposal.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


NO_NODE = 0
"""The id that names nobody: no leader, no vote."""

NO_LIMIT = 2**64 - 1
"""A limit that never binds. Ids, indexes, terms and sizes are unsigned 64-bit integers."""

APPEND_THREAD = 2**64 - 1
"""Address of the local writer of the log, with asynchronous storage writes."""

APPLY_THREAD = 2**64 - 2
"""Address of the local applier of committed entries, with asynchronous storage writes."""


class Role(StrEnum):
    """What a replica takes itself for."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class EntryType(IntEnum):
    """What an entry's data is; the numbers are those of the protobuf enum."""

    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class MessageType(StrEnum):
    """Every kind of message, local ones included."""

    HUP = "MsgHup"
    BEAT = "MsgBeat"
    PROP = "MsgProp"
    APP = "MsgApp"
    APP_RESP = "MsgAppResp"
    VOTE = "MsgVote"
    VOTE_RESP = "MsgVoteResp"
    SNAP = "MsgSnap"
    HEARTBEAT = "MsgHeartbeat"
    HEARTBEAT_RESP = "MsgHeartbeatResp"
    UNREACHABLE = "MsgUnreachable"
    SNAP_STATUS = "MsgSnapStatus"
    CHECK_QUORUM = "MsgCheckQuorum"
    TRANSFER_LEADER = "MsgTransferLeader"
    TIMEOUT_NOW = "MsgTimeoutNow"
    READ_INDEX = "MsgReadIndex"
    READ_INDEX_RESP = "MsgReadIndexResp"
    PRE_VOTE = "MsgPreVote"
    PRE_VOTE_RESP = "MsgPreVoteResp"
    STORAGE_APPEND = "MsgStorageAppend"
    STORAGE_APPEND_RESP = "MsgStorageAppendResp"
    STORAGE_APPLY = "MsgStorageApply"
    STORAGE_APPLY_RESP = "MsgStorageApplyResp"
    FORGET_LEADER = "MsgForgetLeader"


LOCAL_TYPES = frozenset(
    {
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.UNREACHABLE,
        MessageType.SNAP_STATUS,
        MessageType.CHECK_QUORUM,
        MessageType.STORAGE_APPEND,
        MessageType.STORAGE_APPEND_RESP,
        MessageType.STORAGE_APPLY,
        MessageType.STORAGE_APPLY_RESP,
    }
)
"""Types that a node only ever sends to itself; refused when they come from a peer."""

RESPONSE_TYPES = frozenset(
    {
        MessageType.APP_RESP,
        MessageType.VOTE_RESP,
        MessageType.HEARTBEAT_RESP,
        MessageType.UNREACHABLE,
        MessageType.READ_INDEX_RESP,
        MessageType.PRE_VOTE_RESP,
        MessageType.STORAGE_APPEND_RESP,
        MessageType.STORAGE_APPLY_RESP,
    }
)
"""Types that answer something; refused when they come from a peer that is not tracked."""

THREADS = frozenset({APPEND_THREAD, APPLY_THREAD})
"""The two local storage threads, which are no peers."""


@_value
class Entry:
    """One slot of the log. The leader assigns term and index when it appends."""

    term: int = 0
    index: int = 0
    type: EntryType = EntryType.NORMAL
    data: bytes = b""


@_value
class HardState:
    """What must survive a crash besides the entries."""

    term: int = 0
    vote: int = NO_NODE
    commit: int = 0


EMPTY_HARD_STATE = HardState()


@_value
class SoftState:
    """What is worth knowing but need not be stored."""

    lead: int = NO_NODE
    role: Role = Role.FOLLOWER


@_value
class ConfState:
    """A group's membership, as a snapshot carries it. Ids are sorted in those the core makes."""

    voters: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False

    def equivalent(self, other: "ConfState") -> bool:
        """Whether both name the same members in the same parts, in whatever order."""
        return self.auto_leave == other.auto_leave and all(
            sorted(mine) == sorted(theirs)
            for mine, theirs in (
                (self.voters, other.voters),
                (self.voters_outgoing, other.voters_outgoing),
                (self.learners, other.learners),
                (self.learners_next, other.learners_next),
            )
        )


@_value
class Snapshot:
    """The state machine as of `index`; the data is opaque here (a manifest, in this project)."""

    index: int = 0
    term: int = 0
    data: bytes = b""
    conf_state: ConfState = field(default_factory=ConfState)


EMPTY_SNAPSHOT = Snapshot()


@_value
class Message:
    """Anything one node says to another, or to one of its own storage threads.

    Which fields mean something depends on the type. In an append, (`log_term`, `index`) names the
    entry before `entries`; in a rejection, `index` is what was rejected and (`log_term`,
    `reject_hint`) where the logs may agree.
    """

    type: MessageType
    to: int = NO_NODE
    from_: int = NO_NODE
    term: int = 0
    log_term: int = 0
    index: int = 0
    entries: tuple[Entry, ...] = ()
    commit: int = 0
    vote: int = NO_NODE
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""
    responses: "tuple[Message, ...]" = ()


@_value
class ReadState:
    """An answered read: serve it once the state machine has applied `index`."""

    index: int
    context: bytes


@_value
class Ready:
    """What the host has to do next; the package's docstring says in which order.

    `soft_state` and `hard_state` are None where they did not change. `must_sync` is true when
    term, vote or log changed; a snapshot needs a sync whatever it says.
    """

    soft_state: SoftState | None = None
    hard_state: HardState | None = None
    read_states: tuple[ReadState, ...] = ()
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    committed_entries: tuple[Entry, ...] = ()
    messages: tuple[Message, ...] = ()
    must_sync: bool = False
