"""Documents as the server has them: thin views of a reply.

A field is decoded when it is looked at, so that an answer costs what its
caller uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from vecdb_proto.v1 import common_pb2

from vecdb_client import _payloads, _vectors
from vecdb_client._vectors import FloatArray, SparseVector

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(milliseconds: int) -> datetime | None:
    """The moment (UTC) so many milliseconds after the Unix epoch; None for 0, which stands for none."""
    return _EPOCH + timedelta(milliseconds=milliseconds) if milliseconds else None


@dataclass(frozen=True, slots=True)
class Source:
    """What a document was cut from.

    `start` and `end` are offsets into the source's text in Unicode code
    points; `ordinal` counts the passages of a source from 0; `page` counts
    from 1 and is 0 where there are none.
    """

    uri: str
    title: str
    start: int
    end: int
    ordinal: int
    section: str
    page: int
    content_hash: str

    @classmethod
    def of(cls, message: common_pb2.Source) -> Source:
        """The source that the message describes."""
        return cls(
            message.uri,
            message.title,
            message.start,
            message.end,
            message.ordinal,
            message.section,
            message.page,
            message.content_hash,
        )


class Row(Protocol):
    """The parts of a `vecdb.v1.Document` that a view reads."""

    @property
    def id(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def vector(self) -> bytes: ...
    @property
    def vectors(self) -> Mapping[str, bytes]: ...
    @property
    def sparse_vectors(self) -> Mapping[str, common_pb2.SparseVector]: ...
    @property
    def version(self) -> int: ...
    @property
    def author(self) -> str: ...
    @property
    def written_at_ms(self) -> int: ...
    @property
    def source(self) -> common_pb2.Source: ...


class StoredDocument:
    """A document as the server has it.

    `text` is empty and `payload` is {} where there is none or it was not asked
    for; `vector` is None then, else a read-only float32 array of shape (dim,).
    """

    __slots__ = ("_payload", "_row", "id")

    def __init__(self, row: Row) -> None:
        self.id: str = row.id
        self._row = row
        self._payload: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The document's text."""
        return self._row.text

    @property
    def payload(self) -> dict[str, Any]:
        """The payload, unpacked when first looked at."""
        if self._payload is None:
            self._payload = _payloads.unpack(self._row.payload)
        return self._payload

    @property
    def raw_payload(self) -> bytes:
        """The payload as it is stored: msgpack."""
        return self._row.payload

    @property
    def vector(self) -> FloatArray | None:
        """The default vector."""
        raw = self._row.vector
        return _vectors.from_bytes(raw) if raw else None

    @property
    def vectors(self) -> dict[str, FloatArray]:
        """The named dense vectors that were asked for."""
        return {name: _vectors.from_bytes(raw) for name, raw in self._row.vectors.items()}

    @property
    def sparse_vectors(self) -> dict[str, SparseVector]:
        """The sparse vectors that were asked for."""
        return {name: _vectors.sparse_from(raw) for name, raw in self._row.sparse_vectors.items()}

    @property
    def version(self) -> int:
        """The log index of the write that made it."""
        return self._row.version

    @property
    def author(self) -> str:
        """The principal who wrote it."""
        return self._row.author

    @property
    def written_at(self) -> datetime | None:
        """When the write was proposed, in UTC; None where the answer does not say (search_batch)."""
        return timestamp(self._row.written_at_ms)

    @property
    def source(self) -> Source | None:
        """What it was cut from; None where it was not ingested (or the answer does not say: search_batch)."""
        source = self._row.source
        return Source.of(source) if source.uri else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, text={self.text[:60]!r}, payload={self.payload!r})"
