"""Mutations: what the replicated log carries to a shard.

An encoded mutation is

    byte 0      format version (1)
    byte 1      kind
    bytes 2-3   zero
    bytes 4-7   length of the header, little-endian
    bytes 8-    the header, a msgpack array, then zeros up to a multiple of 64
    the rest    upserts only: the vectors, a row-major little-endian float32 matrix

so that a decoded matrix is a view of the log entry: aligned and not copied. Whoever changes a kind's header
in a way that older versions would misread takes a new kind or format version: they raise UnknownMutation
and the replica stops, rather than apply something else than its peers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgpack
import numpy as np
import numpy.typing as npt

from vecdb_index.errors import MutationError, UnknownMutation
from vecdb_index.filters import FieldSpec
from vecdb_index.knn import as_bytes
from vecdb_index.schema import pack_fields, unpack_fields

FORMAT_VERSION: Final = 1
_PREFIX: Final = 8
_ALIGN: Final = 64

Vectors: TypeAlias = npt.NDArray[np.float32] | bytes | memoryview


@dataclass(frozen=True, slots=True, eq=False)
class Upsert:
    """Write documents, replacing those with the same ids. All columns have one entry a document.

    Attributes:
        ids: 1 to 512 UTF-8 bytes each, no two alike.
        vectors: (n, dim) float32, or the bytes of that matrix, row-major, little-endian.
        payloads: msgpack maps; None for empty ones.
        texts: what was embedded, if anything.
        author: the authenticated principal.
        written_at_ms: milliseconds since 1970-01-01T00:00:00Z, settled before proposing.
        sources: opaque msgpack maps: what a document was cut from, with offsets.
        if_versions: the version a document must have (0: must not exist; None: whatever).
        session, sequence: what makes a retry apply once; an empty session opts out.
    """

    ids: Sequence[str]
    vectors: Vectors
    payloads: Sequence[bytes] | None = None
    texts: Sequence[str | None] | None = None
    author: str = ""
    written_at_ms: int = 0
    sources: Sequence[bytes | None] | None = None
    if_versions: Sequence[int | None] | None = None
    session: bytes = b""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Update:
    """Change the payloads of documents; vectors, texts and sources stay. Missing ids are failures.

    The top-level keys of ``payload`` (a msgpack map) are set in each document's payload, whole; a nil is a
    value like any other. ``remove_keys`` are then removed. With ``replace`` the payload takes the old one's
    place altogether. The document gets the writer's author and time, and a new version. Where a payload
    would grow beyond 1 MiB (MAX_PAYLOAD_BYTES), all of the update is refused.
    """

    ids: Sequence[str]
    payload: bytes = b"\x80"
    remove_keys: Sequence[str] = ()
    replace: bool = False
    author: str = ""
    written_at_ms: int = 0
    if_versions: Sequence[int | None] | None = None
    session: bytes = b""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete documents. Missing ids are no error unless their ``if_versions`` asks for a version."""

    ids: Sequence[str]
    if_versions: Sequence[int | None] | None = None
    session: bytes = b""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class AlterFields:
    """Drop declared fields, then declare others."""

    add: tuple[FieldSpec, ...] = ()
    drop: tuple[str, ...] = ()
    session: bytes = b""
    sequence: int = 0


Mutation: TypeAlias = Upsert | Update | Delete | AlterFields


def encode(mutation: Mutation) -> bytes:
    """The bytes of a mutation for the log. Checks types only: what it says is judged when applied.

    Raises TypeError or ValueError for columns that msgpack or numpy cannot take.
    """
    matrix: memoryview | bytes = b""
    match mutation:
        case Upsert():
            kind, matrix = 1, _matrix_bytes(mutation.vectors)
            header: list[Any] = [
                list(mutation.ids),
                _listed(mutation.payloads),
                _listed(mutation.texts),
                mutation.author,
                mutation.written_at_ms,
                _listed(mutation.sources),
                _listed(mutation.if_versions),
                mutation.session,
                mutation.sequence,
            ]
        case Update():
            kind = 2
            header = [
                list(mutation.ids),
                mutation.payload,
                list(mutation.remove_keys),
                mutation.replace,
                mutation.author,
                mutation.written_at_ms,
                _listed(mutation.if_versions),
                mutation.session,
                mutation.sequence,
            ]
        case Delete():
            kind = 3
            header = [
                list(mutation.ids),
                _listed(mutation.if_versions),
                mutation.session,
                mutation.sequence,
            ]
        case AlterFields():
            kind = 4
            header = [pack_fields(mutation.add), list(mutation.drop), mutation.session, mutation.sequence]
    packed: bytes = msgpack.packb(header)
    prefix = bytes((FORMAT_VERSION, kind, 0, 0)) + len(packed).to_bytes(4, "little")
    padding = bytes(-(_PREFIX + len(packed)) % _ALIGN) if len(matrix) else b""
    return b"".join((prefix, packed, padding, matrix))


def decode(data: bytes | memoryview) -> Mutation:
    """The mutation in a log entry; an upsert's ``vectors`` is a memoryview into ``data``.

    Raises UnknownMutation for a kind or format version of a newer vecdb, MutationError for malformed bytes.
    """
    view = memoryview(data).cast("B")
    if len(view) < _PREFIX:
        raise MutationError(f"a mutation has at least {_PREFIX} bytes, not {len(view)}")
    if view[0] != FORMAT_VERSION:
        raise UnknownMutation(f"mutation format version {view[0]}; this vecdb knows {FORMAT_VERSION}")
    build = _DECODERS.get(view[1])
    if build is None:
        raise UnknownMutation(f"mutation kind {view[1]}")
    end = _PREFIX + int.from_bytes(view[4:8], "little")
    if end > len(view):
        raise MutationError("the header runs past the end of the mutation")
    try:
        header = msgpack.unpackb(view[_PREFIX:end])
    except (ValueError, TypeError) as error:
        raise MutationError(f"the header is no msgpack: {error}") from None
    if not isinstance(header, list):
        raise MutationError("the header must be an array")
    try:
        return build(header, view[end + -end % _ALIGN :])
    except (ValueError, TypeError, IndexError) as error:
        raise MutationError(str(error)) from None


def _decode_upsert(header: list[Any], matrix: memoryview) -> Upsert:
    ids, payloads, texts, author, written, sources, versions, session, sequence = header
    _check_ids(ids)
    count = len(ids)
    _check_column("payloads", payloads, count, bytes)
    _check_column("texts", texts, count, str | None)
    _check_column("sources", sources, count, bytes | None)
    _check_column("if_versions", versions, count, int | None)
    _check_common(author, written)
    _check_session(session, sequence)
    return Upsert(ids, matrix, payloads, texts, author, written, sources, versions, session, sequence)


def _decode_update(header: list[Any], rest: memoryview) -> Update:
    ids, payload, remove, replace, author, written, versions, session, sequence = header
    _check_ids(ids)
    _check_column("remove_keys", remove, len(remove), str)
    _check_column("if_versions", versions, len(ids), int | None)
    if not isinstance(payload, bytes) or not isinstance(replace, bool):
        raise MutationError("payload must be bytes and replace a bool")
    _check_common(author, written)
    _check_session(session, sequence)
    return Update(ids, payload, remove, replace, author, written, versions, session, sequence)


def _decode_delete(header: list[Any], rest: memoryview) -> Delete:
    ids, versions, session, sequence = header
    _check_ids(ids)
    _check_column("if_versions", versions, len(ids), int | None)
    _check_session(session, sequence)
    return Delete(ids, versions, session, sequence)


def _decode_alter(header: list[Any], rest: memoryview) -> AlterFields:
    add, drop, session, sequence = header
    _check_column("drop", drop, len(drop), str)
    _check_session(session, sequence)
    return AlterFields(unpack_fields(add), tuple(drop), session, sequence)


_DECODERS: Final[dict[int, Callable[[list[Any], memoryview], Mutation]]] = {
    1: _decode_upsert,
    2: _decode_update,
    3: _decode_delete,
    4: _decode_alter,
}


def _check_ids(ids: Any) -> None:
    if not isinstance(ids, list) or not ids:
        raise MutationError("ids must be a non-empty list")


def _check_column(name: str, column: Any, count: int, kind: Any) -> None:
    if column is None and name != "drop" and name != "remove_keys":
        return
    if not isinstance(column, list) or len(column) != count:
        raise MutationError(f"{name} must have {count} entries")
    for value in column:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise MutationError(f"{name} must not have a {type(value).__name__}")
    if name == "if_versions" and any(value is not None and value < 0 for value in column):
        raise MutationError("if_versions must not be negative")


def _check_common(author: Any, written_at_ms: Any) -> None:
    if not isinstance(author, str):
        raise MutationError("author must be a string")
    _check_int64("written_at_ms", written_at_ms)


def _check_session(session: Any, sequence: Any) -> None:
    if not isinstance(session, bytes):
        raise MutationError("session must be bytes")
    _check_int64("sequence", sequence)


def _check_int64(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise MutationError(f"{name} must be a 64-bit integer")


def _listed(column: Sequence[Any] | None) -> list[Any] | None:
    return None if column is None else list(column)


def _matrix_bytes(vectors: Vectors) -> memoryview:
    if isinstance(vectors, np.ndarray):
        return as_bytes(np.ascontiguousarray(vectors, dtype="<f4")) if vectors.size else memoryview(b"")
    return memoryview(vectors).cast("B")
