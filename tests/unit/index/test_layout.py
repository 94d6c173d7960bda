"""The builder between the writer's steps: whatever moment it takes, every living document keeps its row."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shards import by_hand
from vecdb_index import Shard, ShardError, Upsert, encode
from vecdb_index.build import Build
from vecdb_index.growing import Block


class Turns:
    """Turns of a shard's builder in a thread of its own, while a writer stands still between two steps."""

    def __init__(self, shard: Shard, pool: ThreadPoolExecutor, patch: pytest.MonkeyPatch) -> None:
        self._builder = shard._builder
        self._pool = pool
        self._stopped = threading.Event()
        self._turn: Future[float | None] | None = None
        plain = shard._core.new_segment_id

        def new_segment_id() -> int:
            self._stopped.set()  # a writer has the lock
            return plain()

        patch.setattr(shard._core, "new_segment_id", new_segment_id)

    def take(self) -> None:
        """A turn as far as it gets without the writer's lock. The rest of it comes when that is free."""
        if self._turn is not None and not self._turn.done():
            return
        self.finish()
        self._stopped.clear()
        self._turn = self._pool.submit(self._builder._turn)
        self._turn.add_done_callback(lambda _: self._stopped.set())
        assert self._stopped.wait(60)

    def finish(self) -> None:
        """Wait for the turn that is under way; raises what went wrong in it."""
        if self._turn is not None:
            self._turn.result(60)


def entry(index: int, ids: list[str]) -> tuple[int, bytes]:
    vectors = np.random.default_rng(index).standard_normal((len(ids), 4)).astype(np.float32)
    return index, encode(Upsert(ids, vectors))


@pytest.mark.parametrize("step", ["append", "publish"])
def test_a_block_is_sealed_only_with_all_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The builder may look at any moment while entries applied together fill one block and begin the next."""
    ids = [[f"{batch}-{at}" for at in range(6)] for batch in range(6)]
    plain = getattr(Block, step)
    with by_hand(tmp_path / "shard", seal_rows=8) as shard, ThreadPoolExecutor(1) as pool:
        turns = Turns(shard, pool, monkeypatch)

        def with_turns(self: Block, *given: Any) -> Any:
            turns.take()
            done = plain(self, *given)
            turns.take()
            return done

        shard.apply([entry(1, ids[0])])
        with monkeypatch.context() as patch:
            patch.setattr(Block, step, with_turns)
            shard.apply([entry(2 + at, some) for at, some in enumerate(ids[1:])])
        turns.finish()
        while len(shard._core.blocks) > 1:
            shard._builder._turn()
        assert len(shard.get([id_ for some in ids for id_ in some], vector=True)) == 36
        assert sum(part.living for part in shard._core.view.parts) == 36
    with Shard.open(tmp_path / "shard") as shard:
        assert shard.count() == 36


def test_a_segment_without_a_living_row_is_refused(tmp_path: Path) -> None:
    """Whatever went wrong in making it, what lacks a document's row does not replace what has it."""
    with by_hand(tmp_path / "shard", seal_rows=8) as shard:
        core = shard._core
        for index in range(1, 4):
            shard.apply([entry(index, [f"{index}-{at}" for at in range(8)])])
        while len(core.blocks) > 1:
            shard._builder._turn()
        first, second = core.view.sealed
        build = Build(core)
        build.feed(first)
        while build.busy:
            build.step()
        before = core.view
        with pytest.raises(ShardError, match="8 living rows cannot stand for 16"):
            core.replace(build.write(), build.sources | {second.rows.id})
        assert core.view is before  # and the database with it, as opening it shows
        assert shard.count() == 24
        core.replace(build.write(), build.sources)
    with Shard.open(tmp_path / "shard") as shard:
        assert shard.count() == 24
