"""The tail cache: bounded in bytes, and never older than the log."""

from __future__ import annotations

from vecdb_replication.wal import Entry
from vecdb_replication.wal.cache import TailCache


def entry(index: int, size: int, term: int = 1) -> Entry:
    return Entry(term, index, 0, bytes(size))


def test_the_oldest_go_first_once_the_limit_is_passed() -> None:
    cache = TailCache(100)
    for index in range(1, 7):
        cache.put(1, entry(index, 25))
    assert [index for index in range(1, 7) if cache.get(1, index)] == [3, 4, 5, 6]


def test_an_overwritten_entry_counts_once() -> None:
    cache = TailCache(100)
    for index in range(1, 4):
        cache.put(1, entry(index, 25))
    for term in range(2, 50):
        cache.put(1, entry(3, 25, term))
    assert [cache.get(1, index) for index in (1, 2, 3)] == [entry(1, 25), entry(2, 25), entry(3, 25, 49)]


def test_an_overwritten_entry_is_as_young_as_its_successor() -> None:
    cache = TailCache(100)
    for index in (1, 2, 3, 4, 1, 5):
        cache.put(1, entry(index, 25))
    assert [index for index in range(1, 6) if cache.get(1, index)] == [1, 3, 4, 5]


def test_a_large_entry_is_not_kept_but_its_predecessor_forgotten() -> None:
    """Else the old entry would be served under the index of the new one."""
    cache = TailCache(100)
    cache.put(1, entry(1, 20))
    cache.put(2, entry(1, 20))
    cache.put(1, entry(1, 26, term=2))
    assert cache.get(1, 1) is None
    assert cache.get(2, 1) == entry(1, 20)
