"""The index of one declared field in memory: its column, its strays, and what both say about a clause."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pyroaring import BitMap

from vecdb_index.filters.ast import (
    AllOf,
    AnyOf,
    Eq,
    Exists,
    GeoBox,
    GeoRadius,
    In,
    IsNull,
    Leaf,
    Ne,
    Positive,
    Prefix,
    Range,
)
from vecdb_index.filters.columns import Column, column_for
from vecdb_index.filters.fields import INDEXED, OWN_KIND, FieldSpec
from vecdb_index.filters.values import Interval, Kind, interval_of, keys_of

DocRow = tuple[int, int, Any]  # docno, row kind, value


@dataclass(frozen=True, slots=True)
class Bounds:
    """A set of documents between two bitmaps: ``lower`` are surely in it, ``upper`` holds it all."""

    lower: BitMap
    upper: BitMap

    def complement(self, universe: BitMap) -> Bounds:
        """The bounds of the documents outside: what was sure becomes excluded and the other way round."""
        return Bounds(universe - self.upper, universe - self.lower)


class FieldIndex:
    """Which documents hold what in one field. One writer at a time; readers at any time, on any thread.

    It only grows (see ``columns``), so answers are right for the documents of ``universe``, the reader's
    view, as long as all of those have been added.
    """

    def __init__(self, spec: FieldSpec) -> None:
        self.spec = spec
        self._own = OWN_KIND.get(spec.type)
        self._column = column_for(spec.type)
        self._present = BitMap()
        self._strays: dict[int, BitMap] = {}  # by Kind; changed in place, under the lock
        self._multiple = False  # whether some document may have two entries
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """The number of documents that have the field, dead ones included."""
        return len(self._present)

    def add(self, rows: Iterable[DocRow]) -> None:
        """Add the rows of documents not seen before."""
        pairs: list[tuple[int, Any]] = []
        strays: dict[int, list[int]] = {}
        for docno, kind, value in rows:
            if kind == INDEXED:
                pairs.append((docno, value))
            else:
                strays.setdefault(kind, []).append(docno)
        if pairs and self._column is not None:
            self._column.add(pairs)
        with self._lock:
            before, entries = len(self._present), len(pairs) + sum(map(len, strays.values()))
            self._present.update([docno for docno, _ in pairs])
            for kind, docnos in strays.items():
                self._strays.setdefault(kind, BitMap()).update(docnos)
                self._present.update(docnos)
            self._multiple |= entries > len(self._present) - before

    def without(self, dead: BitMap) -> FieldIndex:
        """The index with these documents dropped; called by the writer."""
        kept = FieldIndex(self.spec)
        kept._column = self._column and self._column.without(dead)
        kept._present = self._present - dead
        kept._strays = {kind: left for kind, held in self._strays.items() if (left := held - dead)}
        kept._multiple = self._multiple
        return kept

    def bounds(self, leaf: Leaf, universe: BitMap) -> Bounds:
        """The documents of the universe that satisfy a clause on this field."""
        match leaf:
            case Ne(field, value):
                return self.bounds(Eq(field, value), universe).complement(universe)
            case Eq(_, value):
                return self._any_of((value,), universe)
            case In(_, values) | AnyOf(_, values):
                return self._any_of(values, universe)
            case AllOf(_, values):
                each = [self._any_of((value,), universe) for value in values]
                lower, *lowers = [bounds.lower for bounds in each]
                upper, *uppers = [bounds.upper for bounds in each]
                return Bounds(lower.intersection(*lowers), upper.intersection(*uppers))
            case Range():
                interval = _interval(leaf)
                if interval is None:
                    return Bounds(BitMap(), BitMap())
                return self._lookup(
                    {interval.kind},
                    interval.kind is self._own,
                    lambda column: column.between(interval),
                    universe,
                )
            case Prefix(_, prefix):
                return self._lookup(
                    {Kind.STRING}, self._own is Kind.STRING, lambda column: column.prefixed(prefix), universe
                )
            case Exists():
                with self._lock:
                    present = self._present & universe
                return Bounds(present, present)
            case IsNull():
                null = self._strayed({Kind.NULL}, universe)
                return Bounds(null, null)
            case GeoRadius() | GeoBox():
                return Bounds(BitMap(), self._strayed({Kind.MAP}, universe))

    def _any_of(self, values: Iterable[Any], universe: BitMap) -> Bounds:
        wanted = keys_of(tuple(values))
        own = wanted.get(self._own, frozenset()) if self._own is not None else frozenset()
        return self._lookup(set(wanted), bool(own), lambda column: column.equal(own), universe)

    def _lookup(
        self, kinds: set[Kind], indexed: bool, ask: Callable[[Column], BitMap], universe: BitMap
    ) -> Bounds:
        """What the column answers is sure; strays of the kinds asked about may match too."""
        lower = ask(self._column) & universe if indexed and self._column is not None else BitMap()
        strays = self._strayed(kinds, universe)
        return Bounds(lower, lower | strays if strays else lower)

    def _strayed(self, kinds: set[Kind], universe: BitMap) -> BitMap:
        with self._lock:
            return BitMap().union(*(self._strays[kind] for kind in kinds if kind in self._strays)) & universe

    def count(self, leaf: Positive) -> tuple[int, int]:
        """Cheap bounds of how many documents satisfy a clause, dead ones included."""
        match leaf:
            case Eq(_, value):
                # One value is at most once in a document, so entries are documents.
                return self._counts((value,), distinct=True)
            case In(_, values) | AnyOf(_, values):
                return self._counts(values, distinct=not self._multiple)
            case AllOf(_, values):
                counts = [self._counts((value,), distinct=True) for value in values]
                return counts[0][0] if len(counts) == 1 else 0, min(high for _, high in counts)
            case Range():
                return self._count_range(_interval(leaf))
            case Prefix():
                return 0, len(self) if self._own is Kind.STRING else self._stray_count({Kind.STRING})
            case Exists():
                return len(self), len(self)
            case IsNull():
                nulls = self._stray_count({Kind.NULL})
                return nulls, nulls
            case GeoRadius() | GeoBox():
                return 0, self._stray_count({Kind.MAP})

    def _counts(self, values: tuple[Any, ...], *, distinct: bool) -> tuple[int, int]:
        wanted = keys_of(values)
        entries = 0
        if self._column is not None and self._own in wanted:
            entries = self._column.count_equal(wanted[self._own])
        return entries if distinct else 0, entries + self._stray_count(set(wanted))

    def _count_range(self, interval: Interval | None) -> tuple[int, int]:
        if interval is None:
            return 0, 0
        strays = self._stray_count({interval.kind})
        if self._column is None or interval.kind is not self._own:
            return 0, strays
        entries = self._column.count_between(interval)
        if entries is None:
            return 0, len(self)
        return 0 if self._multiple else entries, entries + strays

    def _stray_count(self, kinds: set[Kind]) -> int:
        with self._lock:
            return sum(len(self._strays[kind]) for kind in kinds if kind in self._strays)


def _interval(leaf: Range) -> Interval | None:
    return interval_of(gt=leaf.gt, gte=leaf.gte, lt=leaf.lt, lte=leaf.lte)
