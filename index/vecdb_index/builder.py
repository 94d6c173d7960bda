"""The background thread that seals, indexes, merges and rebuilds.

One thread a shard does one thing at a time, in small steps, the most urgent first:

1. seal a full growing block into files;
2. take sealed rows that wait into a graph, a step; write the segment when nothing is left to take in and the
   load pauses, or when it has doubled;
3. at rest, seal what grows, if it is more than a few rows;
4. with nothing else to do, merge segments where there are too many, and rebuild those with many tombstones.

Which segments to merge follows the usual rule of log-structured indexes: a segment is absorbed once what
would be merged with it is a fair share of its size, so rows are rewritten O(log n) times. The largest of them
lends its graph, which is extended instead of built again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Final

from vecdb_index import sealed
from vecdb_index.build import Build
from vecdb_index.core import Core
from vecdb_index.errors import ShardClosed, ShardDamaged
from vecdb_index.growing import Block
from vecdb_index.knn import faiss
from vecdb_index.parts import Part, Rows, View
from vecdb_index.schema import ShardOptions

_PAUSE: Final = 0.3  # seconds without a write after which a bulk load is taken to pause
_RETRY: Final = (0.2, 10.0)  # seconds before a failed job is tried again: first, at most
_EARLY_ROWS: Final = 32_768  # a first segment is written before the load ends once it has so many rows


class Builder:
    """Owns the thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._options = core.options
        self._build: Build | None = None
        self._delay = _RETRY[0]
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
        pending = sum(part.living for part in view.sealed if _pending(part))
        return pending + (growing if growing >= self._options.rest_rows else 0)

    def settled(self, view: View) -> bool:
        """Whether the shard is as it will be at rest."""
        return not self.waiting(view) and len(view.growing) < 2 and not choose(view.sealed, self._options)

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
        self._core.replace(new, old, block)
        self._succeeded()

    def _turn(self) -> float | None:
        """Do one thing; how long to sleep after it (None: until woken)."""
        core, view = self._core, self._core.view
        core.check()
        if len(core.blocks) > 1:
            self._seal(core.blocks[0])
            return 0.0
        build = self._build
        if build is not None and build.busy:
            build.step()
            return 0.0
        if self._feed(view):
            return 0.0
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
            pending=True,
        )
        manifest = sealed.write(
            core.root, core.options.files, core.new_segment_id(), core.schema.dim, contents
        )
        self._replace(sealed.open_rows(core.root, manifest, core.schema.metric), (), block)

    def _feed(self, view: View) -> bool:
        """Give the build what newly waits, or start one; whether there was anything."""
        known = set() if self._build is None else self._build.sources
        fresh = [part for part in view.sealed if _pending(part) and _id_of(part) not in known]
        if not fresh:
            return False
        if self._build is None:
            self._begin(choose(view.sealed, self._options))
        else:
            for part in fresh:
                self._build.feed(part)
        return True

    def _begin(self, chosen: list[Part]) -> None:
        base = max(chosen, key=lambda part: len(part.rows))
        if base.rows.graph is None or base.dead >= self._options.max_dead * len(base.rows):
            self._build = Build(self._core)
        else:
            self._build = Build(self._core, base.rows)
            chosen = [part for part in chosen if part is not base]
        for part in chosen:
            self._build.feed(part)

    def _maybe_write(self, idle: float) -> float | None:
        """Write the build's segment if it is time; the pause, None when there is nothing unwritten."""
        build = self._build
        if build is None or not build.unwritten:
            return None
        added = len(build) - build.written
        doubled = len(build) >= _EARLY_ROWS and added >= build.written
        pause = min(_PAUSE, self._options.rest_seconds)
        if idle < pause and not doubled:
            return pause - idle
        self._write(build)
        return 0.0

    def _write(self, build: Build) -> None:
        old = set(build.sources)
        if not len(build):
            self._replace(None, old)
            self._build = None
            return
        rows = build.write()
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
        if not chosen:
            return None
        if not any(part.living for part in chosen):
            self._replace(None, {_id_of(part) for part in chosen})
        else:
            self._begin(chosen)
        return 0.0


def choose(parts: tuple[Part, ...], options: ShardOptions) -> list[Part]:
    """The segments to make one of; none when the shard is as it should be."""
    chosen = [part for part in parts if _pending(part)]
    indexed = sorted((part for part in parts if not _pending(part)), key=lambda part: part.living)
    total = sum(part.living for part in chosen)
    if not chosen:
        worn = [part for part in indexed if part.dead and part.dead >= options.max_dead * len(part.rows)]
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


def _pending(part: Part) -> bool:
    return part.rows.manifest is not None and part.rows.manifest.pending


def _id_of(part: Part) -> int:
    assert part.rows.manifest is not None, "sealed parts have manifests"
    return part.rows.manifest.id
