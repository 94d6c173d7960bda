"""The engine's seam to the file system: whole files written once, synced, read back, and removed.

Directory entries are as volatile as bytes: a file counts only once its directory is synced too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeAlias

import crc32c

Chunk: TypeAlias = bytes | memoryview

_STEP = 4 << 20


class FileSystem(Protocol):
    """What sealing a segment needs of a disk. Every method raises OSError."""

    def write(self, path: Path, chunks: Iterable[Chunk]) -> tuple[int, int]:
        """Create (or replace) a file from chunks and fsync it; its size and CRC32C."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Make the entries of a directory durable."""
        ...

    def remove(self, path: Path) -> None:
        """Unlink a file; none there is no error."""
        ...


class LocalFileSystem:
    """The real one."""

    def write(self, path: Path, chunks: Iterable[Chunk]) -> tuple[int, int]:
        """See ``FileSystem``. A file that could not be written whole is removed again."""
        try:
            with path.open("wb", buffering=0) as file:
                size = crc = 0
                for piece in _pieces(chunks):
                    crc = crc32c.crc32c(piece, crc)
                    done = 0
                    while done < len(piece):
                        done += file.write(piece[done:])
                    size += len(piece)
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return size, crc

    def sync_directory(self, path: Path) -> None:
        """See ``FileSystem``."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def remove(self, path: Path) -> None:
        """See ``FileSystem``."""
        path.unlink(missing_ok=True)


def _pieces(chunks: Iterable[Chunk]) -> Iterable[memoryview]:
    """Chunks cut to a size whose checksum and write leave other threads their turn."""
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        for start in range(0, len(view), _STEP):
            yield view[start : start + _STEP]


def checksum(data: Chunk) -> int:
    """The CRC32C of bytes, computed in pieces so that no thread is kept from running for long."""
    crc = 0
    for piece in _pieces([data]):
        crc = crc32c.crc32c(piece, crc)
    return crc
