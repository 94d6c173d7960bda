"""Codecs: vectors in fewer bytes, to find candidates by. What is found is compared again as it was written.

``f16`` halves the bytes; ``sq8`` keeps a byte a dimension, scaled to that dimension's range; ``rabitq`` keeps
a bit a dimension and two factors, of vectors that were rotated at random first, so that no dimension says
more than others (J. Gao, C. Long, "RaBitQ", SIGMOD 2024). The rotation is a randomized Hadamard transform: it
needs no matrix and takes a dimension to the next power of two.

A codec is trained when a segment is written and never changes: a segment that grows is coded anew. It is kept
as FAISS writes it, without rows; codes are a matrix (n, size) of bytes beside it, in the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vecdb_index.knn import F32, I64, Bits, Index, faiss, faiss_metric
from vecdb_index.schema import Metric, Storage

# Numbers are cut to these before they are coded: beyond them halves are infinite, and squares overflow. What
# is cut too much to be found again shows in calibration.
_LARGEST: Final = 1e15
_LARGEST_HALF: Final = 65_504.0
_TRAINING_ROWS: Final = 65_536
_ENCODED_ROWS: Final = 4096
_SEED: Final = 7


@dataclass(frozen=True, slots=True, eq=False)
class Codec:
    """A trained codec without rows.

    Attributes:
        whole: as FAISS reads and writes it; owns the others.
        inner: what holds codes: a flat index or one of lists, of the dimension after rotation.
        rotation: FAISS's transform of vectors before they are coded; None: none.
    """

    whole: Index
    inner: Index
    rotation: Any

    @classmethod
    def of(cls, whole: Index) -> Codec:
        """The parts of an index that FAISS made or read."""
        if isinstance(whole, faiss.IndexPreTransform):
            return cls(whole, faiss.downcast_index(whole.index), whole.chain.at(0))
        return cls(whole, whole, None)

    @classmethod
    def unpack(cls, data: bytes) -> Codec:
        """The inverse of ``pack``; RuntimeError when FAISS cannot read it."""
        return cls.of(faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8)))

    def pack(self) -> bytes:
        """The stored form of a codec that holds no rows."""
        packed: bytes = faiss.serialize_index(self.whole).tobytes()
        return packed

    @property
    def size(self) -> int:
        """Bytes a code."""
        return int(self.inner.code_size)

    @property
    def dim(self) -> int:
        """The dimension of what is coded."""
        return int(self.whole.d)

    def around(self, index: Index) -> Index:
        """``index``, which searches rotated vectors, as one that searches unrotated ones."""
        return index if self.rotation is None else faiss.IndexPreTransform(self.rotation, index)

    def train(self, vectors: F32) -> None:
        """Fit it to (some of the) vectors (n, dim) that it will code."""
        every = -(-len(vectors) // _TRAINING_ROWS)
        self.whole.train(_within(vectors[::every], self.inner))

    def encode(self, vectors: F32, lists: I64 | None = None) -> Bits:
        """Codes (n, size) of vectors (n, dim), which are in ``lists`` (n,) where there are lists."""
        codes = np.empty((len(vectors), self.size), dtype=np.uint8)
        pointer = faiss.swig_ptr
        for start in range(0, len(vectors), _ENCODED_ROWS):
            some = _within(vectors[start : start + _ENCODED_ROWS], self.inner)
            if self.rotation is not None:
                some = self.rotation.apply(some)
            out = codes[start : start + len(some)]
            if lists is None:
                self.inner.sa_encode_c(len(some), pointer(some), pointer(out))
            else:
                where = np.ascontiguousarray(lists[start : start + len(some)])
                self.inner.encode_vectors(len(some), pointer(some), pointer(where), pointer(out))
        return codes


def rotation_for(dim: int, storage: Storage) -> Any:
    """The rotation before a storage's codes; None: none."""
    return faiss.HadamardRotation(dim, _SEED) if storage == "rabitq" else None


def flat_codec(storage: Storage, metric: Metric, vectors: F32) -> Codec:
    """A codec for the rows of a graph, trained on (some of) its vectors."""
    dim, kind = vectors.shape[1], faiss_metric(metric)
    rotation = rotation_for(dim, storage)
    if rotation is None:
        codec = Codec.of(faiss.IndexScalarQuantizer(dim, scalar_kind(storage), kind))
    else:
        inner = faiss.IndexRaBitQ(rotation.d_out, kind, 1)
        codec = Codec.of(faiss.IndexPreTransform(rotation, inner))
    codec.train(vectors)
    return codec


def scalar_kind(storage: Storage) -> int:
    """FAISS's scalar quantizer for a storage."""
    kinds = faiss.ScalarQuantizer
    return int({"f16": kinds.QT_fp16, "sq8": kinds.QT_8bit}[storage])


def _within(vectors: F32, inner: Index) -> F32:
    """Vectors without the numbers that a codec cannot take."""
    limit = _LARGEST
    if getattr(getattr(inner, "sq", None), "qtype", None) == faiss.ScalarQuantizer.QT_fp16:
        limit = _LARGEST_HALF
    return bounded(vectors, limit)


def bounded(vectors: F32, limit: float = _LARGEST) -> F32:
    """Vectors whose numbers are cut to a limit; the very same array where none is beyond it."""
    if len(vectors) and max(float(vectors.max()), -float(vectors.min())) > limit:
        return np.clip(vectors, -limit, limit)
    return np.ascontiguousarray(vectors)
