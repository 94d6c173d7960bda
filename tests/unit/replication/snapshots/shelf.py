"""Files to fetch, and all that can go wrong with that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from crc32c import crc32c
from vecdb_replication.snapshots import FileEntry, FileSource, Manifest, SnapshotGone

GROUP = 7
FILES = {"state": bytes(range(250)) * 2, "segments/1.raw": b"abcdefghij" * 30, "segments/empty": b""}


def manifest_of(files: Mapping[str, bytes] = FILES, snapshot: str = "a1", index: int = 12) -> Manifest:
    entries = tuple(FileEntry(name, len(data), crc32c(data)) for name, data in files.items())
    return Manifest(GROUP, snapshot, index, entries)


class Shelf:
    """Gives files in chunks of `chunk` bytes. `asked` has every (name, offset) that was.

    The connection breaks behind `bytes_left` bytes, and behind each chunk of
    `flips`, which counts down by name, a bit is turned. `gone` has none of it.
    """

    def __init__(self, files: Mapping[str, bytes] = FILES, chunk: int = 100) -> None:
        self.files = dict(files)
        self.chunk = chunk
        self.asked: list[tuple[str, int]] = []
        self.bytes_left: int | None = None
        self.flips: dict[str, int] = {}
        self.gone = False
        self.given = 0

    @property
    def source(self) -> FileSource:
        return FileSource(self, "n1", GROUP)

    async def fetch(
        self, peer: str, group: int, snapshot: str, name: str, offset: int = 0
    ) -> AsyncIterator[bytes]:
        assert (peer, group) == ("n1", GROUP)
        self.asked.append((name, offset))
        if self.gone:
            raise SnapshotGone(snapshot)
        data = self.files[name]
        while offset < len(data):
            chunk = data[offset : offset + self.chunk]
            if self.bytes_left is not None:
                chunk = chunk[: self.bytes_left]
                self.bytes_left -= len(chunk)
                if not chunk:
                    raise ConnectionError("the wire broke")
            offset += len(chunk)
            self.given += len(chunk)
            if self.flips.get(name):
                self.flips[name] -= 1
                chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
            yield chunk
