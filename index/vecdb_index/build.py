"""Making one indexed segment out of others, a step at a time.

A Build owns a graph in memory, over full vectors, whatever the segment is to be searched by. It starts empty
or from a copy of a segment's graph (a memory-mapped one must never be added to: FAISS aborts the process),
takes in the living rows of its sources chunk by chunk, and writes a segment whenever the builder asks. During
a bulk load it lives on and is fed each newly sealed block, so that every vector is inserted into a graph
once, however often what is there so far gets published.

A sample of the rows is held out until a segment is written, as queries to calibrate it with. Lists are made
of all rows when a segment is written; until then it only knows which rows.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from vecdb_index import sealed
from vecdb_index.calibrate import FEW, SAMPLE
from vecdb_index.core import Core
from vecdb_index.files import Chunk
from vecdb_index.fulltext.merge import Source, merged
from vecdb_index.indexing import index_lists, measure_graph
from vecdb_index.knn import F32, I64, Index, faiss, faiss_metric, new_graph
from vecdb_index.lists import cluster
from vecdb_index.near import plain_graph
from vecdb_index.parts import Part, Rows
from vecdb_index.pieces import Piece, Pieces
from vecdb_index.sealed import Made

STEP_BYTES: Final = 8 << 20  # of vectors a step: some hundred milliseconds of inserting
_HELD_OUT_SHARE: Final = 16
# Rows that sample queries are compared with when a segment is one of many that a load will have: to calibrate
# it as well as one that stays would cost as much as to insert its rows.
_HURRIED_ROWS: Final = 1 << 24


class Build:
    """A segment in the making."""

    def __init__(self, core: Core, base: Rows | None = None) -> None:
        self._core = core
        self._schema = core.schema
        self.sources: set[int] = set()  # ids of the segments that it stands for, or will
        self._inside: set[int] = set()  # those of which it has rows
        self._last: int | None = None  # the one it took from last
        self._pieces = Pieces()
        self._held: list[Piece] = []
        self._graph: Index | None = None
        self._published: set[int] = set()  # the segment that it wrote last, or began with
        self.written = 0  # rows of that
        self.since = time.monotonic()  # when it was that, or when it began
        self._random = np.random.default_rng(0)
        self._steps = max(1, STEP_BYTES // (4 * core.schema.dim))
        self._queue: deque[Piece] = deque()
        if base is not None:
            self._begin_from(base)

    def __len__(self) -> int:
        """Rows taken in so far."""
        return len(self._pieces) + sum(map(len, self._held))

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
        storage = faiss.IndexFlat(self._schema.dim, faiss_metric(self._schema.metric))
        storage.add(base.vectors)
        assert base.manifest is not None, "a base is a segment"
        graph = sealed.load_graph(self._core.root, base.manifest)
        self._graph = plain_graph(graph, storage).index
        self.sources, self._inside, self._published = {base.id}, {base.id}, {base.id}
        self._pieces.append(Piece(base, np.arange(len(base), dtype=np.int64)))
        self.written = len(base)

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
        if self._schema.index != "hnsw":
            self._pieces.append(piece)
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
            self._graph = new_graph(self._schema.dim, self._schema.metric)
        self._graph.add(piece.vectors)
        self._pieces.append(piece)

    # --- writing -------------------------------------------------------------------------------------------

    def write(self, *, hurried: bool = False) -> Rows:
        """Write everything taken in as a segment and open it. OSError leaves no files.

        Not while it is midway. The caller puts it in the place of ``taken``, then calls ``adopt``. What is
        ``hurried`` will soon be written again: it is calibrated with fewer queries, and so searched wider.
        """
        core = self._core
        few = min(SAMPLE // 4, max(FEW, _HURRIED_ROWS // len(self)))
        order, index = self._index(few if hurried else SAMPLE)
        docnos = self._pieces.docnos
        contents = sealed.Contents(
            docnos=docnos if order is None else docnos[order],
            raw=self._pieces.chunks(order, raw=True),
            unit=self._pieces.chunks(order) if self._pieces.has_unit else None,
            words=self._words(order),
            index=index,
        )
        dim = self._schema.dim
        manifest = sealed.write(core.root, core.options.files, core.new_segment_id(), dim, contents)
        return core.open_new(manifest)

    def adopt(self, rows: Rows) -> None:
        """What was written stands for what was taken: read from it from now on, and let their files go."""
        self._inside, self._published = {rows.id}, {rows.id}
        self.sources = {rows.id} | {piece.source.id for piece in self._queue}
        self.since = time.monotonic()
        # By lists they are in another order than they were taken; of a graph the order is that of its nodes.
        self._pieces = Pieces()
        self._pieces.append(Piece(rows, np.arange(len(rows), dtype=np.int64)))
        self.written = len(rows)

    def _words(self, order: I64 | None) -> Iterator[Chunk]:
        """The words of all rows in the order in which they are written, from those of their sources."""
        core, count = self._core, len(self._pieces)
        places = np.arange(count, dtype=np.int64)
        if order is not None:
            places[order] = np.arange(count, dtype=np.int64)
        sources: dict[int, tuple[Rows, I64]] = {}
        begin = 0
        for piece in self._pieces.items:
            fresh = (piece.source, np.full(len(piece.source), -1, dtype=np.int64))
            _, targets = sources.setdefault(piece.source.id, fresh)
            targets[piece.rows] = places[begin : begin + len(piece)]
            begin += len(piece)
        runs = [
            Source(run.postings, targets[run.first : run.end])
            for rows, targets in sources.values()
            for run in rows.words.runs(rows.docnos, core.texts)
        ]
        return merged(runs, count, core.words)

    def _index(self, sample: int) -> tuple[I64 | None, Callable[[F32], Made] | None]:
        """The order to write rows in (None: as they were taken), and what makes their index (None: none).

        What was held out is taken in.
        """
        if self._schema.index == "ivf" and len(self) >= self._core.options.flat_rows:
            clusters = cluster(self._pieces)
            return clusters.order, lambda vectors: index_lists(clusters, self._schema, vectors, sample)
        made = self._finish_graph(sample)
        return None, None if made is None else lambda _: made

    def _finish_graph(self, sample: int) -> Made | None:
        """Calibrate with what was held out, insert it, and say how to search; None for no graph."""
        held, self._held = self._held, []
        count = sum(map(len, held))
        wanted = self._graph is not None and len(self) + count >= self._core.options.flat_rows
        measured = None
        if wanted and count >= FEW:
            # Every so many-th, for there may be more than a sample, in the order in which they came.
            queries = np.concatenate([piece.vectors for piece in held])[:: -(-count // sample)]
            measured = measure_graph(self._graph, self._schema, np.ascontiguousarray(queries), None)
        for piece in held:
            self._insert(piece)
        if not wanted:
            return None
        if measured is None:
            own = self._random.choice(len(self._pieces), min(sample, len(self._pieces)), replace=False)
            measured = measure_graph(self._graph, self._schema, self._pieces.vectors(own), own)
        return measured.made(self._graph)
