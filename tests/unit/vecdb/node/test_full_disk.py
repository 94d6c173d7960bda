"""A full disk: writes are refused, reads go on, nothing acknowledged is lost, and room heals it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from vecdb_client import Client, ResourceExhaustedError, RetryPolicy, VecdbError
from vecdb_index import Shard, StorageFailed
from vecdb_proto.v1 import collections_pb2, documents_pb2
from vecdb_replication.wal import Wal
from vecdb_replication.wal.fs import OsFile, OsFileSystem, Piece

from tests.support.inprocess import InProcessNode, refusal
from tests.support.node import Node
from tests.unit.vecdb.query.requests import count, create, get, ids_of, search, upsert

ONCE = RetryPolicy(attempts=1)
DIM = 256


# --- the room that is kept back ---------------------------------------------------


def test_below_the_reserve_only_what_makes_room_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With less than min_free_disk_bytes free, upserts and creations are DISK_FULL with a hint and change
    nothing; reads go on, and deleting and dropping, which is the way out, are taken."""
    usage = shutil.disk_usage(tmp_path)
    with InProcessNode(tmp_path, limits={"min_free_disk_bytes": 1 << 20}) as node:
        create(node, "c")
        upsert(node, "c", ["a", "b"])
        monkeypatch.setattr("vecdb.node.shutil.disk_usage", lambda _: usage._replace(free=(1 << 20) - 1))
        within(5, lambda: refusal(lambda: upsert(node, "c", ["a", "b"])))
        before = node.fingerprint("c")
        for call in (
            lambda: upsert(node, "c", ["x"]),
            lambda: create(node, "other"),
            lambda: node.documents.Update(
                documents_pb2.UpdateRequest(collection="c", ids=["a"], payload=b"\x81\xa1a\x01")
            ),
        ):
            refused = refusal(call)
            assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
            assert "min_free_disk_bytes" in refused.message
            assert refused.retry_after == 5.0
        assert node.fingerprint("c") == before
        assert len(search(node, "c", [0, 0]).hits) == 2
        assert node.documents.Delete(documents_pb2.DeleteRequest(collection="c", ids=["a"])).count == 1
        node.collections.Drop(collections_pb2.DropCollectionRequest(collection="c"))
        assert not node.collections.List(collections_pb2.ListCollectionsRequest()).collections


# --- ENOSPC from the log's file system ----------------------------------------------


class Filling(OsFileSystem):
    """The real file system, until it is said to be full."""

    full = False

    def open(self, path: Path, *, create: bool = False) -> OsFile:
        file = super().open(path, create=create)
        return _Filling(self, file)  # type: ignore[return-value]


class _Filling:
    def __init__(self, fs: Filling, file: OsFile) -> None:
        self._fs = fs
        self._file = file

    def append(self, pieces: Sequence[Piece]) -> None:
        if self._fs.full:
            self._file.append([bytes(pieces[0])[:7]])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._file.append(pieces)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.fixture
def filling(monkeypatch: pytest.MonkeyPatch) -> Filling:
    """The file system of the logs that are opened in this test."""
    fs = Filling()
    opened = Wal.open

    def with_it(path: Path, **settings: Any) -> Wal:
        return opened(path, fs=fs, **settings)

    monkeypatch.setattr("vecdb.node.Wal.open", with_it)
    return fs


def test_a_log_without_room_refuses_writes_and_serves_reads(tmp_path: Path, filling: Filling) -> None:
    """ENOSPC in the log: each kind of write is DISK_FULL and has done nothing, reads of every kind go on, and
    with room again the next write is taken, after a restart too."""
    with InProcessNode(tmp_path) as node:
        create(node, "c", shards=2)
        upsert(node, "c", [str(n) for n in range(20)])
        before = node.fingerprint("c")
        filling.full = True
        for call in (
            lambda: upsert(node, "c", ["new", "newer", "newest"]),
            lambda: create(node, "other"),
            lambda: node.documents.Delete(documents_pb2.DeleteRequest(collection="c", ids=["1"])),
            lambda: node.collections.Drop(collections_pb2.DropCollectionRequest(collection="c")),
        ):
            refused = refusal(call)
            assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
            assert refused.retry_after is not None
        assert node.fingerprint("c") == before
        assert count(node, "c", consistency=3) == 20
        assert len(search(node, "c", [0, 0], k=20).hits) == 20
        filling.full = False
        wrote = upsert(node, "c", ["new"])
        assert wrote.count == 1
        node.restart()
        assert ids_of(get(node, "c", ["new", "newer", "1"])) == ["new", "1"]
        assert count(node, "c") == 21


def test_a_collection_that_finds_no_room_for_its_shards_is_taken_back(
    tmp_path: Path, filling: Filling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation whose shards cannot be made is DISK_FULL, the name is free again, and lists are whole; where
    it cannot even be taken back, it is told of, and completed later."""
    made = Shard.create
    stay_full = False

    def full(*arguments: Any) -> Shard:
        filling.full = stay_full
        raise StorageFailed("no space left on device")

    with InProcessNode(tmp_path) as node:
        create(node, "kept")
        monkeypatch.setattr("vecdb.shards.shard_set.Shard.create", full)
        refused = refusal(lambda: create(node, "c", shards=2))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
        assert list(node.node_database().state.collections) == ["kept"]
        stay_full = True
        refused = refusal(lambda: create(node, "c", shards=2))
        assert refused.reason == "DISK_FULL"
        stay_full = filling.full = False
        listed = node.collections.List(collections_pb2.ListCollectionsRequest()).collections
        assert [(each.config.name, each.index_state) for each in listed] == [
            ("c", collections_pb2.INDEX_STATE_INDEXING),
            ("kept", collections_pb2.INDEX_STATE_INDEXED),
        ]
        refused = refusal(lambda: upsert(node, "c", ["a"]))
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        monkeypatch.setattr("vecdb.shards.shard_set.Shard.create", made)
        node.restart()
        upsert(node, "c", ["a", "b"])
        assert count(node, "c") == 2


# --- a real, small file system ------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB, mounted where a node in `tmp_path` keeps its data."""
    data = tmp_path / "data"
    data.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=48m", "vecdb-test", data], check=False)
    if not done or done.returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield data
    finally:
        subprocess.run(["umount", "-l", data], check=True)


def fill(path: Path, leave: int) -> None:
    """Take all room of the file system that `path` lies on, but `leave` bytes."""
    with path.open("ab") as file:
        file.truncate(0)
        free = shutil.disk_usage(path.parent).free - leave
        os.posix_fallocate(file.fileno(), 0, max(1, free))


def within(seconds: float, attempt: Callable[[], Any]) -> Any:
    """What the attempt gives once the node has noticed that there is room."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except (VecdbError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def rows(ids: Sequence[str]) -> np.ndarray:
    made = np.zeros((len(ids), DIM), dtype=np.float32)
    made[:, 0] = [float(id_.split("-")[1]) + 1 for id_ in ids]
    made[:, 1] = 1
    return made


def write_until_full(
    db: Client, round_: int, acknowledged: list[str], tried: set[str]
) -> ResourceExhaustedError:
    """Write batches until one is refused for want of room; returns the refusal."""
    for at in range(400):
        ids = [f"{round_}-{at * 25 + n}" for n in range(25)]
        tried.update(ids)
        try:
            db.upsert("c", ids=ids, vectors=rows(ids), payloads=[{"fill": "x" * 400}] * 25)
        except ResourceExhaustedError as error:
            return error
        acknowledged += ids
    raise AssertionError("the disk does not get full")


def check(db: Client, acknowledged: list[str], tried: set[str]) -> None:
    """Everything acknowledged is there with its own vector; nothing is there that nobody wrote."""
    stored = {document.id for document in db.scroll("c", page_size=1_000)}
    assert set(acknowledged) <= stored <= tried
    for id_ in acknowledged[:: max(1, len(acknowledged) // 20)]:
        (document,) = db.get("c", [id_], with_vector=True)
        assert np.array_equal(document.vector, rows([id_])[0])


def test_a_real_disk_that_gets_full_heals(tmp_path: Path, small: Path) -> None:
    """Filled to the last byte in several ways, the node answers DISK_FULL, reads go on, and writes go on with
    room again; after a kill everything acknowledged is there."""
    env = {"VECDB_LIMITS__MIN_FREE_DISK_BYTES": "0", "VECDB_ENGINE__WAL_SEGMENT_BYTES": "1 MiB"}
    ballast = small / "lost+found"
    acknowledged: list[str] = []
    tried: set[str] = set()
    with Node(tmp_path, env=env) as node, node.client(retry=ONCE, timeout=20) as db:
        db.create_collection("c", dim=DIM, metric="l2")
        for round_, leave in enumerate((0, 30_000, 300_000, 2_000_000)):
            write = [f"{round_}-{999_900 + n}" for n in range(9)]
            tried.update(write)
            within(20, lambda write=write: db.upsert("c", ids=write, vectors=rows(write)))  # type: ignore[misc]
            acknowledged += write
            fill(ballast, leave)
            error = write_until_full(db, round_, acknowledged, tried)
            assert error.reason == "DISK_FULL"
            assert error.retry_after
            assert db.count("c") >= len(acknowledged)
            assert len(db.search("c", vector=rows(["0-1"])[0], k=5)) == 5
            assert node.running
            ballast.unlink()
        last = ["9-1"]
        tried.update(last)
        within(20, lambda: db.upsert("c", ids=last, vectors=rows(last)))
        acknowledged += last
        check(db, acknowledged, tried)
        node.kill()
        node.start()
        check(db, acknowledged, tried)


def test_a_node_that_cannot_start_for_want_of_room_says_so(tmp_path: Path, small: Path) -> None:
    """A start on a full disk ends with one line and a code, not a traceback; with room it starts."""
    env = {"VECDB_LIMITS__MIN_FREE_DISK_BYTES": "0"}
    ballast = small / "lost+found"
    node = Node(tmp_path, env=env)
    with node, node.client() as db:
        db.create_collection("c", dim=2)
        db.upsert("c", ids=["a"], vectors=[[1, 0]])
    fill(ballast, 0)
    node.start(wait=False)
    assert node._process is not None
    code = node._process.wait(30)
    tail = node.log_tail()
    assert code == 69, tail
    assert "cannot start" in tail
    assert str(small) in tail
    assert "Traceback" not in tail
    ballast.unlink()
    with node, node.client() as db:
        assert db.count("c") == 1
