"""Power loss: what SQLite and the log had not synced may be gone, and nothing else is."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from vecdb_client import Client
from vecdb_index import Schema, Shard, ShardOptions

from tests.crash.history import DIM, frame_ends, mutation, synced_frames
from tests.crash.load import wait_until
from tests.crash.pieces import BUSY, copied, opened
from tests.support.node import Node

SCHEMA = Schema(DIM, "l2")
# Seals and merges as ever, but never checkpoints by itself.
UNSYNCED = replace(BUSY, checkpoint_bytes=1 << 40)
NOTHING = ShardOptions(rest_seconds=3600.0, checkpoint_bytes=1 << 40, seal_rows=1 << 20, scrub=False)


def segment_ids(root: Path, shard: int, wal_bytes: int | None = None) -> set[int]:
    """The sealed segments that a shard's database names, its log cut to a length."""
    scratch = root.parent / "peek"
    scratch.mkdir()
    try:
        for name in ("shard.db", "shard.db-wal"):
            shutil.copy(root / "shards" / str(shard) / name, scratch / name)
        if wal_bytes is not None:
            os.truncate(scratch / "shard.db-wal", wal_bytes)
        with closing(sqlite3.connect(scratch / "shard.db")) as connection:
            return {row[0] for row in connection.execute("SELECT id FROM segments")}
    finally:
        shutil.rmtree(scratch)


async def hashes_after_cut(crashed: Path, target: Path, shard: int, length: int) -> dict[int, bytes]:
    """The content hashes that a node finds which opens a copy with a shard's SQLite log cut to a length."""
    copied(crashed, target)
    os.truncate(target / "shards" / str(shard) / "shard.db-wal", length)
    try:
        async with opened(target) as pieces:
            return {each: content for each, (_, content) in pieces.hashes().items()}
    finally:
        shutil.rmtree(target)


async def crashed_pieces(root: Path, target: Path) -> int:
    """Pieces that died with seals and merges in SQLite's log; the shard."""
    random = np.random.default_rng(1)
    async with opened(root, UNSYNCED) as pieces:
        await pieces.create("docs", DIM, 1, {"n": "int"})
        (shard,) = pieces.shard_ids()
        held = pieces.shards.get(shard)
        for number in range(30):
            await pieces.host.propose(shard, mutation(random, number))
        assert await asyncio.to_thread(held.wait_indexed, 30.0)
        held.checkpoint()
        # The keeper would checkpoint again when writes pause.
        held._keeper.stop()
        for number in range(30, 75):
            await pieces.host.propose(shard, mutation(random, number))
            if number % 15 == 0:
                assert await asyncio.to_thread(held.wait_indexed, 30.0)
        held._builder.stop()
        copied(root, target)
    return shard


def check_layout_changed(crashed: Path, shard: int) -> None:
    """Segments have come and gone within SQLite's log, so that cuts fall among those transactions."""
    before, after = segment_ids(crashed, shard, 0), segment_ids(crashed, shard)
    assert before - after, "no segment was dropped"
    assert after - before, "no segment was made"


async def check_cuts(crashed: Path, scratch: Path, shard: int, cuts: list[int]) -> None:
    wal = crashed / "shards" / str(shard) / "shard.db-wal"
    wanted = await hashes_after_cut(crashed, scratch, shard, wal.stat().st_size)
    for cut in cuts:
        found = await hashes_after_cut(crashed, scratch, shard, cut)
        assert found == wanted, f"another content after a cut at {cut}"


def cuts_of(wal: Path, count: int | None) -> list[int]:
    """Every frame's end (or `count` of them), and some lengths in the middle of a frame."""
    ends = frame_ends(wal)
    assert len(ends) > 200
    if count is not None:
        ends = ends[:: len(ends) // count] + ends[-2:]
    within = [end + step for end in ends[:: max(1, len(ends) // 10)] for step in (1, 24, 2000)]
    return sorted({0, *ends, *(cut for cut in within if cut < wal.stat().st_size)})


async def test_sqlite_log_cut(tmp_path: Path) -> None:
    """However much of SQLite's log is lost, with merges in it, the log brings back the same content."""
    shard = await crashed_pieces(tmp_path / "data", tmp_path / "crashed")
    check_layout_changed(tmp_path / "crashed", shard)
    cuts = cuts_of(tmp_path / "crashed" / "shards" / str(shard) / "shard.db-wal", 20)
    await check_cuts(tmp_path / "crashed", tmp_path / "cut", shard, cuts)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
async def test_sqlite_log_cut_at_every_frame(tmp_path: Path) -> None:
    """The same for every frame."""
    shard = await crashed_pieces(tmp_path / "data", tmp_path / "crashed")
    check_layout_changed(tmp_path / "crashed", shard)
    cuts = cuts_of(tmp_path / "crashed" / "shards" / str(shard) / "shard.db-wal", None)
    await check_cuts(tmp_path / "crashed", tmp_path / "cut", shard, cuts)


def test_power_loss_after_a_kill(tmp_path: Path) -> None:
    """A kill, a start, then power loss before a checkpoint: segments that come back have their files."""
    random = np.random.default_rng(2)
    log = [(number, mutation(random, number)) for number in range(1, 70)]
    with Shard.create(tmp_path / "a", SCHEMA, UNSYNCED) as shard:
        shard.apply(log[:30])
        assert shard.wait_indexed(30)
        shard.checkpoint()
        shard._keeper.stop()
        for entry in log[30:]:
            shard.apply([entry])
        assert shard.wait_indexed(30)
        shard._builder.stop()
        wanted = shard.content_hash()
        copied(shard.path, tmp_path / "killed")
    # The start after the kill sees what the kernel still had.
    with Shard.open(tmp_path / "killed", NOTHING) as shard:
        assert shard.content_hash() == wanted
        copied(shard.path, tmp_path / "lost")
    for cut in cuts_of(tmp_path / "lost" / "shard.db-wal", 10):
        copied(tmp_path / "lost", tmp_path / "cut")
        os.truncate(tmp_path / "cut" / "shard.db-wal", cut)
        with Shard.open(tmp_path / "cut", BUSY) as shard:
            shard.apply(log)
            assert shard.content_hash() == wanted
            assert shard.wait_indexed(30)
            shard.checkpoint()
            shard.verify()
        with Shard.open(tmp_path / "cut", BUSY) as shard:
            assert shard.content_hash() == wanted
            shard.verify()
        shutil.rmtree(tmp_path / "cut")


# --- a real node -----------------------------------------------------------------------------------------


def _write_and_pause(db: Client, random: np.random.Generator, turns: int) -> None:
    """Writes with pauses in which segments are merged, too short for a checkpoint."""
    for _ in range(turns):
        for _ in range(6):
            keys = random.choice(200, 60, replace=False)
            vectors = random.standard_normal((60, DIM)).astype(np.float32)
            db.upsert("docs", ids=[f"d{key}" for key in keys], vectors=vectors, texts=["text"] * 60)
        time.sleep(0.45)


def _is_durable(db: Client) -> bool:
    (shard,) = db.describe("docs").shards
    return shard.unindexed == 0 and shard.durable_index == shard.applied_index


def _cuts(data: Path, shard: int) -> list[int]:
    """The lengths that power loss may leave of a shard's SQLite log."""
    database = data / "shards" / str(shard) / "shard.db"
    return frame_ends(database.with_name("shard.db-wal"))[synced_frames(database) :]


def _killed_node(folder: Path) -> tuple[Path, int]:
    """The data of a node that was killed with seals and merges in SQLite's log; its shard."""
    random = np.random.default_rng(9)
    node = Node(folder, env={"VECDB_ENGINE__SEAL_ROWS": "64", "VECDB_ENGINE__THREADS": "1"})
    with node:
        with node.client() as db:
            db.create_collection("docs", dim=DIM, metric="l2")
            (shard,) = [each.shard for each in db.describe("docs").shards]
        for _ in range(10):
            with node.client() as db:
                _write_and_pause(db, random, 1)
                wait_until(lambda db=db: _is_durable(db), "a checkpoint")  # type: ignore[misc]
                _write_and_pause(db, random, 3)
            node.kill()
            shortest = _cuts(node.data_dir, shard)[0]
            if segment_ids(node.data_dir, shard, shortest) - segment_ids(node.data_dir, shard):
                return node.data_dir, shard
            node.start()
    raise AssertionError("in ten tries no segment was dropped between two checkpoints")


def _served_hash(folder: Path, data: Path, shard: int, length: int) -> str:
    """What a node that starts with a shard's SQLite log cut says of the shard's content."""
    node = Node(folder)
    copied(data, node.data_dir)
    os.truncate(node.data_dir / "shards" / str(shard) / "shard.db-wal", length)
    with node, node.client() as db:
        (told,) = db.describe("docs").shards
        assert db.count("docs") == len(list(db.scroll("docs", with_vector=True)))
    shutil.rmtree(node.data_dir)
    return told.content_hash


def _check_real_cuts(folder: Path, count: int) -> None:
    data, shard = _killed_node(folder / "killed")
    wal = data / "shards" / str(shard) / "shard.db-wal"
    ends = _cuts(data, shard)
    wanted = _served_hash(folder / "whole", data, shard, wal.stat().st_size)
    for number, cut in enumerate(ends[:: max(1, len(ends) // count)][:count]):
        assert _served_hash(folder / f"cut-{number}", data, shard, cut) == wanted, f"after a cut at {cut}"


@pytest.mark.timeout(600)
def test_a_real_node_opens_after_a_cut(tmp_path: Path) -> None:
    """A killed node whose SQLite log loses all, and half, serves the same content."""
    _check_real_cuts(tmp_path, 2)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_a_real_node_opens_after_many_cuts(tmp_path: Path) -> None:
    """The same at thirty places."""
    _check_real_cuts(tmp_path, 30)
