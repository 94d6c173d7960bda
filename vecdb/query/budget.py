"""How much an answer may hold: what is read for it is counted before the next of it is read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from vecdb_index import Row

from vecdb.query.errors import RequestError

T = TypeVar("T")

UNBOUNDED: Final = sys.maxsize
# Documents of one read. With the default limits the largest ones take 80 MB, and what a read costs beside its
# rows is far less than they do.
SLICE: Final = 256
# Names, numbers and lengths of a document in a message.
_OVERHEAD: Final = 48


def size_of(row: Row) -> int:
    """About how many bytes a document takes in a message, its payload uncut."""
    size = _OVERHEAD + len(row.id) + len(row.payload)
    if row.text:
        size += len(row.text) if row.text.isascii() else len(row.text.encode())
    if row.source:
        size += len(row.source)
    return size if row.vector is None else size + row.vector.nbytes


class Budget:
    """The bytes that an answer may still take."""

    __slots__ = ("_left", "_limit")

    def __init__(self, limit: int, parts: int = 1) -> None:
        """Of `parts` answers of `limit` bytes together."""
        self._limit = limit
        self._left = limit * parts

    def take(self, rows: Iterable[Row | None]) -> None:
        """Count documents in. RequestError RESOURCE_EXHAUSTED where they are too many bytes."""
        self._left -= sum(size_of(row) for row in rows if row is not None)
        if self._left < 0:
            raise RequestError(
                "RESOURCE_EXHAUSTED",
                "LIMIT_EXCEEDED",
                f"the answer is larger than max_message_bytes ({self._limit}); ask for fewer documents (a "
                "lower k), or project fewer parts of them",
                metadata={"limit": "max_message_bytes"},
            )


def sliced(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items, as many at a time as are read together."""
    for start in range(0, len(items), SLICE):
        yield items[start : start + SLICE]
