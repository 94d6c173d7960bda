"""Making one indexed segment out of others, a step at a time.

A Build owns a graph in memory. It starts empty or from a copy of a segment's graph (a memory-mapped one must
never be added to: FAISS aborts the process), takes in the living rows of its sources chunk by chunk, and
writes a segment whenever the builder asks. During a bulk load it lives on and is fed each newly sealed block,
so that every vector is inserted into a graph once, however often what is there so far gets published.

A sample of the rows is held out until a segment is written, as queries to calibrate it with.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from vecdb_index import sealed
from vecdb_index.calibrate import FEW, SAMPLE, EfTable, calibrate
from vecdb_index.core import Core
from vecdb_index.knn import F32, I64, Index, faiss, faiss_metric, new_graph
from vecdb_index.parts import Part, Rows

STEP_BYTES: Final = 8 << 20  # of vectors a step: some hundred milliseconds of inserting
_HELD_OUT_SHARE: Final = 16
_WRITE_ROWS: Final = 4096
# Rows that sample queries are compared with when a segment is one of many that a load will have: to calibrate
# it as well as one that stays would cost as much as to insert its rows.
_HURRIED_ROWS: Final = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some rows of a source, in the order in which they were inserted."""

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

    def vectors_of(self, place: int) -> F32:
        """One of them."""
        vector: F32 = self.source.vectors[self.rows[place]]
        return vector


class Build:
    """A segment in the making."""

    def __init__(self, core: Core, base: Rows | None = None) -> None:
        self._core = core
        self._dim, self._metric = core.schema.dim, core.schema.metric
        self.sources: set[int] = set()  # ids of the segments that it stands for, or will
        self._inside: set[int] = set()  # those of which it has rows
        self._last: int | None = None  # the one it took from last
        self._pieces: list[Piece] = []
        self._held: list[Piece] = []
        self._graph: Index | None = None
        self._rows = 0
        self._published: set[int] = set()  # the segment that it wrote last, or began with
        self.written = 0  # rows of that
        self.since = time.monotonic()  # when it was that, or when it began
        self._random = np.random.default_rng(0)
        self._steps = max(1, STEP_BYTES // (4 * self._dim))
        self._queue: deque[Piece] = deque()
        if base is not None:
            self._begin_from(base)

    def __len__(self) -> int:
        """Rows taken in so far."""
        return self._rows + sum(map(len, self._held))

    @property
    def busy(self) -> bool:
        """Whether there are rows to take in."""
        return bool(self._queue)

    @property
    def midway(self) -> bool:
        """Whether it has some rows of a source and not yet all: a segment written now would repeat them."""
        return bool(self._queue) and self._queue[0].source.id == self._last

    @property
    def taken(self) -> set[int]:
        """Sources taken in whole."""
        return self.sources - {piece.source.id for piece in self._queue}

    @property
    def unwritten(self) -> set[int]:
        """Sources taken in whole that no segment it wrote stands for."""
        return self.taken - self._published

    def _begin_from(self, base: Rows) -> None:
        storage = faiss.IndexFlat(self._dim, faiss_metric(self._metric))
        storage.add(base.vectors)
        assert base.manifest is not None, "a base is a segment"
        graph = sealed.load_graph(self._core.root, base.manifest)
        sealed.attach(graph, storage)
        self._graph = graph
        self.sources, self._inside, self._published = {base.id}, {base.id}, {base.id}
        self._pieces.append(Piece(base, np.arange(len(base), dtype=np.int64)))
        self._rows = self.written = len(base)

    def feed(self, part: Part) -> None:
        """Take a sealed segment as a source: its living rows are queued."""
        if not self.busy and not self.unwritten:
            self.since = time.monotonic()
        self.sources.add(part.rows.id)
        rows = part.living_rows()
        for start in range(0, len(rows), self._steps):
            self._queue.append(Piece(part.rows, rows[start : start + self._steps]))

    def drop(self, source: int) -> bool:
        """Do without a source whose rows are all dead; False where the build has some of its rows already.

        Those must stay known as tombstones, so the source stays one until a segment is written.
        """
        if source in self._inside:
            return False
        self.sources.discard(source)
        self._queue = deque(piece for piece in self._queue if piece.source.id != source)
        return True

    def step(self) -> None:
        """Take in some queued rows; those that died while they waited are passed over."""
        piece = self._living(self._queue.popleft())
        self._last = piece.source.id
        if not len(piece):
            return
        self._inside.add(piece.source.id)
        if self._core.schema.index == "flat":
            self._pieces.append(piece)
            self._rows += len(piece)
            return
        picks = np.zeros(len(piece), dtype=bool)
        share = min(SAMPLE, -(-len(piece) // _HELD_OUT_SHARE))
        picks[self._random.choice(len(piece), share, replace=False)] = True
        self._insert(piece.take(np.flatnonzero(~picks)))
        self._held.append(piece.take(np.flatnonzero(picks)))
        self._thin_out()

    def _living(self, piece: Piece) -> Piece:
        (part,) = (part for part in self._core.view.sealed if part.rows is piece.source)
        return piece if part.alive is None else piece.take(np.flatnonzero(part.is_alive(piece.rows)))

    def _thin_out(self) -> None:
        """Keep a fair sample held out, no more than SAMPLE rows, and insert the others."""
        total = sum(map(len, self._held))
        if total <= 2 * SAMPLE:
            return
        kept, held = [], self._held
        keep = np.zeros(total, dtype=bool)
        keep[self._random.choice(total, SAMPLE, replace=False)] = True
        at = 0
        for piece in held:
            mask = keep[at : at + len(piece)]
            at += len(piece)
            self._insert(piece.take(np.flatnonzero(~mask)))
            if mask.any():
                kept.append(piece.take(np.flatnonzero(mask)))
        self._held = kept

    def _insert(self, piece: Piece) -> None:
        if not len(piece):
            return
        if self._graph is None:
            self._graph = new_graph(self._dim, self._metric)
        self._graph.add(piece.vectors)
        self._pieces.append(piece)
        self._rows += len(piece)

    # --- writing -------------------------------------------------------------------------------------------

    def write(self, *, hurried: bool = False) -> Rows:
        """Write everything taken in as a segment and open it. OSError leaves no files.

        Not while it is midway. The caller puts it in the place of ``taken``, then calls ``adopt``. What is
        ``hurried`` will soon be written again: it is calibrated with fewer queries, and so searched wider.
        """
        core = self._core
        few = min(SAMPLE // 4, max(FEW, _HURRIED_ROWS // len(self)))
        efs = self._finish_graph(few if hurried else SAMPLE)
        contents = sealed.Contents(
            docnos=np.concatenate([piece.source.docnos[piece.rows] for piece in self._pieces]),
            raw=self._chunks(raw=True),
            unit=self._chunks(raw=False) if self._has_unit() else None,
            graph=self._graph if efs is not None else None,
            efs=efs,
        )
        manifest = sealed.write(core.root, core.options.files, core.new_segment_id(), self._dim, contents)
        return sealed.open_rows(core.root, manifest, self._metric)

    def adopt(self, rows: Rows) -> None:
        """What was written stands for what was taken: read from it from now on, and let their files go."""
        self._inside, self._published = {rows.id}, {rows.id}
        self.sources = {rows.id} | {piece.source.id for piece in self._queue}
        self.since = time.monotonic()
        self._pieces = [Piece(rows, np.arange(len(rows), dtype=np.int64))]
        self.written = len(rows)

    def _finish_graph(self, sample: int) -> EfTable | None:
        """Calibrate with what was held out, insert it, and say how to search; None for no graph."""
        held, self._held = self._held, []
        count = sum(map(len, held))
        wanted = self._graph is not None and len(self) + count >= self._core.options.flat_rows
        efs = None
        if wanted and count >= FEW:
            assert self._graph is not None, "wanted says so"
            # Every so many-th, for there may be more than a sample, in the order in which they came.
            queries = np.concatenate([piece.vectors for piece in held])[:: -(-count // sample)]
            efs = calibrate(self._graph, self._graph.storage, np.ascontiguousarray(queries), None)
        for piece in held:
            self._insert(piece)
        return efs if efs is not None or not wanted else self._calibrate_inside(sample)

    def _calibrate_inside(self, sample: int) -> EfTable:
        assert self._graph is not None, "there is something to calibrate"
        own = self._random.choice(self._rows, min(sample, self._rows), replace=False)
        starts = np.cumsum([0, *map(len, self._pieces)])
        which = np.searchsorted(starts, own, side="right") - 1
        queries = [self._pieces[at].vectors_of(row - starts[at]) for row, at in zip(own, which, strict=True)]
        return calibrate(self._graph, self._graph.storage, np.stack(queries), own)

    def _has_unit(self) -> bool:
        return any(piece.source.vectors is not piece.source.raw for piece in self._pieces)

    def _chunks(self, *, raw: bool) -> Iterator[F32]:
        for piece in self._pieces:
            matrix = piece.source.raw if raw else piece.source.vectors
            for start in range(0, len(piece), _WRITE_ROWS):
                yield matrix[piece.rows[start : start + _WRITE_ROWS]]
