"""The documents of quarantined authors in one shard, and what is left to show without them.

To readers, hidden documents are as good as deleted: the parts that they search have them for tombstones, so
searches cost what they cost beside deleted rows. To writers, to the builder and to the content hash they are
documents as any other.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import numpy as np
from pyroaring import BitMap

from vecdb_index.filters.columns import docnos_of
from vecdb_index.parts import Part, View

_CHUNK: Final = 500  # authors a statement
NOBODY: Final[frozenset[str]] = frozenset()


class Hidden:
    """The documents of some authors in one shard: their docnos, and views without them.

    Docnos of documents that died since stay among them: they are never used twice, and a view from before
    must not show them either.
    """

    __slots__ = ("_last", "_parts", "authors", "docnos")

    def __init__(
        self, authors: frozenset[str], docnos: BitMap, parts: dict[Part, Part] | None = None
    ) -> None:
        self.authors = authors
        self.docnos = docnos
        self._last: tuple[View, View] | None = None
        self._parts = parts or {}

    @classmethod
    def read(cls, connection: sqlite3.Connection, authors: frozenset[str]) -> Hidden:
        """As the database has them."""
        return cls(authors, _docnos(connection, authors, 0))

    def followed(self, connection: sqlite3.Connection, first: int) -> Hidden:
        """With those of the documents from docno ``first`` on, which are new."""
        if not self.authors:
            return self
        new = _docnos(connection, self.authors, first)
        # Only new documents were added: parts that were there before lack nothing.
        return Hidden(self.authors, self.docnos | new, self._parts) if new else self

    def without(self, view: View) -> View:
        """The view as it is shown; made once."""
        last = self._last
        if last is not None and last[0] is view:
            return last[1]
        parts = {part: self._parts.get(part) or self._shown(part) for part in view.sealed + view.growing}
        shown = view.narrowed(
            tuple(parts[part] for part in view.sealed),
            tuple(parts[part] for part in view.growing),
            self.docnos,
        )
        self._parts, self._last = parts, (view, shown)
        return shown

    def _shown(self, part: Part) -> Part:
        rows = part.rows
        keys = rows.docnos if rows.sorted_docnos is None else rows.sorted_docnos
        if not len(keys):
            return part
        # A part has the documents of a range, and there may be many others that are hidden.
        hidden = docnos_of(self.docnos)
        first, last = np.searchsorted(hidden, keys[0]), np.searchsorted(hidden, keys[-1], side="right")
        return part.without_docnos(hidden[first:last].astype(np.int64))


def _docnos(connection: sqlite3.Connection, authors: frozenset[str], first: int) -> BitMap:
    found = BitMap()
    names = sorted(authors)
    for start in range(0, len(names), _CHUNK):
        some = names[start : start + _CHUNK]
        marks = ",".join("?" * len(some))
        rows = connection.execute(
            f"SELECT docno FROM docs WHERE author IN ({marks}) AND docno >= ?", (*some, first)
        )
        found.update(docno for (docno,) in rows)
    return found
