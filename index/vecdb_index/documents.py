"""Reading documents: by docno (the hits of a search), by id, in id order, and by filter."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

import numpy as np
from pyroaring import BitMap

from vecdb_index import filters
from vecdb_index.filters import Filter
from vecdb_index.filters.columns import docnos_of
from vecdb_index.knn import F32, I64
from vecdb_index.parts import Flags, View
from vecdb_index.results import Row

T = TypeVar("T")

_CHUNK: Final = 500
_NO_PAYLOAD: Final = "X''"
_SORT_AT_MOST: Final = 4096  # matches that are fetched and sorted rather than found by walking all ids


def columns(payload: bool, text: bool) -> str:
    """The select list of a Row."""
    bodies = f"{'payload' if payload else _NO_PAYLOAD}, {'text' if text else 'NULL'}"
    return f"id, version, author, written_at_ms, source, {bodies}, docno"


class Reader:
    """Reads of one shard, over one reader's connection and one view."""

    def __init__(self, connection: sqlite3.Connection, view: View) -> None:
        self._connection, self._view = connection, view

    def by_docno(self, docnos: Sequence[int], select: str) -> dict[int, Row]:
        """Rows by docno; deleted ones are left out."""
        found: dict[int, Row] = {}
        for some in _chunks(docnos):
            marks = ",".join("?" * len(some))
            rows = self._connection.execute(f"SELECT {select} FROM docs WHERE docno IN ({marks})", some)
            found.update((row[7], Row._make((*row, None))) for row in rows)
        return found

    def by_id(self, ids: Sequence[str], select: str) -> list[Row]:
        """Rows in the order of the ids; missing ones are left out."""
        found: dict[str, Row] = {}
        for some in _chunks(ids):
            marks = ",".join("?" * len(some))
            rows = self._connection.execute(f"SELECT {select} FROM docs WHERE id IN ({marks})", some)
            found.update((row[0], Row._make((*row, None))) for row in rows)
        return [found[id_] for id_ in ids if id_ in found]

    def scroll(self, after: str | None, limit: int, select: str, matching: BitMap | None) -> list[Row]:
        """The next rows in id order, all of them or those in ``matching``."""
        if matching is not None and len(matching) <= _SORT_AT_MOST:
            light = self.by_docno(docnos_of(matching).tolist(), columns(False, False)).values()
            # The order of code points is that of UTF-8 bytes, which is SQLite's.
            later = [row for row in light if after is None or row.id > after]
            picked = [row.docno for row in sorted(later, key=lambda row: row.id)[:limit]]
        else:
            # Walks the index of ids alone, which holds docnos.
            walk = self._connection.execute("SELECT docno FROM docs WHERE id > ? ORDER BY id", (after or "",))
            wanted = (docno for (docno,) in walk if matching is None or docno in matching)
            picked = list(islice(wanted, limit))
            walk.close()
        # Payloads and texts are read of the rows that are wanted, not of all that match.
        found = self.by_docno(picked, select)
        return [found[docno] for docno in picked if docno in found]

    def with_vectors(self, rows: Sequence[Row | None]) -> list[Row | None]:
        """The rows with raw vectors; one deleted from the view becomes None."""
        held = [row for row in rows if row is not None]
        vectors, here = vectors_of(self._view, np.array([row.docno for row in held], dtype=np.int64))
        filled = iter(
            row._replace(vector=vector) if present else None
            for row, vector, present in zip(held, vectors, here, strict=True)
        )
        return [None if row is None else next(filled) for row in rows]

    def scan(self, where: Filter, docnos: BitMap) -> BitMap:
        """Those of the docnos whose documents match, by looking at each."""
        holds = filters.compile(where)
        found = []
        for some in _chunks(docnos_of(docnos).tolist()):
            marks = ",".join("?" * len(some))
            rows = self._connection.execute(
                f"SELECT docno, payload, author FROM docs WHERE docno IN ({marks})", some
            )
            found += [
                docno for docno, payload, author in rows if holds(filters.decode_payload(payload), author)
            ]
        return BitMap(found)


def indexed_matches(
    where: Filter, view: View, connection: sqlite3.Connection, indexes: filters.FieldIndexes
) -> BitMap | None:
    """The docnos of a view's documents that match, if field indexes alone can tell."""
    candidates = indexes.evaluate(where, connection, view.universe)
    return candidates.bitmap if candidates.exact else None


def matches(
    where: Filter,
    view: View,
    connection: sqlite3.Connection,
    indexes: filters.FieldIndexes,
    latest: Callable[[], View],
) -> BitMap:
    """The same, looking at documents where they cannot tell, or may no longer know.

    ``connection`` must see what ``view`` sees. ``latest`` gives the shard's view as of the call.
    """
    reader = Reader(connection, view)
    candidates = indexes.evaluate(where, connection, view.universe)
    if candidates.bitmap is None:
        return reader.scan(where, view.universe())
    found = candidates.certain | reader.scan(where, candidates.bitmap - candidates.certain)
    died = died_since(view, latest())
    return (found - died) | reader.scan(where, died) if died else found


def died_since(view: View, latest: View) -> BitMap:
    """The documents of a view that have died since.

    Field indexes drop the dead, or never saw those that died before they were loaded: what they said about a
    view holds for the documents that are alive still, after they were asked.
    """
    return BitMap() if latest is view.whole else view.universe() - latest.universe()


def texts_of(connection: sqlite3.Connection, docnos: Sequence[int]) -> dict[int, str | None]:
    """Texts by docno: None for documents without one; those that are gone are left out."""
    found: dict[int, str | None] = {}
    for some in _chunks(docnos):
        marks = ",".join("?" * len(some))
        found.update(connection.execute(f"SELECT docno, text FROM docs WHERE docno IN ({marks})", some))
    return found


def have_texts(connection: sqlite3.Connection, first: int, last: int) -> bool:
    """Whether any document with a docno from the first to the last has a text."""
    found = connection.execute(
        "SELECT 1 FROM docs WHERE docno BETWEEN ? AND ? AND text IS NOT NULL LIMIT 1", (first, last)
    )
    return found.fetchone() is not None


def vectors_of(view: View, docnos: I64) -> tuple[F32, Flags]:
    """Raw vectors (n, dim) of docnos, and which of them the view has a row for."""
    parts = view.sealed + view.growing
    dim = parts[0].rows.raw.shape[1] if parts else 0
    vectors = np.zeros((len(docnos), dim), dtype=np.float32)
    present = np.zeros(len(docnos), dtype=bool)
    for part, places, rows in view.locate(docnos):
        vectors[places] = part.rows.raw[rows]
        present[places] = True
    return vectors, present


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
