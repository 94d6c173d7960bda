"""The builder, turn by turn, against a plain model: writes, reads and crashes at every point of a turn.

Its thread is stopped; a rule takes a turn, and may say what happens at one of the points where the real one
can be overtaken. What a reader sees then, and what a shard opened from the files of that moment has, is what
the model has.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from shards import crash_copy
from vecdb_index import Delete, Mutation, Schema, Shard, ShardOptions, Update, Upsert, build, builder, encode
from vecdb_index.core import Core
from vecdb_index.documents import vectors_of
from vecdb_index.parts import View

DIM = 3
IDS = [f"d{number:02}" for number in range(40)]
OPTIONS = ShardOptions(
    seal_rows=6, rest_rows=3, rest_seconds=3600.0, flat_rows=12, max_segments=2, threads=1, scrub=False
)
SMALL = {
    "_PAUSE": 3600.0,
    "_LATE_SECONDS": 3600.0,
    "_MUCH_ROWS": 12,
    "_MUCH_SEGMENTS": 3,
    "_MOST_SEGMENTS": 5,
}
# Every so many-th id from some on: much is drawn with little.
SOME_IDS = st.tuples(st.integers(0, 39), st.integers(1, 7), st.integers(1, 25)).map(
    lambda drawn: [IDS[(drawn[0] + drawn[1] * at) % 40] for at in range(min(drawn[2], 40 // drawn[1]))]
)
KINDS = st.sampled_from(["upsert"] * 5 + ["update", "update", "delete"])
WRITES = st.tuples(KINDS, SOME_IDS)
# Where a turn may be overtaken: each is a method of Core or Build, before or after it runs.
POINTS = st.sampled_from(
    [(Core, name) for name in ("new_segment_id", "replace", "rotate")]
    + [(build.Build, name) for name in ("feed", "step", "write", "adopt")]
)


class BuilderAgainstModel(RuleBasedStateMachine):
    """Whatever the builder did last, and whatever came between, every document has its one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="vecdb-builder-"))
        self.numbers = itertools.count()
        self.patch = pytest.MonkeyPatch()
        for name, value in SMALL.items():
            self.patch.setattr(builder, name, value)
        self.patch.setattr(build, "STEP_BYTES", 4 * DIM * 4)  # four rows a step

    @initialize(metric=st.sampled_from(["l2", "cosine"]), index=st.sampled_from(["hnsw", "hnsw", "flat"]))
    def begin(self, metric: Any, index: Any) -> None:
        self.model: dict[str, tuple[int, bytes]] = {}  # version and vector
        self.index = 0
        self.held: list[tuple[View, np.ndarray, np.ndarray]] = []
        self.shard = Shard.create(self._fresh(), Schema(DIM, metric, index), OPTIONS)
        self.shard._builder.stop()

    def teardown(self) -> None:
        self.patch.undo()
        if hasattr(self, "shard"):
            self.shard.close()
        shutil.rmtree(self.root)

    def _fresh(self) -> Path:
        return self.root / str(next(self.numbers))

    def _mutation(self, kind: str, ids: list[str]) -> Mutation:
        """The next mutation, performed on the model."""
        self.index += 1
        if kind == "delete":
            for id_ in ids:
                self.model.pop(id_, None)
            return Delete(ids)
        if kind == "update":
            for id_ in ids:
                if id_ in self.model:
                    self.model[id_] = (self.index, self.model[id_][1])
            return Update(ids, b"\x80")
        vectors = np.random.default_rng(self.index).standard_normal((len(ids), DIM)).astype(np.float32)
        for id_, vector in zip(ids, vectors, strict=True):
            self.model[id_] = (self.index, vector.tobytes())
        return Upsert(ids, vectors)

    def _write(self, writes: list[tuple[str, list[str]]]) -> None:
        mutations = [self._mutation(kind, ids) for kind, ids in writes]
        first = self.index + 1 - len(mutations)
        self.shard.apply([(first + at, encode(mutation)) for at, mutation in enumerate(mutations)])

    def _check(self, shard: Shard) -> None:
        """The shard has the model's documents, each with one living row, in the view and in the database."""
        rows = shard.get(IDS, vector=True)
        found = {row.id: (row.version, row.vector.tobytes()) for row in rows if row.vector is not None}
        assert found == self.model
        living = [docno for part in shard._core.view.parts for docno in part.living_docnos().tolist()]
        assert sorted(living) == sorted(row.docno for row in rows)
        dead = [docno for (docno,) in shard._core.store.writer.execute("SELECT docno FROM dead")]
        parts = shard._core.view.sealed + shard._core.view.growing
        assert sorted(dead) == sorted(docno for part in parts for docno in part.dead_docnos().tolist())

    def _crash(self) -> None:
        """A shard opened from the files as they are now has all of it, and goes on from there."""
        with Shard.open(crash_copy(self.shard, self._fresh()), OPTIONS) as shard:
            shard._builder.stop()
            self._check(shard)
            shard.verify()

    # --- writing

    @rule(writes=st.lists(WRITES, min_size=1, max_size=4))
    def write(self, writes: list[tuple[str, list[str]]]) -> None:
        self._write(writes)

    # --- building

    @rule(work=st.lists(st.tuples(st.lists(WRITES, min_size=1, max_size=4), st.integers(0, 9)), min_size=3))
    def write_and_turn(self, work: list[tuple[list[tuple[str, list[str]]], int]]) -> None:
        """A load that the builder keeps up with, more or less."""
        for writes, count in work:
            self._write(writes)
            for _ in range(count):
                self.shard._builder._turn()
            self._check(self.shard)

    @rule()
    def turn(self) -> None:
        self.shard._builder._turn()

    @rule()
    def delete_everything(self) -> None:
        self._write([("delete", IDS)])

    @rule(point=POINTS, before=st.booleans(), writes=st.lists(WRITES, max_size=2), crash=st.booleans())
    def turn_overtaken(
        self, point: tuple[type, str], before: bool, writes: list[tuple[str, list[str]]], crash: bool
    ) -> None:
        """Turns in which others write, read, or copy the files for a restart, between two of its steps."""
        owner, name = point
        plain = getattr(owner, name)

        def between() -> None:
            if writes:
                self._write(writes)
            self._check(self.shard)
            if crash:
                self._crash()

        def overtaken(this: Any, *given: Any, **named: Any) -> Any:
            patch.undo()
            if before:
                between()
            made = plain(this, *given, **named)
            if not before:
                between()
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, overtaken)
            for _ in range(4):
                self.shard._builder._turn()

    @rule()
    def pause(self) -> None:
        """No write for a long time: what is at rest is written, merged and let go."""
        self.shard._core.last_write -= 2 * OPTIONS.rest_seconds

    @rule()
    def wait_long(self) -> None:
        """What was taken in waits for long, while writes go on."""
        making = self.shard._builder._build
        if making is not None:
            making.since -= 2 * 3600.0
            self.shard._builder._turn()

    @rule()
    def fail(self) -> None:
        """Something goes wrong in the builder, which then begins with nothing."""
        self.shard._builder._build = None

    @rule()
    def checkpoint(self) -> None:
        """Files that nothing names are unlinked."""
        self.shard.checkpoint()
        named = {
            path
            for part in self.shard._core.view.sealed
            if part.rows.manifest is not None
            for path in part.rows.manifest.paths(self.shard.path)
        }
        assert named <= set((self.shard.path / "segments").iterdir())

    @rule()
    def settle(self) -> None:
        """Left alone, it comes to rest: every row indexed, few segments, few tombstones."""
        self.pause()
        turns: Callable[[], float | None] = self.shard._builder._turn
        for _ in range(400):
            if turns() is None:
                break
        view = self.shard._core.view
        assert self.shard._builder.settled(view)
        assert len(view.sealed) <= OPTIONS.max_segments
        assert all(part.dead < OPTIONS.max_dead * len(part.rows) for part in view.sealed)

    # --- crashing and reading

    @rule()
    def restart(self) -> None:
        """Killed: what was being built is gone, and nothing else."""
        copied = crash_copy(self.shard, self._fresh())
        self.shard.close()
        self.shard = Shard.open(copied, OPTIONS)
        self.shard._builder.stop()

    @rule()
    def hold(self) -> None:
        """A reader takes a view and keeps it."""
        view = self.shard._core.view
        docnos = np.array([row.docno for row in self.shard.get(IDS)], dtype=np.int64)
        self.held.append((view, docnos, vectors_of(view, docnos)[0]))

    @precondition(lambda self: self.held)
    @rule()
    def look_back(self) -> None:
        """It finds what was there, whatever segments were replaced and unlinked since."""
        view, docnos, vectors = self.held.pop(0)
        found, here = vectors_of(view, docnos)
        assert here.all()
        assert np.array_equal(found, vectors)

    @invariant()
    def everything_is_there(self) -> None:
        if hasattr(self, "shard"):
            self._check(self.shard)


TestBuilderAgainstModel = BuilderAgainstModel.TestCase
TestBuilderAgainstModel.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
