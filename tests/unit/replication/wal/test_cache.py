"""The tail cache: bounded in bytes, and never older than the log."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from vecdb_replication.wal import Entry, GroupUpdate, SnapshotMark, Tombstone, Wal
from vecdb_replication.wal.cache import ENTRY_BYTES, TailCache


def entry(index: int, size: int, term: int = 1) -> Entry:
    return Entry(term, index, 0, bytes(size))


def test_the_oldest_go_first_once_the_limit_is_passed() -> None:
    cache = TailCache(4 * (ENTRY_BYTES + 25))
    for index in range(1, 7):
        cache.put(1, entry(index, 25))
    assert [index for index in range(1, 7) if cache.get(1, index)] == [3, 4, 5, 6]


def test_an_overwritten_entry_counts_once() -> None:
    cache = TailCache(4 * (ENTRY_BYTES + 25))
    for index in range(1, 4):
        cache.put(1, entry(index, 25))
    for term in range(2, 50):
        cache.put(1, entry(3, 25, term))
    assert [cache.get(1, index) for index in (1, 2, 3)] == [entry(1, 25), entry(2, 25), entry(3, 25, 49)]


def test_an_overwritten_entry_is_as_young_as_its_successor() -> None:
    cache = TailCache(4 * (ENTRY_BYTES + 25))
    for index in (1, 2, 3, 4, 1, 5):
        cache.put(1, entry(index, 25))
    assert [index for index in range(1, 6) if cache.get(1, index)] == [1, 3, 4, 5]


def test_a_large_entry_is_not_kept_but_its_predecessor_forgotten() -> None:
    """Else the old entry would be served under the index of the new one."""
    cache = TailCache(4 * (ENTRY_BYTES + 25))
    cache.put(1, entry(1, 20))
    cache.put(2, entry(1, 20))
    cache.put(1, entry(1, 26, term=2))
    assert cache.get(1, 1) is None
    assert cache.get(2, 1) == entry(1, 20)


def test_empty_entries_are_counted_too() -> None:
    """What an entry takes beside its data counts, so a million empty ones do not stay for being empty."""
    limit = 1 << 20
    cache = TailCache(limit)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for index in range(10**6, 10**6 + 20_000):
            cache.put(10**6, entry(index, 0))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert limit // 2 < taken < 1.25 * limit
    assert cache.get(10**6, 10**6) is None


@pytest.mark.parametrize("indexes", [range(2, 4), range(2, 10**9)])
def test_forgotten_entries_make_room(indexes: range) -> None:
    """However many indexes there are: those of the group go, what they took is free, the others stay."""
    cache = TailCache(4 * (ENTRY_BYTES + 25))
    for key in ((1, 1), (1, 2), (2, 2), (1, 3)):
        cache.put(key[0], entry(key[1], 25))
    cache.forget(1, indexes)
    for index in (7, 8):
        cache.put(3, entry(index, 25))
    assert [key for key in ((1, 1), (1, 2), (1, 3), (2, 2)) if cache.get(*key)] == [(1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("update", "kept"),
    [
        (GroupUpdate(1, snapshot=SnapshotMark(4, 1, b"")), [5, 6]),
        (GroupUpdate(1, [entry(10, 9, 3)], snapshot=SnapshotMark(9, 3, b"")), [10]),
        (GroupUpdate(1, tombstone=Tombstone(1)), []),
    ],
    ids=["compaction", "reset", "tombstone"],
)
def test_dead_entries_leave_the_cache(tmp_path: Path, update: GroupUpdate, kept: list[int]) -> None:
    """Entries that no one may read any more take no memory; those of other groups stay."""
    with Wal.open(tmp_path) as wal:
        wal.append([GroupUpdate(group, [entry(index, 9) for index in range(1, 7)]) for group in (1, 2)])
        wal.append([update])
        assert [index for index in range(1, 20) if wal._cache.get(1, index)] == kept
        assert [index for index in range(1, 20) if wal._cache.get(2, index)] == [1, 2, 3, 4, 5, 6]
