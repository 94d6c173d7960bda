"""Sealing and merging: how segments are chosen, extended, rebuilt, and how a bulk load goes."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shards import by_hand, ids_of
from vecdb_index import Schema, Shard, ShardDamaged, ShardOptions, StorageFailed, core
from vecdb_index.build import Build
from vecdb_index.builder import Builder, choose
from vecdb_index.calibrate import SAMPLE
from vecdb_index.fulltext.analysis import analyzer
from vecdb_index.growing import Block
from vecdb_index.parts import Part, Rows
from vecdb_index.sealed import FileEntry, Manifest

OPTIONS = ShardOptions(max_segments=3)


def part(id_: int, living: int, dead: int = 0, *, pending: bool = False) -> Part:
    block = Block(1, "l2", analyzer("en"))
    block.append(np.arange(living + dead), np.ones((living + dead, 1), np.float32))
    made = block.publish(np.arange(dead))
    manifest = Manifest(id_, living + dead, 1, pending, (FileEntry("raw", 0, 0),))
    rows = Rows(
        made.rows.docnos, made.rows.raw, made.rows.vectors, made.rows.flat, made.rows.words, manifest=manifest
    )
    return Part(rows, made.alive, made.dead)


def chosen(*parts: Part) -> list[int]:
    return [item.rows.manifest.id for item in choose(parts, OPTIONS) if item.rows.manifest is not None]


def test_what_is_merged() -> None:
    """What waits takes along segments of which it is a fair share, the smallest first, and never the rest."""
    assert chosen() == chosen(part(1, 100)) == []
    assert chosen(part(1, 100, pending=True)) == [1]
    assert chosen(part(1, 100), part(2, 30, pending=True)) == [2, 1]
    assert chosen(part(1, 1000), part(2, 30, pending=True)) == [2]
    assert chosen(part(1, 1000), part(2, 100), part(3, 30, pending=True)) == [3, 2]
    # 30 takes 100, and 130 then takes 500.
    assert chosen(part(1, 500), part(2, 100), part(3, 30, pending=True)) == [3, 2, 1]


def test_how_many_there_may_be() -> None:
    """More segments than allowed are merged, the smallest first."""
    sizes = [part(1, 100_000), part(2, 10_000), part(3, 1_000)]
    assert chosen(*sizes) == []
    assert chosen(*sizes, part(4, 10, pending=True)) == [4, 3]
    assert chosen(*sizes, part(4, 100)) == [4, 3]


def test_worn_segments_are_rebuilt() -> None:
    """A segment with many tombstones is built anew, one at a time."""
    assert chosen(part(1, 81, 19)) == []
    assert chosen(part(1, 80, 20)) == [1]
    assert chosen(part(1, 10, 20), part(2, 10, 20)) == [1]
    assert chosen(part(1, 0, 20)) == [1]


def clustered(rows: int, seed: int) -> Any:
    random = np.random.default_rng(seed)
    return (random.integers(0, 9, (rows, 12)) + 0.3 * random.standard_normal((rows, 12))).astype(np.float32)


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether it comes to hold in that time."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
    return holds()


def wait_for_rest(shard: Shard) -> None:
    """Indexed, and the builder has let go of what it kept for a load to go on."""
    assert shard.wait_indexed(60)
    deadline = time.monotonic() + 30
    while shard._builder._build is not None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert shard._builder._build is None


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_graph_is_extended_from_its_file(
    tmp_path: Path, metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later load extends an owned copy of the graph, tombstones and all, and every row is found in it."""
    begun: list[int] = []
    plain = Build._begin_from
    monkeypatch.setattr(
        Build, "_begin_from", lambda self, base: (begun.append(len(base)), plain(self, base))[1]
    )
    options = ShardOptions(seal_rows=500, rest_rows=32, rest_seconds=0.02, flat_rows=100)
    base = clustered(3000, 0)
    with Shard.create(tmp_path / "shard", Schema(12, metric), options) as shard:
        shard.upsert([f"d{at}" for at in range(2000)], base[:2000])
        wait_for_rest(shard)
        shard.delete([f"d{at}" for at in range(0, 200, 2)])
        shard.upsert([f"d{at}" for at in range(2000, 3000)], base[2000:])
        wait_for_rest(shard)
        assert begun == [2000]
        (segment,) = shard.stats().segments
        assert (segment.kind, segment.rows, segment.tombstones) == ("hnsw", 3000, 100)
        expected = [f"d{at}" for at in range(3000) if at >= 200 or at % 2]
        rows = shard.get(expected, vector=True)
        assert np.array_equal(
            np.stack([row.vector for row in rows if row.vector is not None]),
            base[[at for at in range(3000) if at >= 200 or at % 2]],
        )
        queries = base[201::7]
        found = ids_of(shard, shard.search(queries, 1, ef=100).docnos)
        assert np.mean([got == f"d{201 + 7 * at}" for at, got in enumerate(found)]) > 0.99
    with Shard.open(tmp_path / "shard", options) as shard:
        assert ids_of(shard, shard.search(queries, 1, ef=100).docnos) == found
        shard.verify()


def test_a_sample_stays_held_out_during_a_load(tmp_path: Path) -> None:
    """However much is taken in, at most twice the sample waits outside the graph, and nothing is lost."""
    options = ShardOptions(seal_rows=4096, rest_rows=32, rest_seconds=0.05, flat_rows=100)
    base = np.random.default_rng(0).standard_normal((36_000, 2)).astype(np.float32)
    held: list[int] = []
    plain = Build.step

    def step(self: Build) -> None:
        plain(self)
        held.append(sum(len(piece) for piece in self._held))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Build, "step", step)
        with Shard.create(tmp_path / "shard", Schema(2, "l2"), options) as shard:
            for start in range(0, len(base), 4000):
                rows = base[start : start + 4000]
                shard.upsert([f"d{start + at}" for at in range(len(rows))], rows)
            assert shard.wait_indexed(60)
            assert max(held) > SAMPLE
            assert max(held) <= 2 * SAMPLE
            assert sum(segment.rows for segment in shard.stats().segments) == len(base)
            found = shard.search(base[::50], 1, ef=64)
            assert float((found.scores == 0).mean()) > 0.99


def test_writers_wait_for_a_builder_far_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many blocks unsealed a write waits until one is sealed, but not for ever."""
    monkeypatch.setattr(core, "MAX_BLOCKS", 2)
    monkeypatch.setattr(core, "PATIENCE", 60.0)
    options = ShardOptions(seal_rows=10, rest_rows=10**9, rest_seconds=3600.0)
    vectors = np.ones((10, 2), np.float32)
    with Shard.create(tmp_path / "shard", Schema(2, "l2"), options) as shard:
        held = shard._core.lock
        shard._builder.stop()
        for batch in range(4):
            if batch == 3:
                assert len(shard._core.blocks) == 3
                # Only a new builder makes room for the fourth.
                late = Builder(shard._core)
                timer = threading.Timer(0.05, late.start)
                timer.start()
            shard.upsert([f"{batch}-{at}" for at in range(10)], vectors)
        assert timer.finished.is_set()
        assert shard.count() == 40
        monkeypatch.setattr(core, "PATIENCE", 0.0)
        with held:  # the builder cannot publish: writes go on all the same
            for batch in range(4, 9):
                shard.upsert([f"{batch}-{at}" for at in range(10)], vectors)
            assert len(shard._core.blocks) > 3
        late.stop()


def test_everything_deleted(tmp_path: Path) -> None:
    """A shard whose documents are all deleted has no segment left, and no files, once that is durable."""
    options = ShardOptions(seal_rows=100, rest_rows=16, rest_seconds=0.02, flat_rows=50)
    ids = [f"d{at}" for at in range(500)]
    with Shard.create(tmp_path / "shard", Schema(4, "l2"), options) as shard:
        empty = shard.content_hash()
        shard.upsert(ids, np.random.default_rng(0).standard_normal((500, 4)).astype(np.float32))
        assert shard.wait_indexed(30)
        shard.delete(ids)
        assert shard.wait_indexed(30)
        shard.checkpoint()
        stats = shard.stats()
        assert (stats.documents, stats.segments, stats.growing_rows) == (0, (), 0)
        assert list((shard.path / "segments").iterdir()) == []
        assert shard.content_hash() == empty
        assert shard.search(np.ones(4, np.float32), 3).counts.tolist() == [0]


def test_damage_ends_background_work(tmp_path: Path) -> None:
    """Once damage is known the builder and the keeper end, and the state says why."""
    with Shard.create(tmp_path / "shard", Schema(4, "l2")) as shard:
        shard._core.damage = ShardDamaged(shard.path / "x", "a test says so")
        shard._builder.wake()
        shard._builder._thread.join(10)
        assert not shard._builder._thread.is_alive()
        stats = shard.stats()
        assert (stats.state, stats.error) == ("damaged", f"{shard.path / 'x'}: a test says so")
        with pytest.raises(ShardDamaged):
            shard.upsert(["a"], np.ones((1, 4), np.float32))


def test_what_the_builder_leaves_is_made_durable_without_a_write(tmp_path: Path) -> None:
    """The keeper sleeps; then the builder seals and indexes: a checkpoint follows, and old files go."""
    options = ShardOptions(seal_rows=100, rest_rows=10**6, rest_seconds=0.02, flat_rows=50)
    with Shard.create(tmp_path / "shard", Schema(4, "l2"), options) as shard:
        core_ = shard._core
        shard.upsert([f"d{at}" for at in range(90)], clustered(90, 0)[:, :4])
        assert eventually(lambda: not core_.unsynced)
        core_.rotate()
        shard._builder.wake()
        assert shard.wait_indexed(30)
        assert eventually(lambda: not core_.unsynced)
        named = {
            path
            for item in core_.view.sealed
            if item.rows.manifest
            for path in item.rows.manifest.paths(shard.path)
        }
        assert named
        assert eventually(lambda: set((shard.path / "segments").iterdir()) == named)


@pytest.mark.parametrize("refuses", ["_record", "open_rows"])
def test_what_could_not_be_named_is_removed(
    tmp_path: Path, refuses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment whose transaction is refused, or that cannot be mapped, leaves no file however often it is
    tried; once it is taken, all is as if nothing had been."""
    shard = by_hand(tmp_path / "shard", seal_rows=32, rest_rows=4, flat_rows=16)
    with shard:
        held = shard._core
        folder = held.root / "segments"

        def refuse(*given: Any) -> Any:
            raise sqlite3.OperationalError("database or disk is full")

        shard.upsert([f"d{at}" for at in range(100)], clustered(100, 0)[:, :4])
        with monkeypatch.context() as patch:
            patch.setattr(held, refuses, refuse)
            for _ in range(3):
                with pytest.raises((sqlite3.OperationalError, StorageFailed)):
                    shard._builder._seal(held.blocks[0])
                assert list(folder.iterdir()) == []
        while shard._builder._turn() == 0.0:
            pass
        shard.checkpoint()
        named = {
            path
            for each in held.view.sealed
            if each.rows.manifest is not None
            for path in each.rows.manifest.paths(held.root)
        }
        assert named == set(folder.iterdir())
        assert shard.count() == 100
