"""Mutations on the wire: what goes in comes out, and nothing malformed gets through or crashes."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vecdb_index import (
    AlterFields,
    Delete,
    FieldSpec,
    FieldType,
    MutationError,
    UnknownMutation,
    Update,
    Upsert,
    decode,
    encode,
)

VECTORS = np.arange(6, dtype=np.float32).reshape(2, 3)


def upsert(**change: Any) -> Upsert:
    columns: dict[str, Any] = {
        "ids": ["a", "b"],
        "vectors": VECTORS,
        "payloads": [b"\x80", b"\x80"],
        "texts": ["t", None],
        "author": "ann",
        "written_at_ms": 12,
        "sources": [None, b"\x80"],
        "if_versions": [0, None],
        "session": b"s",
        "sequence": 3,
    }
    return Upsert(**{**columns, **change})


def test_upsert_round_trip() -> None:
    """Every column comes back, and the matrix is a view of the entry, aligned and not a copy."""
    data = encode(upsert())
    back = decode(data)
    assert isinstance(back, Upsert)
    for name in ("ids", "payloads", "texts", "author", "written_at_ms", "sources", "if_versions", "session"):
        assert getattr(back, name) == getattr(upsert(), name)
    assert back.sequence == 3
    assert isinstance(back.vectors, memoryview)
    assert back.vectors.obj is data
    assert bytes(back.vectors) == VECTORS.tobytes()
    assert (len(data) - len(back.vectors)) % 64 == 0


def test_matrix_may_be_bytes() -> None:
    """Vectors from the wire go in as they are; other float arrays are converted."""
    assert encode(upsert(vectors=VECTORS.tobytes())) == encode(upsert())
    assert encode(upsert(vectors=VECTORS.astype(np.float64))) == encode(upsert())
    assert encode(upsert(vectors=np.asfortranarray(VECTORS))) == encode(upsert())


@pytest.mark.parametrize(
    "mutation",
    [
        Update(["a"], b"\x80", ["k"], True, "ann", 5, [7], b"s", 1),
        Delete(["a", "b"], [None, 0], b"s", 2),
        AlterFields((FieldSpec("n", FieldType.INT),), ("m",), b"s", 3),
    ],
)
def test_round_trip(mutation: Any) -> None:
    """The other kinds come back equal."""
    assert decode(encode(mutation)) == mutation


@pytest.mark.parametrize(
    "bad",
    [
        {"ids": []},
        {"payloads": [b"\x80"]},
        {"payloads": ["text", b"\x80"]},
        {"texts": [1, None]},
        {"if_versions": [True, None]},
        {"if_versions": [-1, None]},
        {"author": 3},
        {"written_at_ms": 2**63},
        {"session": "s"},
        {"sequence": None},
    ],
)
def test_malformed_columns(bad: dict[str, Any]) -> None:
    """A column of the wrong length or type is malformed."""
    with pytest.raises(MutationError):
        decode(encode(upsert(**bad)))


def test_unknown_kinds_are_told_from_garbage() -> None:
    """What a newer vecdb may have written is unknown; the rest is malformed."""
    for unknown in (bytes((1, 5)) + bytes(6), bytes((0, 1)) + bytes(6)):
        with pytest.raises(UnknownMutation):
            decode(unknown)
    body = msgpack.packb({"not": "an array"})
    for garbage in (
        b"",
        b"\x01\x01",
        bytes((1, 1, 0, 0, 255, 0, 0, 0)),
        bytes((1, 3, 0, 0, len(body), 0, 0, 0)) + body,
    ):
        with pytest.raises(MutationError):
            decode(garbage)
    with pytest.raises(MutationError):
        decode(bytes((1, 3, 0, 0, 1, 0, 0, 0)) + b"\xc1")


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_fuzzed_entries(tail: bytes, place: int, value: int) -> None:
    """Whatever the bytes, decoding gives a mutation or one of its two errors."""
    flipped = bytearray(encode(upsert()))
    flipped[place % len(flipped)] = value
    for data in (
        bytes(flipped),
        bytes(flipped[:place]),
        b"\x01\x02\0\0" + tail,
        b"\x01\x04\0\0\x08\0\0\0" + tail,
        tail,
    ):
        try:
            decode(data)
        except (MutationError, UnknownMutation):
            continue
