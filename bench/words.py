"""How fast BM25 is in the engine: passages made of words as frequent as those of a language, long queries.

    python -m bench.words                        # 100,000 passages of 100 words
    python -m bench.words --passages 20000 --json

Words are drawn by Zipf's law (B. Mandelbrot's form, 1 / (rank + 2.7)) from 200,000; a query has words of one
passage, as frequent as they are there, so long ones have many that half of the passages have too. Vectors
have
8 dimensions: they are not what is measured.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from vecdb_index import Schema, Shard

_WORDS = 200_000
_DIM = 8
_BATCH = 2_000
_QUERIES = 200
_LENGTHS = (3, 12, 30, 60)


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of searches with queries of so many words."""

    words: int
    deleted: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run measured; times are wall-clock."""

    passages: int
    load_seconds: float
    settle_seconds: float
    index_bytes: int
    text_bytes: int
    searches: list[Latency]


def passages(count: int, length: int, seed: int) -> list[list[str]]:
    """Words of each passage. Words are numbers in letters, so that none is stemmed to another."""
    shares = 1.0 / (np.arange(_WORDS) + 2.7)
    drawn = np.random.default_rng(seed).choice(_WORDS, (count, length), p=shares / shares.sum())
    names = [
        "x" + np.base_repr(rank, 16).translate(str.maketrans("0123456789ABCDEF", "bcdfghjklmnpqrtv"))
        for rank in range(_WORDS)
    ]
    return [[names[rank] for rank in row] for row in drawn.tolist()]


def measure(root: Path, count: int, length: int) -> Figures:
    """Load, settle, search; delete a tenth, and search again."""
    made = passages(count, length, 1)
    random = np.random.default_rng(2)
    vectors = random.standard_normal((count, _DIM)).astype(np.float32)
    with Shard.create(root, Schema(_DIM)) as shard:
        begun = time.perf_counter()
        for start in range(0, count, _BATCH):
            texts = [" ".join(words) for words in made[start : start + _BATCH]]
            shard.upsert(
                [f"p{start + at}" for at in range(len(texts))], vectors[start : start + _BATCH], None, texts
            )
        loaded = time.perf_counter()
        if not shard.wait_indexed(600):
            raise TimeoutError("the shard does not settle")
        settled = time.perf_counter()
        searches = [_latency(shard, made, words, 0.0) for words in _LENGTHS]
        size = sum(path.stat().st_size for path in root.glob("segments/*.words"))
        shard.delete([f"p{at}" for at in range(0, count, 10)])
        searches += [_latency(shard, made, words, 0.1) for words in _LENGTHS]
    text = sum(len(word) + 1 for words in made for word in words)
    return Figures(count, loaded - begun, settled - loaded, size, text, searches)


def _latency(shard: Shard, made: list[list[str]], words: int, deleted: float) -> Latency:
    random = np.random.default_rng(3)
    times = []
    for at in random.choice(len(made), _QUERIES).tolist():
        query = " ".join(random.choice(made[at], min(words, len(made[at])), replace=False).tolist())
        begun = time.perf_counter()
        shard.search_words(query, 10)
        times.append(1e3 * (time.perf_counter() - begun))
    p50, p99 = np.percentile(times, (50, 99)).tolist()
    return Latency(words, deleted, p50, p99)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.words", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--length", type=int, default=100, help="words of a passage (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder) / "shard", args.passages, args.length)
    if args.json:
        print(json.dumps(asdict(figures)))
        return 0
    print(f"{figures.passages} passages: loaded in {figures.load_seconds:.1f} s, ", end="")
    print(f"at rest {figures.settle_seconds:.1f} s later; ", end="")
    print(f"{figures.index_bytes / figures.text_bytes:.2f} bytes of index a byte of text")
    for each in figures.searches:
        print(f"  {each.words:>3} words, {each.deleted:.0%} deleted: ", end="")
        print(f"p50 {each.p50_ms:.2f} ms, p99 {each.p99_ms:.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
