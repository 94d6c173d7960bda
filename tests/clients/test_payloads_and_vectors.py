from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vecdb_client import SparseVector
from vecdb_client import _payloads as payloads
from vecdb_client import _vectors as vectors

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(UTC))
)
trees = st.recursive(scalars, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(), t, max_size=3))


@given(st.dictionaries(st.text(), trees, max_size=5))
def test_payloads_come_back_as_they_went(payload: dict[str, Any]) -> None:
    """pack and unpack are inverse for everything a payload may hold, datetimes to the microsecond."""
    assert payloads.unpack(payloads.pack(payload)) == payload


def test_numpy_values_are_packed_as_numbers() -> None:
    """Scalars and arrays of numpy turn up in payloads; they go over as plain numbers and lists."""
    packed = payloads.pack({"a": np.int64(3), "b": np.float32(0.5), "c": np.arange(3), "d": np.bool_(True)})
    assert payloads.unpack(packed) == {"a": 3, "b": 0.5, "c": [0, 1, 2], "d": True}


def test_bytes_are_taken_as_packed_and_none_as_empty() -> None:
    """Bytes pass unchanged, None is the empty map, and no bytes at all read as empty."""
    assert payloads.pack_all([b"\x81\xa1a\x01", None, {}]) == [b"\x81\xa1a\x01", b"\x80", b"\x80"]
    assert payloads.unpack(b"") == {}
    assert payloads.pack(MappingProxyType({"a": 1})) == b"\x81\xa1a\x01"


@pytest.mark.parametrize(
    ("payload", "error", "says"),
    [
        ({"a": {1, 2}}, TypeError, "set"),
        ({"a": datetime(2024, 1, 1)}, ValueError, "time zone"),
        ([1], TypeError, "mapping"),
        ({"a": 1 << 64}, OverflowError, "64 bits"),
    ],
)
def test_what_msgpack_cannot_hold_is_refused(payload: Any, error: type[Exception], says: str) -> None:
    """A payload that cannot be stored raises where it is written."""
    with pytest.raises(error, match=says):
        payloads.pack(payload)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (msgpack.packb({1: "int key"}), {1: "int key"}),
        (msgpack.packb({"e": msgpack.ExtType(5, b"x")}), {"e": msgpack.ExtType(5, b"x")}),
        (msgpack.packb({"far": msgpack.Timestamp(1 << 40, 5)}), {"far": msgpack.Timestamp(1 << 40, 5)}),
        (b"\x81\xa1s\xa2\xff\xfe", {"s": "\udcff\udcfe"}),
    ],
)
def test_strange_payloads_of_others_stay_readable(raw: bytes, expected: dict[Any, Any]) -> None:
    """Int keys, extensions, moments beyond datetime and broken UTF-8 are shown, not raised about."""
    assert payloads.unpack(raw) == expected


def test_timestamps_are_aware() -> None:
    """A timestamp comes back in UTC, also before 1970."""
    moment = datetime(1969, 1, 1, tzinfo=UTC) + timedelta(microseconds=1)
    assert payloads.unpack(payloads.pack({"t": moment}))["t"] == moment


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i4", "u1", "i8"])
def test_any_real_dtype_becomes_little_endian_float32(dtype: str) -> None:
    """Whatever numpy holds, the wire gets row-major little-endian float32."""
    given_matrix = np.arange(6, dtype=dtype).reshape(2, 3)
    assert vectors.matrix(given_matrix).tobytes() == np.arange(6, dtype="<f4").tobytes()
    assert vectors.matrix(given_matrix.T).tobytes() == np.arange(6, dtype="<f4").reshape(2, 3).T.tobytes()


def test_a_float32_matrix_is_not_copied() -> None:
    """The usual matrix costs no copy before it is cut."""
    matrix = np.ones((4, 3), np.float32)
    assert np.shares_memory(vectors.matrix(matrix), matrix)


def test_a_float64_beyond_float32_is_left_to_the_server() -> None:
    """It becomes an infinity, which the server refuses by name; no warning comes first."""
    with np.errstate(all="raise"):
        assert np.isinf(vectors.matrix(np.array([[1e300]]))).all()


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ([1.0, 2.0], ValueError, r"\(2,\)"),
        (np.zeros((2, 2, 2)), ValueError, r"\(2, 2, 2\)"),
        (np.zeros((2, 0)), ValueError, "no dimensions"),
        ([["a", "b"]], TypeError, "real numbers"),
        (np.zeros((1, 2), complex), TypeError, "complex"),
        (np.array([[True, False]]), TypeError, "bool"),
        ([[1.0, 2.0], [3.0]], ValueError, "inhomogeneous"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(values: Any, error: type[Exception], says: str) -> None:
    """Wrong shapes are ValueErrors and wrong types TypeErrors, both naming what was given."""
    with pytest.raises(error, match=says):
        vectors.matrix(values)


@pytest.mark.parametrize(
    ("values", "says"), [([[1.0, 2.0]], "search_batch"), ([], "dim"), (3.0, "one number")]
)
def test_one_vector_has_one_axis(values: Any, says: str) -> None:
    """A query of another shape is a ValueError; a matrix is pointed to search_batch."""
    with pytest.raises(ValueError, match=says):
        vectors.row(values)


def test_vectors_come_back_read_only() -> None:
    """A vector out of an answer is a view of it, and cannot be changed by accident."""
    vector = vectors.from_bytes(vectors.row([1, 2, 3]))
    assert vector.tolist() == [1, 2, 3]
    assert vector.dtype == np.float32
    assert not vector.flags.writeable


@given(st.dictionaries(st.integers(0, (1 << 32) - 1), st.floats(width=32, allow_nan=False), max_size=8))
def test_sparse_vectors_come_back_as_they_went(places: dict[int, float]) -> None:
    """{index: value} goes over in ascending order and comes back the same."""
    assert vectors.sparse_from(vectors.sparse_message(places)) == SparseVector.of(places)
    assert dict(zip(SparseVector.of(places).indices, SparseVector.of(places).values, strict=True)) == places


@pytest.mark.parametrize(
    ("indices", "values", "says"),
    [
        ((1, 2), (1.0,), "2 indices but 1"),
        ((2, 1), (1.0, 1.0), "ascending"),
        ((1, 1), (1.0, 1.0), "ascending"),
        ((-1,), (1.0,), "32 bits"),
        ((1 << 32,), (1.0,), "32 bits"),
    ],
)
def test_sparse_vectors_are_checked(indices: tuple[int, ...], values: tuple[float, ...], says: str) -> None:
    """Indices are ascending, unique, 32-bit, and as many as values."""
    with pytest.raises(ValueError, match=says):
        SparseVector(indices, values)


def test_a_list_is_no_sparse_vector() -> None:
    """A dense list where a sparse vector belongs is a TypeError."""
    with pytest.raises(TypeError, match="sparse vector"):
        SparseVector.of([1.0])  # type: ignore[arg-type]
