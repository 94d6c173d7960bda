"""The field indexes of a shard: written with its documents, loaded when a filter first asks, evaluated."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pyroaring import BitMap

from vecdb_index.filters import table
from vecdb_index.filters.ast import AUTHOR, And, Eq, Filter, Leaf, Ne, Not, Or, leaves
from vecdb_index.filters.field_index import Bounds, DocRow, FieldIndex
from vecdb_index.filters.fields import FieldSpec, rows_of
from vecdb_index.filters.values import decode_payload

DOCNO_LIMIT: Final = 2**32

REAP_AT_LEAST: Final = 8192


@dataclass(frozen=True, slots=True)
class Candidates:
    """The documents that may match a filter.

    ``bitmap`` holds every document of the universe that matches, and none from outside it; None means that
    nothing is known and any may match. ``exact``: all of them match. ``certain`` are those that surely match,
    so that only ``bitmap - certain`` need be scanned.
    """

    bitmap: BitMap | None
    exact: bool
    certain: BitMap


@dataclass(slots=True, eq=False)
class _Field:
    """A declared field as published. ``index`` is None until loaded; ``missed`` collects while it is."""

    spec: FieldSpec
    index: FieldIndex | None = None
    missed: list[tuple[int, list[DocRow]]] | None = None  # (epoch, rows) committed during the load
    loading: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class _Staged:
    """What the open transaction has done so far."""

    conn: sqlite3.Connection
    fields: dict[str, _Field]
    epoch: int | None = None
    rows: dict[str, list[DocRow]] = field(default_factory=dict)
    erased: list[int] = field(default_factory=list)


class FieldIndexes:
    """The indexes of a shard's declared fields.

    The caller's contract:

    - one writer thread at a time calls ``write``, ``erase``, ``backfill`` and ``drop`` inside its transaction
      and then, once that is settled, ``committed`` or ``rolled_back``;
    - ``committed`` is called before the new documents appear in any reader's universe;
    - docnos are below 2**32 and never used twice, also after a rewrite of the same id (those of a transaction
      that was rolled back may be);
    - the connections see the same database, with the tables of ``table.SCHEMA``, and return TEXT as str.

    ``evaluate`` and ``estimate`` may then run on any thread at any time.

    Erased documents leave the memory in lots of ``reap_at_least`` or an eighth of the largest field.
    """

    def __init__(self, specs: Iterable[FieldSpec] = (), *, reap_at_least: int = REAP_AT_LEAST) -> None:
        self._fields: dict[str, _Field] = {
            spec.name: _Field(spec) for spec in specs
        }  # replaced, never changed
        self._lock = threading.Lock()  # over publishing against the end of a load
        self._epoch = 0
        self._staged: _Staged | None = None
        # Documents that are erased but still in memory: those being dropped from the fields that remain in
        # ``_reaping``, and those that died since.
        self._buried = BitMap()
        self._reaping: list[_Field] = []
        self._dead = BitMap()
        self._reap_at_least = reap_at_least

    @property
    def specs(self) -> tuple[FieldSpec, ...]:
        """The declared fields, as committed."""
        return tuple(item.spec for item in self._fields.values())

    # --- the writer ----------------------------------------------------------------------------------------

    def rows(
        self, docno: int, payload: Mapping[str, Any], author: str | None = None
    ) -> list[tuple[str, int, int, Any]]:
        """A document's rows of the side table: (field, docno, kind, value) each."""
        return [
            (item.spec.storage, docno, kind, value)
            for item in self._fields.values()
            for kind, value in rows_of(item.spec, payload, author)
        ]

    def write(
        self,
        conn: sqlite3.Connection,
        docnos: Sequence[int],
        payloads: Sequence[Mapping[str, Any]],
        authors: Sequence[str | None],
    ) -> None:
        """Index new documents, payloads decoded, inside the caller's transaction."""
        assert len(docnos) == len(payloads) == len(authors), "one payload and author a document"
        assert not docnos or (min(docnos) >= 0 and max(docnos) < DOCNO_LIMIT), "docnos are 32-bit numbers"
        staged = self._stage(conn)
        for name, item in staged.fields.items():
            spec = item.spec
            rows = [
                (docno, kind, value)
                for docno, payload, author in zip(docnos, payloads, authors, strict=True)
                for kind, value in rows_of(spec, payload, author)
            ]
            if rows:
                self._count(staged)
                table.insert(conn, spec, rows)
                staged.rows.setdefault(name, []).extend(rows)

    def erase(self, conn: sqlite3.Connection, docnos: Sequence[int]) -> None:
        """Drop documents from the index inside the caller's transaction."""
        staged = self._stage(conn)
        for item in staged.fields.values():
            table.delete(conn, item.spec, docnos)
        staged.erased.extend(docnos)

    def backfill(self, conn: sqlite3.Connection, field: FieldSpec, rows: Iterable[tuple[int, bytes]]) -> None:
        """Declare a field for the documents there are: (docno, payload bytes) of every live one.

        ValueError when the field is declared already, or is ``@author``, which payloads do not hold: declare
        that one when the shard is created.
        """
        staged = self._stage(conn)
        if field.name in staged.fields:
            raise ValueError(f"field {field.name!r} is declared already")
        if field.name == AUTHOR:
            raise ValueError(f"{AUTHOR} cannot be added to a shard that has documents")
        table.drop(conn, field)
        staged.fields[field.name] = _Field(field)
        self._count(staged)
        table.insert(
            conn,
            field,
            (
                (docno, kind, value)
                for docno, data in rows
                for kind, value in rows_of(field, decode_payload(data), None)
            ),
        )

    def drop(self, conn: sqlite3.Connection, name: str) -> None:
        """Forget a declared field; filters on it are then served by the scan. KeyError when there is none."""
        staged = self._stage(conn)
        item = staged.fields.pop(name)
        staged.rows.pop(name, None)
        table.drop(conn, item.spec)

    def committed(self) -> None:
        """Publish what the transaction did: it is durable as far as the caller needs."""
        staged, self._staged = self._staged, None
        if staged is None:
            return
        with self._lock:
            self._fields = staged.fields
            if staged.epoch is not None:
                self._epoch = staged.epoch
            for name, rows in staged.rows.items():
                item = staged.fields[name]
                if item.index is not None:
                    item.index.add(rows)
                elif item.missed is not None:
                    item.missed.append((self._epoch, rows))
            self._bury(staged.erased)

    def rolled_back(self) -> None:
        """Forget what the transaction did."""
        self._staged = None

    def _stage(self, conn: sqlite3.Connection) -> _Staged:
        if self._staged is None:
            self._staged = _Staged(conn, dict(self._fields))
        assert self._staged.conn is conn, "one transaction at a time"
        return self._staged

    def _count(self, staged: _Staged) -> None:
        if staged.epoch is None:
            staged.epoch = table.advance(staged.conn)

    def _bury(self, docnos: list[int]) -> None:
        """Note dead documents; once there are many, drop them, from one field a commit: none takes long."""
        if self._reaping:
            item = self._reaping.pop()
            assert item.index is not None, "an index once loaded stays"
            item.index = item.index.without(self._buried)
            if not self._reaping:
                self._buried = BitMap()
        items = self._fields.values()
        if all(item.index is None and item.missed is None for item in items):
            self._dead = BitMap()  # whatever is loaded later comes without them
            return
        self._dead.update(docnos)
        held = [(item, item.index) for item in items if item.index is not None]
        largest = max((len(index) for _, index in held), default=0)
        if not self._reaping and len(self._dead) >= max(self._reap_at_least, largest // 8):
            self._buried, self._reaping = self._dead, [item for item, _ in held]
            self._dead = BitMap()

    # --- loading -------------------------------------------------------------------------------------------

    def _loaded(self, item: _Field, conn: sqlite3.Connection) -> FieldIndex | None:
        """The field's index, read from the side table by whoever asks first; None when ``conn`` cannot.

        It cannot inside the writer's own transaction, whose rows may yet be rolled back, nor under a
        snapshot older than the last commit, whose rows it lacks.
        """
        if item.index is not None:
            return item.index
        staged = self._staged
        if staged is not None and staged.conn is conn:
            return None
        with item.loading:
            if item.index is not None:
                return item.index
            with self._lock:
                # From here on commits are collected; those before are in the database, so a snapshot taken
                # now has them. The two may overlap: the epoch tells which of the collected are new.
                item.missed, published = [], self._epoch
            try:
                return self._load(item, conn, published)
            finally:
                item.missed = None

    def _load(self, item: _Field, conn: sqlite3.Connection, published: int) -> FieldIndex | None:
        epoch, chunks = table.load(conn, item.spec)
        if epoch < published:
            return None
        index = FieldIndex(item.spec)
        for chunk in chunks:
            index.add(chunk)
        with self._lock:
            assert item.missed is not None
            for committed, rows in item.missed:
                if committed > epoch:
                    index.add(rows)
            item.index = index
        return index

    # --- readers -------------------------------------------------------------------------------------------

    def evaluate(self, where: Filter, conn: sqlite3.Connection, universe: Callable[[], BitMap]) -> Candidates:
        """The candidates of a valid filter among the live documents that ``universe`` gives.

        ``universe`` is called once if a declared field can say anything, else not at all; it must return the
        live documents of the caller's view and is not changed. ``conn`` is used to load fields that no filter
        has named before: a pass over their rows, about a second for a million.
        """
        fields = self._fields
        indexes: dict[str, FieldIndex] = {}
        for name in {leaf.field for leaf in leaves(where)} & fields.keys():
            index = self._loaded(fields[name], conn)
            if index is not None:
                indexes[name] = index
        if not indexes:
            return Candidates(None, False, BitMap())
        bounds = _bounds(where, indexes, universe())
        return Candidates(bounds.upper, len(bounds.lower) == len(bounds.upper), bounds.lower)

    def estimate(self, where: Filter, total: int) -> tuple[int, int] | None:
        """At least and at most how many of ``total`` live documents match, as of the last commit.

        Costs a few look-ups a clause, builds no bitmap and loads nothing; None when no field named in the
        filter is loaded.
        """
        fields = self._fields
        loaded = {name: item.index for name, item in fields.items() if item.index is not None}
        if not any(leaf.field in loaded for leaf in leaves(where)):
            return None
        return _estimate(where, loaded, len(self._dead) + len(self._buried), total)


def _bounds(where: Filter, indexes: Mapping[str, FieldIndex], universe: BitMap) -> Bounds:
    match where:
        case And(clauses):
            each = [_bounds(clause, indexes, universe) for clause in clauses]
            lower = universe.intersection(*(bounds.lower for bounds in each))
            return Bounds(lower, universe.intersection(*(bounds.upper for bounds in each)))
        case Or(clauses):
            each = [_bounds(clause, indexes, universe) for clause in clauses]
            lower = BitMap().union(*(bounds.lower for bounds in each))
            return Bounds(lower, BitMap().union(*(bounds.upper for bounds in each)))
        case Not(clause):
            return _bounds(clause, indexes, universe).complement(universe)
    index = indexes.get(where.field)
    return Bounds(BitMap(), universe) if index is None else index.bounds(where, universe)


def _estimate(where: Filter, loaded: Mapping[str, FieldIndex], dead: int, total: int) -> tuple[int, int]:
    match where:
        case And(clauses):
            each = [_estimate(clause, loaded, dead, total) for clause in clauses]
            misses = sum(total - low for low, _ in each)
            return max(0, total - misses), min((high for _, high in each), default=total)
        case Or(clauses):
            each = [_estimate(clause, loaded, dead, total) for clause in clauses]
            return max((low for low, _ in each), default=0), min(total, sum(high for _, high in each))
        case Not(clause):
            low, high = _estimate(clause, loaded, dead, total)
            return total - high, total - low
    return _estimate_leaf(where, loaded.get(where.field), dead, total)


def _estimate_leaf(leaf: Leaf, index: FieldIndex | None, dead: int, total: int) -> tuple[int, int]:
    if index is None:
        return 0, total
    if isinstance(leaf, Ne):
        low, high = index.count(Eq(leaf.field, leaf.value))
        return total - min(high, total), total - min(max(0, low - dead), total)
    low, high = index.count(leaf)
    return min(max(0, low - dead), total), min(high, total)
