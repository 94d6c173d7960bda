"""A snapshot on its way here: files that grow, and are gone on with after every interruption."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import crc32c

from vecdb_replication.snapshots.disk import Disk
from vecdb_replication.snapshots.errors import SnapshotBusy, SnapshotCut, SnapshotDamaged
from vecdb_replication.snapshots.manifest import FileEntry, Manifest
from vecdb_replication.snapshots.source import FileSource

RESERVE_BYTES: Final = 64 << 20
"""What snapshots leave free: the log and the state of everybody else need room too."""
KEEP_SECONDS: Final = 3600.0
"""How long what has arrived is kept for a fetch that goes on with it."""
TOUCH_SECONDS: Final = 5.0
"""How often the sender hears that what came from it is being checked."""
ATTEMPTS: Final = 3
"""How often a file is fetched whose bytes turn out to be wrong."""

_STEP: Final = 1 << 20
# Of a hash, in a folder's name: enough for no two snapshots ever to share one.
_DIGITS: Final = 32

T = TypeVar("T")

Check = Callable[[Path, Callable[[], bool]], None]
"""Looks at the folder of a snapshot. Once the second argument says true nobody waits for it any more."""
Prepare = Callable[[Path], None]
"""Adds something to the folder of a snapshot."""


def accept(_: Path, __: Callable[[], bool]) -> None:
    """Any snapshot is good."""


def leave(_: Path) -> None:
    """Nothing is missing from a snapshot."""


class Incoming:
    """What is on its way to one group, under `root`, which belongs to this object.

    Each snapshot arrives in a folder of its own, named by its manifest. Whoever
    fetches, hands over or clears away owns all of it, and who comes meanwhile
    is refused: what was found to be whole is what is handed over.

    What is there when a fetch begins is used as far as the manifest asks for
    files of the same name, size and checksum, also after a crash and for
    another snapshot: every byte is compared with the checksum before a file
    counts.
    """

    def __init__(
        self,
        root: Path,
        disk: Disk,
        *,
        reserve: int = RESERVE_BYTES,
        touch_seconds: float = TOUCH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self._disk = disk
        self._reserve = reserve
        self._touch_seconds = touch_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._busy = False
        self._used = clock()
        self._at = root
        """The folder of the last fetch, which `_verified` is about."""
        self._verified: set[FileEntry] = set()
        self._whole: Manifest | None = None
        self._doubtful = False
        """Whether a sync failed: what can be read here is not to be believed any more."""

    def folder(self, manifest: Manifest) -> Path:
        """Where a snapshot arrives."""
        return self.root / hashlib.sha256(manifest.encode()).hexdigest()[:_DIGITS]

    async def fetch(self, manifest: Manifest, source: FileSource, check: Check = accept) -> None:
        """Bring all files here, compared with their checksums, found good by `check`, and synced.

        `check(folder, stopped)` runs on another thread; where it raises
        SnapshotDamaged, nothing of the snapshot stays. Cancelled, a fetch waits
        for it, and `stopped` tells it so. Raises LookupError where the source has
        it not; SnapshotDamaged; SnapshotCut, SnapshotBusy, or what the source
        raised, where it is worth trying again; OSError, of these ENOSPC at once
        where there is too little room. What has arrived stays.
        """
        with self._owned():
            try:
                if self._whole != manifest:
                    await self._fetch(manifest, source, check)
            finally:
                self._used = self._clock()

    async def _fetch(self, manifest: Manifest, source: FileSource, check: Check) -> None:
        await finish(self._begin, manifest)
        for entry in manifest.files:
            if entry not in self._verified:
                await self._fetch_file(manifest.snapshot, entry, source)
        # Checking takes long and reads nothing from the sender, who is to keep the snapshot, and its log.
        touching = asyncio.create_task(self._stay_in_touch(manifest, source))
        stopped = threading.Event()
        try:
            await finish(self._end, manifest, check, stopped.is_set, on_cancel=stopped.set)
        finally:
            touching.cancel()
            await asyncio.gather(touching, return_exceptions=True)

    async def _stay_in_touch(self, manifest: Manifest, source: FileSource) -> None:
        """Read what lies behind the end of a file, now and then: nothing, but the sender hears of it."""
        last = manifest.files[-1]
        while True:
            await asyncio.sleep(self._touch_seconds)
            with suppress(Exception):
                async for _ in source.read(manifest.snapshot, last.name, last.size):
                    break

    def holds(self, manifest: Manifest) -> bool:
        """Whether everything has arrived, in the life of this process."""
        return self._whole == manifest

    def hand_over(self, manifest: Manifest, target: Path, prepare: Prepare = leave) -> None:
        """Make the folder of a snapshot that has arrived the folder `target`, not durably yet.

        `prepare(folder)` may add to it before. Raises LookupError where it has
        not arrived whole, SnapshotBusy, OSError.
        """
        with self._owned():
            if self._whole != manifest:
                raise LookupError(f"the files of the snapshot at {manifest.index} are not here")
            prepare(self._at)
            self._sync_folder(self._at)
            if (name := incomplete(self._at, manifest)) is not None:
                self._doubt()
                raise LookupError(f"{name} of the snapshot at {manifest.index} is not as it came")
            self._disk.remove(target)
            self._disk.rename(self._at, target)
            self._forget()

    def tidy(self) -> None:
        """Throw away what nobody has gone on with for long. OSError."""
        with suppress(SnapshotBusy), self._owned():
            if self._clock() - self._used > KEEP_SECONDS:
                self._used = self._clock()
                self._clear()

    @contextmanager
    def _owned(self) -> Iterator[None]:
        """Nobody else touches anything meanwhile."""
        with self._lock:
            if self._busy:
                raise SnapshotBusy(f"{self.root} is in use")
            self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _forget(self) -> None:
        self._verified.clear()
        self._whole = None

    def _doubt(self) -> None:
        """After a failed sync pages are called clean that are not: a later one says nothing of them."""
        self._forget()
        self._doubtful = True
        # At once: the next process would not know of it.
        with suppress(OSError):
            self._clear()

    def _clear(self) -> None:
        self._forget()
        self._disk.remove(self.root)
        self._doubtful = False

    # --- on other threads ------------------------------------------------------

    def _begin(self, manifest: Manifest) -> None:
        if self._doubtful:
            self._clear()
        known = set(self._verified)
        before, self._at = self._at, self.folder(manifest)
        self._forget()
        wanted = {entry.name: entry for entry in manifest.files}
        left = self._sift(wanted)
        if self._at == before:
            self._verified = known & left
        for folder in {(self._at / name).parent for name in wanted} | {self._at}:
            self._disk.mkdir(folder)
        for other in [path for path in self.root.iterdir() if path != self._at]:
            moved = self._inherit(other, wanted)
            if other == before:
                self._verified = known & moved
            self._disk.remove(other)
        missing = sum(entry.size - _size(self._at / entry.name) for entry in manifest.files)
        check_room(self._disk, self.root, missing, self._reserve)

    def _sift(self, wanted: Mapping[str, FileEntry]) -> set[FileEntry]:
        """Remove what does not belong; the files that are left, or their beginnings."""
        left = set()
        for path in _files(self._at):
            entry = _fitting(path, self._at, wanted)
            if entry is None:
                self._disk.remove(path)
            else:
                left.add(entry)
        return left

    def _inherit(self, other: Path, wanted: Mapping[str, FileEntry]) -> set[FileEntry]:
        """Take over what another snapshot has brought; the files, or their beginnings."""
        moved = set()
        for path in _files(other):
            entry = _fitting(path, other, wanted)
            if entry is not None and not (self._at / entry.name).exists():
                self._disk.rename(path, self._at / entry.name)
                moved.add(entry)
        return moved

    def _end(self, manifest: Manifest, check: Check, stopped: Callable[[], bool]) -> None:
        try:
            check(self._at, stopped)
        except SnapshotDamaged:
            self._clear()
            raise
        folders = {(self._at / entry.name).parent for entry in manifest.files}
        for folder in sorted(folders | {self._at, self.root}, reverse=True):
            self._sync_folder(folder)
        self._whole = manifest

    def _sync_folder(self, folder: Path) -> None:
        try:
            self._disk.sync_folder(folder)
        except OSError:
            self._doubt()
            raise

    async def _fetch_file(self, snapshot: str, entry: FileEntry, source: FileSource) -> None:
        path = self._at / entry.name
        for _ in range(ATTEMPTS):
            partial = await finish(_Partial.resume, path, entry, self._disk)
            if not partial.whole:
                async for chunk in source.read(snapshot, entry.name, partial.size):
                    await finish(partial.append, chunk)
                    if partial.overfull:
                        break
            if not partial.whole and not partial.overfull:
                raise SnapshotCut(f"{entry.name} ended at {partial.size} of {entry.size} bytes")
            if await finish(self._verify, partial):
                self._verified.add(entry)
                return
        raise SnapshotDamaged(f"{entry.name} does not fit its checksum, fetched {ATTEMPTS} times")

    def _verify(self, partial: _Partial) -> bool:
        """Sync a file if it is right, and begin it anew if not."""
        if not partial.right:
            partial.empty()
            return False
        try:
            partial.sync()
        except OSError:
            self._doubt()
            raise
        return True


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

    @property
    def right(self) -> bool:
        return self.whole and self._crc == self._entry.crc

    def sync(self) -> None:
        self._disk.sync_file(self._path)

    def empty(self) -> None:
        self._disk.write_at(self._path, 0, b"")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _files(folder: Path) -> list[Path]:
    """All in a folder, and in those below, that is no folder. A link is none, wherever it leads."""
    found = []
    for at, folders, files in os.walk(folder):
        paths = [Path(at) / name for name in (*folders, *files)]
        found += [path for path in paths if path.is_symlink() or not path.is_dir()]
    return found


def _fitting(path: Path, root: Path, wanted: Mapping[str, FileEntry]) -> FileEntry | None:
    """The file that a path under `root` may be, or begin."""
    entry = wanted.get(str(path.relative_to(root)))
    if entry is None or path.is_symlink() or not path.is_file() or path.stat().st_size > entry.size:
        return None
    return entry


def incomplete(folder: Path, manifest: Manifest) -> str | None:
    """The name of a file that a folder lacks, or has in another size; None where there is none."""
    for entry in manifest.files:
        path = folder / entry.name
        if path.is_symlink() or not path.is_file() or path.stat().st_size != entry.size:
            return entry.name
    return None


def check_room(disk: Disk, path: Path, needed: int, reserve: int = RESERVE_BYTES) -> None:
    """Raise OSError (ENOSPC) where so many bytes do not fit beside what is kept back."""
    if needed + reserve > (free := disk.free(path)):
        why = f"a snapshot needs {needed} bytes more, {free} are free and {reserve} kept back"
        raise OSError(errno.ENOSPC, why, str(path))


async def finish(act: Callable[..., T], *args: object, on_cancel: Callable[[], None] | None = None) -> T:
    """Run blocking work on another thread, to its end: whoever is cancelled waits for it.

    `on_cancel` may tell the work that nobody needs it any more.
    Otherwise it would go on writing into what the next one believes to be its own.
    """
    work = asyncio.get_running_loop().run_in_executor(None, act, *args)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        raise
