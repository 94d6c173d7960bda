"""The snapshots of one group: those it gives, the one it gets, and those that wait to be put in place.

`out/NAME`      made here, for others to fetch
`in/HASH`       on its way here, of the snapshot whose manifest has this hash
`staged/INDEX`  whole, verified and durable; the log may name it
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from vecdb_replication.snapshots.disk import Disk, LocalDisk
from vecdb_replication.snapshots.incoming import (
    RESERVE_BYTES,
    Check,
    Incoming,
    Prepare,
    accept,
    finish,
    incomplete,
    leave,
)
from vecdb_replication.snapshots.manifest import Manifest
from vecdb_replication.snapshots.outgoing import KEEP_SECONDS, Outgoing, SnapshotFile
from vecdb_replication.snapshots.source import FileSource

_REPLACED: Final = ".replaced"


class Area:
    """The folder `root`, of one group, which is made when it is needed."""

    def __init__(
        self,
        root: Path,
        group: int,
        disk: Disk | None = None,
        *,
        keep_seconds: float = KEEP_SECONDS,
        reserve: int = RESERVE_BYTES,
    ) -> None:
        self.root = root
        self.disk = disk or LocalDisk()
        self.outgoing = Outgoing(root / "out", group, self.disk, keep_seconds=keep_seconds)
        self.incoming = Incoming(root / "in", self.disk, reserve=reserve)
        self._lock = threading.Lock()
        self._staged: dict[int, Manifest] = {}
        """Those of this process. What is left of an earlier one gives way to what arrives now."""

    def staged(self, index: int) -> Path:
        """Where the staged snapshot of an index is, if it is."""
        return self.root / "staged" / str(index)

    async def fetch(self, manifest: Manifest, source: FileSource, check: Check = accept) -> None:
        """See `Incoming.fetch`. Nothing is fetched of a snapshot that is staged already."""
        if not await finish(self._is_staged, manifest):
            await self.incoming.fetch(manifest, source, check)

    def _is_staged(self, manifest: Manifest) -> bool:
        with self._lock:
            return self._staged_as(manifest) is not None

    def stage(self, index: int, manifest: Manifest, prepare: Prepare = leave) -> None:
        """Make what has arrived the staged snapshot of `index`, durably.

        `prepare(folder)` may add to it. Raises LookupError where it has not
        arrived whole, SnapshotBusy, OSError. Where it is staged already, nothing happens.
        """
        target = self.staged(index)
        with self._lock:
            before = self._staged_as(manifest)
            if before == index:
                return
            self.disk.mkdir(target.parent)
            # Above the area's own folder too: it may be as new as what is in it.
            for folder in (self.root, self.root.parent):
                self.disk.sync_folder(folder)
            if before is None:
                self.incoming.hand_over(manifest, target, prepare)
            else:
                self._stage_again(before, target, prepare)
            self._settle(target)
            self._staged[index] = manifest

    def _staged_as(self, manifest: Manifest) -> int | None:
        """The index that a snapshot is staged for, if it is, by this process, and is still whole."""
        for index, staged in self._staged.items():
            if staged == manifest and incomplete(self.staged(index), manifest) is None:
                return index
        return None

    def _stage_again(self, before: int, target: Path, prepare: Prepare) -> None:
        """One that the log did not take was offered for another index."""
        folder = self.staged(before)
        del self._staged[before]
        prepare(folder)
        self.disk.sync_folder(folder)
        self.disk.remove(target)
        self.disk.rename(folder, target)

    def _settle(self, target: Path) -> None:
        try:
            # The target's name before the source's loss: should only one survive, there are two.
            self.disk.sync_folder(target.parent)
            self.disk.sync_folder(self.incoming.root)
        except OSError:
            # Synced again it might seem to be durable, and not be.
            with suppress(OSError):
                self.disk.remove(target)
            raise

    def tidy(self, index: int) -> None:
        """Remove what nobody needs any more, the state being at `index`. OSError."""
        self.outgoing.tidy()
        self.incoming.tidy()
        self.forget(index)

    def forget(self, index: int) -> None:
        """Remove staged snapshots up to an index: the state has passed them. OSError."""
        folder = self.root / "staged"
        with self._lock:
            self._staged = {at: each for at, each in self._staged.items() if at > index}
            for path in list(folder.iterdir()) if folder.exists() else ():
                if not path.name.isdecimal() or int(path.name) <= index:
                    self.disk.remove(path)


class Sharing:
    """What a state machine does alike over any `Area`: it gives the snapshots that were made in it."""

    def __init__(self, area: Area) -> None:
        self._area = area

    def capture(self) -> tuple[int, bytes]:
        """The last entry in the newest snapshot, and its manifest. LookupError where there is none."""
        manifest = self._area.outgoing.newest()
        if manifest is None:
            raise LookupError("no snapshot was made yet")
        return manifest.index, manifest.encode()

    def open_file(self, snapshot: str, name: str) -> SnapshotFile:
        """A file of a snapshot, to be closed. SnapshotGone, OSError."""
        return self._area.outgoing.open(snapshot, name)

    def is_sending(self) -> bool:
        """Whether somebody fetches a snapshot."""
        return self._area.outgoing.in_use


def replace_folder(disk: Disk, path: Path, new: Path) -> None:
    """Put the folder `new` in the place of the folder `path`, durably. OSError.

    A crash in the middle may leave nothing under that name, until `recover_folder`.
    Doing it again after an error goes on where it stopped.
    """
    old = path.with_suffix(_REPLACED)
    if new.exists():
        if path.exists():
            disk.remove(old)
            disk.rename(path, old)
            disk.sync_folder(path.parent)
        disk.rename(new, path)
    disk.sync_folder(path.parent)
    disk.sync_folder(new.parent)
    disk.remove(old)


def recover_folder(disk: Disk, path: Path) -> None:
    """Make good what a crash in `replace_folder` left: either folder is then there, whole. OSError."""
    old = path.with_suffix(_REPLACED)
    if not old.exists():
        return
    if not path.exists():
        disk.rename(old, path)
    # Before anything builds on what is there now, a power loss must not be able to change it.
    disk.sync_folder(path.parent)
    disk.remove(old)
