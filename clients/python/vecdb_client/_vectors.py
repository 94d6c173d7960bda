"""Vectors: whatever numpy understands in, little-endian float32 bytes on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from vecdb_proto.v1 import common_pb2

FloatArray: TypeAlias = NDArray[np.float32]
_F32 = np.dtype("<f4")


def _as_f32(values: ArrayLike, what: str) -> FloatArray:
    array = np.asarray(values)
    if not array.ndim:
        raise ValueError(f"{what} must be an array, not one number")
    if array.dtype == _F32:
        return np.ascontiguousarray(array)
    if array.size and array.dtype.kind not in "fiu":
        raise TypeError(f"{what} must hold real numbers, not {array.dtype}")
    # A float64 beyond float32's range becomes an infinity, which the server
    # refuses by name (NOT_FINITE); numpy's warning would only come first.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=_F32)


def matrix(values: ArrayLike, what: str = "vectors") -> FloatArray:
    """The values as a contiguous (rows, dim) float32 matrix.

    Raises ValueError where they are not two-dimensional or have no columns,
    TypeError where they are no numbers.
    """
    array = _as_f32(values, what)
    if array.ndim != 2:
        raise ValueError(f"{what} must be a matrix (rows, dim), not an array of shape {array.shape}")
    if array.shape[0] and not array.shape[1]:
        raise ValueError(f"{what} have no dimensions: shape {array.shape}")
    return array


def row(values: ArrayLike, what: str = "vector") -> bytes:
    """One vector of shape (dim,) as bytes. Raises as `matrix` does."""
    array = _as_f32(values, what)
    if array.ndim != 1 or not array.size:
        hint = "; search_batch takes many" if array.ndim == 2 else ""
        raise ValueError(f"{what} must have shape (dim,), not {array.shape}{hint}")
    return array.tobytes()


def from_bytes(raw: bytes) -> FloatArray:
    """The vector that the bytes hold: (dim,), a read-only view of them."""
    return np.frombuffer(raw, dtype=_F32)


@dataclass(frozen=True, slots=True)
class SparseVector:
    """A vector given by its non-zero places: ascending unique indices, and as many finite values."""

    indices: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.indices) != len(self.values):
            raise ValueError(f"{len(self.indices)} indices but {len(self.values)} values")
        if any(b <= a for a, b in zip(self.indices, self.indices[1:], strict=False)):
            raise ValueError("the indices of a sparse vector must be ascending and unique")
        if self.indices and not (self.indices[0] >= 0 and self.indices[-1] < 1 << 32):
            raise ValueError("the indices of a sparse vector must fit 32 bits")

    @classmethod
    def of(cls, value: SparseVector | Mapping[int, float]) -> SparseVector:
        """The sparse vector itself, or the one that {index: value} describes."""
        if isinstance(value, SparseVector):
            return value
        if not isinstance(value, Mapping):
            raise TypeError(
                f"a sparse vector is a SparseVector or {{index: value}}, not {type(value).__name__}"
            )
        places = sorted(value)
        return cls(tuple(places), tuple(value[place] for place in places))


def sparse_message(value: SparseVector | Mapping[int, float]) -> common_pb2.SparseVector:
    """The sparse vector as it goes over the wire."""
    sparse = SparseVector.of(value)
    return common_pb2.SparseVector(
        indices=np.asarray(sparse.indices, dtype="<u4").tobytes(),
        values=np.asarray(sparse.values, dtype=_F32).tobytes(),
    )


def sparse_from(message: common_pb2.SparseVector) -> SparseVector:
    """The sparse vector that came over the wire."""
    indices = np.frombuffer(message.indices, dtype="<u4").tolist()
    return SparseVector(tuple(indices), tuple(from_bytes(message.values).tolist()))
