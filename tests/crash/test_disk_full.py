"""A full disk in the middle of background work: it says so, loses nothing, and goes on when there is room."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from vecdb_index import LocalFileSystem, Schema, Shard, ShardOptions, Upsert, encode
from vecdb_index.files import Chunk

from tests.crash.load import wait_until

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
