"""The Raft core: a pure function of its inputs, in the shape of etcd-io/raft's RawNode.

It does no input or output, knows no clock and draws no random numbers: a host feeds it ticks,
proposals and messages, and does what each `Ready` says. The same inputs give the same outputs, to
the byte, which is what the simulator in tests/ rests on.

The caller's contract
---------------------
For every Ready, a host must:

1. Store `hard_state`, `entries` and `snapshot`. Entries replace what is stored at their indexes and
   all behind. If `must_sync` is true, or there is a snapshot, this must be durable before 2.
2. Send `messages`. Acknowledgements of appends and snapshots and votes vouch for what 1 stored and
   must never leave before it is durable. A leader's MsgApp and all heartbeats may: a leader counts
   its own copy only once it is durable, which `advance` tells it.
3. Apply `snapshot` to the state machine, then `committed_entries` in order; call
   `apply_conf_change` for every entry of a CONF_CHANGE type, and keep its result with the applied
   index. Answer reads from `read_states` once their index is applied.
4. Call `advance`, then look for the next Ready.

A host also says what became of what it sent: `report_snapshot` for every MsgSnap, arrived or not,
since the leader sends that follower nothing else until it hears of it, and `report_unreachable`
where a connection broke, so that lost appends are not waited for.

With `async_storage_writes` the messages to APPEND_THREAD and APPLY_THREAD carry steps 1 and 3, each
with the `responses` to deliver once it is done (for an append: durable). Those to one thread must
be done in order and none may be dropped; `advance` is not called.

Before the core is made again after a crash, the storage holds what was durable; `Config.applied` is
the state machine's own durable index, and `Storage.initial_state` gives the configuration as of it.
Messages may be lost, repeated and reordered at will, but must come from who they say they are from.

A RaftFatal means that an invariant is broken. The core must not be used any further.

Sources: D. Ongaro, Consensus: Bridging Theory and Practice (the thesis); D. Ongaro and J. Ousterhout,
In Search of an Understandable Consensus Algorithm (the paper); etcd-io/raft for the behaviour where
both leave a choice. docs/raft-driver.md lists every difference from it on purpose.
"""

from .changes import Change, ChangeType, ConfChange, Transition, from_entry, to_entry
from .config import Config, ReadOnlyOption
from .errors import (
    CompactedError,
    ConfChangeError,
    ConfigError,
    LocalMessageError,
    ProposalDroppedError,
    RaftError,
    RaftFatal,
    SnapshotOutOfDateError,
    SnapshotUnavailableError,
    UnavailableError,
    UnknownPeerError,
)
from .messages import (
    APPEND_THREAD,
    APPLY_THREAD,
    EMPTY_HARD_STATE,
    EMPTY_SNAPSHOT,
    NO_LIMIT,
    NO_NODE,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ReadState,
    Ready,
    Role,
    Snapshot,
    SoftState,
)
from .node import RawNode
from .progress import ProgressState
from .status import PeerStatus, Status
from .storage import MemoryStorage, Storage

__all__ = [
    "APPEND_THREAD",
    "APPLY_THREAD",
    "EMPTY_HARD_STATE",
    "EMPTY_SNAPSHOT",
    "NO_LIMIT",
    "NO_NODE",
    "Change",
    "ChangeType",
    "CompactedError",
    "ConfChange",
    "ConfChangeError",
    "ConfState",
    "Config",
    "ConfigError",
    "Entry",
    "EntryType",
    "HardState",
    "LocalMessageError",
    "MemoryStorage",
    "Message",
    "MessageType",
    "PeerStatus",
    "ProgressState",
    "ProposalDroppedError",
    "RaftError",
    "RaftFatal",
    "RawNode",
    "ReadOnlyOption",
    "ReadState",
    "Ready",
    "Role",
    "Snapshot",
    "SnapshotOutOfDateError",
    "SnapshotUnavailableError",
    "SoftState",
    "Status",
    "Storage",
    "Transition",
    "UnavailableError",
    "UnknownPeerError",
    "from_entry",
    "to_entry",
]
