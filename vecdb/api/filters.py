"""Filters of the wire as filters of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any

from vecdb_index import filters
from vecdb_index.filters import Filter
from vecdb_proto.v1 import filter_pb2

from vecdb.api import checks
from vecdb.config import Limits
from vecdb.query import RequestError

_PATHS = frozenset({filters.AUTHOR})


def parse(message: filter_pb2.Filter, limits: Limits, field: str = "filter") -> Filter:
    """The engine's filter, validated. RequestError or FilterError naming the part that is wrong."""
    found = _Parser(limits).node(message, limits.max_filter_depth, field)
    filters.validate(
        found,
        max_depth=limits.max_filter_depth,
        max_clauses=limits.max_filter_clauses,
        max_values=limits.max_filter_values,
    )
    return found


class _Parser:
    """Converts one filter. What is counted is counted before it is converted, which costs far more."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clauses = 0
        self._values = 0

    def node(self, message: filter_pb2.Filter, left: int, where: str) -> Filter:
        """A clause with all below it; `left` is how many levels may be."""
        if left == 0:
            problem = "is nested too deeply; the limit is max_filter_depth"
            raise checks.invalid(where, problem, "BAD_FILTER", limit="max_filter_depth")
        self._clauses += 1
        if self._clauses > self._limits.max_filter_clauses:
            raise _too_many(where, "conditions", "max_filter_clauses", self._limits.max_filter_clauses)
        kind = message.WhichOneof("node")
        if kind is None:
            raise checks.invalid(where, "is empty", "BAD_FILTER")
        at = f"{where}.{kind}"
        body: Any = getattr(message, kind)
        match kind:
            case "all":
                return filters.And(self._list(body, left, at))
            case "any":
                return filters.Or(self._list(body, left, at))
            case "not":
                return filters.Not(self.node(body, left - 1, at))
            case "one_of":
                return filters.In(_field(body.field, at), self._listed(body.values, at))
            case "any_of":
                return filters.AnyOf(_field(body.field, at), self._listed(body.values, at))
            case "all_of":
                return filters.AllOf(_field(body.field, at), self._listed(body.values, at))
            case _:
                return _leaf(kind, body, at)

    def _list(self, body: filter_pb2.FilterList, left: int, at: str) -> tuple[Filter, ...]:
        return tuple(self.node(each, left - 1, f"{at}[{place}]") for place, each in enumerate(body.filters))

    def _listed(self, values: Sequence[filter_pb2.Value], at: str) -> tuple[Any, ...]:
        self._values += len(values)
        if self._values > self._limits.max_filter_values:
            raise _too_many(f"{at}.values", "values", "max_filter_values", self._limits.max_filter_values)
        return tuple(_value(value, f"{at}.values[{place}]") for place, value in enumerate(values))


def _too_many(where: str, what: str, limit: str, value: int) -> RequestError:
    problem = f"with it the filter has more {what} than {value} ({limit})"
    return checks.invalid(where, problem, "BAD_FILTER", limit=limit)


def _leaf(kind: str, body: Any, at: str) -> Filter:
    """A condition on one field, other than a list of values."""
    match kind:
        case "equals":
            return filters.Eq(_field(body.field, at), _value(body.value, at))
        case "range":
            bounds = {
                name: _value(getattr(body, name), f"{at}.{name}")
                for name in ("gt", "gte", "lt", "lte")
                if body.HasField(name)
            }
            _refuse_mixture(body, bounds, at)
            return filters.Range(_field(body.field, at), **bounds)
        case "exists":
            return filters.Exists(_field(body, at))
        case "is_null":
            return filters.IsNull(_field(body, at))
        case "prefix":
            return filters.Prefix(_field(body.field, at), body.prefix)
        case "geo_radius":
            return filters.GeoRadius(_field(body.field, at), body.lat, body.lon, body.metres)
        case "geo_box":
            return filters.GeoBox(
                _field(body.field, at), body.min_lat, body.min_lon, body.max_lat, body.max_lon
            )
        case _:
            raise checks.not_served(at, "conditions on words")


def _refuse_mixture(body: filter_pb2.Range, bounds: Iterable[str], at: str) -> None:
    """Bounds of two kinds would match nothing, which is never what was meant."""
    kinds = {getattr(body, name).WhichOneof("kind").replace("int", "float") for name in bounds}
    if len(kinds) > 1:
        raise checks.invalid(at, "must have bounds of one kind: numbers, strings or datetimes", "BAD_FILTER")


def _field(name: str, at: str) -> str:
    if not name:
        raise checks.invalid(f"{at}.field", "must not be empty", "BAD_FILTER")
    if name.startswith("@") and name not in _PATHS:
        raise checks.invalid(
            f"{at}.field", f"{name!r} is no reserved name that can be filtered", "BAD_FILTER"
        )
    return name


def _value(value: filter_pb2.Value, at: str) -> Any:
    kind = value.WhichOneof("kind")
    if kind is None:
        raise checks.invalid(at, "has no value", "BAD_FILTER")
    if kind == "datetime_value":
        try:
            return value.datetime_value.ToDatetime(tzinfo=UTC)
        except ValueError as error:
            raise checks.invalid(at, f"is no point in time: {error}", "BAD_FILTER") from None
    found = getattr(value, kind)
    if found != found:
        raise checks.invalid(at, "must not be NaN, which equals nothing and is in no order", "BAD_FILTER")
    return found
