"""What is looked for: vectors, words, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from vecdb_index import Overtaken, Row, Searcher, SearchResult, WordQuery

from vecdb.catalog import CollectionRecord
from vecdb.query.budget import sliced
from vecdb.query.reads import Parts
from vecdb.query.wanted import Wanted

F32 = npt.NDArray[np.float32]

RANK_CONSTANT: Final = 10

_DEEPER: Final = 4  # candidates of each ranking for a hit of the fused one
_LEAST_DEPTH: Final = 100
_DEEPEST: Final = 100_000  # the engine's limit on the hits of one search
_IDS: Final = Parts(payload=False, text=False)


class Questions(Protocol):
    """Queries of one kind, asked together."""

    @property
    def narrows(self) -> bool:
        """Whether a filter leaves the scores of what it lets through as they are."""
        ...

    def __len__(self) -> int: ...

    def one(self, at: int) -> Questions:
        """One of them."""
        ...

    def is_distance(self, record: CollectionRecord) -> bool:
        """Whether a lower score is better."""
        ...

    def answers(
        self, shards: Sequence[Searcher], record: CollectionRecord, wanted: Wanted
    ) -> list[SearchResult]:
        """Each shard's hits, `wanted.k + wanted.offset` a query at most. Overtaken; DeadlineExceeded."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """What is nearest to vectors, (n, dim) float32."""

    vectors: F32

    narrows = True

    def __len__(self) -> int:
        return len(self.vectors)

    def one(self, at: int) -> Nearest:
        """See `Questions`."""
        return Nearest(self.vectors[at : at + 1])

    def is_distance(self, record: CollectionRecord) -> bool:
        """See `Questions`."""
        return record.metric == "l2"

    def answers(
        self, shards: Sequence[Searcher], record: CollectionRecord, wanted: Wanted
    ) -> list[SearchResult]:
        """See `Questions`."""
        recall = wanted.recall if wanted.recall is not None else record.target_recall
        return [
            shard.search(
                self.vectors,
                wanted.k + wanted.offset,
                filter=wanted.where,
                ef=wanted.ef,
                exact=wanted.exact,
                recall=recall,
                threshold=wanted.threshold,
                deadline=wanted.deadline,
                explain=wanted.explain,
            )
            for shard in shards
        ]


@dataclass(frozen=True, slots=True)
class Worded:
    """What answers best to words, by BM25 over the statistics of all shards."""

    queries: tuple[WordQuery, ...]

    narrows = True

    def __len__(self) -> int:
        return len(self.queries)

    def one(self, at: int) -> Worded:
        """See `Questions`."""
        return Worded(self.queries[at : at + 1])

    def is_distance(self, record: CollectionRecord) -> bool:
        """See `Questions`."""
        return False

    def answers(
        self, shards: Sequence[Searcher], record: CollectionRecord, wanted: Wanted
    ) -> list[SearchResult]:
        """See `Questions`."""
        found: list[list[SearchResult]] = [[] for _ in shards]
        for query in self.queries:
            counted = [shard.word_statistics(query, deadline=wanted.deadline) for shard in shards]
            statistics = reduce(add, counted)
            for shard, held in zip(shards, found, strict=True):
                answer = shard.search_words(
                    query,
                    wanted.k + wanted.offset,
                    statistics=statistics,
                    filter=wanted.where,
                    threshold=wanted.threshold,
                    deadline=wanted.deadline,
                    explain=wanted.explain,
                )
                held.append(answer)
        return [_joined(held) for held in found]


@dataclass(frozen=True, slots=True)
class Weights:
    """What the two rankings of a hybrid search weigh, and the constant of reciprocal rank fusion."""

    vector: float
    words: float
    constant: int = RANK_CONSTANT


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """Both, as many vectors as queries in words, fused by their ranks.

    A document scores weight / (constant + rank) in each ranking that it is in, best first from 1: G. Cormack,
    C. Clarke and S. Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods", SIGIR 2009, weighted. Ranks are those over all shards: it does not matter where a document lies.
    """

    vectors: Nearest
    words: Worded
    weights: Weights

    narrows = False

    def __len__(self) -> int:
        return len(self.words)

    def one(self, at: int) -> Fused:
        """See `Questions`."""
        return Fused(self.vectors.one(at), self.words.one(at), self.weights)

    def is_distance(self, record: CollectionRecord) -> bool:
        """See `Questions`."""
        return False

    def answers(
        self, shards: Sequence[Searcher], record: CollectionRecord, wanted: Wanted
    ) -> list[SearchResult]:
        """See `Questions`."""
        hits = wanted.k + wanted.offset
        depth = min(max(_LEAST_DEPTH, _DEEPER * hits), _DEEPEST)
        inner = replace(wanted.widened(depth), threshold=None)
        weights = self.weights
        halves: list[tuple[str, float, Questions]] = [
            ("vector", weights.vector, self.vectors),
            ("bm25", weights.words, self.words),
        ]
        rankings = [
            (name, weight, asked.is_distance(record), asked.answers(shards, record, inner))
            for name, weight, asked in halves
            if weight > 0
        ]
        names = [
            _ids(shard, [answers[place] for *_, answers in rankings]) for place, shard in enumerate(shards)
        ]
        made: list[list[SearchResult]] = [[] for _ in shards]
        for query in range(len(self)):
            scores: list[dict[int, float]] = [{} for _ in shards]
            for _, weight, is_distance, answers in rankings:
                ranked = sorted(_placed(answers, query, names, is_distance))[:depth]
                for rank, (_, _, place, docno) in enumerate(ranked, 1):
                    held = scores[place]
                    held[docno] = held.get(docno, 0.0) + weight / (weights.constant + rank)
            for place, held in enumerate(scores):
                made[place].append(_best(held, names[place], hits, wanted.threshold))
        found = [_joined(held) for held in made]
        if wanted.explain:
            for place, answer in enumerate(found):
                answer.explain.update(_told(weights, {name: held[place] for name, *_, held in rankings}))
        return found


def rows_of(shard: Searcher, docnos: Sequence[int], parts: Parts) -> list[Row]:
    """The documents that a search of this shard found. Overtaken where one is no longer there."""
    rows = shard.fetch(docnos, payload=parts.payload, text=parts.text, vector=parts.vector)
    found = [row for row in rows if row is not None]
    if len(found) < len(rows):
        raise Overtaken("a document that was found was written again before it was read")
    return found


def _joined(answers: Sequence[SearchResult]) -> SearchResult:
    """The answers to several queries as one; the first is explained."""
    if len(answers) == 1:
        return answers[0]
    return SearchResult(
        np.concatenate([answer.counts for answer in answers]),
        np.concatenate([answer.docnos for answer in answers]),
        np.concatenate([answer.scores for answer in answers]),
        answers[0].explain,
    )


def _ids(shard: Searcher, answers: Sequence[SearchResult]) -> dict[int, str]:
    """The ids of all documents in some answers of a shard."""
    docnos = np.unique(np.concatenate([answer.docnos for answer in answers])).tolist()
    return {row.docno: row.id for some in sliced(docnos) for row in rows_of(shard, some, _IDS)}


def _placed(
    answers: Sequence[SearchResult], query: int, names: Sequence[dict[int, str]], is_distance: bool
) -> Iterator[tuple[float, str, int, int]]:
    """The hits of one query in all shards: what they sort by, and their shard's place and docno."""
    sign = 1.0 if is_distance else -1.0
    for place, answer in enumerate(answers):
        begin = int(answer.counts[:query].sum())
        held = slice(begin, begin + int(answer.counts[query]))
        for docno, score in zip(answer.docnos[held].tolist(), answer.scores[held].tolist(), strict=True):
            yield sign * score, names[place][docno], place, docno


def _best(scores: dict[int, float], names: dict[int, str], k: int, threshold: float | None) -> SearchResult:
    rounded = [(float(np.float32(score)), docno) for docno, score in scores.items()]
    if threshold is not None:
        rounded = [hit for hit in rounded if hit[0] >= threshold]
    rounded.sort(key=lambda hit: (-hit[0], names[hit[1]]))
    docnos = np.array([docno for _, docno in rounded[:k]], dtype=np.int64)
    return SearchResult(
        np.array([len(docnos)], dtype=np.int32),
        docnos,
        np.array([score for score, _ in rounded[:k]], dtype=np.float32),
    )


def _told(weights: Weights, answers: dict[str, SearchResult]) -> dict[str, Any]:
    """How a shard answered, for an explanation."""
    told: dict[str, Any] = {name: answer.explain for name, answer in answers.items()}
    for seconds in ("filter_seconds", "search_seconds"):
        told[seconds] = sum(answer.explain.get(seconds) or 0.0 for answer in answers.values())
    return {**told, "weights": f"{weights.vector:g} : {weights.words:g}", "rank_constant": weights.constant}
