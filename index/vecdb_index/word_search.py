"""Searching a shard by words: what its texts have in common with a query, and the best of them by BM25."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pyroaring import BitMap

from vecdb_index import search
from vecdb_index.errors import Overtaken
from vecdb_index.filters import Filter
from vecdb_index.fulltext.analysis import U64, Analyzer
from vecdb_index.fulltext.merge import indexed
from vecdb_index.fulltext.postings import Flags, in_memory
from vecdb_index.fulltext.query import WordQuery
from vecdb_index.fulltext.ranking import Ranked, Target, WordStatistics, ranked
from vecdb_index.fulltext.words import Run, Texts
from vecdb_index.knn import F32, I64
from vecdb_index.parts import Part, View, candidate_rows
from vecdb_index.results import SearchResult
from vecdb_index.search import Limits

# A word of more living rows than this is counted once for as long as the tombstones stay the same.
_OFTEN: Final = 1024


@dataclass(frozen=True, slots=True)
class WordSearch:
    """A query with what a search of it needs."""

    query: WordQuery
    k: int
    limits: Limits
    statistics: WordStatistics | None = None
    where: Filter | None = None
    explain: bool = False


class WordIndex:
    """The words of all documents of a view."""

    def __init__(self, view: View, analyzer: Analyzer, texts: Texts, deadline: float | None) -> None:
        """``texts`` are those of a moment no older than the view's; past the deadline it gives none."""
        self._view, self._analyzer = view, analyzer
        self._limits = Limits(None, deadline)
        self._read = texts

    def statistics(self, query: WordQuery) -> WordStatistics:
        """What there is to tell of a query's words. DeadlineExceeded; Overtaken."""
        terms = np.array(query.terms, dtype=np.uint64)
        documents = tokens = 0
        frequencies = [0] * len(terms)
        for part in self._view.parts:
            flags = part.living_flags()
            for run in self._runs(part):
                target = _target(part, run, flags)
                counted, length = _lengths(part, target)
                documents += counted
                tokens += length
                found = _frequencies(part, target, terms)
                frequencies = [one + other for one, other in zip(frequencies, found, strict=True)]
        return WordStatistics(documents, tokens, dict(zip(query.terms, frequencies, strict=True)))

    def search(self, wanted: WordSearch, matching: BitMap | None, ids: search.Ids) -> SearchResult:
        """The hits, among the docnos that match. DeadlineExceeded; Overtaken."""
        known = self.statistics(wanted.query) if wanted.statistics is None else wanted.statistics
        found: list[tuple[I64, F32]] = []
        told: list[dict[str, Any]] = []
        floor = 0.0
        for part in self._view.parts:
            rows = None if matching is None else candidate_rows(part, matching)
            if rows is not None and not len(rows):
                continue
            allowed = _flags(part, rows)
            for run in self._runs(part):
                best = ranked(_target(part, run, allowed), wanted.query, known, wanted.k, floor)
                found.append((part.rows.docnos[run.first + best.rows], best.scores))
                if len(best.scores) >= wanted.k:
                    floor = max(floor, float(best.scores.min()))
                if wanted.explain:
                    told.append(_told(part, run, best))
        result = _merged(found, wanted, ids)
        if wanted.explain:
            result.explain.update(words=len(wanted.query.terms), parts=told)
        return result

    def _runs(self, part: Part) -> tuple[Run, ...]:
        """The indexes of a part's rows."""
        self._limits.check()
        rows, words = part.rows, part.rows.words
        runs = tuple(run for run in words.runs(rows.docnos, self._texts) if run.first < len(rows))
        gone = words.gone[words.gone < len(rows)]
        missed = gone[part.is_alive(gone)] if len(gone) else gone
        return (*runs, self._missed(part, missed)) if len(missed) else runs

    def _missed(self, part: Part, missed: I64) -> Run:
        """An index of rows that died before they were indexed, and are alive in this view all the same."""
        texts = self._texts(part.rows.docnos[missed])
        if len(texts) < len(missed):
            raise Overtaken("a document was written again before its words were looked at")
        first, last = int(missed[0]), int(missed[-1])
        held: list[str | None] = [None] * (last + 1 - first)
        for row in missed.tolist():
            held[row - first] = texts[int(part.rows.docnos[row])]
        return Run(first, in_memory(indexed(held, self._analyzer)))

    def _texts(self, docnos: I64) -> Mapping[int, str | None]:
        self._limits.check()
        return self._read(docnos)


def _merged(found: Sequence[tuple[I64, F32]], wanted: WordSearch, ids: search.Ids) -> SearchResult:
    if not any(len(docnos) for docnos, _ in found):
        return SearchResult(np.zeros(1, np.int32), np.empty(0, np.int64), np.empty(0, np.float32))
    docnos = np.concatenate([item[0] for item in found])
    keys = -np.concatenate([item[1] for item in found])
    order = np.argsort(keys, kind="stable")[: wanted.k + search.MAX_TIES]
    keys, docnos = keys[None, order], docnos[None, order]
    if (keys[:, 1:] == keys[:, :-1]).any():
        search.break_ties(keys, docnos, ids)
    return search.cut(keys, docnos, wanted.k, wanted.limits.threshold, True)


def _flags(part: Part, rows: I64 | None) -> Flags | None:
    """Which rows of a part may be hits."""
    if rows is None:
        return part.living_flags()
    flags = np.zeros(len(part.rows), dtype=bool)
    flags[rows] = True
    return flags


def _target(part: Part, run: Run, allowed: Flags | None) -> Target:
    """An index of a part's rows. It may have more of them than the part had when the view was made."""
    count, beyond = len(run.postings), run.end - len(part.rows)
    if beyond <= 0:
        return Target(run.postings, None if allowed is None else allowed[run.first : run.end])
    cut = np.zeros(count, dtype=bool)
    cut[: count - beyond] = True if allowed is None else allowed[run.first :]
    return Target(run.postings, cut)


def _lengths(part: Part, target: Target) -> tuple[int, int]:
    """How many rows that may be hits have text, and how many words all of theirs."""
    postings, allowed = target.postings, target.allowed
    if allowed is None:
        return postings.documents, postings.tokens

    def counted() -> tuple[int, int]:
        lengths = postings.lengths[allowed]
        return int(np.count_nonzero(lengths)), int(lengths.sum(dtype=np.int64))

    return part.remembered((postings, None), counted)


def _frequencies(part: Part, target: Target, terms: U64) -> list[int]:
    """How many rows that may be hits have each term."""
    places = target.postings.find(terms).tolist()
    return [0 if place < 0 else _frequency(part, target, place) for place in places]


def _frequency(part: Part, target: Target, place: int) -> int:
    postings, allowed = target.postings, target.allowed
    size = postings.size(place)
    if allowed is None:
        return size

    def counted() -> int:
        return int(np.count_nonzero(allowed[postings.of(place)[0]]))

    return counted() if size <= _OFTEN else part.remembered((postings, place), counted)


def _told(part: Part, run: Run, best: Ranked) -> dict[str, Any]:
    """An index for ``explain``."""
    manifest = part.rows.manifest
    return {
        "segment": None if manifest is None else manifest.id,
        "rows": len(run.postings),
        "postings": best.looked_at,
        "candidates": len(best.rows),
    }
