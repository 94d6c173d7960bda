"""The durable log: one append-only, segmented log per node for all of its Raft groups.

`Wal` is the log, `LogWriter` the thread that commits for many callers at once. docs/log.md tells the
format, the order of things on disk, and what can and cannot be detected.
"""

from vecdb_replication.wal.errors import (
    Compacted,
    GroupsRefused,
    LogBusy,
    LogClosed,
    LogDamaged,
    LogError,
    LogFailed,
    LogFull,
    LogLocked,
    LogMisuse,
    LogVersion,
    Unavailable,
    WriteFailed,
)
from vecdb_replication.wal.fs import File, FileSystem, Lock, OsFileSystem
from vecdb_replication.wal.log import Wal
from vecdb_replication.wal.types import (
    Entry,
    GroupState,
    GroupUpdate,
    HardState,
    Recovery,
    SnapshotMark,
    Tear,
    Tombstone,
)
from vecdb_replication.wal.writer import LogWriter

__all__ = [
    "Compacted",
    "Entry",
    "File",
    "FileSystem",
    "GroupState",
    "GroupUpdate",
    "GroupsRefused",
    "HardState",
    "Lock",
    "LogBusy",
    "LogClosed",
    "LogDamaged",
    "LogError",
    "LogFailed",
    "LogFull",
    "LogLocked",
    "LogMisuse",
    "LogVersion",
    "LogWriter",
    "OsFileSystem",
    "Recovery",
    "SnapshotMark",
    "Tear",
    "Tombstone",
    "Unavailable",
    "Wal",
    "WriteFailed",
]
