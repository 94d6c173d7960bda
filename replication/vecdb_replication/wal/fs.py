"""The seam between the log and the operating system.

Small on purpose: whatever the log does to a disk goes through here, so that tests and the simulator
can lose unsynced bytes, tear writes, flip bits and return errors exactly where a real disk would.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

# Linux takes at most 1,024 pieces in one writev (IOV_MAX).
_MAX_PIECES = 1024
# Below this size one copy is cheaper than handing the kernel many pieces.
_JOIN_BELOW = 64 * 1024

Piece = bytes | memoryview


class File(Protocol):
    """An open file that grows at its end."""

    def append(self, pieces: Sequence[Piece]) -> None:
        """Write the pieces, one behind the other, at the end. On OSError any part may be there."""
        ...

    def pread(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`: fewer only at the end of the file."""
        ...

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def fdatasync(self) -> None:
        """Return once all bytes, and the size, are on the device."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file down to `size` bytes."""
        ...

    def evict(self) -> None:
        """Drop cached pages that the kernel takes for clean, so that reads come from the device."""
        ...

    def close(self) -> None:
        """Give the handle back; a second call does nothing."""
        ...


class Lock(Protocol):
    """A held directory lock."""

    def release(self) -> None:
        """Let go; a second call does nothing."""
        ...


class FileSystem(Protocol):
    """The calls the log makes on names. All raise OSError."""

    def mkdir(self, path: Path) -> None:
        """Make the directory and its parents, durably; nothing happens where it exists."""
        ...

    def listdir(self, path: Path) -> list[str]:
        """The names in the directory, in any order."""
        ...

    def open(self, path: Path, *, create: bool = False) -> File:
        """Open for reading and appending; `create` makes an empty file in place of what was there."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name, atomically."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        ...

    def fsync_dir(self, path: Path) -> None:
        """Make the names in the directory durable."""
        ...

    def lock(self, path: Path) -> Lock:
        """Lock through the file `path` (made if missing); BlockingIOError where another holds it."""
        ...


class OsFile:
    """A `File` on a descriptor. It keeps its own end, so that every write names its offset."""

    __slots__ = ("_end", "_fd")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = os.fstat(fd).st_size

    def append(self, pieces: Sequence[Piece]) -> None:
        """See `File.append`."""
        if len(pieces) > 1 and sum(map(len, pieces)) <= _JOIN_BELOW:
            pieces = [b"".join(pieces)]
        for start in range(0, len(pieces), _MAX_PIECES):
            self._write([memoryview(piece) for piece in pieces[start : start + _MAX_PIECES] if len(piece)])

    def _write(self, pieces: list[memoryview]) -> None:
        while pieces:
            written = os.pwritev(self._fd, pieces, self._end)
            self._end += written
            # A full disk, a signal or the 2 GiB limit of one call can end a write early.
            while pieces and written >= len(pieces[0]):
                written -= len(pieces[0])
                del pieces[0]
            if written:
                pieces[0] = pieces[0][written:]

    def pread(self, offset: int, length: int) -> bytes:
        """See `File.pread`."""
        first = os.pread(self._fd, length, offset)
        if len(first) in (0, length):
            return first
        # One call reads at most 2 GiB, and may be cut short by a signal.
        return first + self.pread(offset + len(first), length - len(first))

    def size(self) -> int:
        """See `File.size`."""
        return os.fstat(self._fd).st_size

    def fdatasync(self) -> None:
        """See `File.fdatasync`."""
        os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        os.ftruncate(self._fd, size)
        self._end = size

    def evict(self) -> None:
        """See `File.evict`."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """See `File.close`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OsLock:
    """An flock: the kernel drops it when the process dies, however it dies."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """See `Lock.release`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OsFileSystem:
    """The real thing."""

    def mkdir(self, path: Path) -> None:
        """See `FileSystem.mkdir`."""
        if path.is_dir():
            return
        self.mkdir(path.parent)
        path.mkdir(exist_ok=True)
        self.fsync_dir(path.parent)

    def listdir(self, path: Path) -> list[str]:
        """See `FileSystem.listdir`."""
        return os.listdir(path)  # noqa: PTH208 (names, not paths, and one system call)

    def open(self, path: Path, *, create: bool = False) -> OsFile:
        """See `FileSystem.open`."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if create else 0)
        return OsFile(os.open(path, flags, 0o600))

    def rename(self, source: Path, target: Path) -> None:
        """See `FileSystem.rename`."""
        source.rename(target)

    def unlink(self, path: Path) -> None:
        """See `FileSystem.unlink`."""
        path.unlink()

    def fsync_dir(self, path: Path) -> None:
        """See `FileSystem.fsync_dir`."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: Path) -> OsLock:
        """See `FileSystem.lock`."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return OsLock(fd)
