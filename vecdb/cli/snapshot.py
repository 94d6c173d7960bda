"""`vecdb snapshot` and `vecdb restore`: collections into a folder, and back.

The folder holds the snapshot's files under their own names, and its manifest,
which is written last: a folder without one is an interrupted snapshot, which
the same command takes up again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from vecdb.cli.connection import Json, Node, with_node
from vecdb.cli.exits import CommandError
from vecdb.cli.help import examples
from vecdb.cli.output import human_bytes, print_json, print_line
from vecdb.cli.progress import Progress
from vecdb.exit_code import ExitCode

if TYPE_CHECKING:
    from vecdb_proto.v1 import cluster_pb2

MANIFEST = "manifest.msgpack"
_PARTIAL = ".partial"
_PART_BYTES = 1 << 20


@with_node
def snapshot(
    node: Node,
    folder: Annotated[Path, typer.Argument(help="The folder to write; made if missing.", show_default=False)],
    collection: Annotated[
        list[str] | None,
        typer.Option("--collection", "-c", help="A collection; every one if left out.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Take a snapshot of collections into a folder.

    A folder that an interrupted snapshot left behind is taken up again.
    """
    if (folder / MANIFEST).exists():
        raise CommandError(f"{folder}: holds a snapshot already; choose another folder")
    files, size = _take(node, folder, collection or [])
    if json:
        print_json({"folder": str(folder), "files": files, "bytes": size})
    else:
        print_line(f"{folder}: {files} files, {human_bytes(size)}")


@with_node
def restore(
    node: Node,
    folder: Annotated[Path, typer.Argument(help="The folder of a snapshot.", show_default=False)],
    json: Json = False,
) -> None:
    """Restore a snapshot from a folder.

    Session tokens from before are refused afterwards: what they have seen may be gone.
    """
    if not (folder / MANIFEST).is_file():
        raise CommandError(f"{folder}: holds no complete snapshot ({MANIFEST} is missing)")
    names = _restore(node, folder, quiet=json)
    if json:
        print_json({"collections": names})
    else:
        print_line(f"restored {', '.join(names) or 'nothing'}")


def _take(node: Node, folder: Path, collections: Sequence[str]) -> tuple[int, int]:
    """Receives a snapshot; says how many files and bytes the folder holds then."""
    from vecdb_proto.v1 import cluster_pb2, cluster_pb2_grpc

    have = list(_files(folder))
    request = cluster_pb2.SnapshotRequest(collections=collections, have=have)
    receiver = _Receiver(folder)
    with node.channel() as channel:
        stub = cluster_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]
        for part in stub.Snapshot(request, metadata=node.metadata()):
            receiver.take(part)
    receiver.finish()
    return len(have) + receiver.files, sum(file.size for file in have) + receiver.bytes


class _Receiver:
    """Writes what a Snapshot stream brings, and believes none of it unchecked."""

    def __init__(self, folder: Path) -> None:
        self.files = 0
        self.bytes = 0
        self._folder = folder
        self._manifest: bytes | None = None
        self._file: cluster_pb2.SnapshotFile | None = None
        self._stream: BinaryIO | None = None
        self._left = 0
        self._digest = hashlib.sha256()

    def take(self, part: cluster_pb2.SnapshotResponse) -> None:
        kind = part.WhichOneof("part")
        if kind == "manifest":
            self._manifest = part.manifest
        elif kind == "file":
            self._begin(part.file)
        elif kind == "data":
            self._write(part.data)

    def finish(self) -> None:
        """Writes the manifest, once everything it names is on disk."""
        if self._stream is not None or self._manifest is None:
            raise CommandError(
                "the snapshot ended early; run the command again to take it up", ExitCode.UNAVAILABLE
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / (MANIFEST + _PARTIAL)).open("wb") as stream:
            stream.write(self._manifest)
            _settle(stream, self._folder / MANIFEST)

    def _begin(self, file: cluster_pb2.SnapshotFile) -> None:
        if self._stream is not None:
            raise _broken("a file began before the last one ended")
        target = self._folder / _safe(file.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._left, self._digest = file, file.size, hashlib.sha256()
        self._stream = target.with_name(target.name + _PARTIAL).open("wb")
        if not self._left:
            self._end(file, self._stream)

    def _write(self, data: bytes) -> None:
        if self._stream is None or self._file is None or len(data) > self._left:
            raise _broken("it sent bytes that belong to no file")
        self._stream.write(data)
        self._digest.update(data)
        self._left -= len(data)
        if not self._left:
            self._end(self._file, self._stream)

    def _end(self, file: cluster_pb2.SnapshotFile, stream: BinaryIO) -> None:
        self._stream = None
        with stream:
            if self._digest.digest() != file.sha256:
                raise _broken(f"{file.path} arrived damaged")
            _settle(stream, self._folder / file.path)
        self.files += 1
        self.bytes += file.size


def _settle(stream: BinaryIO, target: Path) -> None:
    """Makes a partial file the whole one, durably: only then does it count as there."""
    stream.flush()
    os.fsync(stream.fileno())
    target.with_name(target.name + _PARTIAL).replace(target)


def _safe(path: str) -> str:
    """The path of a file in a snapshot, if it stays inside the snapshot's folder."""
    parts = PurePosixPath(path).parts
    inside = parts and path == "/".join(parts) and ".." not in parts and not path.startswith("/")
    if not inside or "\0" in path or path == MANIFEST or path.endswith(_PARTIAL):
        raise _broken(f"it named a file {path!r}")
    return path


def _broken(what: str) -> CommandError:
    return CommandError(f"the node broke the protocol: {what}", ExitCode.INTERNAL)


def _files(folder: Path) -> Iterator[cluster_pb2.SnapshotFile]:
    """The complete files of a snapshot's folder, the manifest aside."""
    from vecdb_proto.v1 import cluster_pb2

    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST and not name.endswith(_PARTIAL):
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").digest()
            yield cluster_pb2.SnapshotFile(path=name, size=path.stat().st_size, sha256=digest)


def _restore(node: Node, folder: Path, quiet: bool) -> list[str]:
    from vecdb_proto.v1 import cluster_pb2, cluster_pb2_grpc

    files = list(_files(folder))
    total = sum(file.size for file in files)

    def parts() -> Iterator[cluster_pb2.RestoreRequest]:
        yield cluster_pb2.RestoreRequest(manifest=(folder / MANIFEST).read_bytes())
        for file in files:
            yield cluster_pb2.RestoreRequest(file=file)
            with (folder / file.path).open("rb") as stream:
                while data := stream.read(_PART_BYTES):
                    yield cluster_pb2.RestoreRequest(data=data)

    names: list[str] = []
    done = 0
    with node.channel() as channel, Progress("restoring", total, unit="bytes", quiet=quiet) as progress:
        stub = cluster_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]
        for reply in stub.Restore(parts(), metadata=node.metadata()):
            progress.advance(reply.bytes_done - done)
            done = reply.bytes_done
            names += [info.config.name for info in reply.collections]
    return names


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        epilog=examples("vecdb snapshot backup/2026-05-01", "vecdb snapshot backup/docs --collection docs")
    )(snapshot)
    app.command(epilog=examples("vecdb restore backup/2026-05-01"))(restore)
