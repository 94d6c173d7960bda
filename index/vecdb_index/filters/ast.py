"""The filter language: immutable clauses, and the check that one is well formed and within limits.

Semantics, binding for every evaluator:

- a missing field matches no comparison; ``Ne`` and ``Not`` are exact complements, so ``Ne`` matches documents
  without the field;
- a comparison with an array holds if any of its elements satisfies it (one level deep, one element satisfying
  all bounds of a ``Range``); ``AllOf`` wants every value among the elements;
- a dotted path reaches into nested maps; a literal key with a dot wins where present;
- int and float compare by exact numeric value; bool is no number; strings compare by code point; values of
  different types never match and never fail; NaN equals and precedes nothing;
- ``Exists`` holds for any present field, null included; ``IsNull`` for one that is present and null;
- the field ``@author`` is the document's author, never a key of its payload.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgpack

from vecdb_index.filters.values import ORDERED, Instant, Kind, key_of

AUTHOR: Final = "@author"
MAX_FIELD_BYTES: Final = 1024

Value: TypeAlias = bool | int | float | str | bytes | datetime | Instant | msgpack.Timestamp
"""A literal. Datetimes must be timezone-aware; RFC 3339 text becomes one with ``Instant.parse``."""


class FilterError(ValueError):
    """A filter that is malformed or over a limit; ``path`` names the part (empty: the whole)."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path or 'filter'}: {message}")
        self.path = path
        self.message = message


@dataclass(frozen=True, slots=True)
class Eq:
    """The field, or an element of it, equals the value."""

    field: str
    value: Value


@dataclass(frozen=True, slots=True)
class Ne:
    """The complement of ``Eq``."""

    field: str
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """The field, or an element of it, is one of the values; nothing is one of none."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """An element of the array is one of the values: ``In``, in the words used for arrays."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of the values is an element of the array (or equals the scalar)."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers, strings or datetimes between bounds; all that are given hold for one element."""

    field: str
    gt: Value | None = None
    gte: Value | None = None
    lt: Value | None = None
    lte: Value | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is present, whatever its value."""

    field: str


@dataclass(frozen=True, slots=True)
class IsNull:
    """The field is present and null."""

    field: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """The string, or one in the array, starts with the prefix."""

    field: str
    prefix: str


@dataclass(frozen=True, slots=True)
class GeoRadius:
    """A point ``{"lat": degrees, "lon": degrees}`` at most so many metres away, over a sphere."""

    field: str
    lat: float
    lon: float
    metres: float


@dataclass(frozen=True, slots=True)
class GeoBox:
    """A point inside a box, edges included, degrees; ``west > east`` crosses the antimeridian."""

    field: str
    south: float
    west: float
    north: float
    east: float


@dataclass(frozen=True, slots=True)
class And:
    """Every clause holds; without clauses, always."""

    clauses: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Some clause holds; without clauses, never."""

    clauses: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The complement of a clause."""

    clause: Filter


Positive: TypeAlias = Eq | In | AnyOf | AllOf | Range | Exists | IsNull | Prefix | GeoRadius | GeoBox
Leaf: TypeAlias = Positive | Ne
Filter: TypeAlias = Leaf | And | Or | Not
LEAVES: Final = (Eq, Ne, In, AnyOf, AllOf, Range, Exists, IsNull, Prefix, GeoRadius, GeoBox)


def validate(
    where: Filter, *, max_depth: int = 16, max_clauses: int = 1024, max_values: int = 10_000
) -> None:
    """Check the form of a filter and its limits.

    ``max_depth`` counts nested clauses (a lone leaf has depth 1), ``max_clauses`` leaves and connectives
    together, ``max_values`` the literals of all ``In``, ``AnyOf`` and ``AllOf`` clauses together. Raises
    FilterError with the path of the offending part and, where a limit is hit, its name and value.
    """
    literals = 0
    for clauses, (path, clause) in enumerate(_walk("", 1, where, max_depth), 1):
        if clauses > max_clauses:
            raise FilterError(path, f"more than max_clauses = {max_clauses} clauses")
        if isinstance(clause, In | AnyOf | AllOf) and isinstance(clause.values, tuple):
            literals += len(clause.values)
            if literals > max_values:
                raise FilterError(_join(path, "values"), f"more than max_values = {max_values} values")
        if isinstance(clause, LEAVES):
            _check_leaf(path, clause)


def _join(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part


def _walk(path: str, depth: int, clause: Filter, max_depth: int) -> Iterator[tuple[str, Filter]]:
    if depth > max_depth:
        raise FilterError(path, f"nested deeper than max_depth = {max_depth}")
    yield path, clause
    match clause:
        case And(clauses) | Or(clauses):
            name = type(clause).__name__.lower()
            if not isinstance(clauses, tuple):
                raise FilterError(_join(path, name), "clauses must be a tuple")
            for number, child in enumerate(clauses):
                yield from _walk(_join(path, f"{name}[{number}]"), depth + 1, child, max_depth)
        case Not(child):
            yield from _walk(_join(path, "not"), depth + 1, child, max_depth)
        case _ if not isinstance(clause, LEAVES):
            raise FilterError(path, f"{type(clause).__name__} is no filter clause")


def _check_leaf(path: str, leaf: Leaf) -> None:
    name = leaf.field
    if not isinstance(name, str) or not name:
        raise FilterError(_join(path, "field"), "a field name must be a non-empty string")
    if len(name.encode("utf-8", "surrogatepass")) > MAX_FIELD_BYTES:
        raise FilterError(_join(path, "field"), f"longer than max_field_bytes = {MAX_FIELD_BYTES}")
    match leaf:
        case Eq(_, value) | Ne(_, value):
            _check_literal(_join(path, "value"), value)
        case In(_, values) | AnyOf(_, values) | AllOf(_, values):
            _check_values(path, leaf, values)
        case Range():
            _check_range(path, leaf)
        case Prefix(_, prefix):
            if not isinstance(prefix, str):
                raise FilterError(_join(path, "prefix"), "a prefix must be a string")
        case GeoRadius() | GeoBox():
            _check_geo(path, leaf)


def _check_literal(path: str, value: object) -> None:
    if value is None:
        raise FilterError(path, "null is no value to compare with: use IsNull")
    if isinstance(value, datetime) and value.utcoffset() is None:
        raise FilterError(path, "a datetime needs a time zone")
    if not isinstance(value, bool | int | float | str | bytes | datetime | Instant | msgpack.Timestamp):
        raise FilterError(path, f"{type(value).__name__} is no value to compare with")


def _check_values(path: str, leaf: In | AnyOf | AllOf, values: object) -> None:
    if not isinstance(values, tuple):
        raise FilterError(_join(path, "values"), "values must be a tuple")
    if isinstance(leaf, AllOf) and not values:
        raise FilterError(_join(path, "values"), "needs at least one value")
    for number, value in enumerate(values):
        _check_literal(_join(path, f"values[{number}]"), value)


def _check_range(path: str, leaf: Range) -> None:
    bounds = [(name, getattr(leaf, name)) for name in ("gt", "gte", "lt", "lte")]
    given = [(name, bound) for name, bound in bounds if bound is not None]
    if not given:
        raise FilterError(path, "a range needs at least one bound")
    for name, bound in given:
        _check_literal(_join(path, name), bound)
        kind, _ = key_of(bound)
        # NaN has the kind OPAQUE: legal, and matches nothing.
        if kind not in ORDERED and kind is not Kind.OPAQUE:
            raise FilterError(_join(path, name), "a range needs numbers, strings or datetimes")


_LIMITS: Final[dict[str, tuple[float, float]]] = {
    "lat": (-90.0, 90.0),
    "south": (-90.0, 90.0),
    "north": (-90.0, 90.0),
    "lon": (-180.0, 180.0),
    "west": (-180.0, 180.0),
    "east": (-180.0, 180.0),
    "metres": (0.0, math.inf),
}


def _check_geo(path: str, leaf: GeoRadius | GeoBox) -> None:
    for name in (item.name for item in fields(leaf) if item.name != "field"):
        low, high = _LIMITS[name]
        number: Any = getattr(leaf, name)
        if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
            raise FilterError(_join(path, name), f"must be a number from {low:g} to {high:g}")
    if isinstance(leaf, GeoBox) and leaf.south > leaf.north:
        raise FilterError(_join(path, "south"), "must not be north of north")


def leaves(where: Filter) -> Iterator[Leaf]:
    """Every leaf of a filter, left to right."""
    match where:
        case And(clauses) | Or(clauses):
            for clause in clauses:
                yield from leaves(clause)
        case Not(clause):
            yield from leaves(clause)
        case _:
            yield where
