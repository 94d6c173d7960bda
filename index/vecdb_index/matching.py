"""Which documents match a filter, as of which view.

Field indexes are loaded from the database when a filter first names them, hold the documents that were alive
then and all that came later, and drop those that died. So what they say is right for the documents that are
alive in the view that was asked for and still are when the answer is there; others have to be looked at.
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

_ATTEMPTS: Final = 10  # beside writers, before one that makes them wait


class Matcher:
    """Evaluates filters over a shard's views."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._loading = threading.Lock()

    def latest(self, where: Filter) -> tuple[BitMap, View, bool]:
        """The matching docnos of a view, that view, and whether field indexes alone could tell."""
        core = self._core
        self._load(where)
        for _ in range(_ATTEMPTS):
            view = core.shown()
            with core.store.reading() as connection:
                found = documents.indexed_matches(where, view, connection, core.indexes)
            if found is None:
                break
            if not documents.died_since(view, core.view):
                return found, view, True
        with self.pinned(where) as (_, view, matching):
            return matching, view, found is not None

    @contextmanager
    def pinned(
        self, where: Filter, *, whole: bool = False
    ) -> Iterator[tuple[sqlite3.Connection, View, BitMap]]:
        """A connection and a view of one moment (see ``Core.pinned``), and the docnos that matched then."""
        core = self._core
        self._load(where)
        with core.pinned(whole=whole) as (connection, view):
            yield (
                connection,
                view,
                documents.matches(where, view, connection, core.indexes, lambda: core.view),
            )

    def _unloaded(self, where: Filter) -> list[str]:
        indexes = self._core.indexes
        named = {leaf.field for leaf in leaves(where)}
        declared = [spec.name for spec in indexes.specs if spec.name in named]
        return [name for name in declared if indexes.estimate(Exists(name), 0) is None]

    def _load(self, where: Filter) -> None:
        """Load the fields that the filter names."""
        if not self._unloaded(where):
            return
        with self._loading:
            for _ in range(_ATTEMPTS):
                if not self._unloaded(where):
                    return
                # Does nothing when a commit comes between the two: its rows would be lost.
                self._load_names(self._unloaded(where))
            with self._core.lock:
                self._load_names(self._unloaded(where))

    def _load_names(self, names: list[str]) -> None:
        with self._core.pinned(whole=True) as (connection, _):
            for name in names:
                self._core.indexes.evaluate(Exists(name), connection, BitMap)
