"""The catalogue's state machine: one small file, replaced whole.

The catalogue changes rarely and is small (some hundred bytes a collection), so
each apply writes all of it: to a new file, synced, then renamed over the old
one. A state is thus either there or not, and durable as soon as it is applied.
A snapshot is such a file too.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgpack
from crc32c import crc32c
from vecdb_replication.host import StorageFull
from vecdb_replication.snapshots import (
    Area,
    Disk,
    FileEntry,
    FileSource,
    Manifest,
    ManifestRefused,
    Sharing,
    SnapshotDamaged,
)
from vecdb_replication.snapshots import decode as decode_manifest

from vecdb.catalog.commands import decode, perform
from vecdb.catalog.records import CatalogState
from vecdb.catalog.results import CatalogResult
from vecdb.durable import is_full, replace_file

CATALOG_GROUP: Final = 1
"""The group that replicates the catalogue; shards have the ids above."""

_MAGIC: Final = b"vecdbcat"
_FORMAT: Final = 2  # 1 knew no tokens
_FILE: Final = "state"
# That no more files may be open passes, as a full disk does.
_NO_HANDLE: Final = frozenset({errno.EMFILE, errno.ENFILE})


class CatalogDamaged(Exception):
    """The catalogue's file is not what was written; the message names it."""


class CatalogTooNew(Exception):
    """A newer vecdb wrote the catalogue."""


class CatalogMachine(Sharing):
    """Applies commands to the state in `path`; a missing file is the empty catalogue.

    `state` may be read from any thread. `on_change` is called, in the applying
    thread, with each new state. Snapshots lie in a folder beside the file.
    Raises CatalogDamaged, CatalogTooNew, OSError.
    """

    def __init__(
        self,
        path: Path,
        on_change: Callable[[CatalogState], None] | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._path = path
        self._on_change = on_change
        super().__init__(Area(path.parent / "snapshots", CATALOG_GROUP, disk))
        self.state = _read(path) if path.exists() else CatalogState()

    @property
    def applied_index(self) -> int:
        """The index of the last applied entry."""
        return self.state.applied

    @property
    def durable_index(self) -> int:
        """The same: what is applied is synced."""
        return self.state.applied

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> list[CatalogResult]:
        """Apply commands. StorageFull, UnknownCommand, OSError."""
        state = self.state
        results = []
        for index, data in entries:
            state, result = perform(state, decode(data))
            state = replace(state, applied=index)
            results.append(result)
        self._become(state)
        return results

    def _become(self, state: CatalogState) -> None:
        try:
            replace_file(self._path, _pack(state))
        except OSError as error:
            if is_full(error) or error.errno in _NO_HANDLE:
                raise StorageFull(f"the catalogue cannot be written: {error.strerror}") from error
            raise
        self.state = state
        if self._on_change is not None:
            self._on_change(state)

    def checkpoint(self) -> int:
        """Nothing is left to make durable."""
        return self.state.applied

    # --- snapshots -------------------------------------------------------------

    def prepare(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """See `SnapshotMachine.prepare`. It takes no time, so it is never given up."""
        state, disk = self.state, self._area.disk
        data = _pack(state)

        def build(folder: Path) -> tuple[int, list[FileEntry]]:
            disk.mkdir(folder)
            disk.write_at(folder / _FILE, 0, data)
            return state.applied, [FileEntry(_FILE, len(data), crc32c(data))]

        self._area.outgoing.make(build)

    def tidy(self) -> None:
        """See `FileMachine.tidy`."""
        self._area.tidy(self.state.applied)

    async def fetch(self, data: bytes, source: FileSource) -> None:
        """See `FileMachine.fetch`."""
        await self._area.fetch(_manifest(data), source, _verify)

    def stage(self, index: int, data: bytes) -> None:
        """See `SnapshotMachine.stage`."""
        self._area.stage(index, _manifest(data))

    def install(self, index: int) -> None:
        """See `SnapshotMachine.install`. StorageFull."""
        if self.state.applied == index:
            return
        staged = self._area.staged(index) / _FILE
        if not staged.exists():
            raise LookupError(f"no snapshot of {index} was staged")
        # What the state has not seen of these entries was not for it.
        self._become(replace(_read(staged), applied=index))
        with suppress(OSError):
            # `tidy` tries again. The state is in its place, and is not to end for what is left beside it.
            self._area.forget(index)


def _verify(folder: Path, _: Callable[[], bool]) -> None:
    try:
        _read(folder / _FILE)
    except (CatalogDamaged, CatalogTooNew) as error:
        raise SnapshotDamaged(f"the catalogue that was sent cannot be used: {error}") from error


def _manifest(data: bytes) -> Manifest:
    manifest = decode_manifest(data)
    if manifest.group != CATALOG_GROUP or [entry.name for entry in manifest.files] != [_FILE]:
        raise ManifestRefused("this is no snapshot of a catalogue")
    return manifest


def _read(path: Path) -> CatalogState:
    data = path.read_bytes()
    if len(data) < 16 or data[:8] != _MAGIC:
        raise CatalogDamaged(f"{path}: this is no catalogue")
    version = int.from_bytes(data[8:12], "little")
    if version > _FORMAT:
        raise CatalogTooNew(f"{path}: format version {version}; this vecdb reads up to {_FORMAT}")
    if int.from_bytes(data[12:16], "little") != crc32c(data[16:], crc32c(data[:12])):
        raise CatalogDamaged(f"{path}: the checksum does not match")
    return CatalogState.load(msgpack.unpackb(data[16:]))


def _pack(state: CatalogState) -> bytes:
    head = _MAGIC + _FORMAT.to_bytes(4, "little")
    body: bytes = msgpack.packb(state.dump())
    return head + crc32c(body, crc32c(head)).to_bytes(4, "little") + body
