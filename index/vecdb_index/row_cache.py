"""Rows that were read, kept in memory for whoever reads them next.

Ten rows are read for each search; from SQLite that takes a third as long as the search itself. A row never
changes under its docno (a document that is written again gets a new one), so a row kept is right for as long
as the docno lives; the shard drops it when the document dies.

Two generations rather than a list in the order of use: looking a row up is one or two dict lookups without
a lock, and eviction is to forget the older generation whole.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Final

from vecdb_index.results import Row

# The objects around a row's strings and bytes: the tuple, its numbers, its place in the dict.
_OVERHEAD: Final = 480
# Docnos are below this, so that a shard's number above them makes keys of one int.
_DOCNO_BITS: Final = 48


class RowCache:
    """At most about ``capacity`` bytes of rows, of all the shards that share it; 0 keeps none."""

    def __init__(self, capacity: int) -> None:
        if capacity < 0:
            raise ValueError(f"capacity must be at least 0, not {capacity}")
        self.capacity = capacity
        self._shards = itertools.count()
        self._lock = threading.Lock()
        self._young: dict[int, Row] = {}
        self._old: dict[int, Row] = {}
        self._young_bytes = 0

    def open(self) -> ShardRows:
        """A part for one opened shard: what another one left under the same docnos is not seen."""
        return ShardRows(self, next(self._shards) << _DOCNO_BITS)

    def get(self, key: int) -> Row | None:
        """The row of a key, or None."""
        row = self._young.get(key)
        if row is None:
            row = self._old.get(key)
            if row is not None:
                self._renew(key, row)
        return row

    def put(self, key: int, row: Row) -> None:
        """Keep a row."""
        size = size_of(row)
        if size > self.capacity // 8:  # one giant must not push out everything else
            return
        with self._lock:
            self._add(key, row, size)

    def drop(self, key: int) -> None:
        """Forget a row, if it is there."""
        with self._lock:
            self._young.pop(key, None)
            self._old.pop(key, None)

    def _renew(self, key: int, row: Row) -> None:
        """A row that is used outlives its generation, if it was not dropped since it was looked up."""
        with self._lock:
            if self._old.get(key) is row and key not in self._young:
                self._add(key, row, size_of(row))

    def _add(self, key: int, row: Row, size: int) -> None:
        if self._young_bytes + size > self.capacity // 2:
            self._old, self._young, self._young_bytes = self._young, {}, 0
        self._young[key] = row
        self._young_bytes += size


class ShardRows:
    """The rows of one shard in a cache."""

    __slots__ = ("_base", "_cache")

    def __init__(self, cache: RowCache, base: int) -> None:
        self._cache, self._base = cache, base

    def get(self, docnos: Sequence[int]) -> list[Row | None]:
        """The row of each docno, None where it is not kept."""
        base, get = self._base, self._cache.get
        return [get(base + docno) for docno in docnos]

    def put(self, rows: Iterable[Row]) -> None:
        """Keep rows with their payloads and texts."""
        for row in rows:
            self._cache.put(self._base + row.docno, row)

    def drop(self, docnos: Iterable[int]) -> None:
        """Forget documents that died."""
        for docno in docnos:
            self._cache.drop(self._base + docno)


def size_of(row: Row) -> int:
    """About how many bytes a row without vector takes in memory."""
    size = _OVERHEAD + len(row.id) + len(row.payload) + len(row.author)
    if row.text is not None:
        size += sys.getsizeof(row.text)
    return size if row.source is None else size + len(row.source)
