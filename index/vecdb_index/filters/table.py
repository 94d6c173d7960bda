"""The side table in SQLite that field indexes are loaded from.

One row is one value of one field of one document, sorted by field and document: a document's rows are found
to be deleted, a field's are read in one scan, and new documents append. ``value`` has no type affinity, so
it keeps the type it is bound with: INTEGER for ints, bools and datetimes (nanoseconds), REAL for floats, TEXT
for strings; within a field's INDEXED rows SQLite's order is then the order of the values.

``field_epoch`` counts the transactions that added rows. A reader that loads a field sees by it whether its
snapshot is older than what the index has published since.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Final

from vecdb_index.filters.field_index import DocRow
from vecdb_index.filters.fields import FieldSpec

FIELD_VALUES_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS field_values (
    field TEXT NOT NULL,
    docno INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    value NOT NULL,
    PRIMARY KEY (field, docno, kind, value)
) WITHOUT ROWID
"""
FIELD_EPOCH_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS field_epoch (id INTEGER PRIMARY KEY CHECK (id = 0), epoch INTEGER NOT NULL)
"""
FIELD_EPOCH_ROW: Final = "INSERT OR IGNORE INTO field_epoch VALUES (0, 0)"

SCHEMA: Final = (FIELD_VALUES_SCHEMA, FIELD_EPOCH_SCHEMA, FIELD_EPOCH_ROW)
"""Statements that create the tables where they are missing; run them in any transaction."""

_INSERT: Final = "INSERT OR IGNORE INTO field_values VALUES (?, ?, ?, ?)"
_DELETE: Final = "DELETE FROM field_values WHERE field = ? AND docno = ?"
_DROP: Final = "DELETE FROM field_values WHERE field = ?"
_ADVANCE: Final = "UPDATE field_epoch SET epoch = epoch + 1 RETURNING epoch"
# One statement is one snapshot: epoch and rows belong together. No docno is negative.
_LOAD: Final = """
SELECT -1, 0, epoch FROM field_epoch
UNION ALL SELECT docno, kind, value FROM field_values WHERE field = ?
"""

_CHUNK: Final = 20_000


def create(conn: sqlite3.Connection) -> None:
    """Create the tables where they are missing."""
    for statement in SCHEMA:
        conn.execute(statement)


def insert(conn: sqlite3.Connection, spec: FieldSpec, rows: Iterable[DocRow]) -> None:
    """Add rows of one field."""
    storage = spec.storage
    conn.executemany(_INSERT, ((storage, docno, kind, value) for docno, kind, value in rows))


def delete(conn: sqlite3.Connection, spec: FieldSpec, docnos: Iterable[int]) -> None:
    """Drop the rows of documents in one field."""
    storage = spec.storage
    conn.executemany(_DELETE, ((storage, docno) for docno in docnos))


def drop(conn: sqlite3.Connection, spec: FieldSpec) -> None:
    """Drop a field's rows."""
    conn.execute(_DROP, (spec.storage,))


def advance(conn: sqlite3.Connection) -> int:
    """Count this transaction; returns its epoch."""
    (epoch,) = conn.execute(_ADVANCE).fetchone()
    return int(epoch)


def load(conn: sqlite3.Connection, spec: FieldSpec) -> tuple[int, Iterator[list[Any]]]:
    """The epoch of the connection's snapshot, and the field's rows (docno, kind, value) in chunks."""
    assert conn.text_factory is str, "the index reads TEXT as str"
    cursor = conn.execute(_LOAD, (spec.storage,))
    _, _, epoch = cursor.fetchone()
    return int(epoch), iter(lambda: cursor.fetchmany(_CHUNK), [])
