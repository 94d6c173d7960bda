"""Writes that never pause: what is indexed gets published, and what is dead goes."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from shards import by_hand, ids_of
from vecdb_index import Schema, Shard, ShardOptions, build, builder
from vecdb_index.build import Build
from vecdb_index.knn import F32, faiss

DIM = 12
SCHEMA = Schema(DIM, "l2")


def clustered(rows: int, seed: int) -> F32:
    random = np.random.default_rng(seed)
    noise = 0.3 * random.standard_normal((rows, DIM))
    return (random.integers(0, 9, (rows, DIM)) + noise).astype(np.float32)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """However slow the machine is, no time passes for the builder."""
    monkeypatch.setattr(builder, "_PAUSE", 3600.0)
    monkeypatch.setattr(builder, "_LATE_SECONDS", 3600.0)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # as the builder's own thread has it
    yield
    faiss.omp_set_num_threads(threads)


def seal(shard: Shard) -> None:
    """Make a segment of what grows."""
    shard._core.rotate()
    shard._builder._seal(shard._core.blocks[0])


def index_all(shard: Shard) -> Build:
    """Turns until nothing is left to take in, as long as no write pauses."""
    while shard._builder._turn() == 0.0:
        pass
    making = shard._builder._build
    assert making is not None
    assert not making.busy
    return making


def exact(shard: Shard) -> int:
    return sum(len(part.rows) for part in shard._core.view.parts if part.rows.near is None)


@pytest.mark.usefixtures("no_pause")
def test_much_is_published_while_more_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With always something left to take in and never a pause, what is searched exactly stays bounded."""
    monkeypatch.setattr(builder, "_MUCH_ROWS", 300)
    monkeypatch.setattr(build, "STEP_BYTES", 4 * DIM * 64)  # several steps a source
    rows = clustered(200, 0)
    with by_hand(tmp_path / "shard", SCHEMA, flat_rows=100) as shard:
        most = []
        for batch in range(20):
            shard.upsert([f"{batch}-{at}" for at in range(200)], rows + batch)
            seal(shard)
            # Steps for so many rows, and the builder is never done.
            while (making := shard._builder._build) is None or len(making) < batch * 200:
                if batch == 0:
                    break
                assert shard._builder._turn() == 0.0
            most.append(exact(shard))
            assert sum(part.living for part in shard._core.view.parts) == (batch + 1) * 200
        assert max(most) <= 300 + 3 * 200
        assert shard._builder._build is not None
        assert shard._builder._build.written >= 3000
        shard.verify()


def test_what_is_written_is_measured_by_what_there_was() -> None:
    """When a segment is written without a pause: by what was added, and by what there was."""

    @dataclass
    class Counted:
        written: int
        added: int
        unwritten: tuple[int, ...] = ()
        since: float = float("inf")

        def __len__(self) -> int:
            return self.written + self.added

    def due(*numbers: Any, **named: Any) -> bool:
        return builder._due(cast(Build, Counted(*numbers, **named)))

    assert not due(0, 65_535)
    assert due(0, 65_536)
    assert not due(400_000, 65_535)
    assert due(400_000, 65_536)
    assert not due(4_000_000, 499_999)
    assert due(4_000_000, 500_000)
    # Long vectors: few rows, but many segments of them.
    assert due(0, 4000, unwritten=tuple(range(16)))
    assert not due(0, 4000, unwritten=tuple(range(15)))
    assert not due(400_000, 4000, unwritten=tuple(range(16)))
    # Whatever is in them, there are not ever more.
    assert not due(4_000_000, 1, unwritten=tuple(range(63)))
    assert due(4_000_000, 1, unwritten=tuple(range(64)))
    # What waits long.
    assert due(8000, 2000, since=time.monotonic() - 31)
    assert not due(8000, 2000, since=time.monotonic() - 20)
    assert not due(8000, 1999, since=time.monotonic() - 31)
    assert not due(8000, 0, since=time.monotonic() - 31)


@pytest.mark.usefixtures("no_pause")
def test_the_dead_are_not_indexed(tmp_path: Path) -> None:
    """Rows that die while they wait never enter a graph, and a segment of nothing else goes at once."""
    ids = [f"d{at}" for at in range(200)]
    rows = clustered(200, 0)
    with by_hand(tmp_path / "shard", SCHEMA, flat_rows=100) as shard:
        for batch in range(5):
            shard.upsert(ids, rows + batch)
            seal(shard)
        shard.upsert(["a", *ids[:50]], rows[:51] + 9)
        seal(shard)
        assert len(shard._core.view.sealed) == 6
        shard._builder._turn()
        assert [len(part.rows) for part in shard._core.view.sealed] == [200, 51]
        making = index_all(shard)
        assert len(making) == 201
        shard._builder._write(making)
        (segment,) = shard.stats().segments
        assert (segment.rows, segment.tombstones) == (201, 0)
        found = shard.get([*ids, "a"], vector=True)
        expected = np.concatenate([rows[1:51] + 9, rows[50:] + 4, rows[:1] + 9])
        assert np.array_equal(np.stack([row.vector for row in found if row.vector is not None]), expected)


@pytest.mark.usefixtures("no_pause")
def test_a_source_dead_after_it_was_taken_stays_dead(tmp_path: Path) -> None:
    """Rows that die in the build become tombstones of what it writes, also when all of their source did."""
    rows = clustered(200, 0)
    with by_hand(tmp_path / "shard", SCHEMA, flat_rows=100) as shard:
        for name, some in (("a", rows[:100]), ("b", rows[100:])):
            shard.upsert([f"{name}{at}" for at in range(100)], some)
            seal(shard)
        making = index_all(shard)
        shard.delete([f"a{at}" for at in range(100)])
        assert not shard._builder._drop_empty(shard._core.view)
        shard._builder._write(making)
        (segment,) = shard.stats().segments
        assert (segment.rows, segment.tombstones) == (200, 100)
        found = ids_of(shard, shard.search(rows[0], 100, exact=True).docnos)
        assert sorted(found) == sorted(f"b{at}" for at in range(100))


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize(("share", "rounds"), [(0.02, 40), (0.1, 15), (1.0, 4)])
def test_endless_rewrites_leave_little(tmp_path: Path, share: float, rounds: int) -> None:
    """While documents are rewritten without a pause, segments and the dead stay a bounded part of all."""
    random = np.random.default_rng(0)
    ids, size = [f"d{at}" for at in range(1000)], int(1000 * share)
    vectors = dict(zip(ids, clustered(1000, 0), strict=True))
    with by_hand(tmp_path / "shard", SCHEMA, flat_rows=100) as shard:
        shard.upsert(ids, np.stack(list(vectors.values())))
        seal(shard)
        shard._builder._write(index_all(shard))
        most = [0, 0, 0]
        for batch in range(rounds):
            some = random.choice(ids, size, replace=False).tolist()
            vectors.update(zip(some, clustered(size, batch + 1), strict=True))
            shard.upsert(some, np.stack([vectors[id_] for id_ in some]))
            seal(shard)
            index_all(shard)
            view = shard._core.view
            assert sum(part.living for part in view.parts) == 1000
            (dead,) = shard._core.store.writer.execute("SELECT COUNT(*) FROM dead").fetchone()
            now = [len(view.sealed), sum(part.dead for part in view.sealed), dead]
            most = [max(pair) for pair in zip(most, now, strict=True)]
        # A fifth of what is stored and what a batch adds; and the segments that wait for much to be in them.
        assert most[1] == most[2] <= 0.25 * 1000 + size
        assert most[0] <= 17
        rows = shard.get(ids, vector=True)
        assert all(np.array_equal(cast(F32, row.vector), vectors[row.id]) for row in rows)
        shard.verify()


@pytest.mark.usefixtures("no_pause")
def test_hot_documents_do_not_pile_up_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few documents rewritten beside a large segment in the making: their segments are few at any time."""
    monkeypatch.setattr(builder, "_MOST_SEGMENTS", 4)
    with by_hand(tmp_path / "shard", SCHEMA, flat_rows=100) as shard:
        shard.upsert([f"d{at}" for at in range(5000)], clustered(5000, 0))
        seal(shard)
        shard._builder._write(index_all(shard))
        for batch in range(12):
            shard.upsert(["hot", "hotter"], clustered(2, batch))
            seal(shard)
            index_all(shard)
            assert len(shard._core.view.sealed) <= 1 + 4
        assert shard.count() == 5002


@pytest.mark.usefixtures("no_pause")
def test_worn_segments_are_taken_in_by_a_build(tmp_path: Path) -> None:
    """A segment that the build does not stand for is not left with its tombstones until writes pause."""
    with by_hand(tmp_path / "shard", SCHEMA, flat_rows=100) as shard:
        shard.upsert([f"a{at}" for at in range(2000)], clustered(2000, 0))
        seal(shard)
        shard._builder._write(index_all(shard))
        shard._builder._build = None  # as after a pause
        shard.upsert([f"b{at}" for at in range(200)], clustered(200, 1))
        seal(shard)
        first = index_all(shard)
        assert len(shard._core.view.sealed) == 2
        assert len(first.sources) == 1
        shard.delete([f"a{at}" for at in range(500)])
        index_all(shard)
        (segment,) = shard.stats().segments
        assert (segment.rows, segment.tombstones) == (1700, 0)


def test_a_load_without_a_pause_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real thread, and a writer that goes on until it sees it: graphs come, and come again."""
    monkeypatch.setattr(builder, "_MUCH_ROWS", 1000)
    options = ShardOptions(seal_rows=200, rest_rows=32, rest_seconds=3600.0, flat_rows=100, threads=1)
    rows = clustered(100, 0)
    with Shard.create(tmp_path / "shard", SCHEMA, options) as shard:
        core, enough = shard._core, threading.Event()

        def indexed() -> int:
            return sum(len(part.rows) for part in core.view.sealed if part.rows.near is not None)

        def write() -> None:
            for batch in itertools.count():
                if enough.is_set():
                    return
                shard.upsert([f"{batch}-{at}" for at in range(100)], rows + batch)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            with core.changed:
                assert core.changed.wait_for(lambda: indexed() >= 2500, 60)
        finally:
            enough.set()
            writer.join()
        assert shard.count() == sum(part.living for part in core.view.parts)
