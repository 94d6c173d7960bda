"""A full disk in the middle of background work: it says so, loses nothing, and goes on when there is room."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog.testing
from vecdb_client import Client, ResourceExhaustedError, RetryPolicy
from vecdb_index import LocalFileSystem, Schema, Shard, ShardOptions, Upsert, encode
from vecdb_index.files import Chunk

from tests.crash.load import wait_until
from tests.crash.pieces import BUSY, opened
from tests.support.node import Node
from vecdb.shards import Watch

DIM = 64


class GraphsDoNotFit(LocalFileSystem):
    """A disk with room for small files only, for a while."""

    def __init__(self) -> None:
        self.full = True
        self.refused: list[float] = []

    def write(self, path: Path, chunks: Iterable[Chunk]) -> tuple[int, int]:
        if self.full and path.suffix == ".graph":
            self.refused.append(time.monotonic())
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return super().write(path, chunks)


def test_a_failing_merge_backs_off(tmp_path: Path) -> None:
    """A merge that fails at its end counts as failing while it is tried again, and that ever more rarely."""
    disk = GraphsDoNotFit()
    options = ShardOptions(
        seal_rows=64, rest_rows=1, rest_seconds=0.01, flat_rows=128, threads=1, scrub=False, files=disk
    )
    with Shard.create(tmp_path / "a", Schema(DIM, "l2"), options) as shard:
        vectors = np.random.default_rng(5).standard_normal((512, DIM)).astype(np.float32)
        shard.apply([(1, encode(Upsert([f"d{row}" for row in range(512)], vectors)))])
        wait_until(lambda: shard.stats().state == "failing", "the merge to fail")
        while len(disk.refused) < 4:
            assert shard.stats().state == "failing"
            time.sleep(0.002)
        pauses = np.diff(disk.refused)
        assert pauses[1] > 1.5 * 0.2
        assert pauses[2] > 1.5 * 0.4
        assert shard.count() == 512
        disk.full = False
        assert shard.wait_indexed(30)
        assert shard.stats().state == "ready"
        shard.verify()


async def test_a_failing_shard_is_told_once_and_so_is_its_recovery(tmp_path: Path) -> None:
    """A line in the log and a count for each new trouble, none while it lasts, a line when it is over."""
    disk, counted = GraphsDoNotFit(), []
    options = replace(BUSY, flat_rows=64, rest_rows=1, files=disk)
    async with opened(tmp_path, options) as pieces:
        await pieces.create("docs", DIM, 1, {})
        (shard,) = pieces.shard_ids()
        watch = Watch(pieces.shards, lambda: counted.append(1))
        ids = [f"d{row}" for row in range(128)]
        vectors = np.random.default_rng(6).standard_normal((128, DIM)).astype(np.float32)
        await pieces.host.propose(shard, encode(Upsert(ids, vectors)))
        wait_until(lambda: bool(pieces.shards.troubles()), "the merge to fail")
        with structlog.testing.capture_logs() as lines:
            watch.look()
            watch.look()
            disk.full = False
            wait_until(lambda: not pieces.shards.troubles(), "the merge to succeed")
            watch.look()
        assert [line["event"] for line in lines] == ["a shard is failing", "a shard is well again"]
        assert (lines[0]["collection"], lines[0]["shard"]) == ("docs", shard)
        assert "No space left" in lines[0]["reason"]
        assert len(counted) == 1


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for 24 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs takes root")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def _use_up(path: Path, leave: int) -> Path:
    """Fill the disk, all but so many bytes."""
    ballast = path / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(path).free - leave)
    return ballast


def _metric(node: Node, name: str) -> float:
    """A metric's value, summed over its labels."""
    page = urllib.request.urlopen(f"{node.http_url}/metrics", timeout=10).read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if re.match(rf"{name}[ {{]", line))


def _vectors(first: int, count: int) -> np.ndarray:
    return np.random.default_rng(first).standard_normal((count, DIM)).astype(np.float32)


def _fill(db: Client, written: int) -> int:
    """Write until it is refused; how many documents were acknowledged then."""
    while True:
        try:
            _write(db, written)
        except ResourceExhaustedError:
            return written
        written += 64


def _write(db: Client, first: int) -> None:
    db.upsert("docs", ids=[f"d{first + row}" for row in range(64)], vectors=_vectors(first, 64))


def _check(node: Node, count: int) -> None:
    """So many documents were acknowledged: they are there, with their vectors, and found.

    One more write, the refused one, may have reached the log all the same: it is then applied, whole.
    """
    with node.client() as db:
        assert db.count("docs") in {count, count + 64}
        found = {each.id: each.vector for each in db.scroll("docs", with_vector=True)}
        for first in range(0, count, 64):
            for row, vector in enumerate(_vectors(first, 64)):
                held = found[f"d{first + row}"]
                assert held is not None
                assert held.tobytes() == vector.tobytes()
        queries = np.concatenate([_vectors(first, 64)[:2] for first in range(0, count, 64)])
        wanted = [[f"d{first}"] for block in range(0, count, 64) for first in (block, block + 1)]
        assert [hits.ids for hits in db.search_batch("docs", queries, k=1, exact=True)] == wanted


def test_background_work_on_a_full_disk(small: Path, tmp_path: Path) -> None:
    """Sealing and checkpoints find no room: log and metrics say so, reads go on, a kill loses nothing, and
    with room again the work is done and nobody complains any more."""
    env = {"VECDB_ENGINE__SEAL_ROWS": "64", "VECDB_LIMITS__MIN_FREE_DISK_BYTES": "0"}
    env["VECDB_ENGINE__WAL_SEGMENT_BYTES"] = "4MiB"
    # Its pages live on the small disk, its log file elsewhere.
    node = Node(small, env=env)
    node.log_path = tmp_path / "node.log"
    with node:
        with node.client(retry=RetryPolicy(attempts=1)) as db:
            db.create_collection("docs", dim=DIM, metric="l2")
            # What is sealed takes more room than what is left; the writes themselves fit.
            ballast = _use_up(small, 600_000)
            written = _fill(db, 0)
        assert written >= 64
        wait_until(lambda: _metric(node, "vecdb_shard_failing") == 1, "the shard to fail")
        wait_until(lambda: _metric(node, "vecdb_errors_total") >= 1, "the failure to be counted")
        assert "a shard is failing" in node.log_tail()
        _check(node, written)
        node.kill()
        ballast.unlink()
        node.start()
        _check(node, written)
        with node.client() as db:
            _write(db, written)
            wait_until(lambda: db.describe("docs").index_state == "indexed", "the work to be done")
        _check(node, written + 64)
        wait_until(lambda: _metric(node, "vecdb_shard_failing") == 0, "the shard to be well")
