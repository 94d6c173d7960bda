"""A disk in memory that forgets what a real one may forget.

It keeps two copies of everything: what a running process sees (the page cache and the kernel's names)
and what is on the device. `fdatasync` and `fsync_dir` move the one to the other; `crash` throws away the
first, keeping none, all, or a random torn part of what was not synced. From one seed, always the same.

What it models: sectors of an unsynced write that reach the device out of order, a file's size growing
ahead of its bytes, names that were not fsynced, a failed fdatasync after which the kernel takes lost
pages for clean (so that the next one "succeeds"), partial writes, full disks, flipped bits.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from vecdb_replication.wal.fs import Piece

SECTOR = 512

Keep = Literal["none", "torn", "all"]
Op = Literal["open", "append", "pread", "fdatasync", "truncate", "rename", "unlink", "fsync_dir"]


@dataclass
class _Inode:
    cache: bytearray = field(default_factory=bytearray)
    device: bytearray = field(default_factory=bytearray)
    # Ranges of the cache that the device has not got, in the order of writing.
    dirty: list[tuple[int, int]] = field(default_factory=list)

    def write_back(self, ranges: Sequence[tuple[int, int]]) -> None:
        for start, end in ranges:
            if len(self.device) < end:
                self.device.extend(bytes(end - len(self.device)))
            self.device[start:end] = self.cache[start:end]

    def fit(self) -> None:
        """Give the device the size the cache has."""
        del self.device[len(self.cache) :]
        self.device.extend(bytes(len(self.cache) - len(self.device)))


@dataclass
class _Fault:
    op: Op
    left: int
    error: int
    name: str


@dataclass(frozen=True)
class _NameChange:
    directory: Path
    target: Path
    inode: _Inode | None
    source: Path | None = None

    def apply(self, names: dict[Path, _Inode]) -> None:
        if self.source is not None:
            names.pop(self.source, None)
        if self.inode is None:
            names.pop(self.target, None)
        else:
            names[self.target] = self.inode


class FaultFileSystem:
    """A `FileSystem` that can crash, fail and rot.

    `capacity`, when set, is how many bytes all files together may hold. `on_op(op, path)` is called
    before each operation. Not thread-safe against `crash`.
    """

    def __init__(self, seed: int = 0, *, on_op: Callable[[Op, Path], None] | None = None) -> None:
        self.random = random.Random(seed)
        self.capacity: int | None = None
        self.on_op = on_op
        self._directories: set[Path] = set()
        self._names: dict[Path, _Inode] = {}
        self._durable_names: dict[Path, _Inode] = {}
        self._pending: list[_NameChange] = []
        self._faults: list[_Fault] = []
        self._locked: set[Path] = set()
        self.handles: list[FaultFile] = []
        self._life = 0

    # What tests and simulators do to it

    def fail(self, op: Op, *, nth: int = 1, error: int = errno.EIO, name: str = "") -> None:
        """Let the nth `op` from now on fail, once; of those on files whose name contains `name`."""
        self._faults.append(_Fault(op, nth, error, name))

    def mend(self) -> None:
        """No operation that was to fail does."""
        self._faults.clear()

    def restart(self) -> None:
        """The process dies, the machine lives on: handles and locks go, the page cache stays."""
        self._life += 1
        self.handles.clear()
        self._locked.clear()
        self.mend()

    def crash(self, keep: Keep = "none") -> None:
        """The power fails: of what was not synced, `keep` nothing, everything, or a random part."""
        self.restart()
        self._settle_names(keep)
        for inode in {id(inode): inode for inode in self._durable_names.values()}.values():
            if keep == "all":
                inode.write_back(inode.dirty)
                inode.fit()
            elif keep == "torn":
                self._tear(inode)
            inode.cache = bytearray(inode.device)
            inode.dirty.clear()
        self._names = dict(self._durable_names)

    def flip(self, path: Path, bit: int) -> None:
        """Turn one bit of a file, in the cache and on the device."""
        inode = self._names[path]
        for copy in (inode.cache, inode.device):
            if bit // 8 < len(copy):
                copy[bit // 8] ^= 1 << bit % 8

    def read(self, path: Path) -> bytes:
        """What a process would read now."""
        return bytes(self._names[path].cache)

    def write(self, path: Path, content: bytes) -> None:
        """Put a file there, durably."""
        self._directories.add(path.parent)
        inode = _Inode(bytearray(content), bytearray(content))
        self._names[path] = self._durable_names[path] = inode

    def remove(self, path: Path) -> None:
        """Take a file away, durably."""
        del self._names[path]
        self._durable_names.pop(path, None)

    def image(self) -> dict[Path, bytes]:
        """Every file as a process would read it."""
        return {path: bytes(inode.cache) for path, inode in sorted(self._names.items())}

    @classmethod
    def of(cls, image: dict[Path, bytes], seed: int = 0) -> FaultFileSystem:
        """A disk that holds these files, durably."""
        fs = cls(seed)
        for path, content in image.items():
            fs.write(path, content)
        return fs

    # What the log does to it

    def mkdir(self, path: Path) -> None:
        self._directories.add(path)

    def listdir(self, path: Path) -> list[str]:
        if path not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return sorted(name.name for name in self._names if name.parent == path)

    def open(self, path: Path, *, create: bool = False) -> FaultFile:
        self._strike("open", path)
        if create:
            # The name is new to the device even where an old inode held it.
            self._change(_NameChange(path.parent, path, _Inode()))
        elif path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        handle = FaultFile(self, path, self._names[path], self._life)
        self.handles.append(handle)
        return handle

    def rename(self, source: Path, target: Path) -> None:
        self._strike("rename", source)
        self._change(_NameChange(target.parent, target, self._names[source], source))

    def unlink(self, path: Path) -> None:
        self._strike("unlink", path)
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self._change(_NameChange(path.parent, path, None))

    def fsync_dir(self, path: Path) -> None:
        self._strike("fsync_dir", path)
        for change in self._pending:
            if change.directory == path:
                change.apply(self._durable_names)
        self._pending = [change for change in self._pending if change.directory != path]

    def lock(self, path: Path) -> FaultLock:
        if path in self._locked:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(path))
        self._locked.add(path)
        return FaultLock(self, path, self._life)

    # How it works

    def _strike(self, op: Op, path: Path) -> None:
        if self.on_op is not None:
            self.on_op(op, path)
        for fault in self._faults:
            if fault.op == op and fault.name in path.name:
                fault.left -= 1
                if fault.left == 0:
                    self._faults.remove(fault)
                    raise OSError(fault.error, os.strerror(fault.error), str(path))

    def _room(self) -> int:
        if self.capacity is None:
            return 1 << 62
        return max(0, self.capacity - sum(len(inode.cache) for inode in self._names.values()))

    def _change(self, change: _NameChange) -> None:
        change.apply(self._names)
        self._pending.append(change)

    def _settle_names(self, keep: Keep) -> None:
        # Journals keep the order of name changes, so what survives is a prefix of them.
        kept = {"none": 0, "all": len(self._pending), "torn": self.random.randint(0, len(self._pending))}
        for change in self._pending[: kept[keep]]:
            change.apply(self._durable_names)
        self._pending.clear()

    def _tear(self, inode: _Inode) -> None:
        grown = len(inode.cache)
        how = self.random.choice(("none", "prefix", "sectors", "all"))
        if how == "none" or not inode.dirty:
            return
        reached = self.random.randint(min(start for start, _ in inode.dirty), grown)
        for start, end in inode.dirty:
            if how == "prefix":
                inode.write_back([(start, min(end, max(start, reached)))])
            else:
                inode.write_back([part for part in _sectors(start, end) if how == "all" or self._coin()])
        # The size may run ahead of the bytes; what was never written then reads as zeros.
        if self._coin():
            inode.fit()

    def _coin(self) -> bool:
        return self.random.random() < 0.5

    def sync_fails(self, inode: _Inode) -> None:
        """What a failed fdatasync leaves: any part written, and all of it taken for clean."""
        for start, end in inode.dirty:
            inode.write_back([part for part in _sectors(start, end) if self._coin()])
        inode.dirty.clear()


def _sectors(start: int, end: int) -> list[tuple[int, int]]:
    edges = [start, *range(start - start % SECTOR + SECTOR, end, SECTOR), end]
    return list(pairwise(edges))


class FaultFile:
    """A `File` on a `FaultFileSystem`."""

    def __init__(self, fs: FaultFileSystem, path: Path, inode: _Inode, life: int) -> None:
        self._fs = fs
        self._path = path
        self._inode = inode
        self._life = life

    def append(self, pieces: Sequence[Piece]) -> None:
        self._check()
        content = b"".join(pieces)
        try:
            self._fs._strike("append", self._path)
        except OSError:
            self._grow(content[: self._fs.random.randint(0, max(0, len(content) - 1))])
            raise
        room = self._fs._room()
        self._grow(content[:room])
        if len(content) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def pread(self, offset: int, length: int) -> bytes:
        self._check()
        self._fs._strike("pread", self._path)
        return bytes(self._inode.cache[offset : offset + length])

    def size(self) -> int:
        return len(self._inode.cache)

    def fdatasync(self) -> None:
        self._check()
        try:
            self._fs._strike("fdatasync", self._path)
        except OSError:
            self._fs.sync_fails(self._inode)
            raise
        self._inode.write_back(self._inode.dirty)
        self._inode.fit()
        self._inode.dirty.clear()

    def truncate(self, size: int) -> None:
        self._check()
        self._fs._strike("truncate", self._path)
        del self._inode.cache[size:]
        self._inode.dirty = [(a, min(b, size)) for a, b in self._inode.dirty if a < size]

    def evict(self) -> None:
        """Clean pages come from the device from now on; the size is the kernel's and stays."""
        fresh = self._inode.device[: len(self._inode.cache)]
        fresh.extend(bytes(len(self._inode.cache) - len(fresh)))
        for start, end in self._inode.dirty:
            fresh[start:end] = self._inode.cache[start:end]
        self._inode.cache = fresh

    def close(self) -> None:
        self._life = -1
        if self in self._fs.handles:
            self._fs.handles.remove(self)

    def _check(self) -> None:
        if self._life != self._fs._life:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), str(self._path))

    def _grow(self, content: bytes) -> None:
        start = len(self._inode.cache)
        self._inode.cache += content
        if content:
            self._inode.dirty.append((start, start + len(content)))


class FaultLock:
    """A `Lock` on a `FaultFileSystem`; one from before a crash does nothing."""

    def __init__(self, fs: FaultFileSystem, path: Path, life: int) -> None:
        self._fs = fs
        self._path = path
        self._life = life

    def release(self) -> None:
        if self._life == self._fs._life:
            self._fs._locked.discard(self._path)
            self._life = -1
