"""The shard engine in process: loading, indexing and searching, beside bare FAISS in the same run.

    python bench/engine.py --data /usr/share/datasets/fashion-mnist

``--data`` is a directory or file of IDX images (gzipped or not); without it, vectors are drawn around random
centres. Prints one JSON object. Rates are per second; a ratio of 1 is FAISS's own speed at the same recall.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import msgpack
import numpy as np
import numpy.typing as npt
from vecdb_index import Schema, Shard, ShardOptions, Upsert, encode

Matrix = npt.NDArray[np.float32]
K = 10


def read_idx(path: Path) -> Matrix:
    """Images of an IDX file as rows."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    count = int.from_bytes(data[4:8], "big")
    return np.frombuffer(data, np.uint8, offset=16).reshape(count, -1).astype(np.float32)


def load_data(where: Path | None, rows: int, dim: int) -> tuple[Matrix, Matrix]:
    """Base and query vectors."""
    if where is None:
        random = np.random.default_rng(7)
        centres = random.standard_normal((max(1, rows // 100), dim)).astype(np.float32)
        drawn = centres[random.integers(0, len(centres), rows + 1000)]
        drawn += 0.5 * random.standard_normal(drawn.shape).astype(np.float32)
        return drawn[:rows], drawn[rows:]
    if where.is_dir():
        names = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
        base, queries = (next(where.glob(f"{name}*")) for name in names)
        return read_idx(base)[:rows], read_idx(queries)[:1000]
    vectors = read_idx(where)
    return vectors[:-1000][:rows], vectors[-1000:]


def load(shard: Shard, base: Matrix, batch: int) -> dict[str, float]:
    """Write everything in batches, then wait until it is indexed."""
    entries = []
    for start in range(0, len(base), batch):
        rows = base[start : start + batch]
        ids = [f"doc-{start + at}" for at in range(len(rows))]
        payloads = [msgpack.packb({"n": start + at, "tag": f"t{at % 7}"}) for at in range(len(rows))]
        entries.append(encode(Upsert(ids, rows, payloads)))
    took = []
    begun = time.perf_counter()
    for index, entry in enumerate(entries, 1):
        before = time.perf_counter()
        shard.apply([(index, entry)])
        took.append(time.perf_counter() - before)
    applied = time.perf_counter()
    shard.checkpoint()
    durable = time.perf_counter()
    if not shard.wait_indexed(600):
        raise TimeoutError(f"not indexed after 600 s: {shard.stats()}")
    indexed = time.perf_counter()
    return {
        "write_rate": len(base) / (applied - begun),
        "durable_write_rate": len(base) / (durable - begun),
        "apply_median_ms": 1e3 * statistics.median(took),
        "apply_p99_ms": 1e3 * sorted(took)[int(0.99 * len(took))],
        "apply_max_ms": 1e3 * max(took),
        "indexed_seconds": indexed - begun,
    }


def rate(call: Callable[[int], object], count: int, seconds: float = 2.0) -> float:
    """Calls per second, the best of three runs."""
    best = 0.0
    for _ in range(3):
        begun, done = time.perf_counter(), 0
        while (now := time.perf_counter()) - begun < seconds / 3:
            call(done % count)
            done += 1
        best = max(best, done / (now - begun))
    return best


def recall_of(found: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> float:
    """The share of true neighbours found."""
    return float((found[:, :, None] == truth[:, None, :]).any(axis=2).mean())


def bare_graph(base: Matrix) -> faiss.IndexHNSWFlat:
    """FAISS's graph over the same vectors."""
    bare = faiss.IndexHNSWFlat(base.shape[1], 16)
    bare.hnsw.efConstruction = 40
    bare.add(base)
    return bare


def touched(shard: Shard, bare: faiss.IndexHNSWFlat) -> dict[str, float]:
    """Bytes a document that finding candidates reads (links, lists, codes or vectors).

    And their share of what the bare graph over float32 has.
    """
    segments = shard.stats().segments
    rows, dim = sum(item.rows for item in segments), bare.d
    found = sum(item.index_bytes for item in segments)
    found += sum(8 * item.rows for item in segments if item.kind == "ivf")  # ids, which are in memory alone
    found += sum(4 * dim * item.rows for item in segments if item.storage == "f32")
    plain = len(faiss.serialize_index(bare, faiss.IO_FLAG_SKIP_STORAGE)) / bare.ntotal + 4 * dim
    return {
        "index_bytes_per_document": sum(item.index_bytes for item in segments) / rows,
        "vector_bytes_per_document": sum(item.vector_bytes for item in segments) / rows,
        "touched_bytes_per_document": found / rows,
        "touched_share_of_f32_graph": found / rows / plain,
    }


def compare(
    shard: Shard, bare: faiss.IndexHNSWFlat, queries: Matrix, truth: npt.NDArray[np.int64], recall: float
) -> dict[str, Any]:
    """The engine and bare FAISS at one recall: single queries, with payloads, and batches of 64.

    Bare FAISS searches its graph as wide as the engine does; where that has no graph, at efSearch 64.
    """
    hits = shard.search(queries, K, recall=recall).docnos.reshape(len(queries), K)
    parts = shard.search(queries[:1], K, recall=recall, explain=True).explain["parts"]
    ef = max((part["ef"] or 0 for part in parts), default=0)
    params = faiss.SearchParametersHNSW(efSearch=ef or 64)
    _, bare_hits = bare.search(queries, K, params=params)
    single = rate(lambda at: shard.search(queries[at : at + 1], K, recall=recall), len(queries))
    bare_single = rate(lambda at: bare.search(queries[at : at + 1], K, params=params), len(queries))

    def with_payloads(at: int) -> object:
        return shard.fetch(shard.search(queries[at : at + 1], K, recall=recall).docnos)

    batches = len(queries) // 64
    batch = rate(lambda at: shard.search(queries[64 * at : 64 * at + 64], K, recall=recall), batches)
    bare_batch = rate(lambda at: bare.search(queries[64 * at : 64 * at + 64], K, params=params), batches)
    return {
        "asked_recall": recall,
        "ef": ef,
        "nprobe": max(part["nprobe"] or 0 for part in parts),
        "reranked": max(part["reranked"] for part in parts),
        "recall": recall_of(hits, truth),
        "faiss_recall": recall_of(bare_hits, truth),
        "single": single,
        "faiss_single": bare_single,
        "overhead_us": 1e6 / single - 1e6 / bare_single,
        "single_with_payloads": rate(with_payloads, len(queries)),
        "batch64_queries": 64 * batch,
        "faiss_batch64_queries": 64 * bare_batch,
        "batch64_ratio": batch / bare_batch,
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="IDX images: a file, or a directory of train and t10k files"
    )
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=128, help="of drawn vectors")
    parser.add_argument("--batch", type=int, default=256, help="documents a write")
    parser.add_argument("--recall", type=float, nargs="*", default=[0.95, 0.99])
    parser.add_argument("--dir", type=Path, help="where to put the shard (default: a temporary directory)")
    parser.add_argument("--index", choices=["hnsw", "ivf", "flat"], default="hnsw")
    parser.add_argument("--storage", choices=["f32", "f16", "sq8", "rabitq"], default="f32")
    parser.add_argument("--no-search", action="store_true", help="load only")
    asked = parser.parse_args()
    base, queries = load_data(asked.data, asked.rows, asked.dim)
    schema = Schema(base.shape[1], "l2", asked.index, storage=asked.storage)
    report: dict[str, Any] = {"rows": len(base), "dim": base.shape[1], "faiss": faiss.__version__}
    with tempfile.TemporaryDirectory(dir=asked.dir) as directory:
        path = Path(directory) / "shard"
        with Shard.create(path, schema, ShardOptions()) as shard:
            report["load"] = load(shard, base, asked.batch)
            report["segments"] = [
                {
                    "kind": item.kind,
                    "storage": item.storage,
                    "rows": item.rows,
                    "effort": item.effort,
                    "reranked": item.reranked,
                    "recall": item.recall,
                }
                for item in shard.stats().segments
            ]
        begun = time.perf_counter()
        with Shard.open(path) as shard:
            report["open_seconds"] = time.perf_counter() - begun
            if not asked.no_search:
                exact = faiss.IndexFlatL2(base.shape[1])
                exact.add(base)
                _, truth = exact.search(queries, K)
                bare = bare_graph(base)
                report["bytes"] = touched(shard, bare)
                report["search"] = [compare(shard, bare, queries, truth, recall) for recall in asked.recall]
                found = shard.search(queries[:1], K)
                report["fetch_us"] = 1e6 / rate(lambda at: shard.fetch(found.docnos), 1)
    json.dump(report, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
