"""Whoever finds damage, from then on nothing is served; and memory never falls behind the database."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from shards import STILL, TINY
from vecdb_index import (
    Schema,
    Shard,
    ShardBroken,
    ShardDamaged,
    ShardOptions,
    UnknownMutation,
    Upsert,
    encode,
    sealed,
)
from vecdb_index.growing import Block

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


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_an_interrupted_write_breaks_the_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """What fails behind the commit ends the shard until it is reopened; then every entry was applied once."""
    log = [(at, encode(Upsert([f"d{at}", "same"], np.full((2, DIM), at, np.float32)))) for at in range(1, 5)]
    with Shard.create(tmp_path / "whole", Schema(DIM, "l2"), STILL) as shard:
        shard.apply(log)
        wanted = (shard.content_hash(), shard.count())
    with Shard.create(tmp_path / "broken", Schema(DIM, "l2"), STILL) as shard:
        shard.apply(log[:2])

        def grow(self: Block, needed: int) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Block, "_grow", grow)
            patch.setattr(shard._core, "blocks", (shard._core._new_block(),))
            with pytest.raises(error):
                shard.apply([log[2]])
        for use in (lambda: shard.apply(log), lambda: shard.search(ONE, 1), shard.checkpoint, shard.count):
            with pytest.raises(ShardBroken, match="must be reopened"):
                use()
        stats = shard.stats()
        assert stats.state == "failing"
        assert "must be reopened" in (stats.error or "")
    with Shard.open(tmp_path / "broken", STILL) as shard:
        assert shard.applied_index == 3
        shard.apply(log)
        assert (shard.content_hash(), shard.count()) == wanted
        shard.verify()


def test_an_interrupted_replacement_breaks_the_shard(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder's changes too are in the database and in memory, or the shard is reopened."""

    def show(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(shard._core, "_show_layout", show)
    with pytest.raises(MemoryError):
        shard._core.replace(None, ())
    with pytest.raises(ShardBroken):
        shard.get(["d1"])


def test_an_error_before_the_commit_breaks_nothing(shard: Shard) -> None:
    """What is rolled back left database and memory alike."""
    with pytest.raises(UnknownMutation):
        shard.apply([(2, encode(Upsert(["x"], ONE))), (3, b"\xff" * 8)])
    assert shard.upsert(["x"], ONE) == 2
    assert shard.count() == 101


def test_documents_without_vectors_are_damage(shard: Shard) -> None:
    """Opening compares the number of documents with that of the vectors that live."""
    shard.close()
    with sqlite3.connect(shard.path / "shard.db") as database:
        database.execute("UPDATE meta SET value = 101 WHERE key = 'documents'")
    database.close()
    with pytest.raises(ShardDamaged, match="101 documents, but 100 vectors"):
        Shard.open(shard.path)


def test_the_first_damage_is_told(shard: Shard) -> None:
    """What is found later may only follow from it."""
    first, second = (ShardDamaged(shard.path / name, "a test says so") for name in ("x", "y"))
    shard._core.damaged(first)
    shard._core.damaged(second)
    assert_nothing_is_served(shard, first.path)
