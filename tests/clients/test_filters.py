from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from vecdb_client import Filter as F
from vecdb_client._filters import message_of
from vecdb_proto.v1 import filter_pb2


def wire(text: str) -> filter_pb2.Filter:
    return text_format.Parse(text, filter_pb2.Filter())


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (F("a") == 1, 'equals { field: "a" value { int_value: 1 } }'),
        (F("a") == True, 'equals { field: "a" value { bool_value: true } }'),  # noqa: E712
        (F("a") == 1.0, 'equals { field: "a" value { float_value: 1 } }'),
        (F("a") == "x", 'equals { field: "a" value { string_value: "x" } }'),
        (F("a") == np.int32(7), 'equals { field: "a" value { int_value: 7 } }'),
        (F("a") == np.bool_(False), 'equals { field: "a" value { bool_value: false } }'),
        (F("a") != 1, 'not { equals { field: "a" value { int_value: 1 } } }'),
        (F("a") < 1, 'range { field: "a" lt { int_value: 1 } }'),
        (F("a") <= 1, 'range { field: "a" lte { int_value: 1 } }'),
        (F("a") > 1, 'range { field: "a" gt { int_value: 1 } }'),
        (F("a") >= 1, 'range { field: "a" gte { int_value: 1 } }'),
        (F("a").isin([1, "b"]), 'one_of { field: "a" values { int_value: 1 } values { string_value: "b" } }'),
        (F("a").isin([]), 'one_of { field: "a" }'),
        (F("a").any(("x",)), 'any_of { field: "a" values { string_value: "x" } }'),
        (F("a").all({"x"}), 'all_of { field: "a" values { string_value: "x" } }'),
        (F("a.b").exists(), 'exists: "a.b"'),
        (F("a").is_null(), 'is_null: "a"'),
        (F("a").prefix("x"), 'prefix { field: "a" prefix: "x" }'),
        (F("a").within(1, 2.5, 300), 'geo_radius { field: "a" lat: 1 lon: 2.5 metres: 300 }'),
        (
            F("a").within_box(1, 2, 3, 4),
            'geo_box { field: "a" min_lat: 1 min_lon: 2 max_lat: 3 max_lon: 4 }',
        ),
        (F("a").match("one two"), 'text_match { field: "a" query: "one two" }'),
    ],
)
def test_each_condition_goes_over_the_wire_as_the_contract_says(condition: Any, expected: str) -> None:
    """Every operator makes exactly the message of its kind."""
    assert message_of(condition) == wire(expected)


def test_chains_of_one_kind_stay_one_level_deep() -> None:
    """The server counts levels (16): a long chain of & or | must not nest."""
    chain = F("a") == 0
    for value in range(1, 100):
        chain = chain | (F("a") == value)
    message = message_of(chain & (F("b") == 1) & (F("c") == 2))
    assert message is not None
    assert len(message.all.filters) == 3
    assert len(message.all.filters[0].any.filters) == 100


def test_and_or_and_not_nest_as_written() -> None:
    """& binds what | joined, ~ wraps it whole, and twice ~ is nothing."""
    a, b, c = F("a").exists(), F("b").exists(), F("c").exists()
    both = 'all { filters { exists: "a" } filters { exists: "b" } }'
    expected = f'not {{ any {{ filters {{ {both} }} filters {{ exists: "c" }} }} }}'
    assert message_of(~((a & b) | c)) == wire(expected)
    assert message_of(~~a) == message_of(a)
    assert message_of(a & (b & c)) == message_of((a & b) & c)


def test_moments_keep_their_instant() -> None:
    """A datetime goes over as the instant it names, whatever its time zone."""
    moment = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=timezone(timedelta(hours=2)))
    message = message_of(F("t") == moment)
    assert message is not None
    assert message.equals.value.datetime_value.ToDatetime(UTC) == moment


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        (1 << 63, ValueError, "64 bits"),
        (-(1 << 63) - 1, ValueError, "64 bits"),
        (float("nan"), ValueError, "NaN"),
        (datetime(2024, 1, 1), ValueError, "time zone"),
        (None, TypeError, "is_null"),
        ([1], TypeError, "list"),
        (b"x", TypeError, "bytes"),
    ],
)
def test_values_that_no_filter_can_hold_are_named(value: Any, error: type[Exception], says: str) -> None:
    """What would be wrong on the server is refused where it is written."""
    with pytest.raises(error, match=says):
        _ = F("a") == value


@pytest.mark.parametrize("values", ["abc", b"abc", 5])
def test_a_string_is_no_list_of_values(values: Any) -> None:
    """`isin("abc")` would silently mean its letters."""
    with pytest.raises(TypeError, match="list of values"):
        F("a").isin(values)


def test_and_or_not_and_chained_comparisons_are_refused() -> None:
    """Python's `and` would silently drop one side: truth of a filter raises and says what to write."""
    with pytest.raises(TypeError, match="neither true nor false"):
        _ = (F("a") == 1) and (F("b") == 2)
    with pytest.raises(TypeError, match="neither true nor false"):
        assert F("a") == 1
    with pytest.raises(TypeError, match="neither true nor false"):
        _ = 1 < F("a") < 3
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(F("a"))


@pytest.mark.parametrize("wrong", [{"a": 1}, "a = 1", F("a"), True])
def test_only_conditions_filter(wrong: Any) -> None:
    """Anything else handed in as a filter is a TypeError that shows how to write one."""
    with pytest.raises(TypeError, match="condition such as"):
        message_of(wrong)


def test_a_condition_joins_only_conditions() -> None:
    """`condition & True` is a mistake, not a shortcut."""
    with pytest.raises(TypeError):
        _ = (F("a") == 1) & True  # type: ignore[operator]
    with pytest.raises(TypeError):
        hash(F("a"))


@pytest.mark.parametrize(("name", "error"), [(1, TypeError), ("", ValueError)])
def test_a_field_has_a_name(name: Any, error: type[Exception]) -> None:
    """A field's name is a non-empty string."""
    with pytest.raises(error):
        F(name)


def test_conditions_can_be_read() -> None:
    """repr shows what goes over the wire."""
    assert repr(F("year")) == "Filter('year')"
    assert 'field: "year"' in repr(F("year") > 1)
