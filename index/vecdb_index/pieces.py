"""Rows of several segments, in the order in which a new one will have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from vecdb_index.knn import F32, I64
from vecdb_index.parts import Rows

_CHUNK_ROWS: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some rows of a source, in the order in which they were taken."""

    source: Rows
    rows: I64

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: I64) -> Piece:
        """Some of them."""
        return Piece(self.source, self.rows[places])

    @property
    def vectors(self) -> F32:
        """Their vectors as searched."""
        return self.source.vectors[self.rows]


@dataclass(slots=True, eq=False)
class Pieces:
    """Pieces, one after the other. A place is the number of a row among all of theirs."""

    items: list[Piece] = field(default_factory=list)
    count: int = 0

    def __len__(self) -> int:
        return self.count

    def append(self, piece: Piece) -> None:
        """Add rows behind the others."""
        self.items.append(piece)
        self.count += len(piece)

    @property
    def docnos(self) -> I64:
        """(n,) int64 the rows' docnos."""
        return np.concatenate([piece.source.docnos[piece.rows] for piece in self.items])

    @property
    def has_unit(self) -> bool:
        """Whether some are searched by other vectors than those that were written."""
        return any(piece.source.vectors is not piece.source.raw for piece in self.items)

    def vectors(self, places: I64, *, raw: bool = False) -> F32:
        """(m, dim) the vectors at places, as searched or as written."""
        ends = np.cumsum([len(piece) for piece in self.items])
        which = np.searchsorted(ends, places, side="right")
        found = np.empty((len(places), self.items[0].source.raw.shape[1]), dtype=np.float32)
        for at in np.unique(which).tolist():
            here = np.flatnonzero(which == at)
            piece = self.items[at]
            matrix = piece.source.raw if raw else piece.source.vectors
            found[here] = matrix[piece.rows[places[here] - (ends[at] - len(piece))]]
        return found

    def chunks(self, order: I64 | None = None, *, raw: bool = False) -> Iterator[F32]:
        """All vectors, a few thousand rows at a time, in their order or in that of the places given."""
        places = np.arange(self.count, dtype=np.int64) if order is None else order
        for start in range(0, self.count, _CHUNK_ROWS):
            yield self.vectors(places[start : start + _CHUNK_ROWS], raw=raw)
