"""The seam to the file system: whatever makes, moves and removes files of snapshots goes through here.

Everything that a crash may cut in two is an operation of its own, so that a
test can stop before each.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """Operations on real paths. All raise OSError."""

    def mkdir(self, path: Path) -> None:
        """Make a folder and its parents; nothing happens where it exists."""
        ...

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        """Write into a file, which is made where there is none, and cut it off behind the data."""
        ...

    def sync_file(self, path: Path) -> None:
        """Make a file's bytes durable."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Give a file or folder another name. A target that is a folder has to be empty."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file, or a folder and all in it; none there is no error."""
        ...

    def free(self, path: Path) -> int:
        """Bytes that may still be written where `path` is."""
        ...


class LocalDisk:
    """The real one."""

    def mkdir(self, path: Path) -> None:
        """See `Disk`."""
        path.mkdir(parents=True, exist_ok=True)

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        """See `Disk`."""
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                done = os.pwrite(handle, view, offset)
                offset, view = offset + done, view[done:]
            os.ftruncate(handle, offset)
        finally:
            os.close(handle)

    def sync_file(self, path: Path) -> None:
        """See `Disk`."""
        _sync(path, os.O_RDONLY)

    def sync_folder(self, path: Path) -> None:
        """See `Disk`."""
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)

    def rename(self, source: Path, target: Path) -> None:
        """See `Disk`."""
        source.rename(target)

    def remove(self, path: Path) -> None:
        """See `Disk`."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def free(self, path: Path) -> int:
        """See `Disk`."""
        return shutil.disk_usage(path).free


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
