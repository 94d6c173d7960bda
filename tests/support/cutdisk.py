"""A real disk whose process dies before a chosen operation, and which may then forget what was not synced."""

from __future__ import annotations

import shutil
from pathlib import Path

from vecdb_replication.snapshots import LocalDisk


class Cut(BaseException):
    """The process died. Nothing of the code under test may catch it."""


class CutDisk(LocalDisk):
    """Counts operations, and raises Cut in place of the one after `limit` of them.

    `lose_power` takes back what a power loss may: names that were not synced,
    the last first, folders with all in them, and the second half of bytes that were not.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.done: list[str] = []
        self.room: int | None = None
        self._made: list[Path] = []
        self._renamed: list[tuple[Path, Path]] = []
        self._written: dict[Path, int] = {}

    def _count(self, operation: str) -> None:
        if self.limit is not None and len(self.done) >= self.limit:
            raise Cut
        self.done.append(operation)

    def mkdir(self, path: Path) -> None:
        self._count("mkdir")
        self._made += [each for each in (path, *path.parents) if not each.exists()]
        super().mkdir(path)

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        self._count("write_at")
        super().write_at(path, offset, data)
        self._written.setdefault(path, offset)

    def sync_file(self, path: Path) -> None:
        self._count("sync_file")
        super().sync_file(path)
        self._written.pop(path, None)

    def sync_folder(self, path: Path) -> None:
        self._count("sync_folder")
        super().sync_folder(path)
        self._made = [each for each in self._made if each.parent != path]
        self._renamed = [each for each in self._renamed if each[1].parent != path]

    def rename(self, source: Path, target: Path) -> None:
        self._count("rename")
        super().rename(source, target)
        self._renamed.append((source, target))
        self._made = [_moved(path, source, target) for path in self._made if path != source]
        self._written = {_moved(path, source, target): start for path, start in self._written.items()}

    def remove(self, path: Path) -> None:
        self._count("remove")
        super().remove(path)

    def free(self, path: Path) -> int:
        return super().free(path) if self.room is None else self.room

    def lose_power(self) -> None:
        """What was not synced is gone."""
        for path, start in self._written.items():
            if path.exists():
                size = path.stat().st_size
                with path.open("r+b") as file:
                    file.truncate(start + (size - start) // 2)
        for source, target in reversed(self._renamed):
            if target.exists() and source.parent.exists() and not source.exists():
                target.rename(source)
        for path in self._made:
            shutil.rmtree(path, ignore_errors=True)


def _moved(path: Path, source: Path, target: Path) -> Path:
    return target / path.relative_to(source) if path.is_relative_to(source) else path
