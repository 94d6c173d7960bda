"""The values that filters compare, and how a field is found in a payload.

Both sides of a comparison, a literal in a filter and a value in a payload, are brought to a pair of kind and
key. Keys of one kind compare exactly; values of different kinds never match. So a type mismatch needs no
special case anywhere, and the index and the scan cannot disagree about one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final

import msgpack

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NS: Final = 1_000_000_000

# RFC 3339, section 5.6: date-time, with any number of fraction digits.
_RFC3339: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}):(\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


class Kind(IntEnum):
    """What a value is to a comparison. The numbers are stored on disk: never change them."""

    NULL = 1
    OPAQUE = 2  # present, but equal to nothing: NaN, an empty array, an array in an array
    NUMBER = 3
    STRING = 4
    BOOL = 5
    DATETIME = 6
    BYTES = 7
    MAP = 8


class _Missing:
    """The type of MISSING."""

    __slots__ = ()


MISSING: Final = _Missing()

Key = tuple[Kind, Any]
_OPAQUE: Final[Key] = (Kind.OPAQUE, None)
_NULL: Final[Key] = (Kind.NULL, None)


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """A point in time: nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted."""

    ns: int

    @classmethod
    def of(cls, moment: datetime) -> Instant:
        """The instant of a timezone-aware datetime; ValueError for a naive one."""
        if moment.utcoffset() is None:
            raise ValueError("a datetime needs a time zone")
        since = moment - _EPOCH
        return cls((since.days * 86_400 + since.seconds) * _NS + since.microseconds * 1_000)

    @classmethod
    def parse(cls, text: str) -> Instant:
        """Read an RFC 3339 date-time; ValueError when it is none.

        Fractions keep nine digits. A leap second (``:60``) is the second after it, as in POSIX time.
        """
        match = _RFC3339.fullmatch(text)
        if match is None:
            raise ValueError(f"not an RFC 3339 date-time: {text[:64]!r}")
        date, minute, second, fraction, zone = match.groups()
        leap = second == "60"
        try:
            base = cls.of(datetime.fromisoformat(f"{date}T{minute}:{'59' if leap else second}{zone.upper()}"))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"not an RFC 3339 date-time: {text[:64]!r} ({error})") from None
        return cls(base.ns + leap * _NS + int((fraction or "0")[:9].ljust(9, "0")))


def decode_payload(data: bytes | memoryview) -> dict[str, Any]:
    """Decode the msgpack map of a document, timestamps as ``msgpack.Timestamp`` (no nanosecond is lost).

    Raises ValueError (or a subclass of it) when the bytes are no msgpack map.
    """
    payload = msgpack.unpackb(data, raw=False, timestamp=0, strict_map_key=True)
    if not isinstance(payload, dict):
        raise ValueError("a payload must be a msgpack map")
    return payload


def resolve(payload: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or MISSING.

    A literal key wins over a nested one, at every level: longer keys are tried first. Maps inside arrays are
    not entered.
    """
    value = payload.get(path, MISSING)
    if value is not MISSING or "." not in path:
        return value
    dot = path.rfind(".")
    while dot >= 0:
        inner = payload.get(path[:dot], MISSING)
        if isinstance(inner, Mapping):
            value = resolve(inner, path[dot + 1 :])
            if value is not MISSING:
                return value
        dot = path.rfind(".", 0, dot)
    return MISSING


def elements(value: Any) -> Sequence[Any]:
    """The values that a comparison tries: those of an array (one level), or the value alone."""
    return value if isinstance(value, list | tuple) else (value,)


def key_of(value: Any) -> Key:
    """Kind and key of one value (of an array: of one element)."""
    match value:
        case bool():
            return Kind.BOOL, value
        case str():
            return Kind.STRING, value
        case int():
            return Kind.NUMBER, value
        case float():
            # NaN is unordered and unequal to itself; as OPAQUE it matches nothing, whoever compares.
            return _OPAQUE if math.isnan(value) else (Kind.NUMBER, value)
        case None:
            return _NULL
        case msgpack.Timestamp():
            return Kind.DATETIME, value.to_unix_nano()
        case datetime():
            return _OPAQUE if value.utcoffset() is None else (Kind.DATETIME, Instant.of(value).ns)
        case Instant():
            return Kind.DATETIME, value.ns
        case bytes():
            return Kind.BYTES, value
        case Mapping():
            return Kind.MAP, value
    return _OPAQUE


COMPARABLE: Final = frozenset({Kind.NUMBER, Kind.STRING, Kind.BOOL, Kind.DATETIME, Kind.BYTES})
ORDERED: Final = frozenset({Kind.NUMBER, Kind.STRING, Kind.DATETIME})


def keys_of(values: Sequence[Any]) -> dict[Kind, frozenset[Any]]:
    """Literals by kind, those that can match nothing (NaN) left out.

    Python hashes and compares int and float by their exact values, so a set of them is exact too.
    """
    types = set(map(type, values))
    if types == {str}:  # ten thousand ids are usual, and not looked at one by one
        return {Kind.STRING: frozenset(values)}
    if types and types <= {int, float}:
        return {Kind.NUMBER: frozenset(value for value in values if value == value)}
    kinds: dict[Kind, set[Any]] = {}
    for value in values:
        kind, key = key_of(value)
        if kind in COMPARABLE:
            kinds.setdefault(kind, set()).add(key)
    return {kind: frozenset(keys) for kind, keys in kinds.items()}


@dataclass(frozen=True, slots=True)
class Interval:
    """Keys of one kind between two ends; None is no end."""

    kind: Kind
    low: Any
    low_open: bool
    high: Any
    high_open: bool

    def __contains__(self, key: Any) -> bool:
        """Whether a key of this kind lies inside."""
        if self.low is not None and (key <= self.low if self.low_open else key < self.low):
            return False
        return self.high is None or not (key >= self.high if self.high_open else key > self.high)


def interval_of(*, gt: Any, gte: Any, lt: Any, lte: Any) -> Interval | None:
    """The interval that four optional bounds leave; None when nothing can lie in it by type.

    Bounds of two kinds, NaN, and kinds without an order leave nothing.
    """
    lows = [(key_of(bound), is_open) for bound, is_open in ((gt, True), (gte, False)) if bound is not None]
    highs = [(key_of(bound), is_open) for bound, is_open in ((lt, True), (lte, False)) if bound is not None]
    kinds = {kind for (kind, _), _ in lows + highs}
    if len(kinds) != 1 or not kinds <= ORDERED:
        return None
    low, low_open = max(((key, is_open) for (_, key), is_open in lows), default=(None, False))
    # Of equal upper ends the open one is tighter, so it must sort first.
    high, high_closed = min(((key, not is_open) for (_, key), is_open in highs), default=(None, True))
    return Interval(kinds.pop(), low, low_open, high, not high_closed)
