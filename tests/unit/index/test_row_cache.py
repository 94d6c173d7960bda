"""Rows kept in memory: what a search is answered with is what the database says, in bounded memory."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shards import STILL
from vecdb_index import Row, RowCache, Schema, Shard
from vecdb_index.row_cache import size_of


def a_row(docno: int, payload: bytes = b"x") -> Row:
    return Row(f"id-{docno}", 1, "", 0, None, payload, None, docno)


def of(cache: RowCache, count: int, payload: bytes = b"x" * 100) -> list[Row]:
    rows = cache.open()
    kept = [a_row(docno, payload) for docno in range(count)]
    rows.put(kept)
    return [row for row in rows.get(range(count)) if row is not None]


def test_memory_is_bounded() -> None:
    """Whatever is put in, no more than the capacity is kept, and the latest rows are among it."""
    capacity = 100 * size_of(a_row(0, b"x" * 100))
    kept = of(RowCache(capacity), 1000)
    assert sum(map(size_of, kept)) <= capacity
    assert 25 <= len(kept) <= 100
    assert kept[-1].docno == 999


def test_what_is_used_stays() -> None:
    """A row that is looked up again and again outlives any number of others."""
    cache = RowCache(100 * size_of(a_row(0)))
    rows = cache.open()
    rows.put([a_row(0)])
    for docno in range(1, 1000):
        rows.put([a_row(docno)])
        assert rows.get([0])[0] is not None


def test_a_row_dropped_while_it_is_looked_up_stays_away() -> None:
    """A lookup that found a row of the older generation does not renew it once its document has died."""
    cache = RowCache(100 * size_of(a_row(0)))
    rows = cache.open()
    rows.put([a_row(0)])
    found = cache.get(0)
    assert found is not None
    while cache._young.get(0) is not None:
        rows.put([a_row(1 + cache._young_bytes)])
    assert cache._old.get(0) is found
    rows.drop([0])
    cache._renew(0, found)
    assert rows.get([0]) == [None]


def test_a_giant_is_not_kept() -> None:
    """A row of more than an eighth of the memory is not kept; with no memory none is."""
    cache = RowCache(100_000)
    rows = cache.open()
    rows.put([a_row(0), a_row(1, b"x" * 50_000)])
    assert [row is not None for row in rows.get([0, 1])] == [True, False]
    assert of(RowCache(0), 3) == []
    with pytest.raises(ValueError, match="capacity"):
        RowCache(-1)


def test_shards_do_not_see_each_other() -> None:
    """Two shards with the same docnos, or one shard opened twice, share memory but no rows."""
    cache = RowCache(100_000)
    one, other = cache.open(), cache.open()
    one.put([a_row(7)])
    assert other.get([7]) == [None]
    other.drop([7])
    assert one.get([7]) == [a_row(7)]


def open_shard(folder: Path, cache: RowCache) -> Shard:
    options = replace(STILL, row_cache=cache)
    if (folder / "shard.db").exists():
        return Shard.open(folder, options)
    return Shard.create(folder, Schema(dim=2, metric="l2"), options)


def test_rows_are_what_the_database_says(tmp_path: Path) -> None:
    """After a rewrite, an update, a deletion and a reopening every fetch shows what a cold one shows."""
    cache = RowCache(1 << 20)
    with open_shard(tmp_path / "s", cache) as shard:
        shard.upsert(["a", "b", "c"], np.eye(3, 2, dtype=np.float32), [{"n": at} for at in range(3)])
        docnos = shard.search(np.zeros(2, np.float32), 3).docnos
        first = shard.fetch(docnos)
        assert shard.fetch(docnos) == first
        assert all(one is other for one, other in zip(first, shard.fetch(docnos), strict=True))
        shard.upsert(["a"], np.ones((1, 2), np.float32), [{"n": 10}])
        shard.update(["b"], {"m": 1})
        shard.delete(["c"])
        assert shard.fetch(docnos) == [None, None, None]
        docnos = shard.search(np.zeros(2, np.float32), 3).docnos
        warm = [shard.fetch(docnos) for _ in range(2)]
        assert {row.id for row in warm[0] if row} == {"a", "b"}
        light = shard.fetch(docnos, payload=False)
        assert [row.payload for row in light if row] == [b"", b""]
    with open_shard(tmp_path / "s", RowCache(0)) as shard:
        assert [shard.fetch(docnos), shard.fetch(docnos)] == warm


def test_a_row_read_before_its_death_is_not_kept(tmp_path: Path) -> None:
    """A reader that read a row before a deletion and comes to keep it after does not bring it back."""
    with open_shard(tmp_path / "s", RowCache(1 << 20)) as shard:
        shard.upsert(["a"], np.ones((1, 2), np.float32))
        core = shard._core
        view = core.view
        (docno,) = shard.search(np.ones(2, np.float32), 1).docnos
        (row,) = shard.fetch([docno])
        assert row is not None
        shard.delete(["a"])
        core.remember(view, [row])
        assert shard.fetch([docno]) == [None]


def test_a_writer_is_not_waited_for(tmp_path: Path) -> None:
    """While a writer holds the shard, a fetch answers and keeps nothing."""
    with open_shard(tmp_path / "s", RowCache(1 << 20)) as shard:
        shard.upsert(["a"], np.ones((1, 2), np.float32))
        found: list[list[Row | None]] = []
        with shard._core.lock:
            reader = threading.Thread(target=lambda: found.append(shard.fetch([0])))
            reader.start()
            reader.join(30.0)
        assert found
        assert found[0][0] is not None
        assert shard._core.rows.get([0]) == [None]
