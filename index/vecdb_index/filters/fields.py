"""Declared fields: their types, and the rows that a document has in the side table.

A row is (kind, value). INDEXED rows carry a value of the field's own type. Whatever else the field holds is a
*stray*: only its kind is kept, so that a filter knows which documents it must look at itself, and `Exists`
and `IsNull` stay exact. Fields of type ``text`` and ``geo`` have strays only: the scan serves them, over the
documents that have a string or a map there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from vecdb_index.filters.ast import AUTHOR, MAX_FIELD_BYTES
from vecdb_index.filters.values import MISSING, Kind, key_of, resolve

INDEXED: Final = 0
"""The row kind of a value of the field's own type; the others are those of ``Kind``. Stored on disk."""

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

MAX_KEYWORD: Final = 512
"""Longer strings, in code points, are strays: they would bloat the table, and are text rather than words."""

Row = tuple[int, Any]


class FieldType(Enum):
    """What a declared field is expected to hold; other values are allowed, and slower."""

    KEYWORD = "keyword"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    DATETIME = "datetime"
    GEO = "geo"
    TEXT = "text"


OWN_KIND: Final[Mapping[FieldType, Kind]] = {
    FieldType.KEYWORD: Kind.STRING,
    FieldType.INT: Kind.NUMBER,
    FieldType.FLOAT: Kind.NUMBER,
    FieldType.BOOL: Kind.BOOL,
    FieldType.DATETIME: Kind.DATETIME,
}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A declared field: a dotted path into the payload, or ``@author``. ValueError for a bad name or type."""

    name: str
    type: FieldType

    def __post_init__(self) -> None:
        if not isinstance(self.type, FieldType):
            object.__setattr__(self, "type", FieldType(self.type))
        size = len(self.name.encode()) if isinstance(self.name, str) else 0
        if not 0 < size <= MAX_FIELD_BYTES:
            raise ValueError(f"a field name has 1 to {MAX_FIELD_BYTES} bytes, not {size}")
        if self.name.startswith("@") and self.name != AUTHOR:
            raise ValueError(f"field names that start with @ are reserved: {self.name!r}")
        if self.name == AUTHOR and self.type is not FieldType.KEYWORD:
            raise ValueError(f"{AUTHOR} is a keyword field, not {self.type.value}")

    @property
    def storage(self) -> str:
        """The key of the field's rows. It has the type in it, so that rows outlive no change of type."""
        return f"{self.type.value}:{self.name}"


def rows_of(spec: FieldSpec, payload: Mapping[str, Any], author: str | None) -> Collection[Row]:
    """The rows of one document in one field; none when it lacks the field."""
    if spec.name == AUTHOR:
        return () if author is None else (_row(spec.type, author),)
    value = resolve(payload, spec.name)
    if value is MISSING:
        return ()
    if not isinstance(value, list | tuple):
        return (_row(spec.type, value),)
    rows = {_row(spec.type, item) for item in value}
    if (Kind.NULL, 0) in rows:  # a null in an array is not a null field
        rows.remove((Kind.NULL, 0))
        rows.add((Kind.OPAQUE, 0))
    return rows or ((Kind.OPAQUE, 0),)


def _row(type_: FieldType, value: Any) -> Row:
    kind, key = key_of(value)
    if OWN_KIND.get(type_) is kind:
        stored = STORED[type_](key)
        if stored is not None:
            return INDEXED, stored
    return int(kind), 0


def _as_int64(key: int | float) -> int | None:
    if isinstance(key, float):
        if not key.is_integer():  # False for infinities too
            return None
        key = int(key)
    return key if INT64_MIN <= key <= INT64_MAX else None


def _as_double(key: int | float) -> float | None:
    try:
        number = float(key)
    except OverflowError:
        return None
    return number if number == key else None


STORED: Final[Mapping[FieldType, Callable[[Any], Any]]] = {
    FieldType.KEYWORD: lambda key: key if len(key) <= MAX_KEYWORD else None,
    FieldType.INT: _as_int64,
    FieldType.FLOAT: _as_double,
    FieldType.BOOL: lambda key: key,
    FieldType.DATETIME: _as_int64,
}
"""A key of the field's own kind as its column stores it, equal in value; None when it cannot."""
