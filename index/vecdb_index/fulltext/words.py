"""What a part knows of its rows' words: an index in a file, or what is made of texts as searches need it.

A growing block's index is made when somebody looks for words, or seals it, so a write costs nothing here and
is found all the same. It is a few runs of consecutive rows, merged while they are small. So is the index of a
segment that an older version wrote, until the builder gives it a file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeAlias

import numpy as np

from vecdb_index.fulltext.analysis import Analyzer
from vecdb_index.fulltext.merge import Source, indexed, merged
from vecdb_index.fulltext.postings import Postings, in_memory
from vecdb_index.knn import I64

Texts: TypeAlias = Callable[[I64], Mapping[int, str | None]]
"""Texts of documents by their docnos; None for those without, and nothing for those that are gone."""

_ROWS: Final = 1024  # of a run that is whole; so many texts are read at once


class Run(NamedTuple):
    """An index of some rows of a part, from ``first`` on."""

    first: int
    postings: Postings

    @property
    def end(self) -> int:
        """The row behind its last one."""
        return self.first + len(self.postings)


class Words(Protocol):
    """What a part knows."""

    @property
    def kept(self) -> bool:
        """Whether it is in a file."""
        ...

    def runs(self, docnos: I64, texts: Texts) -> tuple[Run, ...]:
        """Indexes of all rows, whose docnos are (n,) int64. There may be rows beyond them.

        What ``texts`` raises goes through, and nothing that was done before is lost.
        """
        ...

    @property
    def gone(self) -> I64:
        """Rows whose documents were gone when they were to be indexed, ascending: the indexes lack them.

        They are dead now; but there are older views in which they are not.
        """
        ...


class Kept:
    """In a file."""

    kept = True
    gone: I64 = np.empty(0, dtype=np.int64)  # whoever died before it was written is dead in every view of it

    def __init__(self, postings: Postings) -> None:
        self._runs = (Run(0, postings),)

    def runs(self, docnos: I64, texts: Texts) -> tuple[Run, ...]:
        """See ``Words``."""
        return self._runs


class Gathered:
    """In memory. The docnos of later calls begin with those of earlier ones."""

    kept = False

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._lock = threading.Lock()
        self._runs: tuple[Run, ...] = ()
        self.gone: I64 = np.empty(0, dtype=np.int64)

    def runs(self, docnos: I64, texts: Texts) -> tuple[Run, ...]:
        """See ``Words``."""
        if self._end() < len(docnos):
            with self._lock:
                while (first := self._end()) < len(docnos):
                    self._read(first, docnos[first : first + _ROWS], texts)
        return self._runs

    def _read(self, first: int, docnos: I64, texts: Texts) -> None:
        found, wanted = texts(docnos), docnos.tolist()
        gone = [first + at for at, docno in enumerate(wanted) if docno not in found]
        # Before the runs: whoever has these must know what they lack.
        self.gone = np.concatenate((self.gone, np.array(gone, dtype=np.int64)))
        chunks = indexed([found.get(docno) for docno in wanted], self._analyzer)
        self._add(Run(first, in_memory(chunks)))

    def _end(self) -> int:
        runs = self._runs
        return runs[-1].end if runs else 0

    def _add(self, run: Run) -> None:
        runs = [*self._runs, run]
        # Runs halve in size from the first to the last, so that a row is merged a few times only.
        while len(runs) > 1 and len(runs[-2].postings) < 2 * len(runs[-1].postings):
            if len(runs[-2].postings) + len(runs[-1].postings) > _ROWS:
                break
            runs[-2:] = [self._joined(runs[-2], runs[-1])]
        self._runs = tuple(runs)

    def _joined(self, one: Run, other: Run) -> Run:
        count = len(one.postings) + len(other.postings)
        rows = np.arange(count, dtype=np.int64)
        sources = [
            Source(one.postings, rows[: len(one.postings)]),
            Source(other.postings, rows[len(one.postings) :]),
        ]
        return Run(one.first, in_memory(merged(sources, count, self._analyzer)))
