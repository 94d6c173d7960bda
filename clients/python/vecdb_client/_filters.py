"""Conditions on documents, written as Python expressions.

    F("year") >= 2020
    (F("lang") == "en") & ~F("tags").any(["draft", "spam"])

`F` is `Filter`: it names a payload field by its dotted path (or `@author`,
`@source`), and its comparisons make a `Condition`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NoReturn, TypeAlias

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from vecdb_proto.v1 import filter_pb2

Value: TypeAlias = bool | int | float | str | datetime


def _value(value: Any) -> filter_pb2.Value:
    """The value as it goes over the wire.

    Raises TypeError for a type that no filter can hold, ValueError for an int
    beyond 64 bits, a NaN, or a datetime without a time zone.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):  # before int: a bool is one
        return filter_pb2.Value(bool_value=value)
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise ValueError(f"{value} does not fit 64 bits")
        return filter_pb2.Value(int_value=value)
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError("nothing compares with NaN")
        return filter_pb2.Value(float_value=value)
    if isinstance(value, str):
        return filter_pb2.Value(string_value=value)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ValueError(f"a datetime in a filter needs a time zone: {value!r}")
        stamp = Timestamp()
        stamp.FromDatetime(value)
        return filter_pb2.Value(datetime_value=stamp)
    if value is None:
        raise TypeError("nothing compares with None: use .is_null() or ~F(...).exists()")
    raise TypeError(f"a filter cannot hold {type(value).__name__}")


def _no_truth() -> NoReturn:
    raise TypeError(
        "a filter is neither true nor false: combine filters with & | ~ and parentheses, not and, or, not"
    )


class Condition:
    """What a document must fulfil; combine with `&`, `|` and `~`."""

    __slots__ = ("_kind", "_leaf", "_parts")

    def __init__(
        self, kind: str, leaf: filter_pb2.Filter | None = None, parts: tuple[Condition, ...] = ()
    ) -> None:
        self._kind = kind
        self._leaf = leaf
        self._parts = parts

    def __and__(self, other: Condition) -> Condition:
        return self._joined("all", other)

    def __or__(self, other: Condition) -> Condition:
        return self._joined("any", other)

    def __invert__(self) -> Condition:
        return self._parts[0] if self._kind == "not" else Condition("not", parts=(self,))

    def __bool__(self) -> bool:
        _no_truth()

    def _joined(self, kind: str, other: Condition) -> Condition:
        if not isinstance(other, Condition):
            return NotImplemented
        # Chains stay flat: the server counts levels, and a & b & c is one.
        left = self._parts if self._kind == kind else (self,)
        right = other._parts if other._kind == kind else (other,)
        return Condition(kind, parts=left + right)

    def message(self) -> filter_pb2.Filter:
        """The condition as it goes over the wire."""
        if self._leaf is not None:
            return self._leaf
        parts = [part.message() for part in self._parts]
        if self._kind == "all":
            return filter_pb2.Filter(all=filter_pb2.FilterList(filters=parts))
        if self._kind == "any":
            return filter_pb2.Filter(any=filter_pb2.FilterList(filters=parts))
        message = filter_pb2.Filter()
        getattr(message, "not").CopyFrom(parts[0])  # a keyword in Python
        return message

    def __repr__(self) -> str:
        return f"<Condition {' '.join(str(self.message()).split())}>"


def _leaf(**node: Any) -> Condition:
    return Condition("leaf", filter_pb2.Filter(**node))


class Filter:
    """A payload field to put conditions on: `F("year") >= 2020`.

    A missing field matches no comparison; `!=` and `~` are complements;
    equality on an array means any element.
    """

    __slots__ = ("_field",)

    def __init__(self, field: str) -> None:
        if not isinstance(field, str):
            raise TypeError(f"a field's name is a string, not {type(field).__name__}")
        if not field:
            raise ValueError("a field's name cannot be empty")
        self._field = field

    # The result is a condition, so equality cannot be the usual one.
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return _leaf(equals=filter_pb2.FieldValue(field=self._field, value=_value(value)))

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return ~(self == value)

    def __lt__(self, value: Value) -> Condition:
        return self._range(lt=_value(value))

    def __le__(self, value: Value) -> Condition:
        return self._range(lte=_value(value))

    def __gt__(self, value: Value) -> Condition:
        return self._range(gt=_value(value))

    def __ge__(self, value: Value) -> Condition:
        return self._range(gte=_value(value))

    def __bool__(self) -> bool:
        _no_truth()

    def _range(self, **bounds: filter_pb2.Value) -> Condition:
        return _leaf(range=filter_pb2.Range(field=self._field, **bounds))

    def _values(self, values: Iterable[Value]) -> filter_pb2.FieldValues:
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise TypeError(f"a list of values is wanted, not {type(values).__name__}")
        return filter_pb2.FieldValues(field=self._field, values=[_value(value) for value in values])

    def isin(self, values: Iterable[Value]) -> Condition:
        """Equal to one of the values; an empty list matches nothing."""
        return _leaf(one_of=self._values(values))

    def any(self, values: Iterable[Value]) -> Condition:
        """An array that holds at least one of the values."""
        return _leaf(any_of=self._values(values))

    def all(self, values: Iterable[Value]) -> Condition:
        """An array that holds every one of the values."""
        return _leaf(all_of=self._values(values))

    def exists(self) -> Condition:
        """The field is there, null or not."""
        return _leaf(exists=self._field)

    def is_null(self) -> Condition:
        """The field is there and null."""
        return _leaf(is_null=self._field)

    def prefix(self, prefix: str) -> Condition:
        """A string that begins so."""
        return _leaf(prefix=filter_pb2.Prefix(field=self._field, prefix=prefix))

    def within(self, lat: float, lon: float, metres: float) -> Condition:
        """A {lat, lon} point (degrees, WGS 84) at most so many metres away."""
        return _leaf(geo_radius=filter_pb2.GeoRadius(field=self._field, lat=lat, lon=lon, metres=metres))

    def within_box(self, min_lat: float, min_lon: float, max_lat: float, max_lon: float) -> Condition:
        """A {lat, lon} point (degrees, WGS 84) within the box."""
        box = filter_pb2.GeoBox(
            field=self._field, min_lat=min_lat, min_lon=min_lon, max_lat=max_lat, max_lon=max_lon
        )
        return _leaf(geo_box=box)

    def match(self, words: str) -> Condition:
        """A text field in which every one of the words occurs."""
        return _leaf(text_match=filter_pb2.TextMatch(field=self._field, query=words))

    def __repr__(self) -> str:
        return f"Filter({self._field!r})"


def message_of(condition: Condition | None) -> filter_pb2.Filter | None:
    """The condition as it goes over the wire. Raises TypeError for anything else."""
    if condition is None:
        return None
    if isinstance(condition, Condition):
        return condition.message()
    hint = " (it names a field but compares it with nothing)" if isinstance(condition, Filter) else ""
    raise TypeError(
        f'a filter is a condition such as F("year") >= 2020, not {type(condition).__name__}{hint}'
    )
