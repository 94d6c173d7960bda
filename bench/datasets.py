"""Vectors to measure with, and their true neighbours."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
CACHE = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Dataset:
    """`base` (n, dim) and `queries` (m, dim) float32; `truth` (m, k) rows of the nearest by squared L2."""

    name: str
    base: F32
    queries: F32
    truth: I64


def load(name: str, *, n: int = 60_000, dim: int = 784, queries: int = 2_000, k: int = 10) -> Dataset:
    """ "fashion-mnist" (Debian's package dataset-fashion-mnist) or "clustered" (synthetic, any n and dim)."""
    if name == "fashion-mnist":
        base = _idx_images(FASHION_MNIST / "train-images-idx3-ubyte.gz")[:n]
        asked = _idx_images(FASHION_MNIST / "t10k-images-idx3-ubyte.gz")[:queries]
    elif name == "clustered":
        base, asked = _clustered(n, dim, queries)
    else:
        raise SystemExit(f"unknown data set {name!r}: fashion-mnist or clustered")
    return Dataset(name, base, asked, _truth(name, base, asked, k))


def _idx_images(path: Path) -> F32:
    """The IDX format: magic, count, rows, columns as big-endian uint32, then one byte a pixel."""
    if not path.exists():
        raise SystemExit(f"{path} is missing: apt-get install dataset-fashion-mnist, or use --data clustered")
    data = gzip.decompress(path.read_bytes())
    magic, count, rows, columns = np.frombuffer(data, dtype=">u4", count=4).tolist()
    if magic != 2051:
        raise SystemExit(f"{path} is no IDX file of images")
    pixels = np.frombuffer(data, dtype=np.uint8, offset=16)
    return pixels.reshape(count, rows * columns).astype(np.float32)


def _clustered(n: int, dim: int, queries: int, seed: int = 1) -> tuple[F32, F32]:
    """Gaussian clusters of low intrinsic dimension, as embeddings are."""
    rng = np.random.default_rng(seed)
    inner = min(dim, 32)
    frame = rng.standard_normal((inner, dim)).astype(np.float32)
    centres = rng.standard_normal((max(8, n // 500), inner)).astype(np.float32) * 3

    def draw(count: int) -> F32:
        near = centres[rng.integers(len(centres), size=count)]
        points = near + rng.standard_normal((count, inner)).astype(np.float32)
        noise = rng.standard_normal((count, dim)).astype(np.float32) * 0.05
        return np.asarray(points @ frame + noise, dtype=np.float32)

    return draw(n), draw(queries)


def _truth(name: str, base: F32, queries: F32, k: int) -> I64:
    """Exact neighbours, computed once and kept beside the benchmarks."""
    told = f"{name},{base.shape},{queries.shape},{k},{base[:16].tobytes().hex()}"
    path = CACHE / f"truth-{hashlib.sha256(told.encode()).hexdigest()[:16]}.npy"
    if path.exists():
        cached: I64 = np.load(path, allow_pickle=False)
        return cached
    flat = faiss.IndexFlatL2(base.shape[1])
    flat.add(base)
    _, found = flat.search(queries, k)
    CACHE.mkdir(parents=True, exist_ok=True)
    np.save(path, found)
    return np.asarray(found, dtype=np.int64)


def recall(found: list[list[int]], truth: I64) -> float:
    """Mean share of the true neighbours that were found."""
    k = truth.shape[1]
    hits = sum(len(set(row[:k]) & set(true.tolist())) for row, true in zip(found, truth, strict=True))
    return hits / (len(found) * k)
