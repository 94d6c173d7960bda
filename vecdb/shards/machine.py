"""A shard as the state machine of its group."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from crc32c import crc32c
from vecdb_index import (
    ApplyResult,
    FormatTooNew,
    Shard,
    ShardClosed,
    ShardDamaged,
    ShardOptions,
    StorageFailed,
    verify_snapshot,
)
from vecdb_replication.host import StorageFull
from vecdb_replication.snapshots import (
    Area,
    Disk,
    FileEntry,
    FileSource,
    LocalDisk,
    Manifest,
    ManifestRefused,
    Sharing,
    SnapshotDamaged,
    check_room,
    decode,
    recover_folder,
    replace_folder,
)

SNAPSHOTS: Final = ".snapshots"
"""What a shard's folder is called with, for the snapshots of the shard."""

# A state may be that of a later entry than the last it has seen: what lay between was not for it.
# An installed snapshot keeps here which one.
_INSTALLED: Final = "INSTALLED"
_DATABASE: Final = "shard.db"
# Other shards of the node are searched meanwhile: half of the time is theirs.
_PACE: Final = 1.0
_NAME: Final = re.compile(r"shard\.db|segments/[0-9a-f]{16}\.[a-z]+", re.ASCII)


class ShardMachine(Sharing):
    """A shard with the face that the host expects; `close` closes the shard.

    `shard` changes when a snapshot is installed, and is closed for a moment
    meanwhile. Snapshots lie in a folder beside the shard's own.
    """

    def __init__(self, shard: Shard, group: int, options: ShardOptions, disk: Disk | None = None) -> None:
        self._group = group
        self._options = options
        self._path = shard.path
        super().__init__(Area(shard.path.with_suffix(SNAPSHOTS), group, disk))
        self._installing = threading.Lock()
        # Together, for they belong together and are read on other threads.
        self._state = (shard, _read_installed(shard.path))

    @classmethod
    def open(cls, path: Path, group: int, options: ShardOptions, disk: Disk | None = None) -> ShardMachine:
        """The machine of the shard in `path`. Raises what `Shard.open` raises."""
        return cls(Shard.open(path, options), group, options, disk)

    @property
    def shard(self) -> Shard:
        """The shard as of now."""
        return self._state[0]

    @property
    def applied_index(self) -> int:
        """See `Shard.applied_index`."""
        shard, installed = self._state
        return max(shard.applied_index, installed)

    @property
    def durable_index(self) -> int:
        """See `Shard.durable_index`."""
        shard, installed = self._state
        return max(shard.durable_index, installed)

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> list[ApplyResult]:
        """See `Shard.apply`. A disk that refuses a write may take it later: StorageFull."""
        try:
            return self.shard.apply(entries)
        except StorageFailed as failed:
            raise StorageFull(str(failed)) from failed

    def checkpoint(self) -> int:
        """See `Shard.checkpoint`; a disk without room leaves the durable index where it was."""
        # A shard is closed while a snapshot takes its place, and stays so where that failed for want of room.
        with self._installing, suppress(StorageFailed, ShardClosed):
            self.shard.checkpoint()
        return self.durable_index

    def close(self) -> None:
        """Close the shard."""
        self.shard.close()

    # --- giving snapshots ----------------------------------------------------------

    def prepare(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """See `SnapshotMachine.prepare`. Segments are linked, the database is copied: ENOSPC without room."""
        shard, installed = self._state
        database = sum(path.stat().st_size for path in self._path.glob(f"{_DATABASE}*"))
        check_room(self._area.disk, self._path, database)

        def build(folder: Path) -> tuple[int, list[FileEntry]]:
            taken = shard.snapshot(folder, stopped)
            files = [FileEntry(file.name, file.size, file.crc) for file in taken.files]
            return max(taken.applied_index, installed), files

        self._area.outgoing.make(build)

    def tidy(self) -> None:
        """See `FileMachine.tidy`."""
        self._area.tidy(self.applied_index)

    # --- taking one ----------------------------------------------------------------

    async def fetch(self, data: bytes, source: FileSource) -> None:
        """See `FileMachine.fetch`. All of the snapshot is compared with the engine's own checksums, too."""
        manifest = self._decode(data)
        await self._area.fetch(manifest, source, partial(self._verify, manifest))

    def _decode(self, data: bytes) -> Manifest:
        manifest = decode(data)
        if manifest.group != self._group:
            raise ManifestRefused(f"a snapshot of group {manifest.group}, and this is {self._group}")
        names = {entry.name for entry in manifest.files}
        strange = sorted(name for name in names if not _NAME.fullmatch(name))
        if strange or _DATABASE not in names:
            raise ManifestRefused(f"no shard has these files: {', '.join(strange[:3]) or 'no database'}")
        return manifest

    def _verify(self, manifest: Manifest, folder: Path, stopped: Callable[[], bool]) -> None:
        # A shard that has sealed nothing yet has no file in it, and needs it all the same.
        self._area.disk.mkdir(folder / "segments")
        try:
            applied = verify_snapshot(folder, self._options, pace=_PACE, stopped=stopped)
        except (ShardDamaged, FormatTooNew) as error:
            raise SnapshotDamaged(f"the shard that was sent cannot be used: {error}") from error
        if applied > manifest.index:
            raise SnapshotDamaged(f"the shard has entry {applied}, and its manifest says {manifest.index}")

    def stage(self, index: int, data: bytes) -> None:
        """See `SnapshotMachine.stage`."""

        def mark(folder: Path) -> None:
            path = folder / _INSTALLED
            self._area.disk.write_at(path, 0, _packed(index))
            self._area.disk.sync_file(path)

        self._area.stage(index, self._decode(data), mark)

    def install(self, index: int) -> None:
        """See `SnapshotMachine.install`. Where the disk does not let it: StorageFull, and again later."""
        with self._installing:
            self._install(index)

    def _install(self, index: int) -> None:
        shard, installed = self._state
        if installed == index:
            return
        staged = self._area.staged(index)
        if not staged.exists() and _read_installed(self._path) != index:
            raise LookupError(f"no snapshot of {index} was staged")
        try:
            shard.close()
            replace_folder(self._area.disk, self._path, staged)
            self._state = (Shard.open(self._path, self._options), index)
            self._area.forget(index)
        except (StorageFailed, OSError) as error:
            raise StorageFull(f"a snapshot cannot be put in place: {error}") from error


def recover(path: Path, disk: Disk | None = None) -> None:
    """Before a shard is opened: make good what a crash left of putting a snapshot in its place."""
    recover_folder(disk or LocalDisk(), path)


def _packed(index: int) -> bytes:
    body = index.to_bytes(8, "little")
    return body + crc32c(body).to_bytes(4, "little")


def _read_installed(path: Path) -> int:
    """As of which entry the snapshot was installed that a shard began with; 0 where there was none."""
    file = path / _INSTALLED
    if not file.exists():
        return 0
    data = file.read_bytes()
    index = int.from_bytes(data[:8], "little")
    if data != _packed(index):
        raise ShardDamaged(file, "the checksum does not match")
    return index
