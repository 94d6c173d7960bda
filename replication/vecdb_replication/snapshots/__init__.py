"""Snapshots as files: how the state of a group gets to a replica that cannot be brought up by entries.

Raft's snapshot message carries a `Manifest` alone. Its files are pulled from
the sender, through a `FileSource`, into `Incoming`: resumed where they broke
off, compared with their checksums, synced. Then they are *staged*, the log
records that it begins behind them, and the state machine puts them in its
state's place. On the other side `Outgoing` keeps snapshots that do not change
while somebody fetches them. docs/snapshots.md is the whole story.
"""

from vecdb_replication.snapshots.area import Area, Sharing, recover_folder, replace_folder
from vecdb_replication.snapshots.disk import Disk, LocalDisk
from vecdb_replication.snapshots.errors import (
    SnapshotBusy,
    SnapshotCut,
    SnapshotDamaged,
    SnapshotError,
    SnapshotGone,
)
from vecdb_replication.snapshots.incoming import Incoming, check_room
from vecdb_replication.snapshots.manifest import FileEntry, Manifest, ManifestRefused, decode
from vecdb_replication.snapshots.outgoing import Outgoing, SnapshotFile
from vecdb_replication.snapshots.source import Files, FileSource

__all__ = [
    "Area",
    "Disk",
    "FileEntry",
    "FileSource",
    "Files",
    "Incoming",
    "LocalDisk",
    "Manifest",
    "ManifestRefused",
    "Outgoing",
    "Sharing",
    "SnapshotBusy",
    "SnapshotCut",
    "SnapshotDamaged",
    "SnapshotError",
    "SnapshotFile",
    "SnapshotGone",
    "check_room",
    "decode",
    "recover_folder",
    "replace_folder",
]
