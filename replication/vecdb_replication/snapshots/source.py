"""Where the files of a snapshot come from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class FileSource(Protocol):
    """The files that one peer offers of one group."""

    def read(self, snapshot: str, name: str, offset: int) -> AsyncIterator[bytes]:
        """The bytes of a file from `offset` on, in chunks of any size, to its end.

        Raises SnapshotGone where the peer has no such snapshot or file. Whatever
        else it raises, and an end that comes too early, is a lost connection:
        it is tried again, from where it stopped.
        """
        ...


class Files(Protocol):
    """The way to the files of other nodes."""

    def source(self, peer: str, group: int) -> FileSource:
        """The files of a group at a peer. Never blocks; a peer that is away shows when it is read."""
        ...
