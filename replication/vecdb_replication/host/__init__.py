"""The host: many groups, one log, and Raft between the two.

A group's history is a sequence of entries. `Host.propose` puts one into the
log, and answers once a quorum of the group's replicas has it on disk and the
state machine here has applied it. A group of one is its own quorum; everything
else about it is the same.

The layers, from the inside out: `Replica` is the Raft core over one group's
part of the log; `HostCore` holds all groups, and is a function of what goes
into it, without threads or clock; `Host` gives it an event loop, the thread
that writes the log and the threads that apply. docs/consistency.md tells what
is promised, and how it is tried.
"""

from vecdb_replication.host.core import HostCore, Locate
from vecdb_replication.host.errors import (
    ChangeRefused,
    EntryTooLarge,
    GroupBlocked,
    GroupDamaged,
    GroupError,
    GroupStopped,
    HostClosed,
    NotLeader,
    OutcomeUnknown,
    ProposalLost,
    StorageFull,
    UnknownGroup,
)
from vecdb_replication.host.host import Host
from vecdb_replication.host.machine import FileMachine, SnapshotMachine, StateMachine
from vecdb_replication.host.network import MemoryNetwork
from vecdb_replication.host.status import Committed, GroupStatus
from vecdb_replication.host.work import (
    MAX_ENTRY_BYTES,
    Envelope,
    Fetch,
    Options,
    Outbox,
    Pass,
    Proposal,
    Reader,
    Staging,
    Task,
    Write,
)

__all__ = [
    "MAX_ENTRY_BYTES",
    "ChangeRefused",
    "Committed",
    "EntryTooLarge",
    "Envelope",
    "Fetch",
    "FileMachine",
    "GroupBlocked",
    "GroupDamaged",
    "GroupError",
    "GroupStatus",
    "GroupStopped",
    "Host",
    "HostClosed",
    "HostCore",
    "Locate",
    "MemoryNetwork",
    "NotLeader",
    "Options",
    "Outbox",
    "OutcomeUnknown",
    "Pass",
    "Proposal",
    "ProposalLost",
    "Reader",
    "SnapshotMachine",
    "Staging",
    "StateMachine",
    "StorageFull",
    "Task",
    "UnknownGroup",
    "Write",
]
