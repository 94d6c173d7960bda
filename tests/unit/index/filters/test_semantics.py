"""What filters mean: the table of semantics, held against the reference evaluator."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgpack
import pytest
from vecdb_index.filters import (
    AllOf,
    And,
    AnyOf,
    Eq,
    Exists,
    Filter,
    GeoBox,
    GeoRadius,
    In,
    Instant,
    IsNull,
    Ne,
    Not,
    Or,
    Prefix,
    Range,
    compile,  # noqa: A004
    decode_payload,
    resolve,
    validate,
)
from vecdb_index.filters.values import MISSING

NAN = math.nan
BIG = 2**63 - 1
NOON = datetime(2024, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)
BERLIN = {"lat": 52.52, "lon": 13.405}
SUVA, APIA = {"lat": -18.14, "lon": 178.44}, {"lat": -13.83, "lon": -171.76}

TABLE: list[tuple[dict[str, Any], Filter, bool]] = [
    # equality
    ({"a": 1}, Eq("a", 1), True),
    ({"a": 1}, Eq("a", 2), False),
    ({}, Eq("a", 1), False),
    ({"a": 1}, Eq("a", 1.0), True),
    ({"a": 1.0}, Eq("a", 1), True),
    ({"a": True}, Eq("a", 1), False),
    ({"a": 1}, Eq("a", True), False),
    ({"a": True}, Eq("a", True), True),
    ({"a": 0}, Eq("a", False), False),
    ({"a": "1"}, Eq("a", 1), False),
    ({"a": b"x"}, Eq("a", b"x"), True),
    ({"a": b"x"}, Eq("a", "x"), False),
    ({"a": None}, Eq("a", 0), False),
    ({"a": {"b": 1}}, Eq("a", 1), False),
    ({"a": -0.0}, Eq("a", 0), True),
    # numbers are compared exactly, not as doubles
    ({"a": BIG}, Eq("a", float(2**63)), False),
    ({"a": float(2**63)}, Eq("a", BIG), False),
    ({"a": float(2**63)}, Eq("a", 2**63), True),
    ({"a": BIG}, Range("a", lt=float(2**63)), True),
    ({"a": float(2**63)}, Range("a", gt=BIG), True),
    ({"a": 2**53 + 1}, Range("a", gt=float(2**53)), True),
    # arrays: any element, one level deep
    ({"a": [1, 2]}, Eq("a", 2), True),
    ({"a": [1, 2]}, Eq("a", 3), False),
    ({"a": []}, Eq("a", 1), False),
    ({"a": [[1]]}, Eq("a", 1), False),
    ({"a": [1, "x", None]}, Eq("a", "x"), True),
    ({"a": [1, 9]}, Range("a", gt=2, lt=8), False),  # no single element satisfies both bounds
    ({"a": [1, 5, 9]}, Range("a", gt=2, lt=8), True),
    ({"a": ["x", "yes"]}, Prefix("a", "y"), True),
    # complements
    ({}, Ne("a", 1), True),
    ({"a": [1, 2]}, Ne("a", 1), False),
    ({"a": "1"}, Ne("a", 1), True),
    ({}, Not(Eq("a", 1)), True),
    ({}, Not(Range("a", gt=1)), True),
    ({"a": 1}, Not(Not(Eq("a", 1))), True),
    # NaN
    ({"a": NAN}, Eq("a", NAN), False),
    ({"a": NAN}, Ne("a", NAN), True),
    ({"a": NAN}, In("a", (NAN, 1)), False),
    ({"a": NAN}, Range("a", gte=-math.inf), False),
    ({"a": 1.0}, Range("a", lt=NAN), False),
    ({"a": 1.0}, Range("a", gt=0, lt=NAN), False),
    ({"a": NAN}, Not(Range("a", gt=0)), True),
    ({"a": NAN}, Exists("a"), True),
    # in, any, all
    ({"a": 2}, In("a", (1, 2)), True),
    ({"a": [7, 2]}, In("a", (1, 2)), True),
    ({"a": 2}, In("a", ()), False),
    ({"a": "x"}, In("a", (1, "x", b"x")), True),
    ({"a": [1, 2]}, AnyOf("a", (2, 3)), True),
    ({"a": 2}, AnyOf("a", (2, 3)), True),
    ({"a": [4]}, AnyOf("a", (2, 3)), False),
    ({"a": [1, 2, 3]}, AllOf("a", (3, 1)), True),
    ({"a": [1, 2]}, AllOf("a", (1, 3)), False),
    ({"a": 1}, AllOf("a", (1,)), True),
    ({}, AllOf("a", (1,)), False),
    ({"a": [1, "x"]}, AllOf("a", ("x", 1)), True),
    # ranges
    ({"a": 5}, Range("a", gt=5), False),
    ({"a": 5}, Range("a", gte=5), True),
    ({"a": 5}, Range("a", lt=5), False),
    ({"a": 5}, Range("a", lte=5), True),
    ({"a": 5}, Range("a", gt=4, gte=5), True),
    ({"a": 5}, Range("a", gt=5, gte=5), False),
    ({"a": 5}, Range("a", lt=5, lte=5), False),
    ({"a": 5}, Range("a", lte=6, lt=7), True),
    ({"a": True}, Range("a", gte=0), False),
    ({"a": "5"}, Range("a", gte=0), False),
    ({"a": 5}, Range("a", gte="0"), False),
    ({"a": 5}, Range("a", gte=0, lte="9"), False),
    ({"a": math.inf}, Range("a", gt=10**400), True),
    ({"a": "b"}, Range("a", gt="a", lt="c"), True),
    # code points: U+FF5E sorts before U+1F600, though not in UTF-16
    ({"a": "\uff5e"}, Range("a", lt="\U0001f600"), True),
    ({"a": "Z"}, Range("a", lt="a"), True),
    ({"a": "\u00e9"}, Eq("a", "e\u0301"), False),  # not normalized
    # presence
    ({"a": 1}, Exists("a"), True),
    ({"a": None}, Exists("a"), True),
    ({"a": []}, Exists("a"), True),
    ({}, Exists("a"), False),
    ({"a": None}, IsNull("a"), True),
    ({"a": [None]}, IsNull("a"), False),
    ({"a": 0}, IsNull("a"), False),
    ({}, IsNull("a"), False),
    ({}, Not(IsNull("a")), True),
    # prefix
    ({"a": "abc"}, Prefix("a", "ab"), True),
    ({"a": "abc"}, Prefix("a", ""), True),
    ({"a": "ab"}, Prefix("a", "abc"), False),
    ({"a": b"abc"}, Prefix("a", "ab"), False),
    ({}, Prefix("a", ""), False),
    # dotted paths
    ({"a": {"b": 1}}, Eq("a.b", 1), True),
    ({"a.b": 2, "a": {"b": 1}}, Eq("a.b", 1), False),
    ({"a.b": 2, "a": {"b": 1}}, Eq("a.b", 2), True),
    ({"a.b": {"c": 1}}, Eq("a.b.c", 1), True),
    ({"a": {"b.c": 1}}, Eq("a.b.c", 1), True),
    ({"a.b": {"x": 0}, "a": {"b": {"c": 1}}}, Eq("a.b.c", 1), True),
    ({"a": [{"b": 1}]}, Eq("a.b", 1), False),
    ({"a": 1}, Eq("a.b", 1), False),
    ({"a": {"": {"b": 1}}}, Eq("a..b", 1), True),
    ({"a": {"b": None}}, Exists("a.b"), True),
    # datetimes
    ({"a": NOON}, Eq("a", NOON), True),
    ({"a": NOON}, Eq("a", NOON.astimezone(timezone(timedelta(hours=5)))), True),
    ({"a": NOON}, Eq("a", Instant.parse("2024-05-01T14:00:00.25+02:00")), True),
    ({"a": NOON}, Eq("a", "2024-05-01T12:00:00.25Z"), False),  # a string is a string
    ({"a": NOON}, Eq("a", Instant.of(NOON).ns), False),  # a number is a number
    ({"a": NOON}, Range("a", gt=Instant.parse("2024-05-01T12:00:00.249999999Z")), True),
    ({"a": [NOON]}, Range("a", lt=NOON), False),
    ({"a": msgpack.Timestamp(2**40, 1)}, Range("a", gt=NOON), True),
    ({"a": msgpack.Timestamp(-(2**40), 999_999_999)}, Range("a", lt=NOON), True),
    # geo
    ({"a": BERLIN}, GeoRadius("a", 52.52, 13.405, 0), True),
    ({"a": BERLIN}, GeoRadius("a", 48.8566, 2.3522, 877_000), False),
    ({"a": BERLIN}, GeoRadius("a", 48.8566, 2.3522, 879_000), True),
    ({"a": [SUVA, BERLIN]}, GeoRadius("a", 52, 13, 100_000), True),
    ({"a": SUVA}, GeoRadius("a", -18.14, -179.9, 200_000), True),  # over the antimeridian
    ({"a": {"lat": 90, "lon": 0}}, GeoRadius("a", 90, 180, 1), True),  # the pole has any longitude
    ({"a": {"lat": 1}}, GeoRadius("a", 0, 0, 1e9), False),
    ({"a": {"lat": True, "lon": 0}}, GeoRadius("a", 0, 0, 1e9), False),
    ({"a": {"lat": 0, "lon": False}}, GeoRadius("a", 0, 0, 1e9), False),
    ({"a": {"lat": 91, "lon": 0}}, GeoRadius("a", 0, 0, 1e9), False),
    ({"a": {"lat": 10**400, "lon": 0}}, GeoRadius("a", 0, 0, 1e9), False),
    ({"a": {"lat": NAN, "lon": 0}}, GeoRadius("a", 0, 0, 1e9), False),
    ({"a": [52.52, 13.405]}, GeoRadius("a", 52.52, 13.405, 1e9), False),
    ({"a": BERLIN}, GeoBox("a", 50, 10, 55, 15), True),
    ({"a": BERLIN}, GeoBox("a", 53, 10, 55, 15), False),
    ({"a": SUVA}, GeoBox("a", -20, 170, -10, -170), True),
    ({"a": APIA}, GeoBox("a", -20, 170, -10, -170), True),
    ({"a": BERLIN}, GeoBox("a", -90, 170, 90, -170), False),
    ({}, Not(GeoBox("a", -90, -180, 90, 180)), True),
    # connectives
    ({"a": 1, "b": 2}, And((Eq("a", 1), Eq("b", 2))), True),
    ({"a": 1, "b": 2}, And((Eq("a", 1), Eq("b", 3))), False),
    ({"a": 1}, Or((Eq("a", 2), Eq("a", 1))), True),
    ({"a": 1}, Or((Eq("a", 2), Eq("b", 1))), False),
    ({}, And(()), True),
    ({}, Or(()), False),
]


@pytest.mark.parametrize(("payload", "where", "expected"), TABLE, ids=lambda item: str(item)[:60])
def test_table(payload: dict[str, Any], where: Filter, expected: bool) -> None:
    """Each row of the table holds after a round trip through msgpack; its complement holds the other way."""
    validate(where)
    decoded = decode_payload(msgpack.packb(_packable(payload), datetime=True))
    assert compile(where)(decoded) is expected
    assert compile(Not(where))(decoded) is not expected


def _packable(value: Any) -> Any:
    """msgpack has no ints beyond 64 bits: tests with those keep the value as a double at the limit."""
    if isinstance(value, dict):
        return {key: _packable(item) for key, item in value.items()}
    return 2**64 - 1 if isinstance(value, int) and value >= 2**64 else value


@pytest.mark.parametrize(("payload", "where", "expected"), TABLE, ids=lambda item: str(item)[:60])
def test_table_undecoded(payload: dict[str, Any], where: Filter, expected: bool) -> None:
    """Datetimes in a payload may also come as aware datetimes: the answers are the same."""
    assert compile(where)(payload) is expected


def test_author_is_not_a_payload_key() -> None:
    """A payload cannot claim an author: @author is what the caller passes, missing when that is none."""
    forged = {"@author": "alice"}
    assert not compile(Eq("@author", "alice"))(forged)
    assert not compile(Eq("@author", "alice"))(forged, "bob")
    assert compile(Eq("@author", "bob"))(forged, "bob")
    assert compile(Ne("@author", "bob"))(forged)
    assert compile(Exists("@author"))({}, "bob")
    assert not compile(Exists("@author"))(forged)
    assert compile(And((Prefix("@author", "b"), Or((Eq("a", 1), Eq("@author", "bob"))))))({}, "bob")
    assert compile(Not(In("@author", ("alice",))))({}, "bob")


def test_naive_datetime_matches_nothing() -> None:
    """A datetime without a zone is no point in time; it is present and equals nothing."""
    naive = {"a": datetime(2024, 1, 1)}
    assert not compile(Range("a", gte=datetime(1970, 1, 1, tzinfo=UTC)))(naive)
    assert compile(Exists("a"))(naive)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.000000001z", 1),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("1970-01-01 01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.1234567899Z", 123_456_789),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000_000),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999_000),
    ],
)
def test_rfc3339(text: str, ns: int) -> None:
    """RFC 3339 date-times are read to the nanosecond."""
    assert Instant.parse(text) == Instant(ns)


@pytest.mark.parametrize(
    "text",
    ["", "2024-05-01", "2024-05-01T12:00:00", "2024-13-01T00:00:00Z", "2024-05-01T25:00:00Z", "now",
     "2024-05-01T12:00:61Z", "0001-01-01T00:00:00+23:59Z", "２024-05-01T12:00:00Z"],
)  # fmt: skip
def test_rfc3339_refused(text: str) -> None:
    """What is no date-time, or has no zone, is refused with its text."""
    with pytest.raises(ValueError, match="not an RFC 3339 date-time"):
        Instant.parse(text)


def test_instant_of_naive_datetime() -> None:
    """A naive datetime is refused, never taken for local time."""
    with pytest.raises(ValueError, match="time zone"):
        Instant.of(datetime(2024, 1, 1))


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x01", b"\x81\x01\x02", b"\x81\xa1a", b"\x80\x80", b"\xc1"])
def test_decode_payload_refuses(data: bytes) -> None:
    """Anything but one whole msgpack map with string keys is a ValueError."""
    with pytest.raises(ValueError):
        decode_payload(data)


def test_resolve_missing_deep() -> None:
    """A path of many dots over nested maps ends without a value, quickly."""
    payload: dict[str, Any] = {}
    for _ in range(100):
        payload = {"a": payload}
    assert resolve(payload, ".".join("a" * 101)) is MISSING
    assert resolve(payload, ".".join("a" * 100)) == {}
