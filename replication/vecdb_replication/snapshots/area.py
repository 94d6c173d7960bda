"""The snapshots of one group: those it gives, the one it gets, and those that wait to be put in place.

`out/NAME`      made here, for others to fetch
`in`            on its way here
`staged/INDEX`  whole, verified and durable; the log may name it
"""

from __future__ import annotations

from pathlib import Path

from vecdb_replication.snapshots.disk import Disk, LocalDisk
from vecdb_replication.snapshots.incoming import RESERVE_BYTES, Incoming
from vecdb_replication.snapshots.manifest import Manifest
from vecdb_replication.snapshots.outgoing import KEEP_SECONDS, Outgoing


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
