"""Retrieval quality of an embedding model, of BM25 and of both together, on a collection in BEIR's format.

    python -m bench.beir FOLDER                                # wordllama-256
    python -m bench.beir FOLDER --model wordllama-64
    python -m bench.beir FOLDER --models models.toml --model mini

FOLDER holds corpus.jsonl, queries.jsonl and the judgements (qrels.tsv, or
qrels/test.tsv as BEIR ships them). Search is exact, so that the figures are
the model's alone; BM25 and hybrid search are the engine's, in a shard of its
own, with the weights that a node gives the model. nDCG has linear gains and base-2 discounts, as trec_eval's
ndcg_cut and BEIR's tables (Thakur et al., 2021).
"""

import argparse
import csv
import json
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from vecdb_index import Schema, Shard, parse_words

from vecdb.catalog import CollectionRecord
from vecdb.models import Embedder, ModelError, ModelRegistry, bundled_models, parse_models
from vecdb.query.questions import Fused, Nearest, Questions, Weights, Worded
from vecdb.query.wanted import Wanted

_CHUNK = 256
_LATENCY_QUERIES = 200


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents and questions by id, and for each judged question its relevant documents."""

    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run measured; times are wall-clock."""

    model: str
    dim: int
    documents: int
    queries: int
    ndcg_at_10: float
    bm25_ndcg_at_10: float
    hybrid_ndcg_at_10: float
    recall_at_10: float
    recall_at_100: float
    load_seconds: float
    passages_per_second: float
    query_p50_ms: float


def read_collection(folder: Path) -> Collection:
    """Reads a BEIR folder; only judged questions are kept."""
    documents = {
        row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in _rows(folder / "corpus.jsonl")
    }
    judgements: dict[str, dict[str, int]] = {}
    path = next(p for p in (folder / "qrels.tsv", folder / "qrels" / "test.tsv") if p.is_file())
    with path.open(encoding="utf-8", newline="") as file:
        for query, document, score in list(csv.reader(file, delimiter="\t"))[1:]:
            if int(score) > 0:
                judgements.setdefault(query, {})[document] = int(score)
    queries = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl") if row["_id"] in judgements}
    return Collection(documents, queries, judgements)


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def ndcg(ranking: Sequence[str], relevant: dict[str, int]) -> float:
    """Normalized discounted cumulative gain of a ranking, cut at its own length."""
    gains = [relevant.get(document, 0) for document in ranking]
    ideal = sorted(relevant.values(), reverse=True)[: len(ranking)]
    return _dcg(gains) / _dcg(ideal)


def _dcg(gains: Sequence[int]) -> float:
    return float(np.sum(np.array(gains) / np.log2(np.arange(2, len(gains) + 2))))


def measure(model: Embedder, data: Collection, load_seconds: float) -> Figures:
    """Embeds everything and ranks every document for every question."""
    ids = list(data.documents)
    texts = list(data.documents.values())
    started = time.perf_counter()
    passages = np.vstack([model.embed_passages(texts[i : i + _CHUNK]) for i in range(0, len(texts), _CHUNK)])
    took = time.perf_counter() - started

    questions = list(data.queries.values())
    latencies = []
    for question in questions[:_LATENCY_QUERIES]:
        started = time.perf_counter()
        model.embed_queries([question])
        latencies.append(time.perf_counter() - started)

    vectors = model.embed_queries(questions)
    scores = _scores(vectors, passages, model.metric)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :100]
    rankings = [[ids[i] for i in row] for row in best]
    relevant = [data.judgements[query] for query in data.queries]
    pairs = list(zip(rankings, relevant, strict=True))
    worded, fused = _in_words(model, data, passages, vectors)
    return Figures(
        model=model.name,
        dim=model.dim,
        documents=len(ids),
        queries=len(questions),
        ndcg_at_10=float(np.mean([ndcg(r[:10], good) for r, good in pairs])),
        bm25_ndcg_at_10=float(np.mean([ndcg(r, good) for r, good in zip(worded, relevant, strict=True)])),
        hybrid_ndcg_at_10=float(np.mean([ndcg(r, good) for r, good in zip(fused, relevant, strict=True)])),
        recall_at_10=float(np.mean([len(good.keys() & set(r[:10])) / len(good) for r, good in pairs])),
        recall_at_100=float(np.mean([len(good.keys() & set(r)) / len(good) for r, good in pairs])),
        load_seconds=load_seconds,
        passages_per_second=len(ids) / took,
        query_p50_ms=float(np.median(latencies)) * 1e3,
    )


def _in_words(
    model: Embedder, data: Collection, passages: npt.NDArray[np.float32], vectors: npt.NDArray[np.float32]
) -> tuple[list[list[str]], list[list[str]]]:
    """The first ten by BM25 and by hybrid search, for each question."""
    ids, texts = list(data.documents), list(data.documents.values())
    words = Worded(tuple(parse_words(text, plain=True) for text in data.queries.values()))
    wanted = Wanted(10, exact=True)
    schema = Schema(passages.shape[1], model.metric, index="flat")
    with tempfile.TemporaryDirectory() as folder, Shard.create(Path(folder) / "shard", schema) as shard:
        for start in range(0, len(ids), _CHUNK):
            some = slice(start, start + _CHUNK)
            shard.upsert(ids[some], passages[some], None, texts[some])
        fused = Fused(Nearest(vectors), words, Weights(model.hybrid_weight, 1.0))
        return _first(shard, words, wanted), _first(shard, fused, wanted)


def _first(shard: Shard, questions: Questions, wanted: Wanted) -> list[list[str]]:
    record = CollectionRecord(
        0, "", "", "", shard.schema.dim, shard.schema.metric, "flat", 1.0, (1,), 1, (), "en", 0
    )
    (answer,) = questions.answers([shard], record, wanted)
    rows = iter(shard.fetch(answer.docnos, payload=False, text=False))
    return [[row.id for row in islice(rows, count) if row] for count in answer.counts.tolist()]


def _scores(
    queries: npt.NDArray[np.float32], passages: npt.NDArray[np.float32], metric: str
) -> npt.NDArray[np.float32]:
    """Higher is better, whatever the metric."""
    if metric == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        passages = passages / np.linalg.norm(passages, axis=1, keepdims=True)
    scores: npt.NDArray[np.float32] = queries @ passages.T
    if metric == "l2":
        scores = 2 * scores - np.einsum("ij,ij->i", passages, passages)
    return scores


def _print(figures: Figures) -> None:
    print(f"{figures.model} ({figures.dim} dimensions), {figures.documents} documents, ", end="")
    print(f"{figures.queries} queries")
    print(f"  nDCG@10     {figures.ndcg_at_10:.4f}")
    print(f"  of BM25     {figures.bm25_ndcg_at_10:.4f}")
    print(f"  of hybrid   {figures.hybrid_ndcg_at_10:.4f}")
    print(f"  recall@10   {figures.recall_at_10:.4f}")
    print(f"  recall@100  {figures.recall_at_100:.4f}")
    print(f"  load        {figures.load_seconds:.2f} s")
    print(f"  passages    {figures.passages_per_second:,.0f}/s")
    print(f"  query p50   {figures.query_p50_ms:.2f} ms")


def main() -> int:
    """Runs the command line; 0, or 1 with a message where a model does not load."""
    parser = argparse.ArgumentParser(prog="python -m bench.beir", description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="a collection in BEIR's format")
    parser.add_argument("--model", default="wordllama-256", help="which model (default: %(default)s)")
    parser.add_argument("--models", type=Path, help="a TOML file with [[models]] entries")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    try:
        configs = bundled_models()
        if args.models is not None:
            configs = parse_models(tomllib.loads(args.models.read_text(encoding="utf-8"))["models"])
        started = time.perf_counter()
        model = ModelRegistry(configs).get(args.model)
        figures = measure(model, read_collection(args.folder), time.perf_counter() - started)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(asdict(figures)))
    else:
        _print(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
