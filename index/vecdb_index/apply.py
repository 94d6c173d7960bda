"""Evaluating log entries against a shard: what DESIGN calls apply, inside one SQLite transaction.

Everything decided here depends on the entries and the documents alone: no clock, no layout, no
configuration, and no float beyond "is it finite". What a mutation gets wrong is a Failure in its result,
equal on every replica, and never an exception; exceptions mean that this replica cannot go on
(UnknownMutation) or could not write (StorageFailed), and leave the shard as it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgpack
import numpy as np

from vecdb_index import filters
from vecdb_index.errors import MutationError
from vecdb_index.files import checksum
from vecdb_index.filters import FieldIndexes
from vecdb_index.hashing import MultisetHash, document_digest
from vecdb_index.knn import F32, I64, as_bytes
from vecdb_index.mutations import AlterFields, Delete, Mutation, Update, Upsert, decode
from vecdb_index.results import ApplyResult, Failure
from vecdb_index.retries import Retries
from vecdb_index.schema import Schema
from vecdb_index.store import put

MAX_ID_BYTES: Final = 512
# What an update may make of a payload. Part of what entries mean, so it is the same on every replica,
# whatever that is configured to take of one request.
MAX_PAYLOAD_BYTES: Final = 1 << 20
# SQLite takes at most 1,000,000,000 bytes in a row: what an entry writes is refused well before, by the same
# rule on every replica, for an error of SQLite's would stop them all.
MAX_VECTOR_BYTES: Final = 1 << 29  # of one mutation
MAX_DOCUMENT_BYTES: Final = 1 << 29  # of one document beside its vector
DOCNO_LIMIT: Final = 2**32  # pyroaring's

_EMPTY_PAYLOAD: Final = b"\x80"
_LOOKUP: Final = 500  # ids a statement


class VectorSource(Protocol):
    """Finds raw vectors of documents that are published."""

    def __call__(self, docnos: I64) -> F32:
        """The vectors (n, dim) of docnos that exist."""
        ...


@dataclass(slots=True)
class Batch:
    """Rows that a transaction added: docnos from ``first`` on, raw vectors (n, dim)."""

    first: int
    vectors: F32

    @property
    def docnos(self) -> I64:
        """Their docnos."""
        return np.arange(self.first, self.first + len(self.vectors), dtype=np.int64)


@dataclass(slots=True)
class Effects:
    """What becomes visible when the transaction commits."""

    applied: int
    documents: int
    next_docno: int
    sessions: int
    content: MultisetHash
    schema: Schema
    batches: list[Batch] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Known:
    """What an existing document's row says."""

    docno: int
    version: int
    digest: bytes


class _Refused(Exception):
    """A mutation that changes nothing."""

    def __init__(self, *failures: Failure) -> None:
        self.failures = failures


class Applier:
    """Evaluates the entries of one transaction."""

    def __init__(
        self, connection: sqlite3.Connection, effects: Effects, indexes: FieldIndexes, vectors: VectorSource
    ) -> None:
        self._connection = connection
        self._effects = effects
        self._indexes = indexes
        self._published = vectors
        self._retries = Retries(connection, effects.sessions)

    def apply(self, entries: Iterable[tuple[int, bytes]]) -> list[ApplyResult]:
        """Apply entries in order; indexes are strictly increasing and above the applied index."""
        return [self._entry(index, data) for index, data in entries]

    def finish(self) -> None:
        """Write what the transaction changed as a whole."""
        effects = self._effects
        effects.sessions = self._retries.count
        put(self._connection, "applied", effects.applied)
        put(self._connection, "documents", effects.documents)
        put(self._connection, "next_docno", effects.next_docno)
        put(self._connection, "content_hash", effects.content.digest())

    def _entry(self, index: int, data: bytes) -> ApplyResult:
        self._effects.applied = index
        self._retries.forget(index)
        try:
            mutation = decode(data)
        except MutationError as error:
            return ApplyResult(index, 0, (Failure(-1, "invalid", str(error)),))
        if mutation.session:
            before = self._retries.recall(mutation.session, mutation.sequence)
            if before is not None:
                return before
        result = self._evaluate(index, mutation)
        if mutation.session:
            self._retries.remember(mutation.session, mutation.sequence, result)
        return result

    def _evaluate(self, index: int, mutation: Mutation) -> ApplyResult:
        try:
            match mutation:
                case Upsert():
                    return ApplyResult(index, self._upsert(index, mutation))
                case Update():
                    return ApplyResult(index, *self._update(index, mutation))
                case Delete():
                    return ApplyResult(index, self._delete(mutation))
                case AlterFields():
                    self._alter(mutation)
                    return ApplyResult(index, 0)
        except _Refused as refused:
            return ApplyResult(index, 0, refused.failures)

    # --- kinds ---------------------------------------------------------------------------------------------

    def _upsert(self, index: int, mutation: Upsert) -> int:
        keys = _checked_ids(mutation.ids)
        self._check_room(len(keys))
        vectors = self._checked_vectors(mutation)
        payloads = mutation.payloads if mutation.payloads is not None else [_EMPTY_PAYLOAD] * len(keys)
        maps = _checked_payloads(payloads)
        texts = mutation.texts or [None] * len(keys)
        encoded = _checked_texts(texts)
        sources = mutation.sources or [None] * len(keys)
        author = len(mutation.author.encode(errors="replace"))
        for position, held in enumerate(zip(payloads, encoded, sources, strict=True)):
            _check_size(position, author, *held)
        known = self._lookup(mutation.ids)
        _check_versions(mutation.ids, mutation.if_versions, known)
        self._remove(list(known.values()))
        digests = [
            document_digest(key, index, vector.data, payload, text)
            for key, vector, payload, text in zip(keys, vectors, payloads, encoded, strict=True)
        ]
        self._insert(
            vectors,
            [
                (id_, index, mutation.author, mutation.written_at_ms, digest, source, payload, text)
                for id_, digest, source, payload, text in zip(
                    mutation.ids, digests, sources, payloads, texts, strict=True
                )
            ],
            maps,
        )
        return len(keys)

    def _update(self, index: int, mutation: Update) -> tuple[int, tuple[Failure, ...]]:
        keys = dict(zip(mutation.ids, _checked_ids(mutation.ids), strict=True))
        self._check_room(len(keys))
        (change,) = _checked_payloads([mutation.payload])
        known = self._lookup(mutation.ids)
        _check_versions(mutation.ids, mutation.if_versions, known)
        missing = tuple(
            Failure(position, "not_found", f"no document {id_!r}")
            for position, id_ in enumerate(mutation.ids)
            if id_ not in known
        )
        ids = [id_ for id_ in mutation.ids if id_ in known]
        if not ids:
            return 0, missing
        self._check_vector_bytes(len(ids))
        vectors = self._vectors([known[id_].docno for id_ in ids])
        places = {id_: position for position, id_ in enumerate(mutation.ids)}
        author = len(mutation.author.encode(errors="replace"))
        rows, maps = [], []
        for id_, vector in zip(ids, vectors, strict=True):
            source, payload, text = self._connection.execute(
                "SELECT source, payload, text FROM docs WHERE docno = ?", (known[id_].docno,)
            ).fetchone()
            allowed = max(MAX_PAYLOAD_BYTES, len(payload))
            payload, merged = _merged(payload, change, mutation)
            if len(payload) > allowed:
                message = f"the payload of {id_!r} would have {len(payload)} bytes; the limit is {allowed}"
                raise _Refused(Failure(places[id_], "invalid", message))
            encoded = None if text is None else text.encode()
            _check_size(places[id_], author, payload, encoded, source)
            digest = document_digest(keys[id_], index, vector.data, payload, encoded)
            rows.append((id_, index, mutation.author, mutation.written_at_ms, digest, source, payload, text))
            maps.append(merged)
        self._remove([known[id_] for id_ in ids])
        self._insert(vectors, rows, maps)
        return len(ids), missing

    def _delete(self, mutation: Delete) -> int:
        _checked_ids(mutation.ids)
        known = self._lookup(mutation.ids)
        _check_versions(mutation.ids, mutation.if_versions, known)
        self._remove(list(known.values()))
        return len(known)

    def _alter(self, mutation: AlterFields) -> None:
        schema = self._effects.schema
        names = {spec.name for spec in schema.fields}
        for name in mutation.drop:
            if name not in names:
                raise _Refused(Failure(-1, "invalid", f"field {name!r} is not declared"))
        try:
            altered = schema.altered(mutation.add, mutation.drop)
        except ValueError as error:
            raise _Refused(Failure(-1, "invalid", str(error))) from None
        if any(spec.name == filters.AUTHOR for spec in mutation.add):
            raise _Refused(Failure(-1, "invalid", f"{filters.AUTHOR} is declared when a shard is created"))
        for name in dict.fromkeys(mutation.drop):
            self._indexes.drop(self._connection, name)
        for spec in mutation.add:
            rows = self._connection.execute("SELECT docno, payload FROM docs")
            self._indexes.backfill(self._connection, spec, rows)
        self._effects.schema = altered
        put(self._connection, "schema", altered.pack())

    def _check_room(self, count: int) -> None:
        if self._effects.next_docno + count > DOCNO_LIMIT:
            raise _Refused(Failure(-1, "invalid", f"a shard takes at most {DOCNO_LIMIT} writes of documents"))

    def _check_vector_bytes(self, count: int) -> None:
        size = 4 * self._effects.schema.dim * count
        if size > MAX_VECTOR_BYTES:
            message = f"{count} vectors have {size} bytes; one mutation writes at most {MAX_VECTOR_BYTES}"
            raise _Refused(Failure(-1, "invalid", message))

    # --- rows ----------------------------------------------------------------------------------------------

    def _lookup(self, ids: Sequence[str]) -> dict[str, _Known]:
        known: dict[str, _Known] = {}
        for start in range(0, len(ids), _LOOKUP):
            some = ids[start : start + _LOOKUP]
            marks = ",".join("?" * len(some))
            found = self._connection.execute(
                f"SELECT id, docno, version, digest FROM docs WHERE id IN ({marks})", some
            )
            known.update((id_, _Known(docno, version, digest)) for id_, docno, version, digest in found)
        return known

    def _vectors(self, docnos: list[int]) -> F32:
        """Raw vectors of documents, those of this transaction included."""
        wanted = np.array(docnos, dtype=np.int64)
        vectors = np.empty((len(docnos), self._effects.schema.dim), dtype=np.float32)
        fresh = np.zeros(len(docnos), dtype=bool)
        for batch in self._effects.batches:
            at = wanted - batch.first
            here = (at >= 0) & (at < len(batch.vectors))
            vectors[here] = batch.vectors[at[here]]
            fresh |= here
        if not fresh.all():
            vectors[~fresh] = self._published(wanted[~fresh])
        return vectors

    def _remove(self, known: list[_Known]) -> None:
        if not known:
            return
        docnos = [(item.docno,) for item in known]
        self._connection.executemany("DELETE FROM docs WHERE docno = ?", docnos)
        self._connection.executemany("INSERT INTO dead VALUES (?)", docnos)
        for item in known:
            self._effects.content.subtract(item.digest)
        gone = [item.docno for item in known]
        self._indexes.erase(self._connection, gone)
        self._effects.dead.extend(gone)
        self._effects.documents -= len(known)

    def _insert(self, vectors: F32, rows: list[tuple[Any, ...]], maps: list[dict[str, Any]]) -> None:
        effects = self._effects
        first = effects.next_docno
        effects.next_docno += len(rows)
        docnos = range(first, effects.next_docno)
        self._connection.executemany(
            "INSERT INTO docs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(docno, *row) for docno, row in zip(docnos, rows, strict=True)],
        )
        data = as_bytes(vectors)
        self._connection.execute(
            "INSERT INTO growing VALUES (?, ?, ?, ?)", (first, len(rows), checksum(data), data)
        )
        for row in rows:
            effects.content.add(row[4])
        self._indexes.write(self._connection, docnos, maps, [row[2] for row in rows])
        effects.batches.append(Batch(first, vectors))
        effects.documents += len(rows)

    def _checked_vectors(self, mutation: Upsert) -> F32:
        dim, count = self._effects.schema.dim, len(mutation.ids)
        data = mutation.vectors
        assert isinstance(data, memoryview), "decode gives a view of the entry"
        if len(data) != 4 * dim * count:
            message = f"vectors have {len(data)} bytes, not {count} x {dim} x 4"
            raise _Refused(Failure(-1, "invalid", message))
        self._check_vector_bytes(count)
        vectors = np.frombuffer(data, dtype="<f4").reshape(count, dim)
        # A row with an infinity or a NaN has no finite sum; that of a finite row may overflow, so look again.
        with np.errstate(over="ignore", invalid="ignore"):
            suspects = np.flatnonzero(~np.isfinite(vectors.sum(axis=1)))
        for row in suspects.tolist():
            if not np.isfinite(vectors[row]).all():
                raise _Refused(Failure(row, "invalid", "a vector must be finite"))
        return vectors


def _checked_ids(ids: Sequence[str]) -> list[bytes]:
    keys: list[bytes] = []
    seen: set[str] = set()
    for position, id_ in enumerate(ids):
        try:
            key = id_.encode() if isinstance(id_, str) else b""
        except UnicodeEncodeError:
            key = b""
        if not 0 < len(key) <= MAX_ID_BYTES or b"\0" in key:
            message = f"an id is 1 to {MAX_ID_BYTES} bytes of UTF-8 without a zero"
            raise _Refused(Failure(position, "invalid", message))
        if id_ in seen:
            raise _Refused(Failure(position, "invalid", f"id {id_!r} comes twice"))
        seen.add(id_)
        keys.append(key)
    return keys


def _checked_payloads(payloads: Sequence[bytes]) -> list[dict[str, Any]]:
    maps: list[dict[str, Any]] = []
    for position, payload in enumerate(payloads):
        if payload == _EMPTY_PAYLOAD:
            maps.append({})
            continue
        try:
            maps.append(filters.decode_payload(payload))
        except (ValueError, TypeError) as error:
            raise _Refused(Failure(position, "invalid", f"the payload is no msgpack map: {error}")) from None
    return maps


def _checked_texts(texts: Sequence[str | None]) -> list[bytes | None]:
    encoded: list[bytes | None] = []
    for position, text in enumerate(texts):
        try:
            encoded.append(None if text is None else text.encode())
        except UnicodeEncodeError:
            raise _Refused(
                Failure(position, "invalid", "a text must be Unicode without surrogates")
            ) from None
    return encoded


def _check_size(position: int, author: int, payload: bytes, text: bytes | None, source: bytes | None) -> None:
    size = author + len(payload) + len(text or b"") + len(source or b"")
    if size > MAX_DOCUMENT_BYTES:
        message = f"a document has at most {MAX_DOCUMENT_BYTES} bytes beside its vector, not {size}"
        raise _Refused(Failure(position, "invalid", message))


def _check_versions(
    ids: Sequence[str], versions: Sequence[int | None] | None, known: dict[str, _Known]
) -> None:
    """All conditions hold, or nothing of the mutation is applied."""
    if versions is None:
        return
    failures = []
    for position, (id_, wanted) in enumerate(zip(ids, versions, strict=True)):
        there = known[id_].version if id_ in known else 0
        if wanted is not None and wanted != there:
            message = f"document {id_!r} has version {there}, not {wanted}"
            failures.append(Failure(position, "aborted", message))
    if failures:
        raise _Refused(*failures)


def _merged(old: bytes, change: dict[str, Any], mutation: Update) -> tuple[bytes, dict[str, Any]]:
    """A document's new payload, packed and decoded.

    Timestamps stay msgpack.Timestamp on the way, so that no nanosecond is lost.
    """
    merged = dict(change) if mutation.replace else {**filters.decode_payload(old), **change}
    for key in mutation.remove_keys:
        merged.pop(key, None)
    return msgpack.packb(merged), merged
