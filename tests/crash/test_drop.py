"""Dropping a collection, seen from a session that has read it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.crash.pieces import opened


async def test_a_shard_stays_known_while_it_is_dropped(tmp_path: Path) -> None:
    """A session's shards are told from invented ones at every moment of a drop, and after a restart."""
    async with opened(tmp_path) as pieces:
        record = await pieces.create("docs", 4, 1, {})
        (shard,) = record.shards
        dropping = asyncio.create_task(pieces.drop(record))
        moments = 0
        while not dropping.done():
            assert pieces.host.has_known(shard)
            moments += shard not in pieces.host.groups()
            await asyncio.sleep(0)
        await dropping
        assert moments > 1
        assert pieces.host.has_known(shard)
        assert not pieces.host.has_known(shard + 1)
    async with opened(tmp_path) as pieces:
        assert pieces.host.has_known(shard)
