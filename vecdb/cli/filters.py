"""Filters as people write them: `year>=2020`, or JSON in MongoDB's manner."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING, Any

from vecdb.cli.exits import CommandError

if TYPE_CHECKING:
    from vecdb_client import Condition

_EXPRESSION = re.compile(r"\s*([^\s=!<>^]+?)\s*(==|!=|>=|<=|\^=|=|>|<)\s*(.*?)\s*", re.DOTALL)
_MAX_SHOWN = 80
_OPERATORS: Mapping[str, str] = {
    "=": "$eq", "==": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte", "^=": "$prefix",
}  # fmt: skip
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "$eq": operator.eq, "$ne": operator.ne, "$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt,
    "$lte": operator.le,
}  # fmt: skip
_METHODS = {"$in": "isin", "$any": "any", "$all": "all", "$prefix": "prefix", "$match": "match"}
_KNOWN = " ".join((*_COMPARE, *_METHODS, "$exists", "$null", "$near"))


def parse_filters(texts: Sequence[str]) -> Condition | None:
    """All of the filters together; None where there are none.

    Raises CommandError naming the filter that cannot be read.
    """
    conditions = [_parse(text) for text in texts]
    return reduce(operator.and_, conditions) if conditions else None


def _parse(text: str) -> Condition:
    try:
        if text.lstrip().startswith("{"):
            return _object(json.loads(text))
        match = _EXPRESSION.fullmatch(text)
        if match is None:
            raise ValueError("write field OP value (= != < <= > >= ^=), such as year>=2020, or JSON")
        field, sign, value = match.groups()
        return _condition(field, _OPERATORS[sign], _scalar(value))
    except (ValueError, TypeError, RecursionError) as error:
        shown = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
        raise CommandError(f"--filter {shown!r}: {error}") from None


def _scalar(text: str) -> object:
    """A number, true, false or a quoted string as in JSON; @ and a timestamp; anything else is a string."""
    if text.startswith("@"):
        return _moment(text[1:])
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str | int | float | bool) else text


def _moment(text: object) -> datetime:
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone; write it like 2024-05-01T00:00:00Z")
    return moment


def _object(node: object) -> Condition:
    """{"field": value}, {"field": {"$gte": value, ...}}, {"$and" | "$or": [...]}, {"$not": {...}}."""
    if not isinstance(node, dict) or not node:
        raise ValueError(f"an object with at least one field is wanted, not {json.dumps(node)}")
    return reduce(operator.and_, [_member(key, value) for key, value in node.items()])


def _member(key: str, value: Any) -> Condition:
    if key in ("$and", "$or"):
        if not isinstance(value, list) or not value:
            raise ValueError(f"{key} takes a list of objects")
        return reduce(operator.and_ if key == "$and" else operator.or_, [_object(item) for item in value])
    if key == "$not":
        return ~_object(value)
    if key.startswith("$"):
        raise ValueError(f"{key} is not known here; there are $and $or $not")
    if isinstance(value, dict) and any(name.startswith("$") for name in value) and "$datetime" not in value:
        return reduce(operator.and_, [_condition(key, name, _value(item)) for name, item in value.items()])
    return _condition(key, "$in" if isinstance(value, list) else "$eq", _value(value))


def _value(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"$datetime"}:
        return _moment(value["$datetime"])
    return [_value(item) for item in value] if isinstance(value, list) else value


def _condition(field: str, name: str, value: Any) -> Condition:
    from vecdb_client import Filter

    place = Filter(field)
    condition: Condition
    if name in _COMPARE:
        condition = _COMPARE[name](place, value)
    elif name in _METHODS:
        condition = getattr(place, _METHODS[name])(value)
    elif name in ("$exists", "$null") and isinstance(value, bool):
        found = place.exists() if name == "$exists" else place.is_null()
        condition = found if value else ~found
    elif name == "$near" and isinstance(value, dict) and set(value) == {"lat", "lon", "metres"}:
        condition = place.within(**value)
    elif name in ("$exists", "$null", "$near"):
        wanted = '{"lat": ..., "lon": ..., "metres": ...}' if name == "$near" else "true or false"
        raise ValueError(f"{name} takes {wanted}")
    else:
        raise ValueError(f"{name} is not known; there are {_KNOWN}")
    return condition
