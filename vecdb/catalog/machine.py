"""The catalogue's state machine: one small file, replaced whole.

The catalogue changes rarely and is small (some hundred bytes a collection), so
each apply writes all of it: to a new file, synced, then renamed over the old
one. A state is thus either there or not, and durable as soon as it is applied.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgpack
from crc32c import crc32c
from vecdb_replication.host import StorageFull

from vecdb.catalog.commands import CatalogResult, decode, perform
from vecdb.catalog.records import CatalogState
from vecdb.durable import is_full, replace_file

_MAGIC: Final = b"vecdbcat"
_FORMAT: Final = 1
# That no more files may be open passes, as a full disk does.
_NO_HANDLE: Final = frozenset({errno.EMFILE, errno.ENFILE})


class CatalogDamaged(Exception):
    """The catalogue's file is not what was written; the message names it."""


class CatalogTooNew(Exception):
    """A newer vecdb wrote the catalogue."""


class CatalogMachine:
    """Applies commands to the state in `path`; a missing file is the empty catalogue.

    `state` may be read from any thread. `on_change` is called, in the applying
    thread, with each new state. Raises CatalogDamaged, CatalogTooNew, OSError.
    """

    def __init__(self, path: Path, on_change: Callable[[CatalogState], None] | None = None) -> None:
        self._path = path
        self._on_change = on_change
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
        try:
            _write(self._path, state)
        except OSError as error:
            if is_full(error) or error.errno in _NO_HANDLE:
                raise StorageFull(f"the catalogue cannot be written: {error.strerror}") from error
            raise
        self.state = state
        if self._on_change is not None:
            self._on_change(state)
        return results

    def checkpoint(self) -> int:
        """Nothing is left to make durable."""
        return self.state.applied


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


def _write(path: Path, state: CatalogState) -> None:
    head = _MAGIC + _FORMAT.to_bytes(4, "little")
    body: bytes = msgpack.packb(state.dump())
    replace_file(path, head + crc32c(body, crc32c(head)).to_bytes(4, "little") + body)
