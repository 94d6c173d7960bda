"""Documents: written in batches, read by id, in id order, or counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from numpy.typing import ArrayLike
from vecdb_proto.v1 import common_pb2, documents_pb2

from vecdb_client import _documents, _payloads
from vecdb_client import _methods as methods
from vecdb_client._documents import Document, Payload, Sparse, checked_ids
from vecdb_client._errors import PartialWriteError, VecdbError, WriteFailure, status_code
from vecdb_client._filters import Condition, message_of
from vecdb_client._plans import Call, Core, Fanout, Pages, together
from vecdb_client._results import Page, WriteResult, page
from vecdb_client._views import StoredDocument

_WRITE_IDS = 10_000
# Documents come back with payloads of up to 64 KiB each: fewer at a time.
_GET_IDS = 1_000

Reply = documents_pb2.WriteResponse


def _same(reply: Reply) -> Reply:
    return reply


def _written(sizes: Sequence[int], total: int | None, outcomes: Sequence[Reply | VecdbError]) -> WriteResult:
    """The results of a write's requests as one: of `sizes` documents each, of `total` where that is known.

    Raises the error itself where nothing was written, PartialWriteError where
    some was.
    """
    count, start, positions = 0, 0, dict[int, int]()
    failures: list[WriteFailure] = []
    cause: VecdbError | None = None
    for outcome, size in zip(outcomes, sizes, strict=True):
        if isinstance(outcome, VecdbError):
            cause = cause or outcome
            failures += [
                WriteFailure(start + i, outcome.code, outcome.message, outcome.reason) for i in range(size)
            ]
        else:
            count += outcome.count
            for place in outcome.positions:
                positions[place.shard] = max(place.index, positions.get(place.shard, 0))
            failures += [
                WriteFailure(start + f.position, status_code(f.code), f.message, f.reason)
                for f in outcome.failures
            ]
        start += size
    if cause is not None and all(isinstance(outcome, VecdbError) for outcome in outcomes):
        raise cause
    if failures:
        not_sent = start if cause is not None and (total is None or start < total) else None
        raise PartialWriteError(positions, failures, count=count, not_sent=not_sent) from cause
    return WriteResult(count, positions)


def _write(
    requests: Iterator[tuple[int, Call[Reply]]], concurrency: int, total: int | None
) -> Fanout[Reply, WriteResult]:
    """A write of several requests, each with its number of documents; joined by input position."""
    sizes: list[int] = []

    def calls() -> Iterator[Call[Reply]]:
        for size, call in requests:
            sizes.append(size)
            yield call

    return Fanout(calls(), concurrency, lambda outcomes: _written(sizes, total, outcomes))


def upsert(
    core: Core,
    collection: str,
    documents: Iterable[Document | StoredDocument] | None = None,
    *,
    ids: Iterable[str] | None = None,
    vectors: ArrayLike | None = None,
    payloads: Iterable[Payload | None] | None = None,
    texts: Iterable[str | None] | None = None,
    if_versions: Iterable[int | None] | None = None,
    named_vectors: Mapping[str, ArrayLike] | None = None,
    sparse_vectors: Mapping[str, Iterable[Sparse | None]] | None = None,
    batch_documents: int = _documents.BATCH_DOCUMENTS,
    batch_bytes: int = _documents.BATCH_BYTES,
    concurrency: int | None = None,
    timeout: float | None = None,
) -> Fanout[Reply, WriteResult]:
    """Writes documents, replacing those with the same ids.

    Either `documents`, or columns of equal length: `ids`, `vectors` (rows x
    dim, any real dtype, sent as float32), `payloads`, `texts`. Vectors are
    left out where the collection's model embeds the texts. `if_versions` makes
    each write conditional: the version that the document must have, 0 where
    it must not exist, None for no condition.

    A large batch goes out as several requests of at most `batch_documents`
    and about `batch_bytes`, `concurrency` of them at once (the client's, where
    None); `timeout` is for each request. Documents in an iterator are read as
    they are sent, anything else is checked whole first. It is acknowledged
    once a quorum has it on disk and is visible to searches at once.

    Raises TypeError and ValueError before anything is sent where ids are not
    strings, lengths differ, or vectors are no matrix of numbers;
    PartialWriteError where some documents were written and others not;
    ConflictError where a condition did not hold; InvalidArgumentError,
    NotFoundError and the others where nothing was written.
    """
    if (documents is None) == (ids is None):
        raise TypeError("upsert takes either documents or ids (with vectors, texts, payloads)")
    if batch_documents < 1 or batch_bytes < 1:
        raise ValueError("batch_documents and batch_bytes must be at least 1")
    if documents is not None:
        if any(c is not None for c in (vectors, payloads, texts, if_versions, named_vectors, sparse_vectors)):
            raise TypeError("vectors, payloads, texts and if_versions are part of the documents")
        blocks = _documents.in_blocks(documents, batch_documents)
    else:
        assert ids is not None
        blocks = iter(
            [
                _documents.from_columns(
                    ids, vectors, texts, payloads, if_versions, named_vectors, sparse_vectors
                )
            ]
        )
    # The first block is made here, so that its errors come before any request.
    first = next(blocks, None)
    every = blocks if first is None else chain([first], blocks)
    whole = first is not None and (ids is not None or isinstance(documents, Sequence))

    def requests() -> Iterator[tuple[int, Call[Reply]]]:
        for columns in every:
            for start, end in columns.cuts(batch_documents, batch_bytes):
                request = columns.request(collection, start, end, core.writes.options())
                yield end - start, Call(methods.UPSERT, request, _same, timeout)

    return _write(
        requests(), concurrency or core.concurrency, len(first) if first is not None and whole else None
    )


def update(
    core: Core,
    collection: str,
    ids: Iterable[str] | None = None,
    payload: Payload | None = None,
    *,
    filter: Condition | None = None,  # noqa: A002
    remove_keys: Iterable[str] = (),
    replace: bool = False,
    if_versions: Iterable[int | None] | None = None,
    timeout: float | None = None,
) -> Fanout[Reply, WriteResult]:
    """Changes the payload of documents, by ids or by a filter; vectors and texts stay.

    The top-level keys of `payload` are set, `remove_keys` are removed; with
    `replace` the payload takes the place of the old one altogether.

    Raises PartialWriteError where some ids were not written (NOT_FOUND where
    they do not exist), NotFoundError, InvalidArgumentError, ConflictError.
    """
    if (ids is None) == (filter is None):
        raise TypeError("update takes either ids or a filter")
    if isinstance(remove_keys, str):
        raise TypeError("remove_keys must be a list of keys, not one string")
    packed = _payloads.pack(payload) if payload is not None or replace else b""
    keys = list(remove_keys)

    def request(**which: Any) -> documents_pb2.UpdateRequest:
        return documents_pb2.UpdateRequest(
            collection=collection,
            payload=packed,
            remove_keys=keys,
            replace=replace,
            options=core.writes.options(),
            **which,
        )

    return _by_ids_or_filter(
        core, methods.UPDATE, request, ids, {"filter": message_of(filter)}, if_versions, timeout
    )


def delete(
    core: Core,
    collection: str,
    ids: Iterable[str] | None = None,
    *,
    filter: Condition | None = None,  # noqa: A002
    source: str | None = None,
    if_versions: Iterable[int | None] | None = None,
    timeout: float | None = None,
) -> Fanout[Reply, WriteResult]:
    """Deletes documents: by ids, by a filter, or everything cut from a source (its uri).

    `count` of the result is how many were there. Ids that do not exist are no
    error. A document that changes while a filter is being settled is left
    alone. Raises NotFoundError, InvalidArgumentError, ConflictError,
    PartialWriteError.
    """
    if sum(way is not None for way in (ids, filter, source)) != 1:
        raise TypeError("delete takes exactly one of ids, filter and source")
    if source == "":
        raise ValueError("a source's uri cannot be empty")

    def request(**which: Any) -> documents_pb2.DeleteRequest:
        return documents_pb2.DeleteRequest(collection=collection, options=core.writes.options(), **which)

    other = {"source": source} if source is not None else {"filter": message_of(filter)}
    return _by_ids_or_filter(core, methods.DELETE, request, ids, other, if_versions, timeout)


def _by_ids_or_filter(
    core: Core,
    method: methods.Method,
    request: Callable[..., Any],
    ids: Iterable[str] | None,
    other: Mapping[str, Any],
    if_versions: Iterable[int | None] | None,
    timeout: float | None,
) -> Fanout[Reply, WriteResult]:
    if ids is None:
        if if_versions is not None:
            raise TypeError("if_versions goes with ids")
        # How many documents it names only the server knows.
        return _write(iter([(1, Call(method, request(**other), _same, timeout))]), 1, 1)
    names = checked_ids(ids)
    versions = _documents.versions_column(if_versions, len(names))

    def requests() -> Iterator[tuple[int, Call[Reply]]]:
        for start in range(0, len(names), _WRITE_IDS):
            part = names[start : start + _WRITE_IDS]
            conditions = versions[start : start + _WRITE_IDS] if versions is not None else None
            yield len(part), Call(method, request(ids=part, if_versions=conditions), _same, timeout)

    return _write(requests(), core.concurrency, len(names))


def projection(
    with_payload: bool,
    with_text: bool,
    with_vector: bool,
    payload_fields: Iterable[str],
    vector_names: Iterable[str],
) -> common_pb2.Projection | None:
    """Which parts of a document to ask for; None where the server's default (payload and text) is meant."""
    if isinstance(payload_fields, str) or isinstance(vector_names, str):
        raise TypeError("payload_fields and vector_names must be lists of names, not one string")
    if with_payload and with_text and not with_vector and not payload_fields and not vector_names:
        return None
    return common_pb2.Projection(
        payload=with_payload,
        text=with_text,
        vector=with_vector,
        payload_fields=payload_fields,
        vector_names=vector_names,
    )


def _stored(reply: documents_pb2.GetResponse) -> list[StoredDocument]:
    return [StoredDocument(document) for document in reply.documents]


def get(
    core: Core,
    collection: str,
    ids: Iterable[str],
    *,
    with_payload: bool = True,
    with_text: bool = True,
    with_vector: bool = False,
    payload_fields: Iterable[str] = (),
    vector_names: Iterable[str] = (),
    consistency: str | None = None,
    timeout: float | None = None,
) -> Fanout[list[StoredDocument], list[StoredDocument]]:
    """Documents by id, in the order asked; missing ones are left out.

    Raises TypeError for ids that are not strings, ValueError for one that is
    there twice, NotFoundError for an unknown collection.
    """
    names = checked_ids(ids)
    parts = projection(with_payload, with_text, with_vector, payload_fields, vector_names)

    def calls() -> Iterator[Call[list[StoredDocument]]]:
        for start in range(0, len(names), _GET_IDS):
            request = documents_pb2.GetRequest(
                collection=collection,
                ids=names[start : start + _GET_IDS],
                projection=parts,
                read=core.read(consistency),
            )
            yield Call(methods.GET, request, _stored, timeout)

    return Fanout(calls(), core.concurrency, lambda outcomes: list(chain.from_iterable(together(outcomes))))


def scroll(
    core: Core,
    collection: str,
    *,
    filter: Condition | None = None,  # noqa: A002
    limit: int | None = None,
    page_size: int = 1_000,
    with_payload: bool = True,
    with_text: bool = True,
    with_vector: bool = False,
    payload_fields: Iterable[str] = (),
    vector_names: Iterable[str] = (),
    consistency: str | None = None,
    require_all: bool = True,
    timeout: float | None = None,
) -> Pages[Page, StoredDocument]:
    """Documents in id order (by UTF-8 bytes), at most `limit` of them, fetched page by page.

    By default every shard must answer (UnavailableError otherwise): a listing
    with holes looks like a listing. `timeout` is for each page.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is at least 0, not {limit}")
    if not 1 <= page_size <= 10_000:
        raise ValueError(f"page_size is 1 to 10,000, not {page_size}")
    condition = message_of(filter)
    parts = projection(with_payload, with_text, with_vector, payload_fields, vector_names)
    left = limit

    def call(cursor: bytes) -> Call[Page]:
        request = documents_pb2.ScrollRequest(
            collection=collection,
            filter=condition,
            limit=page_size if left is None else min(page_size, left),
            cursor=cursor,
            projection=parts,
            read=core.read(consistency, require_all),
        )
        return Call(methods.SCROLL, request, page, timeout)

    def split(answer: Page) -> tuple[Sequence[StoredDocument], Call[Page] | None]:
        nonlocal left
        items = answer.documents if left is None else answer.documents[:left]
        if left is not None:
            left -= len(items)
        return items, call(answer.cursor) if answer.cursor and left != 0 else None

    return Pages(call(b"") if limit != 0 else None, split)


def _count(reply: documents_pb2.CountResponse) -> int:
    return reply.count


def count(
    core: Core,
    collection: str,
    *,
    filter: Condition | None = None,  # noqa: A002
    consistency: str | None = None,
    require_all: bool = True,
    timeout: float | None = None,
) -> Call[int]:
    """How many documents there are, or match.

    By default every shard must answer (UnavailableError otherwise): a number
    cannot say that it is partial.
    """
    request = documents_pb2.CountRequest(
        collection=collection, filter=message_of(filter), read=core.read(consistency, require_all)
    )
    return Call(methods.COUNT, request, _count, timeout)
