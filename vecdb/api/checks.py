"""What a request must be before anything is done with it.

Each check raises INVALID_ARGUMENT naming the field and the limit. They run
before a write is proposed, so that a refused batch has changed nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgpack
import numpy as np
import numpy.typing as npt

from vecdb.config import Limits
from vecdb.query import RequestError
from vecdb.query.errors import invalid as invalid

F32 = npt.NDArray[np.float32]

# No two points are farther apart than twice the larger norm, so with squared norms up to a quarter of what
# float32 holds no squared distance overflows. The last hundredth is for rounding.
MAX_SQUARED_NORM: Final = 0.99 * float(np.finfo(np.float32).max) / 4

_MAX_REMOVED: Final = 256
_MAX_KEY_BYTES: Final = 256
_STRINGS: Final = frozenset({str})
_CONTAINERS: Final = frozenset({dict, list})
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")


def name(value: str, field: str) -> str:
    """The name of a collection or an alias."""
    if not _NAME.match(value):
        shown = value if len(value) <= 40 else value[:40] + "..."
        raise invalid(
            field,
            f"{shown!r} is no name: 1 to 128 of letters, digits, '_', '.' and '-', beginning with one of the "
            "first two",
        )
    return value


def ids(values: Sequence[str], limits: Limits, field: str = "ids") -> list[str]:
    """Document ids: at least one, not too many, each well-formed, no two alike."""
    found = list(values)
    if not found:
        raise invalid(field, "must not be empty")
    if len(found) > limits.max_batch:
        raise _over(field, f"has {len(found)} ids", "max_batch", limits.max_batch)
    if len(set(found)) != len(found):
        at, twice = _first_repeated(found)
        raise invalid(f"{field}[{at}]", f"{short(twice)} is in the request twice", "DUPLICATE_ID")
    for at, value in enumerate(found):
        size = len(value) if value.isascii() else len(value.encode())
        if not 1 <= size <= limits.max_id_bytes:
            problem = f"{size} bytes; an id has 1 to {limits.max_id_bytes} bytes of UTF-8"
            raise invalid(f"{field}[{at}]", problem, "BAD_ID", limit="max_id_bytes")
        if not value.isprintable() and any(is_control(char) for char in value):
            raise invalid(f"{field}[{at}]", "an id has no control characters", "BAD_ID")
    return found


def is_control(char: str) -> bool:
    """Whether a character is of Unicode's category Cc."""
    return char < " " or "\x7f" <= char < "\xa0"


def _first_repeated(values: Sequence[str]) -> tuple[int, str]:
    seen: set[str] = set()
    for at, value in enumerate(values):
        if value in seen:
            return at, value
        seen.add(value)
    raise AssertionError("called where a value is repeated")


def short(value: str) -> str:
    """What was sent, quoted, no longer than an answer should quote it."""
    return repr(value if len(value) <= 40 else value[:40] + "...")


def _over(field: str, problem: str, limit: str, value: int) -> RequestError:
    return invalid(field, f"{problem}; the limit is {value} ({limit})", "LIMIT_EXCEEDED", limit=limit)


def column(values: Sequence[Any], count: int, field: str) -> bool:
    """Whether an optional column is there; where it is, it has one entry an id."""
    if not values:
        return False
    if len(values) != count:
        raise invalid(field, f"has {len(values)} entries for {count} ids")
    return True


def matrix(data: bytes, rows: int | None, dim: int, metric: str, field: str) -> F32:
    """Vectors from their bytes, (rows, dim) float32; any number of rows where `rows` is None.

    The array is a view of `data`. Every vector is finite, the squared distance
    between any two as well, and under cosine none is zero.
    """
    width = 4 * dim
    if rows is None:
        rows = len(data) // width
    if len(data) != rows * width or not rows:
        got = f"{len(data)} bytes"
        if rows and len(data) % (4 * rows) == 0:
            got = f"{len(data) // (4 * rows)} dimensions"
        problem = f"must be {rows or 1} x {dim} float32 ({(rows or 1) * width} bytes), not {got}"
        raise invalid(field, problem, "WRONG_DIMENSION", dim=str(dim))
    vectors = np.frombuffer(data, dtype="<f4").reshape(rows, dim)
    # One pass tells all there is to refuse; only then is it worth finding out what it was.
    norms = np.einsum("ij,ij->i", vectors, vectors)
    if not (norms <= MAX_SQUARED_NORM).all():
        at = int(np.flatnonzero(~(norms <= MAX_SQUARED_NORM))[0])
        what = "has NaN or infinity in it"
        if np.isfinite(vectors[at]).all():
            what = f"is too large: a squared norm above {MAX_SQUARED_NORM:.3g} overflows float32 in distances"
        raise invalid(_row(field, at, rows), what, "NOT_FINITE")
    if metric == "cosine" and not norms.all():
        at = int(np.flatnonzero(norms == 0)[0])
        problem = "is zero (or too near to it for float32), and cosine similarity to it is not defined"
        raise invalid(_row(field, at, rows), problem, "ZERO_VECTOR")
    return vectors


def _row(field: str, at: int, rows: int) -> str:
    return field if rows == 1 and not field.endswith("s") else f"{field}[{at}]"


def texts(values: Sequence[str], limits: Limits, field: str = "texts") -> list[str]:
    """Documents' texts within their limit."""
    for at, text in enumerate(values):
        size = _utf8_size(text, limits.max_text_bytes)
        if size > limits.max_text_bytes:
            raise _over(f"{field}[{at}]", f"has {size} bytes", "max_text_bytes", limits.max_text_bytes)
    return list(values)


def query_text(text: str, limits: Limits, field: str) -> str:
    """A question: not empty, not too long."""
    if not text.strip():
        raise invalid(field, "must not be empty")
    size = _utf8_size(text, limits.max_query_text_bytes)
    if size > limits.max_query_text_bytes:
        raise _over(field, f"has {size} bytes", "max_query_text_bytes", limits.max_query_text_bytes)
    return text


def _utf8_size(text: str, limit: int) -> int:
    # A code point has at most four bytes: most texts need no encoding to be known to fit.
    return len(text) if len(text) * 4 <= limit or text.isascii() else len(text.encode())


def payloads(values: Sequence[bytes], limits: Limits, field: str = "payloads") -> list[bytes]:
    """Payloads: msgpack maps within their limits. An empty one stands for the empty map."""
    checked = []
    for at, data in enumerate(values):
        payload(data, limits, f"{field}[{at}]")
        checked.append(data or b"\x80")
    return checked


def payload(data: bytes, limits: Limits, field: str) -> None:
    """One payload; nothing is returned, because it is kept byte for byte."""
    if not data or data == b"\x80":
        return
    if len(data) > limits.max_payload_bytes:
        raise _over(field, f"has {len(data)} bytes", "max_payload_bytes", limits.max_payload_bytes)
    try:
        found = msgpack.unpackb(data, timestamp=1, ext_hook=_no_extension, strict_map_key=False)
    except _Extension as extension:
        raise invalid(field, str(extension), "BAD_PAYLOAD") from None
    except Exception as error:
        # msgpack raises a handful of types for malformed bytes, UnicodeDecodeError and StackError among them.
        problem = f"is no msgpack: {error or type(error).__name__}"
        raise invalid(field, problem, "BAD_PAYLOAD") from None
    if not isinstance(found, dict):
        raise invalid(field, f"must be a msgpack map, not {type(found).__name__}", "BAD_PAYLOAD")
    _nesting(found, limits.max_payload_depth, field)


def remove_keys(values: Sequence[str], field: str = "remove_keys") -> tuple[str, ...]:
    """Top-level keys of payloads: not too many, none empty or too long."""
    if len(values) > _MAX_REMOVED:
        problem = f"has {len(values)} keys; the limit is {_MAX_REMOVED}"
        raise invalid(field, problem, "LIMIT_EXCEEDED")
    for at, key in enumerate(values):
        size = len(key.encode())
        if not 1 <= size <= _MAX_KEY_BYTES:
            problem = f"has {size} bytes; a key that is removed has 1 to {_MAX_KEY_BYTES}"
            raise invalid(f"{field}[{at}]", problem, "LIMIT_EXCEEDED")
    return tuple(values)


class _Extension(Exception):
    """Raised while unpacking."""


def _no_extension(code: int, data: bytes) -> Any:
    raise _Extension(f"has msgpack extension type {code}; only the timestamp (-1) is allowed")


def _nesting(value: Any, left: int, field: str) -> None:
    if left == 0:
        problem = "is nested too deeply; the limit is max_payload_depth"
        raise invalid(field, problem, "BAD_PAYLOAD", limit="max_payload_depth")
    if type(value) is dict:
        if not _STRINGS.issuperset(map(type, value)):
            key = next(key for key in value if type(key) is not str)
            raise invalid(field, f"has a key that is no string: {short(str(key))}", "BAD_PAYLOAD")
        value = value.values()
    # Most levels have nothing below them, which this tells without a step of Python for each value.
    if not _CONTAINERS.isdisjoint(map(type, value)):
        for inner in value:
            if type(inner) in _CONTAINERS:
                _nesting(inner, left - 1, field)


def versions(values: Sequence[int], count: int, field: str = "if_versions") -> list[int | None] | None:
    """Conditions; None where there is none at all."""
    if not column(values, count, field):
        return None
    for at, value in enumerate(values):
        if value < -1:
            raise invalid(f"{field}[{at}]", f"{value} is no version: it is 0 or more, or -1 for no condition")
    return [None if value == -1 else value for value in values]


def session(session_id: bytes, sequence: int) -> tuple[bytes, int]:
    """What makes a write safe to repeat."""
    if len(session_id) not in (0, 16):
        raise invalid("options.session_id", f"must be 16 bytes or empty, not {len(session_id)} bytes")
    if session_id and not 1 <= sequence < 2**63:
        raise invalid("options.sequence", "must be at least 1 where there is a session_id")
    return (session_id, sequence) if session_id else (b"", 0)


def between(value: float, low: float, high: float, field: str, limit: str = "", of: str = "") -> None:
    """A number within bounds. `limit` is the setting that bounds it, `of` what it is where not the field."""
    if not low <= value <= high:
        subject = f"{of} " if of else ""
        named = f" ({limit})" if limit else ""
        raise invalid(
            field,
            f"{subject}must be from {_shown(low)} to {_shown(high)}{named}, not {_shown(value)}",
            "LIMIT_EXCEEDED" if limit and value > high else "BAD_ARGUMENT",
            **({"limit": limit} if limit else {}),
        )


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def not_served(field: str, what: str) -> RequestError:
    """UNIMPLEMENTED for a part of the contract that this version does not serve."""
    message = f"{field}: {what} are part of the contract, but this version of the node does not serve them"
    return RequestError("UNIMPLEMENTED", "NOT_IMPLEMENTED", message, violations=[(field, message)])
