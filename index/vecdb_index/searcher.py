"""Searching and fetching, on a shard as it is or on a moment of it."""

from __future__ import annotations

import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from vecdb_index import documents, filters, knn, search
from vecdb_index.core import Core
from vecdb_index.documents import Reader
from vecdb_index.errors import Overtaken
from vecdb_index.filters import Filter
from vecdb_index.fulltext import WordQuery, WordStatistics, parse_words
from vecdb_index.knn import F32, I64
from vecdb_index.parts import View
from vecdb_index.plan import Wish
from vecdb_index.results import Row, SearchResult
from vecdb_index.search import Limits
from vecdb_index.word_search import WordIndex, WordSearch

MAX_K: Final = 100_000
# A wider search is taken for one as wide as this, and is anyway no wider than its graph.
MAX_EF: Final = 1_000_000


class Searcher(ABC):
    """What can be searched: a ``Shard``, or a ``Moment`` of it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def search(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        *,
        filter: Filter | None = None,  # noqa: A002 - the word of the API
        ef: int | None = None,
        exact: bool = False,
        recall: float | None = None,
        threshold: float | None = None,
        deadline: float | None = None,
        explain: bool = False,
    ) -> SearchResult:
        """The ``k`` nearest documents to each of ``queries``, (nq, dim) or (dim,) float32.

        The schema's target recall unless ``recall``, ``ef`` or ``exact`` says otherwise. With a filter, every
        query gets min(k, matches) hits, but a document whose score overflows float32 is none. ``ef`` is cut
        to the rows there are. ``threshold`` drops scores on the worse side of it. ``deadline`` is a
        time.monotonic() value; DeadlineExceeded. ValueError for a bad argument, FilterError for a bad filter.
        """
        core = self._core
        core.check()
        vectors = self._checked_queries(queries)
        _check_k(k)
        if ef is not None and ef < 1:
            raise ValueError(f"ef must be at least 1, not {ef}")
        if recall is not None and not 0.0 < recall <= 1.0:
            raise ValueError(f"recall must be above 0 and at most 1, not {recall}")
        wide = None if ef is None else min(ef, MAX_EF)
        wish = Wish(core.schema.target_recall if recall is None else recall, wide, exact)
        return self._searched(vectors, k, wish, filter, Limits(threshold, deadline), explain)

    def word_statistics(self, query: WordQuery, *, deadline: float | None = None) -> WordStatistics:
        """What ``search_words`` must know of all shards that a query goes to: each is given the sum of
        theirs.

        Deleted documents do not count. DeadlineExceeded.
        """
        self._core.check()
        return self._words_counted(query, deadline)

    def search_words(
        self,
        query: WordQuery | str,
        k: int,
        *,
        statistics: WordStatistics | None = None,
        filter: Filter | None = None,  # noqa: A002
        threshold: float | None = None,
        deadline: float | None = None,
        explain: bool = False,
    ) -> SearchResult:
        """The ``k`` documents whose texts answer best to a query in words, by BM25 (see docs/engine.md).

        A query is what ``parse_words`` made of it; a string is read in the schema's language. Without
        ``statistics`` this shard is all there is. ``threshold`` drops scores below it. ``deadline`` is a
        time.monotonic() value; DeadlineExceeded. ValueError for a bad argument, FilterError for a bad filter.
        """
        self._core.check()
        _check_k(k)
        if isinstance(query, str):
            query = parse_words(query, self._core.schema.language)
        limits = Limits(threshold, deadline)
        return self._words_searched(WordSearch(query, k, limits, statistics, filter, explain))

    def fetch(
        self,
        docnos: Sequence[int] | npt.NDArray[np.int64],
        *,
        payload: bool = True,
        text: bool = True,
        vector: bool = False,
    ) -> list[Row | None]:
        """The documents of a search's ``docnos``, in that order.

        None for one that was deleted or written again since it was found; in a ``Moment`` there is no since.
        What is not asked for is b"" (payload) or None. Vectors are the raw ones, bit for bit.
        """
        wanted: list[int] = docnos.tolist() if isinstance(docnos, np.ndarray) else list(map(int, docnos))
        core = self._core
        core.check()
        if payload and text and not vector:
            return self._whole_rows(wanted)
        with self._reading() as (connection, view):
            reader = Reader(connection, view)
            found = reader.by_docno(wanted, documents.columns(payload, text))
            rows = [found.get(docno) for docno in wanted]
            return reader.with_vectors(rows) if vector else rows

    def _searched(
        self, vectors: F32, k: int, wish: Wish, where: Filter | None, limits: Limits, explain: bool
    ) -> SearchResult:
        """What ``search`` answers, its arguments checked. Overtaken where a tie cannot be broken."""
        core = self._core
        begun = time.perf_counter()
        view, matching, by_index = self._view(), None, None
        if where is not None:
            filters.validate(where)
            matching, view, by_index = self._matched(where)
        filtered = time.perf_counter()
        query = search.Query(
            vectors, k, wish, core.schema.higher_is_better, matching, limits.threshold, limits.deadline
        )
        result = search.run_on(core.options.threads, view, query, self._ids)
        if explain:
            result.explain.update(
                applied_index=view.applied,
                documents=view.documents,
                matches=None if matching is None else len(matching),
                filter_by_index=by_index,
                filter_seconds=filtered - begun,
                search_seconds=time.perf_counter() - filtered,
                parts=[search.describe(target) for target in search.plan(view, query)],
            )
        return result

    def _words_counted(self, query: WordQuery, deadline: float | None) -> WordStatistics:
        """What ``word_statistics`` answers. Overtaken where a text that is not indexed yet is gone."""
        return WordIndex(self._view(), self._core.words, self._texts, deadline).statistics(query)

    def _words_searched(self, wanted: WordSearch) -> SearchResult:
        """What ``search_words`` answers, its arguments checked. Overtaken, as of a tie or a text."""
        begun = time.perf_counter()
        view, matching, by_index = self._view(), None, None
        if wanted.where is not None:
            filters.validate(wanted.where)
            matching, view, by_index = self._matched(wanted.where)
        filtered = time.perf_counter()
        result = WordIndex(view, self._core.words, self._texts, wanted.limits.deadline).search(
            wanted, matching, self._ids
        )
        if wanted.explain:
            result.explain.update(
                applied_index=view.applied,
                documents=view.documents,
                matches=None if matching is None else len(matching),
                filter_by_index=by_index,
                filter_seconds=filtered - begun,
                search_seconds=time.perf_counter() - filtered,
            )
        return result

    def _texts(self, docnos: I64) -> dict[int, str | None]:
        with self._reading() as (connection, _):
            return documents.texts_of(connection, docnos.tolist())

    def _whole_rows(self, docnos: list[int]) -> list[Row | None]:
        core = self._core
        rows = core.rows.get(docnos)
        missing = [docno for docno, row in zip(docnos, rows, strict=True) if row is None]
        if not missing:
            return rows
        with self._reading() as (connection, view):
            found = Reader(connection, view).by_docno(missing, documents.columns(True, True))
        core.remember(view, found.values())
        return [found.get(docno) if row is None else row for docno, row in zip(docnos, rows, strict=True)]

    def _checked_queries(self, queries: npt.NDArray[np.float32]) -> F32:
        vectors = np.ascontiguousarray(queries, dtype=np.float32)
        if vectors.ndim == 1:
            vectors = vectors[None, :]
        dim = self._core.schema.dim
        if vectors.ndim != 2 or vectors.shape[1] != dim:
            raise ValueError(f"queries must be (n, {dim}), not {np.shape(queries)}")
        if not np.isfinite(vectors).all():
            raise ValueError("queries must be finite")
        return knn.normalized(vectors) if self._core.schema.metric == "cosine" else vectors

    def _ids(self, docnos: list[int]) -> dict[int, str]:
        with self._reading() as (connection, view):
            found = Reader(connection, view).by_docno(docnos, documents.columns(False, False))
        if len(found) < len(docnos):
            raise Overtaken("a document was written again before its tie with another one could be broken")
        return {docno: row.id for docno, row in found.items()}

    @abstractmethod
    def _view(self) -> View:
        """What an unfiltered search searches."""

    @abstractmethod
    def _matched(self, where: Filter) -> tuple[BitMap, View, bool]:
        """The docnos that match a valid filter, their view, and whether field indexes alone could tell."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[tuple[sqlite3.Connection, View]]:
        """A connection, and a view no newer than what it sees."""


def _check_k(k: int) -> None:
    if not 0 < k <= MAX_K:
        raise ValueError(f"k must be from 1 to {MAX_K:,}, not {k}")
