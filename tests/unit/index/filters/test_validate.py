"""Malformed and oversized filters are refused, naming the part and the limit."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import pytest
from vecdb_index.filters import (
    AllOf,
    And,
    AnyOf,
    Eq,
    Exists,
    FieldSpec,
    FieldType,
    Filter,
    FilterError,
    GeoBox,
    GeoRadius,
    In,
    Instant,
    Not,
    Or,
    Prefix,
    Range,
    leaves,
    validate,
)

A = Eq("a", 1)
anything: Any = object()

REFUSED: list[tuple[Any, str, str]] = [
    (Eq("", 1), "field", "non-empty"),
    (Eq(anything, 1), "field", "non-empty"),
    (Eq("x" * 1025, 1), "field", "max_field_bytes = 1024"),
    (Eq("a", anything), "value", "object is no value"),
    (Eq("a", None), "value", "use IsNull"),
    (Eq("a", [1]), "value", "list is no value"),
    (Eq("a", datetime(2024, 1, 1)), "value", "time zone"),
    (And((A, Not(In("a", (1, {}))))), "and[1].not.values[1]", "dict is no value"),
    (In("a", [1]), "values", "must be a tuple"),  # type: ignore[arg-type]
    (In("a", 5), "values", "must be a tuple"),  # type: ignore[arg-type]
    (AllOf("a", ()), "values", "at least one"),
    (Or((A, Range("a"))), "or[1]", "at least one bound"),
    (Range("a", gt=1, lte=True), "lte", "numbers, strings or datetimes"),
    (Range("a", gt=b"x"), "gt", "numbers, strings or datetimes"),
    (Range("a", lt=anything), "lt", "object is no value"),
    (Prefix("a", 1), "prefix", "must be a string"),  # type: ignore[arg-type]
    (GeoRadius("a", 91, 0, 1), "lat", "from -90 to 90"),
    (GeoRadius("a", 0, math.nan, 1), "lon", "from -180 to 180"),
    (GeoRadius("a", 0, 0, -1), "metres", "from 0 to inf"),
    (GeoRadius("a", 0, True, 1), "lon", "must be a number"),
    (GeoBox("a", 10, 0, 5, 1), "south", "north of north"),
    (GeoBox("a", 0, -181, 5, 1), "west", "from -180 to 180"),
    (And([A]), "and", "must be a tuple"),  # type: ignore[arg-type]
    (Not(anything), "not", "object is no filter clause"),
    (None, "", "NoneType is no filter clause"),
]


@pytest.mark.parametrize(("where", "path", "message"), REFUSED, ids=lambda item: str(item)[:40])
def test_refused(where: Any, path: str, message: str) -> None:
    """A malformed clause is refused with its path in the tree and what is wrong."""
    with pytest.raises(FilterError) as caught:
        validate(where)
    assert caught.value.path == path
    assert message in caught.value.message
    assert str(caught.value) == f"{path or 'filter'}: {caught.value.message}"


def nested(depth: int) -> Filter:
    where: Filter = A
    for _ in range(depth - 1):
        where = Not(where)
    return where


LIMITS: list[tuple[Filter, Filter, str, str]] = [
    (nested(16), nested(17), ".".join(["not"] * 16), "max_depth = 16"),
    (And((A,) * 1023), And((A,) * 1024), "and[1023]", "max_clauses = 1024"),
    (In("a", tuple(range(10_000))), In("a", tuple(range(10_001))), "values", "max_values = 10000"),
    (
        Or((AnyOf("a", (1,) * 5_000), AllOf("a", (1,) * 5_000))),
        Or((AnyOf("a", (1,) * 5_000), AllOf("a", (1,) * 5_001))),
        "or[1].values",
        "max_values = 10000",
    ),
]


@pytest.mark.parametrize(("fits", "over", "path", "limit"), LIMITS, ids=["depth", "clauses", "values", "sum"])
def test_limits(fits: Filter, over: Filter, path: str, limit: str) -> None:
    """A filter at a limit passes; one beyond is refused with the limit's name and value."""
    validate(fits)
    with pytest.raises(FilterError, match=limit) as caught:
        validate(over)
    assert caught.value.path == path


def test_limits_are_arguments() -> None:
    """Each limit can be set by the caller."""
    for limits in ({"max_depth": 1}, {"max_clauses": 1}, {"max_values": 1}):
        with pytest.raises(FilterError, match=f"{next(iter(limits))} = 1"):
            validate(Not(In("a", (1, 2))), **limits)


def test_very_deep_filters_do_not_exhaust_the_stack() -> None:
    """A filter nested far beyond any limit is refused, not a RecursionError."""
    with pytest.raises(FilterError, match="max_depth"):
        validate(nested(100_000))


def test_values_of_every_kind_are_accepted() -> None:
    """All literal kinds pass where they have a meaning, NaN included."""
    values = (True, 1, 1.5, "x", b"x", Instant(0), math.nan)
    validate(And((In("a", values), Range("a", gt=math.nan), Exists("@author"))))
    assert [leaf.field for leaf in leaves(Or((A, Not(And((Exists("b"), A))))))] == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("name", "type_"),
    [("", "int"), ("x" * 1025, "int"), ("@version", "int"), ("@author", "int"), ("a", "integer"), (1, "int")],
)
def test_bad_specs(name: Any, type_: Any) -> None:
    """A declared field needs a usable name and a known type."""
    with pytest.raises(ValueError):
        FieldSpec(name, type_)


def test_spec_takes_the_type_by_name() -> None:
    """The type of a field may be given by the name that users write."""
    assert FieldSpec("a", "datetime") == FieldSpec("a", FieldType.DATETIME)  # type: ignore[arg-type]
