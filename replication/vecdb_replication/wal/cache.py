"""The most recent entries, whole, within a byte limit: what followers and the state machine read next."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from vecdb_replication.wal.types import Entry

# What an entry takes beside its data: the object, its key, its place in the dictionary (measured: 309 bytes).
ENTRY_BYTES: Final = 310


class TailCache:
    """Entries by group and index, oldest out first; `limit` is in bytes of memory. Not thread-safe.

    Every entry that is appended passes through `put`, which replaces or forgets what was there under
    the same index. So an entry found under a live index is the live one, and truncation needs no work.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._entries: OrderedDict[tuple[int, int], Entry] = OrderedDict()

    def put(self, group: int, entry: Entry) -> None:
        """Remember an entry, unless it is larger than a quarter of the whole cache."""
        key = (group, entry.index)
        self._drop(key)
        if _cost(entry) > self._limit // 4:
            return
        self._entries[key] = entry
        self._bytes += _cost(entry)
        while self._bytes > self._limit:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= _cost(oldest)

    def forget(self, group: int, indexes: range) -> None:
        """Drop what is remembered of a group under these indexes, in steps of one."""
        if len(indexes) <= len(self._entries):
            keys = [(group, index) for index in indexes]
        else:
            keys = [key for key in self._entries if key[0] == group and key[1] in indexes]
        for key in keys:
            self._drop(key)

    def get(self, group: int, index: int) -> Entry | None:
        """The entry, if it is remembered."""
        return self._entries.get((group, index))

    def _drop(self, key: tuple[int, int]) -> None:
        old = self._entries.pop(key, None)
        if old is not None:
            self._bytes -= _cost(old)


def _cost(entry: Entry) -> int:
    return len(entry.data) + ENTRY_BYTES
