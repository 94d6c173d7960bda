"""Where the files of a snapshot come from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class Files(Protocol):
    """The way to the files of other nodes."""

    def fetch(self, peer: str, group: int, snapshot: str, name: str, offset: int = 0) -> AsyncIterator[bytes]:
        """The bytes of a file of a peer's snapshot, from `offset` to its end, in chunks of any size.

        Raises LookupError where the peer has no such snapshot or file, or does
        not give it to this node. Whatever else it raises, and an end that comes
        too early, is a lost connection: it is tried again from behind what came.
        """
        ...


class FileSource:
    """The files of one group at one peer."""

    def __init__(self, files: Files, peer: str, group: int) -> None:
        self._files = files
        self._whose = (peer, group)

    def read(self, snapshot: str, name: str, offset: int) -> AsyncIterator[bytes]:
        """See `Files.fetch`."""
        return self._files.fetch(*self._whose, snapshot, name, offset)
