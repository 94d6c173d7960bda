"""The most recent entries, whole, within a byte limit: what followers and the state machine read next."""

from __future__ import annotations

from collections import OrderedDict

from vecdb_replication.wal.types import Entry


class TailCache:
    """Entries by group and index, oldest out first. Not thread-safe.

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
        old = self._entries.pop(key, None)
        if old is not None:
            self._bytes -= len(old.data)
        if len(entry.data) > self._limit // 4:
            return
        self._entries[key] = entry
        self._bytes += len(entry.data)
        while self._bytes > self._limit:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= len(oldest.data)

    def get(self, group: int, index: int) -> Entry | None:
        """The entry, if it is remembered."""
        return self._entries.get((group, index))
