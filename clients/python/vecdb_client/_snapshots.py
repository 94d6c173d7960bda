"""Snapshots on their way to a folder and back.

A snapshot is a folder of checksummed files beside `manifest.msgpack`, which is written
last: a folder with one is complete. A file is written beside its name, checked
and renamed, so that an interrupted snapshot is taken up where it broke: what
is there already is announced and not sent again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import grpc
from vecdb_proto.v1 import cluster_pb2

from vecdb_client._errors import DataLossError
from vecdb_client._infos import CollectionInfo

MANIFEST = "manifest.msgpack"
_PART = ".partial"
_DATA_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    """A snapshot that is complete: its files and their bytes, of which so many came over now."""

    folder: Path
    files: int
    bytes: int
    received_bytes: int


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    """How far a restore is, in bytes; at the end what was restored."""

    bytes_done: int
    bytes_total: int
    collections: tuple[CollectionInfo, ...]

    @classmethod
    def of(cls, message: cluster_pb2.RestoreResponse) -> RestoreProgress:
        """The progress that the message tells."""
        infos = tuple(CollectionInfo.of(info) for info in message.collections)
        return cls(message.bytes_done, message.bytes_total, infos)


def _damaged(message: str) -> DataLossError:
    return DataLossError(message, code=grpc.StatusCode.DATA_LOSS)


def _inside(folder: Path, name: str) -> Path:
    """Where a file of that name belongs. Raises DataLossError for a name that leads out of the folder."""
    path = PurePosixPath(name)
    harmless = path.parts and not path.is_absolute() and not {"..", "."} & set(name.split("/"))
    if not harmless or "\\" in name or "\0" in name or name == MANIFEST or name.endswith(_PART):
        raise _damaged(f"the snapshot names a file {name!r}, which no snapshot may hold")
    return folder / path


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != _PART)
    return sorted(path for path in found if path != folder / MANIFEST)


def _described(folder: Path, path: Path) -> cluster_pb2.SnapshotFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    name = path.relative_to(folder).as_posix()
    return cluster_pb2.SnapshotFile(path=name, size=path.stat().st_size, sha256=digest)


def _synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SnapshotWriter:
    """Takes a snapshot's messages and writes its folder."""

    def __init__(self, folder: str | PathLike[str]) -> None:
        self._folder = Path(fspath(folder))
        self._folder.mkdir(parents=True, exist_ok=True)
        # Until it is complete again the folder must not look complete.
        (self._folder / MANIFEST).unlink(missing_ok=True)
        self._manifest: bytes | None = None
        self._expected: cluster_pb2.SnapshotFile | None = None
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self.received_bytes = 0

    def have(self) -> list[cluster_pb2.SnapshotFile]:
        """The files that are there already."""
        return [_described(self._folder, path) for path in _files(self._folder)]

    def take(self, message: cluster_pb2.SnapshotResponse) -> None:
        """Writes what one message brings. Raises DataLossError where it does not fit, OSError."""
        part = message.WhichOneof("part")
        if part == "manifest":
            self._manifest = message.manifest
        elif part == "file":
            self._end_file()
            self._begin_file(message.file)
        elif part == "data":
            if self._file is None:
                raise _damaged("the snapshot brings data that belong to no file")
            self._file.write(message.data)
            self._digest.update(message.data)
            self.received_bytes += len(message.data)

    def _begin_file(self, expected: cluster_pb2.SnapshotFile) -> None:
        path = _inside(self._folder, expected.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.with_name(path.name + _PART).open("wb")
        self._expected = expected
        self._digest = hashlib.sha256()

    def _end_file(self) -> None:
        if self._file is None or self._expected is None:
            return
        size = self._file.tell()
        self.close()
        path = _inside(self._folder, self._expected.path)
        part = path.with_name(path.name + _PART)
        if size != self._expected.size or self._digest.digest() != self._expected.sha256:
            part.unlink()
            raise _damaged(f"{self._expected.path} of the snapshot arrived damaged")
        _synced(part)
        part.replace(path)
        _synced(path.parent)

    def finish(self) -> SnapshotResult:
        """Completes the folder once the stream has ended well. Raises DataLossError without a manifest."""
        self._end_file()
        if self._manifest is None:
            raise _damaged("the snapshot has no manifest")
        part = self._folder / (MANIFEST + _PART)
        part.write_bytes(self._manifest)
        _synced(part)
        part.replace(self._folder / MANIFEST)
        _synced(self._folder)
        files = _files(self._folder)
        total = sum(path.stat().st_size for path in files)
        return SnapshotResult(self._folder, len(files), total, self.received_bytes)

    def close(self) -> None:
        """Closes the file that is being written, if any."""
        if self._file is not None:
            self._file.close()
            self._file = None


def restore_messages(folder: str | PathLike[str]) -> Iterator[cluster_pb2.RestoreRequest]:
    """What a restore sends: the manifest, then each file and its bytes.

    Raises FileNotFoundError where the folder holds no complete snapshot.
    """
    root = Path(fspath(folder))
    manifest = root / MANIFEST
    if not manifest.is_file():
        raise FileNotFoundError(f"{root} holds no complete snapshot: there is no {MANIFEST}")
    return _restore_messages(root, manifest.read_bytes())


def _restore_messages(root: Path, manifest: bytes) -> Iterator[cluster_pb2.RestoreRequest]:
    yield cluster_pb2.RestoreRequest(manifest=manifest)
    for path in _files(root):
        yield cluster_pb2.RestoreRequest(file=_described(root, path))
        with path.open("rb") as file:
            while data := file.read(_DATA_BYTES):
                yield cluster_pb2.RestoreRequest(data=data)
