"""Three replicas of a real shard in three processes, over real logs and real connections, and kill -9."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.authority import Authority
from tests.support.replicas import BATCH, DIM, processes, write_batches

BATCHES = 24


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not installed")
async def test_what_was_acknowledged_outlives_any_node(tmp_path: Path) -> None:
    """The leader is killed between two loads, a follower in the middle of one: in the end all are alike.

    Not a write that was acknowledged is missing, at whichever replica one
    looks. The follower finds the others' logs shortened: it gets files.
    """
    random = np.random.default_rng(7)
    batches = tmp_path / "batches"
    write_batches(batches, random.standard_normal((BATCHES * BATCH, DIM)).astype(np.float32))
    load = {"batches": str(batches), "writers": 3}
    authority = Authority(tmp_path / "ca")
    async with (
        asyncio.timeout(150),
        processes(tmp_path, authority, 3, "shard", 1, compact_bytes=0) as cluster,
    ):
        first = await cluster.leader()
        await cluster.nodes[first].ask("load", **load, end=4)
        await cluster.kill(first)
        second = await cluster.leader()
        await cluster.nodes[second].ask("load", **load, begin=4, end=8)
        await cluster.start(first)
        second = await cluster.leader()
        follower = next(node for node in cluster.nodes if node not in {first, second})
        before = await cluster.nodes[follower].ask("applied")
        loading = asyncio.create_task(cluster.nodes[second].ask("load", **load, begin=8))
        await cluster.nodes[follower].ask("wait_applied", index=before + 1)
        await cluster.kill(follower)
        await loading
        last = await cluster.nodes[second].ask("applied")
        # The one that is gone counts as there for a moment, and as long the log is kept for it.
        await cluster.settled("compact", [last + 1])
        await cluster.start(follower)
        contents = [await node.ask("content") for node in cluster.nodes.values()]
        assert [count for count, _ in contents] == [BATCHES * BATCH] * 3
        assert len({digest for _, digest in contents}) == 1
        assert (tmp_path / f"n{follower}" / "shard-1" / "INSTALLED").exists()
        for node in list(cluster.nodes):
            await cluster.kill(node)
