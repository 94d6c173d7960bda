"""A shard as it was at one moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from pyroaring import BitMap

from vecdb_index import documents
from vecdb_index.core import Core
from vecdb_index.filters import Filter
from vecdb_index.parts import View
from vecdb_index.searcher import Searcher


class Moment(Searcher):
    """Searches and fetches agree in it, whatever is written meanwhile. Made by ``Shard.moment``."""

    def __init__(self, core: Core, connection: sqlite3.Connection, view: View) -> None:
        """``connection`` sees what ``view`` sees, for as long as this is used."""
        super().__init__(core)
        self._connection, self._held = connection, view

    def _view(self) -> View:
        return self._held

    def _matched(self, where: Filter) -> tuple[BitMap, View, bool]:
        core, view = self._core, self._held
        return documents.matches(where, view, self._connection, core.indexes, lambda: core.view), view, False

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, View]]:
        yield self._connection, self._held
