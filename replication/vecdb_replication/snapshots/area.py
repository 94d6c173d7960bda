"""The snapshots of one group: those it gives, the one it gets, and those that wait to be put in place.

`out/NAME`      made here, for others to fetch
`in`            on its way here
`staged/INDEX`  whole, verified and durable; the log may name it
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from vecdb_replication.snapshots.disk import Disk, LocalDisk
from vecdb_replication.snapshots.incoming import RESERVE_BYTES, Incoming
from vecdb_replication.snapshots.manifest import Manifest
from vecdb_replication.snapshots.outgoing import KEEP_SECONDS, Outgoing, SnapshotFile

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

    def staged(self, index: int) -> Path:
        """Where the staged snapshot of an index is, if it is."""
        return self.root / "staged" / str(index)

    def stage(self, index: int, manifest: Manifest) -> None:
        """Make what has arrived the staged snapshot of `index`, durably.

        Raises LookupError where it has not arrived whole, OSError. Where that
        index is staged already, nothing happens: one index has one state.
        """
        target = self.staged(index)
        if target.exists():
            return
        if not self.incoming.holds(manifest):
            raise LookupError(f"the files of the snapshot at {index} are not here")
        self.disk.mkdir(target.parent)
        self.disk.sync_folder(self.root)
        self.incoming.hand_over(target)
        # The target's name before the source's loss: should only one survive, there are two.
        self.disk.sync_folder(target.parent)
        self.disk.sync_folder(self.root)

    def tidy(self, index: int) -> None:
        """Remove what nobody needs any more, the state being at `index`. OSError."""
        self.outgoing.tidy()
        self.incoming.tidy()
        self.forget(index)

    def forget(self, index: int) -> None:
        """Remove staged snapshots up to an index: the state has passed them. OSError."""
        folder = self.root / "staged"
        if not folder.exists():
            return
        for path in folder.iterdir():
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
