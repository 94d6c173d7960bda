"""Diversity: hits that are near the query and unlike each other.

Maximal marginal relevance: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering
Documents and Producing Summaries", SIGIR 1998, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt
from vecdb_index import Row

from vecdb.query.candidates import Asked, Candidate
from vecdb.query.reads import Parts

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_VECTORS: Final = Parts(payload=False, text=False, vector=True)


@dataclass(frozen=True, slots=True)
class Diversity:
    """`relevance` is the lambda of the formula: 1 for relevance alone, 0 for diversity alone.

    `candidates` is how many of the nearest documents to choose from.
    """

    relevance: float
    candidates: int


def diversified(similarities: F64, vectors: F32, metric: str, relevance: float) -> Iterator[int]:
    """The candidates by maximal marginal relevance, as their places; each when it is asked for.

    `similarities` (n,) are to the query, higher for nearer, and must descend; `vectors` (n, dim) are the raw
    ones. The first candidate comes first, then always the one with the most of

        relevance * similarity to the query - (1 - relevance) * greatest similarity to those before,

    of equal ones the first. Similarity is the metric's: the cosine, the dot product, or the squared distance
    turned round. A step compares all candidates with one: O(n * dim).
    """
    alike = _similarity(vectors, metric)
    redundancy = np.full(len(vectors), -np.inf)
    left = np.ones(len(vectors), dtype=bool)
    at = 0
    for _ in range(len(vectors)):
        yield at
        left[at] = False
        np.maximum(redundancy, alike(at), out=redundancy)
        marginal = relevance * similarities - (1.0 - relevance) * redundancy
        at = int(np.argmax(np.where(left, marginal, -np.inf)))


def _similarity(vectors: F32, metric: str) -> Callable[[int], F64]:
    """A function from a place to its similarities to all, (n,)."""
    if metric == "cosine":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.asarray(vectors / norms, dtype=np.float32)
    if metric != "l2":
        return lambda at: (vectors @ vectors[at]).astype(np.float64)

    def turned_distance(at: int) -> F64:
        apart = vectors - vectors[at]
        squares: F64 = np.einsum("ij,ij->i", apart, apart, dtype=np.float64)
        return -squares

    return turned_distance


def chosen(asked: Asked, by: Diversity) -> list[Candidate[F32]]:
    """As many candidates as hits are wanted, those of the offset included, in the order chosen."""
    wanted = asked.wanted
    ranked, _ = asked.nearest(by.candidates, wanted.where, _VECTORS, _vector_of)
    if not ranked:
        return []
    similarities = -np.array([candidate.distance for candidate in ranked], dtype=np.float64)
    vectors = np.stack([candidate.kept for candidate in ranked])
    order = diversified(similarities, vectors, asked.record.metric, by.relevance)
    picked = []
    for at in islice(order, wanted.k + wanted.offset):
        asked.check_deadline()
        picked.append(ranked[at])
    return picked


def _vector_of(row: Row) -> F32:
    assert row.vector is not None, "vectors were asked for"
    return row.vector
