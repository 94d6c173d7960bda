"""A copy of a shard at one applied index, taken while it is written to."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from vecdb_index import sealed
from vecdb_index.core import Core
from vecdb_index.errors import SnapshotStopped
from vecdb_index.files import checksum
from vecdb_index.keeper import verify
from vecdb_index.knn import as_bytes
from vecdb_index.schema import ShardOptions
from vecdb_index.sealed import FileEntry
from vecdb_index.store import FILE

# Of the database, between two looks at whether to go on: about 16 MB.
_PAGES: Final = 4096


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A file of a snapshot: its name relative to the directory, its size in bytes and its CRC32C."""

    name: str
    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot holds. ``Shard.open`` opens its directory."""

    applied_index: int
    content_hash: bytes
    files: tuple[SnapshotFile, ...]


def take(core: Core, target: Path, stopped: Callable[[], bool]) -> Snapshot:
    """Copy the shard into ``target``, a new directory, and sync it.

    Segment files are immutable and named only once, so they are hard links where the file system allows. The
    database is copied page by page inside one read transaction, whose snapshot begins while writers wait.
    """

    def look(*_: int) -> None:
        if stopped():
            raise SnapshotStopped(f"the snapshot in {target} was given up")

    target.mkdir(parents=True)
    (target / sealed.DIRECTORY).mkdir()
    with ExitStack() as stack:
        with core.lock:  # under which no checkpoint unlinks what the view names
            connection, view = stack.enter_context(core.pinned(whole=True))
            content = core.content_hash()
            entries = [
                _link(core.root, target, manifest.path(core.root, entry.suffix), entry)
                for manifest in (part.rows.manifest for part in view.sealed)
                if manifest is not None
                for entry in manifest.files
            ]
        with closing(sqlite3.connect(target / FILE)) as copy:
            connection.backup(copy, pages=_PAGES, progress=look)
    data = np.memmap(target / FILE, dtype=np.uint8, mode="r")
    entries.append(SnapshotFile(FILE, len(data), checksum(as_bytes(data))))
    look()
    for made in (target / FILE, target / sealed.DIRECTORY, target, target.parent):
        _sync(made)
    return Snapshot(view.applied, content, tuple(entries))


def verify_snapshot(
    path: Path | str,
    options: ShardOptions | None = None,
    *,
    pace: float = 0.0,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Read all of the snapshot in ``path`` and compare it with its checksums; its applied index.

    Nothing works in the background meanwhile, and nothing of the snapshot is changed. After each piece of
    work it sleeps ``pace`` times as long as that took. Raises ShardDamaged, which names the file,
    FormatTooNew, StorageFailed, OSError; SnapshotStopped soon after ``stopped()`` becomes true.
    """
    core = Core(Path(path), options or ShardOptions(), None)
    try:
        verify(core, pace=pace, stopped=stopped)
        return core.view.applied
    finally:
        core.close()


def _link(root: Path, target: Path, path: Path, entry: FileEntry) -> SnapshotFile:
    name = path.relative_to(root)
    try:
        (target / name).hardlink_to(path)
    except OSError:  # another file system, or one without links
        shutil.copyfile(path, target / name)
        _sync(target / name)
    return SnapshotFile(str(name), entry.size, entry.crc)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
