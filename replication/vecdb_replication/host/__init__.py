"""The host: many groups, one log.

A group's history is a sequence of entries. `Host.propose` puts one into the
log, and answers once it is on disk and the group's state machine has applied
it. In this form every group has one replica, this node's: an entry is
committed when it is durable here, which is what Raft says of a group of one.

The rules are Raft's all the same, so that a group's log means the same when it
gets more replicas: each start is a new term, recorded with its vote before the
first entry of that term; every term begins with an empty entry; what the log
holds at a start is applied before anything is read.
"""

from vecdb_replication.host.errors import (
    GroupBlocked,
    GroupDamaged,
    GroupError,
    GroupStopped,
    HostClosed,
    StorageFull,
    UnknownGroup,
)
from vecdb_replication.host.host import Committed, GroupStatus, Host
from vecdb_replication.host.machine import StateMachine

__all__ = [
    "Committed",
    "GroupBlocked",
    "GroupDamaged",
    "GroupError",
    "GroupStatus",
    "GroupStopped",
    "Host",
    "HostClosed",
    "StateMachine",
    "StorageFull",
    "UnknownGroup",
]
