"""A snapshot on its way here: files that grow, and are gone on with after every interruption."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import crc32c

from vecdb_replication.snapshots.disk import Disk
from vecdb_replication.snapshots.errors import SnapshotCut, SnapshotDamaged
from vecdb_replication.snapshots.manifest import FileEntry, Manifest
from vecdb_replication.snapshots.source import FileSource

RESERVE_BYTES: Final = 64 << 20
"""What snapshots leave free: the log and the state of everybody else need room too."""
KEEP_SECONDS: Final = 3600.0
"""How long what has arrived is kept for a fetch that goes on with it."""
ATTEMPTS: Final = 3
"""How often a file is fetched whose bytes turn out to be wrong."""

_STEP: Final = 1 << 20

T = TypeVar("T")


class Incoming:
    """The one snapshot of a group that is being fetched into `root`, which belongs to this object.

    One fetch at a time. What is there when a fetch begins is used as far as
    the manifest asks for files of the same name, size and checksum, also
    after a crash and for another snapshot: every byte is compared with the
    checksum before a file counts.
    """

    def __init__(
        self,
        root: Path,
        disk: Disk,
        *,
        reserve: int = RESERVE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self._disk = disk
        self._reserve = reserve
        self._clock = clock
        self._lock = threading.Lock()
        self._busy = False
        self._used = clock()
        self._verified: set[FileEntry] = set()

    async def fetch(self, manifest: Manifest, source: FileSource) -> None:
        """Bring all files here, compared with their checksums and synced.

        Raises LookupError where the source has it not; SnapshotDamaged;
        SnapshotCut, or what the source raised, where it is worth trying again;
        OSError, of these ENOSPC at once where there is too little room. What
        has arrived stays.
        """
        with self._lock:
            assert not self._busy, "one fetch at a time"
            self._busy = True
        try:
            await finish(self._begin, manifest)
            for entry in manifest.files:
                if entry not in self._verified:
                    await self._fetch_file(manifest.snapshot, entry, source)
            await finish(self._end, manifest)
        finally:
            self._used = self._clock()
            self._busy = False

    def holds(self, manifest: Manifest) -> bool:
        """Whether everything has arrived, in the life of this process."""
        return self._verified.issuperset(manifest.files)

    def clear(self) -> None:
        """Throw away what has arrived. OSError."""
        self._verified.clear()
        self._disk.remove(self.root)

    def hand_over(self, target: Path) -> None:
        """Give the folder another name, not durable yet. OSError."""
        self._disk.rename(self.root, target)
        self._verified.clear()

    def tidy(self) -> None:
        """Throw away what nobody has gone on with for long. OSError."""
        with self._lock:
            if not self._busy and self._clock() - self._used > KEEP_SECONDS:
                self._used = self._clock()
                self.clear()

    # --- on other threads ------------------------------------------------------

    def _begin(self, manifest: Manifest) -> None:
        self._disk.mkdir(self.root)
        wanted = {entry.name: entry for entry in manifest.files}
        for path in [path for path in self.root.rglob("*") if not path.is_dir()]:
            entry = wanted.get(str(path.relative_to(self.root)))
            if entry is None or path.is_symlink() or path.stat().st_size > entry.size:
                self._disk.remove(path)
        self._verified.intersection_update(manifest.files)
        missing = sum(entry.size - _size(self.root / entry.name) for entry in manifest.files)
        check_room(self._disk, self.root, missing, self._reserve)
        for folder in {(self.root / entry.name).parent for entry in manifest.files}:
            self._disk.mkdir(folder)

    def _end(self, manifest: Manifest) -> None:
        folders = {(self.root / entry.name).parent for entry in manifest.files}
        for folder in sorted(folders | {self.root}, reverse=True):
            self._disk.sync_folder(folder)

    async def _fetch_file(self, snapshot: str, entry: FileEntry, source: FileSource) -> None:
        path = self.root / entry.name
        for _ in range(ATTEMPTS):
            partial = await finish(_Partial.resume, path, entry, self._disk)
            if not partial.whole:
                async for chunk in source.read(snapshot, entry.name, partial.size):
                    await finish(partial.append, chunk)
                    if partial.overfull:
                        break
            if not partial.whole and not partial.overfull:
                raise SnapshotCut(f"{entry.name} ended at {partial.size} of {entry.size} bytes")
            if await finish(partial.verify):
                self._verified.add(entry)
                return
        raise SnapshotDamaged(f"{entry.name} does not fit its checksum, fetched {ATTEMPTS} times")


class _Partial:
    """A file with a beginning, and the checksum of that."""

    def __init__(self, path: Path, entry: FileEntry, disk: Disk, size: int, crc: int) -> None:
        self._path = path
        self._entry = entry
        self._disk = disk
        self.size = size
        self._crc = crc

    @classmethod
    def resume(cls, path: Path, entry: FileEntry, disk: Disk) -> _Partial:
        """Read what is there."""
        size = crc = 0
        try:
            with path.open("rb") as file:
                while piece := file.read(_STEP):
                    size += len(piece)
                    crc = crc32c.crc32c(piece, crc)
        except FileNotFoundError:
            disk.write_at(path, 0, b"")
        return cls(path, entry, disk, size, crc)

    @property
    def whole(self) -> bool:
        return self.size == self._entry.size

    @property
    def overfull(self) -> bool:
        return self.size > self._entry.size

    def append(self, chunk: bytes) -> None:
        if self.size + len(chunk) <= self._entry.size:
            self._disk.write_at(self._path, self.size, chunk)
            self._crc = crc32c.crc32c(chunk, self._crc)
        self.size += len(chunk)

    def verify(self) -> bool:
        """Sync the file if it is right, and begin anew if not."""
        if self.whole and self._crc == self._entry.crc:
            self._disk.sync_file(self._path)
            return True
        self._disk.write_at(self._path, 0, b"")
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def check_room(disk: Disk, path: Path, needed: int, reserve: int = RESERVE_BYTES) -> None:
    """Raise OSError (ENOSPC) where so many bytes do not fit beside what is kept back."""
    if needed + reserve > (free := disk.free(path)):
        why = f"a snapshot needs {needed} bytes more, {free} are free and {reserve} kept back"
        raise OSError(errno.ENOSPC, why, str(path))


async def finish(act: Callable[..., T], *args: object) -> T:
    """Run blocking work on another thread, to its end: whoever is cancelled waits for it.

    Otherwise it would go on writing into what the next one believes to be its own.
    """
    work = asyncio.get_running_loop().run_in_executor(None, act, *args)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
