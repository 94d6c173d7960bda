"""Documents on their way in: checked, turned into columns, cut into requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from vecdb_proto.v1 import common_pb2, documents_pb2

from vecdb_client import _payloads, _vectors
from vecdb_client._vectors import FloatArray, SparseVector
from vecdb_client._views import StoredDocument

# A request stays well below the server's 64 MiB message limit, and a log entry
# of this size still replicates without a hiccup.
BATCH_DOCUMENTS = 10_000
BATCH_BYTES = 8 << 20

Payload: TypeAlias = "Mapping[str, Any] | bytes"
Sparse: TypeAlias = "SparseVector | Mapping[int, float]"


@dataclass(frozen=True, slots=True)
class Document:
    """A document to write.

    `vector` has shape (dim,) and may be left out where the collection has a
    model, which then embeds `text`. `payload` is a mapping with string keys
    (or msgpack bytes, kept as they are). `if_version` makes the write
    conditional: the version that the document must have, 0 where it must not
    exist.
    """

    id: str
    text: str | None = None
    payload: Payload | None = None
    vector: ArrayLike | None = None
    vectors: Mapping[str, ArrayLike] = field(default_factory=dict)
    sparse_vectors: Mapping[str, Sparse] = field(default_factory=dict)
    if_version: int | None = None


def checked_ids(ids: Iterable[str]) -> list[str]:
    """The ids as a list. Raises TypeError for anything but strings, ValueError where two are alike."""
    if isinstance(ids, str | bytes):
        raise TypeError("ids must be a list of strings, not one string")
    listed: list[str] = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    for kind in set(map(type, listed)):
        if not issubclass(kind, str):
            raise TypeError(f"ids must be strings, not {kind.__name__}: use str(id)")
    if len(set(listed)) != len(listed):
        seen: set[str] = set()
        twice = next(i for i in listed if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise ValueError(f"the id {twice!r} is there twice")
    return listed


def _column(values: Iterable[Any] | None, rows: int, what: str) -> list[Any] | None:
    if values is None:
        return None
    if isinstance(values, str | bytes | Mapping):
        raise TypeError(f"{what} must be a list with one entry a document, not {type(values).__name__}")
    listed = list(values)
    if len(listed) != rows:
        raise ValueError(f"{rows} ids but {len(listed)} {what}")
    return listed


def versions_column(values: Iterable[int | None] | None, rows: int) -> list[int] | None:
    """The `if_versions` of a request: -1 stands for no condition. None where there is none at all.

    Raises ValueError for a wrong length or a negative version, TypeError for
    what is no int.
    """
    listed = _column(values, rows, "if_versions")
    if listed is None or all(version is None for version in listed):
        return None
    for version in listed:
        if version is not None and (isinstance(version, bool) or not isinstance(version, int | np.integer)):
            raise TypeError(f"a version is an int, not {type(version).__name__}")
        if version is not None and version < 0:
            raise ValueError(f"a version is at least 0, not {version}")
    return [-1 if version is None else int(version) for version in listed]


def _texts_column(values: Iterable[str | None] | None, rows: int) -> list[str] | None:
    listed = _column(values, rows, "texts")
    if listed is None:
        return None
    for kind in set(map(type, listed)):
        if kind is not type(None) and not issubclass(kind, str):
            raise TypeError(f"a text is a string, not {kind.__name__}")
    texts = [text or "" for text in listed]
    return texts if any(texts) else None


@dataclass(frozen=True, slots=True)
class Columns:
    """Documents as the wire wants them: one row each, a column left out where no document has it.

    A named vector or sparse vector column maps a row to its value, since not
    every document needs to have one.
    """

    ids: list[str]
    vectors: FloatArray | None
    texts: list[str] | None
    payloads: list[bytes] | None
    if_versions: list[int] | None
    named: Mapping[str, tuple[list[int], FloatArray]]
    sparse: Mapping[str, tuple[list[int], list[common_pb2.SparseVector]]]

    def __len__(self) -> int:
        return len(self.ids)

    def cuts(self, documents: int, limit: int) -> Iterator[tuple[int, int]]:
        """The rows of each request: [start, end), within so many documents and about so many bytes.

        A document larger than that goes alone: the server names the limit it
        breaks, if any.
        """
        total = len(self)
        ends = np.fromiter(accumulate(self._sizes()), dtype=np.int64, count=total)
        start = 0
        while start < total:
            before = int(ends[start - 1]) if start else 0
            fit = int(np.searchsorted(ends, before + limit, side="right"))
            end = max(start + 1, min(fit, start + documents))
            yield start, end
            start = end

    def _sizes(self) -> Iterator[int]:
        width = 8 + (4 * self.vectors.shape[1] if self.vectors is not None else 0)
        width += sum(4 * matrix.shape[1] for _, matrix in self.named.values())
        sizes: Iterator[int] = (width + len(i) for i in self.ids)
        if self.payloads is not None:
            sizes = map(int.__add__, sizes, map(len, self.payloads))
        if self.texts is not None:
            sizes = map(int.__add__, sizes, (len(t) if t.isascii() else len(t.encode()) for t in self.texts))
        return sizes

    def request(self, collection: str, start: int, end: int, options: Any) -> documents_pb2.UpsertRequest:
        """The request for the rows [start, end)."""
        request = documents_pb2.UpsertRequest(collection=collection, ids=self.ids[start:end], options=options)
        if self.vectors is not None:
            request.vectors = self.vectors[start:end].tobytes()
        if self.texts is not None:
            request.texts.extend(self.texts[start:end])
        if self.payloads is not None:
            request.payloads.extend(self.payloads[start:end])
        if self.if_versions is not None:
            request.if_versions.extend(self.if_versions[start:end])
        for name, (rows, matrix) in self.named.items():
            low, high = np.searchsorted(rows, (start, end)).tolist()
            if low < high:
                places = [row - start for row in rows[low:high]] if high - low < end - start else []
                data = matrix[low:high].tobytes()
                request.named_vectors.add(name=name, positions=places, data=data)
        for name, (rows, vectors) in self.sparse.items():
            low, high = np.searchsorted(rows, (start, end)).tolist()
            if low < high:
                places = [row - start for row in rows[low:high]] if high - low < end - start else []
                request.sparse_vectors.add(name=name, positions=places, vectors=vectors[low:high])
        return request


def from_columns(
    ids: Iterable[str],
    vectors: ArrayLike | None,
    texts: Iterable[str | None] | None,
    payloads: Iterable[Payload | None] | None,
    if_versions: Iterable[int | None] | None,
    named_vectors: Mapping[str, ArrayLike] | None,
    sparse_vectors: Mapping[str, Iterable[Sparse | None]] | None,
) -> Columns:
    """The columns that the caller handed in, checked. Raises as `Client.upsert` says."""
    names = checked_ids(ids)
    rows = len(names)
    payload_list = _column(payloads, rows, "payloads")
    named: dict[str, tuple[list[int], FloatArray]] = {}
    for name, values in (named_vectors or {}).items():
        named[name] = (list(range(rows)), _rows_of(values, rows, f"vectors {name!r}"))
    sparse: dict[str, tuple[list[int], list[common_pb2.SparseVector]]] = {}
    for name, given in (sparse_vectors or {}).items():
        column = _column(given, rows, f"sparse vectors {name!r}") or []
        places = [row for row, value in enumerate(column) if value is not None]
        sparse[name] = (places, [_vectors.sparse_message(column[row]) for row in places])
    return Columns(
        ids=names,
        vectors=None if vectors is None else _rows_of(vectors, rows, "vectors"),
        texts=_texts_column(texts, rows),
        payloads=None if payload_list is None else _payloads.pack_all(payload_list),
        if_versions=versions_column(if_versions, rows),
        named=named,
        sparse=sparse,
    )


def _rows_of(values: ArrayLike, rows: int, what: str) -> FloatArray:
    if not rows and np.size(values) == 0:
        return np.empty((0, 1), dtype=np.float32)
    matrix = _vectors.matrix(values, what)
    if len(matrix) != rows:
        raise ValueError(f"{rows} ids but {len(matrix)} {what}")
    return matrix


def from_documents(documents: Sequence[Document | StoredDocument]) -> Columns:
    """The documents as columns, checked.

    Raises TypeError for what is no document, ValueError where only some have a
    default vector or vectors differ in length.
    """
    for document in documents:
        if not isinstance(document, Document | StoredDocument):
            raise TypeError(f"a Document is wanted, not {type(document).__name__}")
    vectors = [document.vector for document in documents]
    given = [vector for vector in vectors if vector is not None]
    if given and len(given) != len(vectors):
        bare = next(d.id for d in documents if d.vector is None)
        raise ValueError(f"some documents have a vector and others none ({bare!r}): write them in two calls")
    payloads = [d.raw_payload if isinstance(d, StoredDocument) else d.payload for d in documents]
    return Columns(
        ids=checked_ids([document.id for document in documents]),
        vectors=_stacked(given, "vectors") if given else None,
        texts=_texts_column([document.text for document in documents], len(documents)),
        payloads=_payloads.pack_all(payloads) if any(p for p in payloads) else None,
        if_versions=versions_column([getattr(d, "if_version", None) for d in documents], len(documents)),
        named=_named(documents),
        sparse=_sparse(documents),
    )


def _stacked(vectors: Sequence[ArrayLike], what: str) -> FloatArray:
    try:
        return _vectors.matrix(np.stack([np.asarray(vector) for vector in vectors]), what)
    except ValueError as error:
        lengths = sorted({np.size(vector) for vector in vectors})
        raise ValueError(f"{what} must all have the same shape (dim,); lengths here: {lengths}") from error


def _named(documents: Sequence[Document | StoredDocument]) -> dict[str, tuple[list[int], FloatArray]]:
    collected: dict[str, tuple[list[int], list[ArrayLike]]] = {}
    for row, document in enumerate(documents):
        for name, vector in document.vectors.items():
            rows, vectors = collected.setdefault(name, ([], []))
            rows.append(row)
            vectors.append(vector)
    return {name: (rows, _stacked(given, f"vectors {name!r}")) for name, (rows, given) in collected.items()}


def _sparse(
    documents: Sequence[Document | StoredDocument],
) -> dict[str, tuple[list[int], list[common_pb2.SparseVector]]]:
    collected: dict[str, tuple[list[int], list[common_pb2.SparseVector]]] = {}
    for row, document in enumerate(documents):
        for name, vector in document.sparse_vectors.items():
            rows, vectors = collected.setdefault(name, ([], []))
            rows.append(row)
            vectors.append(_vectors.sparse_message(vector))
    return collected


def in_blocks(documents: Iterable[Document | StoredDocument], size: int) -> Iterator[Columns]:
    """The documents in blocks of columns.

    A sequence is checked whole before anything is sent; anything else is read
    as it goes. Raises ValueError for an id that is there twice, also across
    blocks: which of the two would win is not settled while requests overlap.
    """
    if isinstance(documents, Document | StoredDocument | Mapping | str):
        raise TypeError("documents must be a list of Documents")
    if isinstance(documents, Sequence):
        yield from_documents(documents)
        return
    seen: set[str] = set()
    source = iter(documents)
    while block := list(islice(source, size)):
        columns = from_documents(block)
        for name in columns.ids:
            if name in seen:
                raise ValueError(f"the id {name!r} is there twice")
        seen.update(columns.ids)
        yield columns
