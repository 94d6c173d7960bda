"""The background thread that seals, indexes, merges and rebuilds.

One thread a shard does one thing at a time, a turn, the most urgent first:

1. seal a full growing block into files, every other turn at most; drop a segment whose rows are all dead;
2. write the segment in the making once much was added to it, however much still waits, or once all that
   waited is in it and many rows of what it replaces are dead; begin it anew, from what lives, when many of
   its own are;
3. take sealed rows that wait into a graph, a step, and those of segments with many tombstones;
4. write the segment when nothing is left to take in and the load pauses;
5. at rest, seal what grows, if it is more than a few rows;
6. with nothing else to do, merge segments where there are too many, rebuild those with many tombstones, and
give
   words to those that an older version wrote.

What holds between any two of them, and is what the order of things below is for:

- In every view each document's row is alive in exactly one part: a growing block or a segment. A build is no
  part. It takes rows of segments that stay in the view, and what it writes takes their place in one view.
- So it is in the database: manifests, growing vectors and tombstones change in one transaction, which is
  committed before the view is swapped. The files it names were synced before it began. A crash before the
  commit leaves files that nobody names, which go once the shard is opened and checkpointed again; one behind
  it leaves the new segment.
- A segment is replaced only by one that has all of its living rows, so a build is written only between two
  sources, and stands for those that it took in whole. ``Core.replace`` counts the living and refuses
  otherwise.
- A row that dies while it waits is passed over; one that dies when it is inside is a tombstone of what is
  written, because its source still is in the view, dead row and all, when that is replaced. A source with a
  row inside is therefore never dropped by itself.
- A block that is not the last has all its rows (see ``Core.blocks``), so a sealed segment misses none.

Rows that are not in a written segment's graph are searched exactly, so how many there are bounds what a
search costs during a load. To write a segment is to write all of it, so what was added must also be a share
of it: a byte is then rewritten a bounded number of times however large the segment gets. That is not so of
very many segments that together are little, what is left of documents that are rewritten again and again; a
search visits each, so there is a limit to them also.

Which segments to merge follows the usual rule of log-structured indexes: a segment is absorbed once what
would be merged with it is a fair share of its size, so rows are rewritten O(log n) times. The largest of them
lends its graph, which is extended instead of built again; lists are made anew from all of their rows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from vecdb_index import sealed
from vecdb_index.build import Build
from vecdb_index.core import Core
from vecdb_index.errors import ShardClosed, ShardDamaged
from vecdb_index.files import Chunk
from vecdb_index.fulltext.merge import Source, indexed, merged
from vecdb_index.growing import Block
from vecdb_index.knn import I64, faiss
from vecdb_index.parts import Part, Rows, View
from vecdb_index.schema import ShardOptions

_PAUSE: Final = 0.3  # seconds without a write after which a bulk load is taken to pause
_RETRY: Final = (0.2, 10.0)  # seconds before a failed job is tried again: first, at most
_MUCH_ROWS: Final = 65_536  # so many are written before the load ends,
_SHARE: Final = 8  # unless they are less than an eighth of what there was
_LATE_SECONDS: Final = 30.0  # what waits so long is written,
_LATE_SHARE: Final = 4  # unless it is less than a quarter of what there was
_MUCH_SEGMENTS: Final = 16  # as many rows as _MUCH_ROWS, where vectors are so long that segments have few
_MOST_SEGMENTS: Final = 64  # are never more, however little is in them


class Builder:
    """Owns the thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._options = core.options
        self._build: Build | None = None
        self._delay = _RETRY[0]
        self._sealed = False  # whether the last turn did: where blocks fill up fast, every other does
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vecdb-builder", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step in progress."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    # --- what others ask -----------------------------------------------------------------------------------

    def waiting(self, view: View) -> int:
        """Living rows that wait to be indexed (those of a growing segment small enough to rest do not)."""
        growing = sum(part.living for part in view.growing)
        pending = sum(part.living for part in view.sealed if part.rows.pending)
        return pending + (growing if growing >= self._options.rest_rows else 0)

    def settled(self, view: View) -> bool:
        """Whether the shard is as it will be at rest."""
        if self.waiting(view) or len(view.growing) > 1:
            return False
        return not choose(view.sealed, self._options) and _lacking_words(view) is None

    def wait_settled(self, timeout: float | None) -> bool:
        """Wait for it; False when the time passes or the shard closes before."""
        core = self._core
        with core.changed:
            core.changed.wait_for(lambda: core.closed or self.settled(core.view), timeout)
        return not core.closed and self.settled(core.view)

    # --- the loop ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._options.threads is not None:
            faiss.omp_set_num_threads(self._options.threads)  # of this thread only
        while not self._stop.is_set():
            self._wake.clear()
            if self._stop.is_set():  # whose wake-up may just have been cleared
                return
            try:
                pause = self._turn()
            except ShardDamaged as damage:
                self._core.damaged(damage)
                return
            except ShardClosed:
                return
            except Exception as error:
                # Whatever it is, the shard goes on without, says so, and tries again.
                self._core.error = f"{type(error).__name__}: {error}"
                self._build = None
                self._stop.wait(self._delay)
                self._delay = min(2 * self._delay, _RETRY[1])
                continue
            if pause is None:
                self._succeeded()
            if pause != 0.0:
                self._wake.wait(pause)

    def _succeeded(self) -> None:
        """A job is done, or there is none. Its steps do not count: what fails is mostly the last."""
        self._delay, self._core.error = _RETRY[0], None

    def _replace(self, new: Rows | None, old: Iterable[int], block: Block | None = None) -> None:
        try:
            self._core.replace(new, old, block)
        except BaseException:
            if new is not None and new.manifest is not None:
                self._core.discard(new.manifest)
            raise
        self._succeeded()

    def _turn(self) -> float | None:
        """Do one thing; how long to sleep after it (None: until woken)."""
        core, view = self._core, self._core.view
        core.check()
        full = len(core.blocks) > 1
        self._sealed = full and not self._sealed
        if self._sealed:
            self._seal(core.blocks[0])
            return 0.0
        if self._index(view) or full:
            return 0.0
        return self._rest(view)

    def _index(self, view: View) -> bool:
        """Do something for what is sealed, if there is anything that cannot wait; whether there was."""
        if self._drop_empty(view) or self._publish(view):
            return True
        if self._build is not None and self._build.busy:
            self._build.step()
            return True
        return self._feed(view)

    def _rest(self, view: View) -> float | None:
        """What is to be done once writes pause, and what takes the shard to rest; the pause, as of a turn."""
        core, build = self._core, self._build
        idle = time.monotonic() - core.last_write
        growing = core.blocks[0].part
        if growing.living >= self._options.rest_rows or (growing.dead and growing.living == 0):
            if idle < self._options.rest_seconds:
                return self._maybe_write(idle) or self._options.rest_seconds - idle
            core.rotate()
            return 0.0
        if build is not None:
            pause = self._maybe_write(idle)
            return self._forget_build(idle) if pause is None else pause
        return self._tidy(view)

    def _seal(self, block: Block) -> None:
        """Freeze a block into files, and let them take its place."""
        core, part = self._core, block.part
        rows = part.living_rows()
        if not len(rows):
            self._replace(None, (), block)
            return
        held = part.rows
        contents = sealed.Contents(
            docnos=held.docnos[rows],
            raw=[held.raw[rows]],
            unit=None if held.vectors is held.raw else [held.vectors[rows]],
            words=self._words_of(held, rows),
            pending=True,
        )
        manifest = sealed.write(
            core.root, core.options.files, core.new_segment_id(), core.schema.dim, contents
        )
        self._replace(core.open_new(manifest), (), block)

    def _words_of(self, held: Rows, rows: I64) -> Iterator[Chunk]:
        """The words of some rows, in their order."""
        core = self._core
        if not core.has_texts(int(held.docnos.min()), int(held.docnos.max())):
            return indexed([None] * len(rows), core.words)
        targets = np.full(len(held), -1, dtype=np.int64)
        targets[rows] = np.arange(len(rows))
        runs = held.words.runs(held.docnos, core.texts)
        sources = [Source(run.postings, targets[run.first : run.end]) for run in runs]
        return merged(sources, len(rows), core.words)

    def _drop_empty(self, view: View) -> bool:
        """Forget segments whose rows are all dead; whether there was any."""
        empty = {part.rows.id for part in view.sealed if not part.living}
        if self._build is not None:
            empty = {id_ for id_ in empty if self._build.drop(id_)}
        if empty:
            self._replace(None, empty)
        return bool(empty)

    def _publish(self, view: View) -> bool:
        """Write the build's segment, or begin anew, if that should not wait for a pause; whether it did."""
        build = self._build
        if build is None or build.midway:
            return False
        # Only once all is in: to begin anew before, where much is rewritten, would never come to an end. And
        # what there is is written first, for it lacks what died before it was taken in.
        worn = not build.busy and self._worn_together(build.taken, view)
        if build.unwritten and (worn or _due(build)):
            self._write(build, hurried=True)
        elif worn:
            # What is dead leaves a graph only with all the others.
            self._begin([part for part in view.sealed if part.rows.id in build.sources])
        else:
            return False
        return True

    def _worn_together(self, ids: set[int], view: View) -> bool:
        """Whether many of the rows of these segments are dead."""
        parts = [part for part in view.sealed if part.rows.id in ids]
        return _many(sum(part.dead for part in parts), sum(len(part.rows) for part in parts), self._options)

    def _feed(self, view: View) -> bool:
        """Give the build what newly waits or is worn, or start one; whether there was anything."""
        build = self._build
        if build is None:
            if not any(part.rows.pending for part in view.sealed):
                return False
            self._begin(choose(view.sealed, self._options))
            return True
        fresh = [part for part in view.sealed if part.rows.id not in build.sources]
        fed = [part for part in fresh if part.rows.pending]
        fed += [part for part in fresh if not part.rows.pending and _worn(part, self._options)][:1]
        for part in fed:
            build.feed(part)
        return bool(fed)

    def _begin(self, chosen: list[Part]) -> None:
        base = max(chosen, key=lambda part: len(part.rows))
        if not base.rows.extendable or _worn(base, self._options):
            self._build = Build(self._core)
        else:
            self._build = Build(self._core, base.rows)
            chosen = [part for part in chosen if part is not base]
        for part in chosen:
            self._build.feed(part)

    def _maybe_write(self, idle: float) -> float | None:
        """Write the build's segment if the load pauses; how long to wait, None when nothing is unwritten."""
        build = self._build
        if build is None or not build.unwritten:
            return None
        pause = min(_PAUSE, self._options.rest_seconds)
        if idle < pause:
            return pause - idle
        self._write(build)
        return 0.0

    def _write(self, build: Build, *, hurried: bool = False) -> None:
        old = build.taken
        rows = build.write(hurried=hurried)
        self._replace(rows, old)
        build.adopt(rows)

    def _forget_build(self, idle: float) -> float:
        """Let go of the build's memory once the load has ended."""
        if idle < self._options.rest_seconds:
            return self._options.rest_seconds - idle
        self._build = None
        return 0.0

    def _tidy(self, view: View) -> float | None:
        """Merge or rebuild, if the shard needs it."""
        chosen = choose(view.sealed, self._options)
        if chosen:
            self._begin(chosen)
            return 0.0
        lacking = _lacking_words(view)
        if lacking is None:
            return None
        self._give_words(lacking)
        return 0.0

    def _give_words(self, part: Part) -> None:
        """Put a segment with words in the place of one without; its other files stay what they are."""
        core, rows = self._core, part.rows
        assert rows.manifest is not None, "sealed rows have manifests"
        words = self._words_of(rows, np.arange(len(rows), dtype=np.int64))
        manifest = sealed.write_words(
            core.root, core.options.files, rows.manifest, core.new_segment_id(), words
        )
        self._replace(core.open_new(manifest), {rows.id})


def choose(parts: tuple[Part, ...], options: ShardOptions) -> list[Part]:
    """The segments to make one of; none when the shard is as it should be."""
    chosen = [part for part in parts if part.rows.pending]
    indexed = sorted((part for part in parts if not part.rows.pending), key=lambda part: part.living)
    total = sum(part.living for part in chosen)
    if not chosen:
        worn = [part for part in indexed if _worn(part, options)]
        if worn:
            return worn[:1]
        if len(indexed) <= options.max_segments:
            return []
    while indexed and (
        indexed[0].living * options.base_ratio <= total or len(indexed) + bool(chosen) > options.max_segments
    ):
        part = indexed.pop(0)
        chosen.append(part)
        total += part.living
    return chosen


def _lacking_words(view: View) -> Part | None:
    """A segment whose words are in no file."""
    return next((part for part in view.sealed if not part.rows.words.kept), None)


def _due(build: Build) -> bool:
    """Whether so much was added to the segment that it is written without a pause."""
    added, before = len(build) - build.written, build.written
    if not added:
        return False
    if added >= max(_MUCH_ROWS, before / _SHARE):
        return True
    segments = len(build.unwritten)
    if segments >= _MOST_SEGMENTS or (segments >= _MUCH_SEGMENTS and added >= before / _SHARE):
        return True
    return time.monotonic() - build.since >= _LATE_SECONDS and added >= before / _LATE_SHARE


def _worn(part: Part, options: ShardOptions) -> bool:
    return _many(part.dead, len(part.rows), options)


def _many(dead: int, rows: int, options: ShardOptions) -> bool:
    return dead > 0 and dead >= options.max_dead * rows
