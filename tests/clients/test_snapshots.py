from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import vecdb_client as vc
from vecdb_proto.v1 import cluster_pb2, collections_pb2, common_pb2

from tests.clients.scripted import Fail, ScriptedServer

SNAPSHOT = "Cluster/Snapshot"
FILES = {"shard-1/a.seg": b"abc" * 1000, "shard-1/b.seg": b"", "c": bytes(range(256))}
Response = cluster_pb2.SnapshotResponse


def described(name: str, content: bytes) -> cluster_pb2.SnapshotFile:
    return cluster_pb2.SnapshotFile(path=name, size=len(content), sha256=hashlib.sha256(content).digest())


def whole(request: cluster_pb2.SnapshotRequest, _context: Any) -> Iterator[Response]:
    """All of FILES but those that the caller has."""
    yield Response(manifest=b"manifest")
    have = {file.path: file.sha256 for file in request.have}
    for name, content in FILES.items():
        file = described(name, content)
        if have.get(name) != file.sha256:
            yield Response(file=file)
            for start in range(0, len(content), 700):
                yield Response(data=content[start : start + 700])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_snapshot_becomes_a_verified_folder(server: ScriptedServer, db: Any, tmp_path: Path) -> None:
    """Every file arrives byte for byte, the manifest beside them, and the result sums them up."""
    server.script(SNAPSHOT, whole)
    told: list[int] = []
    result = db.snapshot(tmp_path / "snap", ["docs"], progress=told.append)
    total = sum(map(len, FILES.values()))
    assert contents(tmp_path / "snap") == {**FILES, "manifest.msgpack": b"manifest"}
    assert result == vc.SnapshotResult(tmp_path / "snap", 3, total, total)
    assert told == sorted(told)
    assert told[-1] == total
    assert list(server.requests[SNAPSHOT][0].collections) == ["docs"]
    with pytest.raises(TypeError, match="one string"):
        db.snapshot(tmp_path / "other", "docs")


def test_an_interrupted_snapshot_is_taken_up(server: ScriptedServer, db: Any, tmp_path: Path) -> None:
    """What is there whole is announced and not sent again; an interrupted folder has no manifest."""

    def broken(request: cluster_pb2.SnapshotRequest, context: Any) -> Iterator[Response]:
        for message in whole(request, context):
            if message.file.path == "c":
                context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
            yield message

    server.script(SNAPSHOT, broken)
    with pytest.raises(vc.UnavailableError, match="going down"):
        db.snapshot(tmp_path)
    assert "manifest.msgpack" not in contents(tmp_path)
    assert contents(tmp_path)["shard-1/a.seg"] == FILES["shard-1/a.seg"]
    server.script(SNAPSHOT, whole)
    (tmp_path / "c.partial").write_bytes(b"left over")
    result = db.snapshot(tmp_path)
    assert "shard-1/a.seg" in {file.path for file in server.requests[SNAPSHOT][1].have}
    assert (result.files, result.received_bytes < result.bytes) == (3, True)
    assert contents(tmp_path) == {**FILES, "manifest.msgpack": b"manifest"}


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([Response(file=described("a", b"right")), Response(data=b"wrong")], "arrived damaged"),
        ([Response(file=described("a", b"short")), Response(data=b"sho")], "arrived damaged"),
        ([Response(data=b"x")], "belong to no file"),
        ([], "no manifest"),
        *(
            ([Response(file=described(name, b""))], "no snapshot may hold")
            for name in (
                "../a",
                "/etc/passwd",
                "a/../../b",
                "",
                ".",
                "manifest.msgpack",
                "a.partial",
                "a\\b",
                "a/./b",
            )
        ),
    ],
)
def test_damage_is_found_and_leaves_no_manifest(
    server: ScriptedServer, db: Any, tmp_path: Path, messages: list[Response], says: str
) -> None:
    """Wrong bytes, stray data and names that lead out are DataLossErrors; nothing looks complete."""
    server.script(SNAPSHOT, lambda _request, _context: iter(messages))
    with pytest.raises(vc.DataLossError, match=says):
        db.snapshot(tmp_path / "in" / "snap")
    assert contents(tmp_path) in ({}, {"in/snap/a.partial": b"wrong"})


def test_a_restore_sends_the_folder_back(server: ScriptedServer, db: Any, tmp_path: Path) -> None:
    """Files arrive as they were; progress and result are told; the session begins anew."""
    server.script(SNAPSHOT, whole)
    db.snapshot(tmp_path)
    arrived: dict[str, bytes] = {}

    def take(messages: Iterator[Any], _context: Any) -> Iterator[Any]:
        name = "manifest.msgpack"
        for message in messages:
            if message.HasField("file"):
                name = message.file.path
                arrived[name] = b""
                yield cluster_pb2.RestoreResponse(bytes_done=len(arrived), bytes_total=9)
            else:
                arrived[name] = arrived.get(name, b"") + (message.manifest or message.data)
        place = common_pb2.ShardPosition(shard=9, index=1)
        session = common_pb2.SessionToken(epoch=77, positions=[place])
        config = collections_pb2.CollectionConfig(name="docs")
        info = collections_pb2.CollectionInfo(config=config, documents=3)
        yield cluster_pb2.RestoreResponse(bytes_done=9, bytes_total=9, collections=[info], session=session)

    server.script("Cluster/Restore", take)
    db.merge_session("CQUAAAAAAAAAEAc=")  # epoch 5, catalogue 7
    told: list[vc.RestoreProgress] = []
    restored = db.restore(tmp_path, progress=told.append)
    assert [info.name for info in restored] == ["docs"]
    assert arrived == {**FILES, "manifest.msgpack": b"manifest"}
    assert told[-1].bytes_done == told[-1].bytes_total == 9
    assert db.session not in ("", "CQUAAAAAAAAAEAc=")


def test_a_restore_that_cannot_be_is_refused(server: ScriptedServer, db: Any, tmp_path: Path) -> None:
    """A folder without a manifest raises before anything is sent; a refusal of the server comes through."""
    with pytest.raises(FileNotFoundError, match="no complete snapshot"):
        db.restore(tmp_path)
    (tmp_path / "manifest.msgpack").write_bytes(b"m")
    server.script("Cluster/Restore", Fail(grpc.StatusCode.UNIMPLEMENTED, "not yet", "NOT_IMPLEMENTED"))
    with pytest.raises(vc.UnimplementedError):
        db.restore(tmp_path)
