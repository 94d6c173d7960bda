"""Which documents match a filter, as of which view.

Field indexes are loaded from the database when a filter first names them, and hold the documents that were
alive then and all that came later. A view older than that load has documents that died before it and that
the index never saw. So loads are made from a pinned moment, one at a time, and counted; whoever took a view
before a load ended and evaluated after it began starts again. That is a seqlock: ``_loads`` is odd during a
load. (H.-J. Boehm, "Can Seqlocks Get Along With Programming Language Memory Models?", MSPC 2012; under
the GIL the counter needs no fences.)
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pyroaring import BitMap

from vecdb_index import documents
from vecdb_index.core import Core
from vecdb_index.filters import Filter
from vecdb_index.filters.ast import Exists, leaves
from vecdb_index.parts import View

_ATTEMPTS: Final = 10  # at a load beside writers, before one that makes them wait


class Matcher:
    """Evaluates filters over a shard's views."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._loads = 0
        self._loading = threading.Lock()

    def latest(self, where: Filter) -> tuple[BitMap, View, bool]:
        """The matching docnos of a view, that view, and whether field indexes alone could tell."""
        core = self._core
        while True:
            loads = self._ready(where)
            view = core.view
            with core.store.reading() as connection:
                found = documents.indexed_matches(where, view, connection, core.indexes)
            if found is None:
                with self.pinned(where) as (_, view, scanned):
                    return scanned, view, False
            if self._loads == loads:
                return found, view, True

    @contextmanager
    def pinned(self, where: Filter) -> Iterator[tuple[sqlite3.Connection, View, BitMap]]:
        """A connection and a view of one moment, and the docnos that matched then."""
        while True:
            loads = self._ready(where)
            with self._core.pinned() as (connection, view):
                found = documents.matches(where, view, connection, self._core.indexes)
                if self._loads == loads:
                    yield connection, view, found
                    return

    def _ready(self, where: Filter) -> int:
        """Load the fields that the filter names; the count of loads, none being under way."""
        if self._loads % 2 or self._unloaded(where):
            with self._loading:
                self._load(where)
                return self._loads
        return self._loads

    def _unloaded(self, where: Filter) -> list[str]:
        indexes = self._core.indexes
        named = {leaf.field for leaf in leaves(where)}
        declared = [spec.name for spec in indexes.specs if spec.name in named]
        return [name for name in declared if indexes.estimate(Exists(name), 0) is None]

    def _load(self, where: Filter) -> None:
        for attempt in range(_ATTEMPTS):
            names = self._unloaded(where)
            if not names:
                return
            self._loads += 1
            try:
                if attempt < _ATTEMPTS - 1:
                    # Does nothing when a commit comes between the two: its rows would be lost.
                    self._load_names(names)
                else:
                    with self._core.lock:
                        self._load_names(names)
            finally:
                self._loads += 1

    def _load_names(self, names: list[str]) -> None:
        with self._core.pinned() as (connection, _):
            for name in names:
                self._core.indexes.evaluate(Exists(name), connection, BitMap)
