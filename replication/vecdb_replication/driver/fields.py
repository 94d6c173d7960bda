"""Reading JSON objects strictly: a wrong type is a bad request, a missing field is its zero value."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TypeVar

from ..raft import APPEND_THREAD, APPLY_THREAD

_E = TypeVar("_E", bound=Enum)
_T = TypeVar("_T")

MAX_UINT64 = 2**64 - 1
_THREADS = {"append_thread": APPEND_THREAD, "apply_thread": APPLY_THREAD}


class BadRequestError(Exception):
    """The line is not a request; nothing was changed."""


class Fields:
    """One JSON object. Null counts as missing; fields that nobody asks for are ignored."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise BadRequestError(f"{where} must be an object")
        self._values: Mapping[str, object] = {key: item for key, item in value.items() if item is not None}
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def _bad(self, name: str, what: str) -> BadRequestError:
        return BadRequestError(f"{name} in {self._where} must be {what}")

    def number(self, name: str, default: int | None = 0) -> int:
        """An unsigned 64-bit integer. A default of None makes it required."""
        value = self._values.get(name, default)
        if type(value) is not int or not 0 <= value <= MAX_UINT64:
            raise self._bad(name, "an integer from 0 to 2**64-1")
        return value

    def peer(self, name: str, default: int | None = 0) -> int:
        """A node's id, or the name of a storage thread."""
        value = self._values.get(name)
        if isinstance(value, str) and value in _THREADS:
            return _THREADS[value]
        return self.number(name, default)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise self._bad(name, "true or false")
        return value

    def data(self, name: str) -> bytes:
        """Bytes, as a string with a character for each."""
        value = self._values.get(name, "")
        try:
            if isinstance(value, str):
                return value.encode("latin-1")
        except UnicodeEncodeError:
            pass
        raise self._bad(name, "a string of characters up to U+00FF")

    def choice(self, name: str, choices: Mapping[str, _T], default: str | None) -> _T:
        """One of some names. A default of None makes it required."""
        value = self._values.get(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self._bad(name, "one of " + ", ".join(choices))
        return choices[value]

    def items(self, name: str) -> list[object]:
        """A list."""
        value = self._values.get(name, [])
        if not isinstance(value, list):
            raise self._bad(name, "a list")
        return value

    def each(self, name: str, read: Callable[["Fields"], _T]) -> tuple[_T, ...]:
        """A list of objects, each read by `read`."""
        return tuple(read(Fields(item, f"{name} of {self._where}")) for item in self.items(name))

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of node ids."""
        values = []
        for value in self.items(name):
            if type(value) is not int or not 0 < value <= MAX_UINT64:
                raise self._bad(name, "a list of ids")
            values.append(value)
        return tuple(values)

    def nested(self, name: str) -> "Fields | None":
        """An object, or None where it is missing."""
        if name not in self._values:
            return None
        return Fields(self._values[name], f"{name} of {self._where}")

    def by_id(self, name: str) -> dict[int, "Fields"]:
        """An object whose keys are ids, each given as a one-field object named `value`."""
        value = self._values.get(name, {})
        if not isinstance(value, dict):
            raise self._bad(name, "an object keyed by ids")
        found = {}
        for key, item in value.items():
            if item is None:
                continue
            if not (key.isascii() and key.isdigit() and len(key) <= 20 and 0 < int(key) <= MAX_UINT64):
                raise self._bad(name, "an object keyed by ids")
            found[int(key)] = Fields({"value": item}, f"{name}[{key}] of {self._where}")
        return found


def names_of(kind: type[_E]) -> dict[str, _E]:
    """An enum's members by the names that the driver uses: their values, or lower-case names."""
    return {member.value if isinstance(member.value, str) else member.name.lower(): member for member in kind}
