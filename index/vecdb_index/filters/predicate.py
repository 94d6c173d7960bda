"""The reference evaluator: a filter as a function of one decoded document.

Every other evaluation of a filter (field indexes, their bounds) must agree with this one; the tests hold them
to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from vecdb_index.filters.ast import (
    AUTHOR,
    AllOf,
    And,
    AnyOf,
    Eq,
    Exists,
    Filter,
    GeoBox,
    GeoRadius,
    In,
    IsNull,
    Ne,
    Not,
    Or,
    Positive,
    Prefix,
    Range,
)
from vecdb_index.filters.geo import distance, in_box, point
from vecdb_index.filters.values import MISSING, Kind, elements, interval_of, key_of, keys_of, resolve


class Predicate(Protocol):
    """A compiled filter."""

    def __call__(self, payload: Mapping[str, Any], author: str | None = None) -> bool:
        """Whether a document with this payload, as ``decode_payload`` gives it, and author matches."""
        ...


_Test = Callable[[Any], bool]  # of a field's value, never MISSING


def compile(where: Filter) -> Predicate:  # noqa: A001 - the word of the trade, as in re.compile
    """A valid filter as a function of payload and author; it never raises on any payload."""
    match where:
        case And(clauses):
            every = [compile(clause) for clause in clauses]
            return lambda payload, author=None: all(holds(payload, author) for holds in every)
        case Or(clauses):
            some = [compile(clause) for clause in clauses]
            return lambda payload, author=None: any(holds(payload, author) for holds in some)
        case Not(clause):
            negated = compile(clause)
            return lambda payload, author=None: not negated(payload, author)
        case Ne(field, value):
            return compile(Not(Eq(field, value)))
        case _:
            return _on_field(where.field, _leaf_test(where))


def _on_field(field: str, test: _Test) -> Predicate:
    if field == AUTHOR:
        return lambda payload, author=None: author is not None and test(author)

    def holds(payload: Mapping[str, Any], author: str | None = None) -> bool:
        value = resolve(payload, field)
        return value is not MISSING and test(value)

    return holds


def _leaf_test(leaf: Positive) -> _Test:
    match leaf:
        case Eq(_, value):
            return _any_key((value,))
        case In(_, values) | AnyOf(_, values):
            return _any_key(values)
        case AllOf(_, values):
            each = [_any_key((value,)) for value in values]
            return lambda value: all(test(value) for test in each)
        case Range():
            return _range_test(leaf)
        case Exists():
            return lambda value: True
        case IsNull():
            return lambda value: value is None
        case Prefix(_, prefix):
            return lambda value: any(
                isinstance(item, str) and item.startswith(prefix) for item in elements(value)
            )
        case GeoRadius(_, lat, lon, metres):
            return _any_point(lambda y, x: distance(lat, lon, y, x) <= metres)
        case GeoBox(_, south, west, north, east):
            return _any_point(lambda y, x: in_box(y, x, south, west, north, east))


def _any_key(literals: Any) -> _Test:
    wanted = keys_of(literals)
    nothing: frozenset[Any] = frozenset()

    def test(value: Any) -> bool:
        for item in elements(value):
            kind, key = key_of(item)
            # A map has no hash and equals no literal: its kind finds the empty set, which must not be asked.
            if (keys := wanted.get(kind, nothing)) and key in keys:
                return True
        return False

    return test


def _range_test(leaf: Range) -> _Test:
    interval = interval_of(gt=leaf.gt, gte=leaf.gte, lt=leaf.lt, lte=leaf.lte)
    if interval is None:
        return lambda value: False

    def test(value: Any) -> bool:
        for item in elements(value):
            kind, key = key_of(item)
            if kind is interval.kind and key in interval:
                return True
        return False

    return test


def _any_point(inside: Callable[[float, float], bool]) -> _Test:
    def test(value: Any) -> bool:
        for item in elements(value):
            kind, _ = key_of(item)
            if kind is Kind.MAP and (at := point(item)) is not None and inside(*at):
                return True
        return False

    return test
