"""BM25 over inverted indexes, vectorized.

The score of a row is the sum over the query's words that it has of

    ln(1 + (N - n + 0.5) / (n + 0.5)) * f * (k1 + 1) / (f + k1 * (1 - b + b * length / mean length))

where N rows have text, n of them the word, and f is how often it stands in the row: S. Robertson and H.
Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, section 3.4, with the 1 inside the
logarithm that keeps it positive. A phrase counts as a word whose logarithm is the sum of its words'. N, n
and the mean are those of all living rows of all shards, so that a score does not tell where a document lies.

Words alone are scored rarest first, after H. Turtle and J. Flood, "Query Evaluation: Strategies and
Optimizations", 1995 (their "max_score"): once k rows have more than all words to come could give, rows
without any of the words so far cannot be among the best, and frequent words are only looked up for those
that can. The result is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from vecdb_index.fulltext.merge import ragged
from vecdb_index.fulltext.postings import K1, U8, U16, U32, Flags, Postings
from vecdb_index.fulltext.query import Clause, Leaf, Node, WordQuery
from vecdb_index.knn import F32, I64

_FEW: Final = 256  # rows that are scored sooner than thought about
_SLACK: Final = 1.0 + 1e-5  # of an upper bound, for rounding in float32


@dataclass(frozen=True, slots=True)
class WordStatistics:
    """What BM25 must know of all documents there are; those of several shards are summed.

    ``documents`` have text, of ``tokens`` words together; ``frequencies`` says how many have a term.
    """

    documents: int = 0
    tokens: int = 0
    frequencies: dict[int, int] = field(default_factory=dict)

    def __add__(self, other: WordStatistics) -> WordStatistics:
        frequencies = dict(self.frequencies)
        for term, count in other.frequencies.items():
            frequencies[term] = frequencies.get(term, 0) + count
        return WordStatistics(self.documents + other.documents, self.tokens + other.tokens, frequencies)

    def weight(self, terms: Sequence[int]) -> float:
        """What a term, or a phrase, weighs."""
        return (K1 + 1.0) * sum(math.log1p(self._odds(term)) for term in terms)

    def _odds(self, term: int) -> float:
        count = min(self.frequencies.get(term, 0), self.documents)
        return (self.documents - count + 0.5) / (count + 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """An index, and which of its rows may be hits: (rows,) bool, None for all."""

    postings: Postings
    allowed: Flags | None


class Ranked(NamedTuple):
    """Rows and their scores, in no order: the best k, and all that tie with the last of them."""

    rows: I64
    scores: F32
    looked_at: int = 0  # postings


class _Word(NamedTuple):
    place: int
    weight: np.float32
    bound: float  # no row gets more of it


def ranked(target: Target, query: WordQuery, known: WordStatistics, k: int, floor: float = 0.0) -> Ranked:
    """The best k rows of an index, of those that score no less than ``floor``."""
    if not known.documents or not target.postings.tokens:
        return Ranked(np.empty(0, np.int64), np.empty(0, np.float32))
    if query.plain:
        return _plain(target, query, known, k, floor)
    norms = target.postings.norms(known.tokens / known.documents)
    evaluation = _Evaluation(target.postings, known, norms)
    matches, scores = evaluation.node(query.root)
    if target.allowed is not None:
        matches &= target.allowed
    rows = np.flatnonzero(matches)
    return _best(rows, scores[rows], k, floor, evaluation.looked_at)


def _best(rows: I64, scores: F32, k: int, floor: float, looked_at: int) -> Ranked:
    least = max(floor, _kth(scores, k))
    good = scores >= np.float32(least)
    return Ranked(rows[good], scores[good], looked_at)


def _kth(scores: F32, k: int) -> float:
    """The k-th best; 0 where there are fewer."""
    return float(np.partition(scores, len(scores) - k)[len(scores) - k]) if len(scores) >= k else 0.0


# --- words alone ---------------------------------------------------------------------------------------


def _words(target: Target, query: WordQuery, known: WordStatistics, average: float) -> list[_Word]:
    """The query's words that the index has, the rarest first."""
    times: dict[int, int] = {}
    for node in query.root.should:
        assert isinstance(node, Leaf), "a plain query has leaves"
        times[node.terms[0]] = times.get(node.terms[0], 0) + 1
    # The same order in every index of every shard, so that sums are rounded alike.
    order = sorted(times, key=lambda term: (known.frequencies.get(term, 0), term))
    postings = target.postings
    found = []
    for term, place in zip(order, postings.find(np.array(order, dtype=np.uint64)).tolist(), strict=True):
        if place >= 0:
            weight = known.weight((term,)) * times[term]
            found.append(_Word(place, np.float32(weight), weight * postings.bound(place, average) * _SLACK))
    return found


def _plain(target: Target, query: WordQuery, known: WordStatistics, k: int, floor: float) -> Ranked:
    average = known.tokens / known.documents
    words = _words(target, query, known, average)
    scoring = _Scoring(target, target.postings.norms(average))
    to_come = sum(word.bound for word in words)
    while words:
        word, *words = words
        column = target.postings.column(word.place)
        if column is not None and scoring.decided(to_come, k, floor):
            rows = scoring.contenders(to_come, k, floor)
            return _finished(target, rows, scoring, [word, *words], to_come, k, floor)
        scoring.add(word, column)
        to_come -= word.bound
    rows = np.flatnonzero(scoring.scores > 0.0)
    return _best(rows, scoring.scores[rows], k, floor, scoring.looked_at)


class _Scoring:
    """Scores of all rows so far, (rows,); minus infinity where a row may be no hit."""

    def __init__(self, target: Target, norms: F32) -> None:
        self._postings, self.norms = target.postings, norms
        self.scores: F32 = np.zeros(len(norms), dtype=np.float32)
        if target.allowed is not None:
            self.scores[~target.allowed] = -np.inf
        self.looked_at = 0

    def add(self, word: _Word, column: U8 | None) -> None:
        """Score one more word."""
        if column is not None:
            self.scores += _part(column, self.norms, word.weight)
            self.looked_at += len(column)
            return
        rows, counts = self._postings.of(word.place)
        self.scores[rows] += _part(counts, self.norms[rows], word.weight)
        self.looked_at += len(rows)

    def decided(self, to_come: float, k: int, floor: float) -> bool:
        """Whether a row that has none of the words so far cannot be among the best k."""
        return floor > to_come or int(np.count_nonzero(self.scores > np.float32(to_come))) >= k

    def contenders(self, to_come: float, k: int, floor: float) -> I64:
        """The rows that words to come can lift to the k-th place, ascending, once that is decided."""
        good = self.scores[self.scores > np.float32(to_come)]
        least = (max(floor, _kth(good, k)) - to_come) / _SLACK
        return np.flatnonzero(self.scores >= np.float32(least))


def _part(counts: U8 | U16, norms: F32, weight: np.float32) -> F32:
    made = counts.astype(np.float32)
    made /= made + norms
    made *= weight
    return made


def _finished(
    target: Target, rows: I64, scoring: _Scoring, words: list[_Word], to_come: float, k: int, floor: float
) -> Ranked:
    """What those rows have of the words to come. Those that cannot be among the best any more are let go."""
    scores, norms, looked_at = scoring.scores[rows], scoring.norms[rows], scoring.looked_at
    for word in words:
        scores += _part(_looked_up(target.postings, word.place, rows), norms, word.weight)
        looked_at += len(rows)
        to_come -= word.bound
        if len(rows) > max(_FEW, k):
            least = (max(floor, _kth(scores, k)) - max(0.0, to_come)) / _SLACK
            good = np.flatnonzero(scores >= np.float32(least))
            if 2 * len(good) < len(rows):
                rows, scores, norms = rows[good], scores[good], norms[good]
    return _best(rows, scores, k, floor, looked_at)


def _looked_up(postings: Postings, place: int, rows: I64) -> U8 | U16:
    """How often each of the rows has a term."""
    column = postings.column(place)
    if column is not None:
        return column[rows]
    held, counts = postings.of(place)
    at = np.searchsorted(held, rows.astype(np.uint32))
    at[at == len(held)] = 0
    return np.where(held[at] == rows, counts[at], np.uint16(0))


# --- all else ------------------------------------------------------------------------------------------


class _Evaluation:
    """Which rows of an index match a query, and their scores, each (rows,)."""

    def __init__(self, postings: Postings, known: WordStatistics, norms: F32) -> None:
        self._postings, self._known, self._norms = postings, known, norms
        self.looked_at = 0

    def node(self, node: Node) -> tuple[Flags, F32]:
        """Of a leaf or a clause."""
        return self._leaf(node) if isinstance(node, Leaf) else self._clause(node)

    def _clause(self, clause: Clause) -> tuple[Flags, F32]:
        count = len(self._postings)
        scores = np.zeros(count, dtype=np.float32)
        any_, all_ = np.zeros(count, dtype=bool), np.ones(count, dtype=bool)
        for node in clause.must:
            found, score = self.node(node)
            all_ &= found
            scores += score
        for node in clause.should:
            found, score = self.node(node)
            any_ |= found
            scores += score
        matches = all_ if clause.must else any_
        for node in clause.must_not:
            matches &= ~self.node(node)[0]
        scores[~matches] = 0.0
        return matches, scores

    def _leaf(self, leaf: Leaf) -> tuple[Flags, F32]:
        count = len(self._postings)
        matches, scores = np.zeros(count, dtype=bool), np.zeros(count, dtype=np.float32)
        rows, often = self._found(leaf.terms)
        counts = often.astype(np.float32)
        weight = np.float32(self._known.weight(leaf.terms))
        matches[rows] = True
        scores[rows] = counts / (counts + self._norms[rows]) * weight
        return matches, scores

    def _found(self, terms: Sequence[int]) -> tuple[U32 | I64, U16 | I64]:
        """The rows that have the terms one after the other, and how often."""
        places = self._postings.find(np.array(terms, dtype=np.uint64)).tolist()
        if min(places) < 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        self.looked_at += sum(self._postings.size(place) for place in places)
        if len(places) == 1:
            return self._postings.of(places[0])
        return _phrase(self._postings, places)


def _phrase(postings: Postings, places: Sequence[int]) -> tuple[I64, I64]:
    """The rows in which terms stand one after the other, ascending, and how often."""
    lists = {place: postings.of(place) for place in places}
    rows = min((held[0] for held in lists.values()), key=len)
    for held, _ in lists.values():
        if held is not rows:
            rows = rows[np.isin(rows, held, assume_unique=True)]
    starts: I64 | None = None
    for begin in _begins(postings, places, lists, rows):
        starts = begin if starts is None else np.intersect1d(starts, begin, assume_unique=True)
    assert starts is not None, "a phrase has terms"
    which, often = np.unique(starts >> 32, return_counts=True)
    return rows[which].astype(np.int64), often


def _begins(
    postings: Postings, places: Sequence[int], lists: dict[int, tuple[U32, U16]], rows: U32
) -> Iterator[I64]:
    """For each term, where in those rows a phrase would begin: the row's place << 32 | position."""
    for step, place in enumerate(places):
        held, counts = lists[place]
        widths = counts.astype(np.int64)
        at = np.searchsorted(held, rows)
        widths_here = widths[at]
        begins = (np.cumsum(widths) - widths)[at]
        positions = postings.positions(place)[ragged(begins, widths_here)].astype(np.int64) - step
        keys = np.repeat(np.arange(len(rows), dtype=np.int64), widths_here) << 32 | positions
        yield keys[positions >= 0]
