"""`vecdb snapshot` and `restore` against a real server with written answers."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vecdb_proto.v1 import cluster_pb2, collections_pb2

from tests.clients.scripted import ScriptedServer
from tests.support.certificates import make_certificate
from vecdb.cli.snapshot import MANIFEST
from vecdb.security.tls import server_credentials

Part = cluster_pb2.SnapshotResponse
FILES = {"shard-7/vectors.bin": b"v" * 3_000_000, "shard-7/empty": b"", "catalogue": b"catalogue"}


def _file(path: str, data: bytes) -> cluster_pb2.SnapshotFile:
    return cluster_pb2.SnapshotFile(path=path, size=len(data), sha256=hashlib.sha256(data).digest())


def _stream(files: dict[str, bytes] = FILES, *, skip: tuple[str, ...] = ()) -> Iterator[Part]:
    yield Part(manifest=b"manifest")
    for path, data in files.items():
        if path not in skip:
            yield Part(file=_file(path, data))
            for start in range(0, len(data), 1 << 20):
                yield Part(data=data[start : start + (1 << 20)])


def _on_disk(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_into_a_folder(cli: Any, server: ScriptedServer, tmp_path: Path) -> None:
    """Every file arrives under its name, with the manifest beside them."""
    server.script("Cluster/Snapshot", lambda *_: _stream())
    folder = tmp_path / "a" / "b"
    outcome = cli("snapshot", folder, "-c", "docs", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out) == {"folder": str(folder), "files": 3, "bytes": 3_000_009}
    assert _on_disk(folder) == FILES | {MANIFEST: b"manifest"}
    (request,) = server.requests["Cluster/Snapshot"]
    assert list(request.collections) == ["docs"]
    assert "holds a snapshot already" in cli("snapshot", folder).error


def test_an_interrupted_one_is_taken_up(cli: Any, server: ScriptedServer, tmp_path: Path) -> None:
    """Whole files of the first attempt are not asked for again; half ones are."""
    parts = list(_stream())
    server.script("Cluster/Snapshot", lambda *_: iter(parts[:3]), lambda *_: iter(parts[:-1]))
    for _ in range(2):
        outcome = cli("snapshot", tmp_path / "s")
        assert outcome.code == 69
        assert "take it up" in outcome.error
        assert not (tmp_path / "s" / MANIFEST).exists()
    server.script("Cluster/Snapshot", lambda *_: _stream(skip=("shard-7/vectors.bin", "shard-7/empty")))
    outcome = cli("snapshot", tmp_path / "s")
    assert outcome.out == f"{tmp_path}/s: 3 files, 2.9 MiB\n"
    have = server.requests["Cluster/Snapshot"][-1].have
    assert {file.path: file.sha256 for file in have} == {
        path: hashlib.sha256(FILES[path]).digest() for path in ("shard-7/vectors.bin", "shard-7/empty")
    }
    left = _on_disk(tmp_path / "s")
    assert {path: left[path] for path in FILES} == FILES


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "./a", "a\0b", MANIFEST, "a.partial", "a/"],
)
def test_names_that_would_leave_the_folder(
    cli: Any, server: ScriptedServer, tmp_path: Path, path: str
) -> None:
    """A server cannot make the command write where it should not."""
    server.script("Cluster/Snapshot", lambda *_: _stream({path: b"x"}))
    outcome = cli("snapshot", tmp_path / "s")
    assert outcome.code == 70
    assert "broke the protocol" in outcome.error
    assert _on_disk(tmp_path) == {}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([Part(data=b"x")], "belong to no file"),
        ([Part(file=_file("a", b"xy")), Part(data=b"xyz")], "belong to no file"),
        ([Part(file=_file("a", b"xy")), Part(file=_file("b", b"xy"))], "before the last one ended"),
        ([Part(file=_file("a", b"xy")), Part(data=b"XY")], "a arrived damaged"),
    ],
)
def test_a_broken_stream(
    cli: Any, server: ScriptedServer, tmp_path: Path, parts: list[Part], words: str
) -> None:
    """Bytes that do not add up are refused, and nothing of them passes for a file."""
    server.script("Cluster/Snapshot", lambda *_: iter([Part(manifest=b"m"), *parts]))
    outcome = cli("snapshot", tmp_path / "s")
    assert outcome.code == 70
    assert words in outcome.error
    assert set(_on_disk(tmp_path / "s")) <= {"a.partial"}


def test_restore(cli: Any, server: ScriptedServer, tmp_path: Path) -> None:
    """What was taken is what is sent back: manifest first, then every file with its hash."""
    server.script("Cluster/Snapshot", lambda *_: _stream())
    assert cli("snapshot", tmp_path / "s").code == 0
    received: dict[str, bytes] = {}

    def restore(requests: Iterator[cluster_pb2.RestoreRequest], _context: Any) -> Iterator[Any]:
        assert next(requests).manifest == b"manifest"
        for request in requests:
            if request.WhichOneof("part") == "file":
                path, digest = request.file.path, request.file.sha256
                received[path] = b""
                assert digest == hashlib.sha256(FILES[path]).digest()
            else:
                received[path] += request.data
        yield cluster_pb2.RestoreResponse(bytes_done=3_000_009, bytes_total=3_000_009)
        info = collections_pb2.CollectionInfo(config=collections_pb2.CollectionConfig(name="docs"))
        yield cluster_pb2.RestoreResponse(bytes_done=3_000_009, collections=[info])

    server.script("Cluster/Restore", restore)
    assert cli("restore", tmp_path / "s").out == "restored docs\n"
    assert received == FILES
    assert json.loads(cli("restore", tmp_path / "s", "--json").out) == {"collections": ["docs"]}


def test_restoring_needs_a_whole_snapshot(cli: Any, server: ScriptedServer, tmp_path: Path) -> None:
    """A folder without its manifest is no snapshot; the server is not bothered."""
    outcome = cli("restore", tmp_path)
    assert outcome.code == 2
    assert "no complete snapshot" in outcome.error
    assert not server.metadata


def test_what_a_server_cannot_do_yet(cli: Any, server: ScriptedServer, tmp_path: Path) -> None:
    """UNIMPLEMENTED shows the server's message, ends with 69 and leaves no folder behind."""
    outcome = cli("snapshot", tmp_path / "s")
    assert outcome.code == 69
    assert outcome.error == "Cluster/Snapshot has no script (UNIMPLEMENTED)"
    assert not (tmp_path / "s").exists()
    (tmp_path / MANIFEST).write_bytes(b"m")
    assert cli("restore", tmp_path).code == 69


def test_with_tls_and_token(cli: Any, tmp_path: Path) -> None:
    """The connection's options hold here as for every other command."""
    pair = make_certificate(tmp_path)
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    secured = ScriptedServer(credentials=server_credentials(pair.cert, pair.key))
    try:
        secured.script("Cluster/Snapshot", lambda *_: _stream())
        address = ("--addr", f"localhost:{secured.port}", "--tls-ca", pair.cert, "--token-file", token)
        assert cli("snapshot", tmp_path / "s", *address).code == 0
        assert secured.metadata["Cluster/Snapshot"][0]["authorization"] == "Bearer 0123456789abcdef"
    finally:
        secured.stop()
