"""The growing segment: the newest rows, in matrices that grow in place under their readers.

Rows are only ever appended, and a reader's Part ends at the row that was last when it was made, so appending
disturbs nobody: the writer fills rows beyond every published end, then publishes a Part that has them. When
a block's matrix is full it is copied to a larger one, and readers keep the old.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vecdb_index.fulltext.analysis import Analyzer
from vecdb_index.fulltext.words import Gathered
from vecdb_index.knn import F32, I64, flat_over, normalized
from vecdb_index.parts import Part, Rows, full_bits
from vecdb_index.schema import Metric

_FIRST_ROWS: Final = 256


class Block:
    """Rows that will be sealed together. Used by the writer alone; ``part`` is what others see."""

    def __init__(self, dim: int, metric: Metric, words: Analyzer) -> None:
        self._dim, self._metric = dim, metric
        self._words = Gathered(words)
        self._docnos: I64 = np.empty(0, dtype=np.int64)
        self._raw: F32 = np.empty((0, dim), dtype=np.float32)
        # Cosine over unit vectors searches the raw ones: a second matrix is made by the first that is not.
        self._normal: F32 | None = None
        self.count = 0
        self.part = Part(self._rows())

    def append(self, docnos: I64, raw: F32) -> None:
        """Add rows: docnos (n,) above all before, raw vectors (n, dim). ``publish`` shows them."""
        end = self.count + len(docnos)
        if end > len(self._docnos):
            self._grow(end)
        self._docnos[self.count : end] = docnos
        self._raw[self.count : end] = raw
        if self._metric == "cosine":
            scaled = normalized(raw)
            if self._normal is None and scaled is not raw:
                self._normal = self._raw.copy()
            if self._normal is not None:
                self._normal[self.count : end] = scaled
        self.count = end

    def publish(self, dead: I64) -> Part:
        """A part of every row so far, in which those of the docnos ``dead`` are deleted too."""
        rows = self._rows()
        alive = self.part.alive
        if alive is not None and len(rows) > len(self.part.rows):
            grown = full_bits(len(rows))
            grown[: len(alive)] = alive
            # The last byte of the old bitmap says nothing about rows that it did not have.
            for row in range(len(self.part.rows), min(len(alive) * 8, len(rows))):
                grown[row >> 3] |= 1 << (row & 7)
            alive = grown
        part = Part(rows, alive, self.part.dead)
        if len(dead):
            found, here = rows.find(dead)
            if here.any():
                part = part.without(found[here])
        self.part = part
        return part

    def _rows(self) -> Rows:
        raw = self._raw[: self.count]
        vectors = raw if self._normal is None else self._normal[: self.count]
        return Rows(self._docnos[: self.count], raw, vectors, flat_over(vectors, self._metric), self._words)

    def _grow(self, needed: int) -> None:
        size = max(_FIRST_ROWS, needed, 2 * len(self._docnos))
        self._docnos = _copied(self._docnos, size, self.count)
        self._raw = _copied(self._raw, size, self.count)
        if self._normal is not None:
            self._normal = _copied(self._normal, size, self.count)


def _copied(array: npt.NDArray[Any], size: int, count: int) -> npt.NDArray[Any]:
    larger = np.empty((size, *array.shape[1:]), dtype=array.dtype)
    larger[:count] = array[:count]
    return larger
