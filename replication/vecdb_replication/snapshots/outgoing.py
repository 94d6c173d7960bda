"""Snapshots that others may fetch: folders of files that do not change."""

from __future__ import annotations

import io
import math
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vecdb_replication.snapshots.disk import Disk
from vecdb_replication.snapshots.errors import SnapshotGone
from vecdb_replication.snapshots.manifest import FileEntry, Manifest

KEEP_SECONDS: Final = 120.0
# Who fetches reads all the time, but for a pause to try again: half a minute at the most.
_READING_SECONDS: Final = 45.0

Build = Callable[[Path], tuple[int, Sequence[FileEntry]]]
"""Puts the files of a state into a new folder, synced; returns the last entry in it, and the files."""


@dataclass(slots=True, eq=False)
class _Held:
    manifest: Manifest
    folder: Path
    made: float
    used: float
    read: float = -math.inf
    pins: int = 0


class SnapshotFile(io.FileIO):
    """A file of a snapshot, open for reading: the snapshot stays until it is closed."""

    def __init__(self, path: Path, release: Callable[[], None]) -> None:
        self._release = release
        super().__init__(path)

    def close(self) -> None:
        """Let go. A second call does nothing."""
        if not self.closed:
            super().close()
            self._release()


class Outgoing:
    """The snapshots of one group in `root`, which belongs to this object. Any thread may call.

    A snapshot is offered for `keep_seconds`, and as long as somebody reads it:
    should it be damaged, whoever fetched it in vain is to get another one. It
    stays while somebody reads it; the newest one also for `keep_seconds` after
    it was offered last. What an earlier process left is removed: nobody knows
    any more what it was.
    """

    def __init__(
        self,
        root: Path,
        group: int,
        disk: Disk,
        *,
        keep_seconds: float = KEEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._group = group
        self._disk = disk
        self._keep = keep_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._removing = threading.Lock()
        self._doomed: list[Path] = []
        """Folders of snapshots that are given out no more."""
        disk.remove(root)

    def make(self, build: Build) -> Manifest:
        """Make a snapshot. Raises what `build` raises; nothing is left of it then."""
        snapshot = secrets.token_hex(16)
        folder = self._root / snapshot
        self._disk.mkdir(self._root)
        try:
            index, files = build(folder)
            manifest = Manifest(self._group, snapshot, index, tuple(files))
        except BaseException:
            self._disk.remove(folder)
            raise
        with self._lock:
            for held in self._held.values():
                held.used = -math.inf
            self._held[snapshot] = _Held(manifest, folder, now := self._clock(), now)
        with suppress(OSError):
            # There is one more, whatever became of the others.
            self.tidy()
        return manifest

    def newest(self) -> Manifest | None:
        """The one that was made last, kept for a while from now on; None where there is none to offer."""
        with self._lock:
            now = self._clock()
            held = next(reversed(self._held.values()), None)
            if held is None or not (self._is_read(held) or now - held.made < self._keep):
                return None
            held.used = now
            return held.manifest

    def open(self, snapshot: str, name: str) -> SnapshotFile:
        """A file of a snapshot, to be closed. SnapshotGone, OSError."""
        with self._lock:
            held = self._held.get(snapshot)
            if held is None or all(entry.name != name for entry in held.manifest.files):
                raise SnapshotGone(f"no file {name!r} in a snapshot {snapshot!r} of group {self._group}")
            held.pins += 1

        def release() -> None:
            with self._lock:
                held.pins -= 1
                held.read = self._clock()

        try:
            return SnapshotFile(held.folder / name, release)
        except OSError:
            release()
            raise

    @property
    def in_use(self) -> bool:
        """Whether somebody reads a snapshot, or did a moment ago."""
        with self._lock:
            return any(self._is_read(held) for held in self._held.values())

    def tidy(self) -> None:
        """Remove what nobody has used for long. OSError."""
        with self._lock:
            old = [name for name, held in self._held.items() if not self._is_used(held)]
            self._doomed += [self._held.pop(name).folder for name in old]
        # Not under the lock that the loop may wait for: removing takes its time.
        with self._removing:
            while self._doomed:
                self._disk.remove(self._doomed[0])
                self._doomed.pop(0)

    def _is_used(self, held: _Held) -> bool:
        return self._is_read(held) or self._clock() - held.used < self._keep

    def _is_read(self, held: _Held) -> bool:
        return held.pins > 0 or self._clock() - held.read < _READING_SECONDS
