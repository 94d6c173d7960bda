"""Whoever finds damage, from then on nothing is served; and memory never falls behind the database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from shards import TINY
from vecdb_index import Schema, Shard, ShardDamaged, ShardOptions, sealed

DIM = 8
ONE = np.ones((1, DIM), np.float32)
LAZY = ShardOptions(rest_rows=16, rest_seconds=0.01, flat_rows=10**6, threads=1, scrub=False)


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    """A shard with a sealed segment of 100 documents."""
    with Shard.create(tmp_path / "shard", Schema(DIM, "l2"), LAZY) as made:
        vectors = np.random.default_rng(0).standard_normal((100, DIM)).astype(np.float32)
        made.upsert([f"d{at}" for at in range(100)], vectors)
        assert made.wait_indexed(30)
        made.checkpoint()
        yield made


def assert_nothing_is_served(shard: Shard, path: Path) -> None:
    stats = shard.stats()
    assert stats.state == "damaged"
    assert str(path) in (stats.error or "")
    for use in (
        lambda: shard.search(ONE, 1),
        lambda: shard.get(["d1"]),
        lambda: shard.count(),
        lambda: shard.upsert(["x"], ONE),
        lambda: shard.checkpoint(),
    ):
        with pytest.raises(ShardDamaged) as caught:
            use()
        assert caught.value.path == path


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        byte = file.read(1)[0]
        file.seek(0)
        file.write(bytes([byte ^ 1]))


def test_damage_that_verify_finds(shard: Shard) -> None:
    """What ``verify`` raised once, every later call raises."""
    (path,) = (shard.path / "segments").glob("*.raw")
    flip(path)
    with pytest.raises(ShardDamaged):
        shard.verify()
    assert_nothing_is_served(shard, path)


def test_damage_that_a_read_finds(shard: Shard) -> None:
    """SQLite's complaint in one read ends them all."""
    path = shard.path / "shard.db"
    size = path.stat().st_size
    path.write_bytes(b"\xa5" * size)  # in place: the open database reads these bytes
    for connection in (shard._core.store.writer, *shard._core.store._idle):
        connection.execute("PRAGMA shrink_memory")
    with pytest.raises(ShardDamaged):
        shard.scroll(None, 1000)
    assert_nothing_is_served(shard, path)


def test_damage_that_a_write_finds(shard: Shard) -> None:
    """A document without its vector is found by an update, rolled back, and the end of it."""
    core = shard._core
    with core.lock:
        core.store.writer.execute("UPDATE docs SET docno = docno + 1000 WHERE id = 'd1'")
    with pytest.raises(ShardDamaged):
        shard.update(["d1"], {"a": 1})
    assert_nothing_is_served(shard, shard.path / "shard.db")


def test_damage_that_the_builder_finds(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that reads back otherwise than it was written takes the place of nothing."""
    real = sealed.write

    def write(root: Path, *args: object) -> sealed.Manifest:
        manifest = real(root, *args)  # type: ignore[arg-type]
        flip(manifest.path(root, "docnos"))
        return manifest

    monkeypatch.setattr(sealed, "write", write)
    shard.upsert([f"e{at}" for at in range(100)], np.repeat(ONE, 100, axis=0))
    shard._builder._thread.join(30)
    assert not shard._builder._thread.is_alive()
    path = shard._core.damage.path if shard._core.damage else None
    assert path is not None
    assert path.suffix == ".docnos"
    assert_nothing_is_served(shard, path)


def test_damage_that_the_keeper_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that meets damage ends the serving, though nobody waits for its answer."""
    with Shard.create(tmp_path / "shard", Schema(DIM, "l2"), TINY) as shard:
        found = ShardDamaged(shard.path / "shard.db", "a test says so")
        shard.checkpoint()
        while shard._core.unsynced:  # a checkpoint of the keeper may be under way
            time.sleep(0.01)

        def checkpoint(*, insist: bool = True) -> int:
            raise found

        monkeypatch.setattr(shard._core, "checkpoint", checkpoint)
        shard.upsert(["a"], ONE)
        shard._keeper._thread.join(10)
        assert not shard._keeper._thread.is_alive()
        monkeypatch.undo()
        assert_nothing_is_served(shard, found.path)


def test_the_first_damage_is_told(shard: Shard) -> None:
    """What is found later may only follow from it."""
    first, second = (ShardDamaged(shard.path / name, "a test says so") for name in ("x", "y"))
    shard._core.damaged(first)
    shard._core.damaged(second)
    assert_nothing_is_served(shard, first.path)
