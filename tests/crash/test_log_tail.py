"""Power loss while the log is being written: what was acknowledged survives, whatever of the rest does."""

from __future__ import annotations

import asyncio
import copy
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from vecdb_index import Schema, Shard, ShardOptions

from tests.crash.history import DIM, frame_ends, mutation, synced_frames
from tests.crash.pieces import BUSY, Pieces, copied, opened
from tests.support.faultfs import FaultFileSystem, Keep, Op

PLAIN = ShardOptions(rest_seconds=3600.0, seal_rows=1 << 20, scrub=False)
PROPOSERS = 6
# So short that files of it are finished, and dropped behind checkpoints, all the time.
SEGMENT_BYTES = 32 << 10
COMPACT_EVERY = 25


@dataclass(frozen=True, slots=True)
class Moment:
    """The node just before a sync of its log: its disks, and what it had acknowledged until then."""

    root: Path
    disk: FaultFileSystem
    acknowledged: dict[int, int]
    synced: dict[int, int]
    """Frames of each shard's SQLite log that cannot be lost."""


class Recorder:
    """Keeps the moment of every `every`-th sync of the log."""

    def __init__(self, root: Path, target: Path, every: int) -> None:
        self.disk = FaultFileSystem(1, on_op=self._before)
        self.moments: list[Moment] = []
        self.acknowledged: dict[int, int] = {}
        self.dropped = 0
        self.pieces: Pieces | None = None
        self._root, self._target, self._every = root, target, every
        self._syncs = 0
        self._unsynced: dict[Path, int] = {}
        self.most_unsynced = 0

    def _before(self, op: Op, path: Path) -> None:
        if op == "append":
            self._unsynced[path] = self._unsynced.get(path, 0) + 1
            self.most_unsynced = max(self.most_unsynced, self._unsynced[path])
        if op == "fdatasync":
            self._unsynced[path] = 0
        if op != "fdatasync" or self.pieces is None:
            return
        self._syncs += 1
        if self._syncs % self._every:
            return
        # In this order: what is acknowledged later than this need not be in the copies.
        acknowledged = dict(self.acknowledged)
        target = self._target / str(self._syncs)
        synced = {}
        for shard in self.pieces.shard_ids():
            core = self.pieces.shards.get(shard)._core
            with core.lock, core.store._checkpoint_lock:
                copied(core.root, target / "shards" / str(shard))
                synced[shard] = synced_frames(core.store.path)
        copied(self._root / "catalog", target / "catalog")
        self.disk.on_op = None
        self.moments.append(Moment(target, copy.deepcopy(self.disk), acknowledged, synced))
        self.disk.on_op = self._before


async def _run(root: Path, recorder: Recorder, writes: int) -> dict[int, dict[int, bytes]]:
    """Several clients at once, so that a sync has several writes; the entries of each shard by index."""
    entries: dict[int, dict[int, bytes]] = {}
    numbers = iter(range(writes))
    rng = np.random.default_rng(3)

    async with opened(root, BUSY, fs=recorder.disk, segment_bytes=SEGMENT_BYTES) as pieces:
        await pieces.create("docs", DIM, 2, {})
        recorder.pieces = pieces
        shards = pieces.shard_ids()
        entries = {shard: {} for shard in shards}

        async def propose() -> None:
            for number in numbers:
                shard, data = shards[number % len(shards)], mutation(rng, number)
                index = (await pieces.host.propose(shard, data)).index
                entries[shard][index] = data
                recorder.acknowledged[shard] = max(index, recorder.acknowledged.get(shard, 0))
                if number % COMPACT_EVERY == COMPACT_EVERY - 1:
                    recorder.dropped += await pieces.host.compact()

        await asyncio.gather(*(propose() for _ in range(PROPOSERS)))
        # On a fast machine all of the above may have happened before the first file was full.
        recorder.dropped += await pieces.host.compact()
        recorder.pieces = None
    return entries


def _reference(path: Path, entries: dict[int, bytes]) -> dict[int, bytes]:
    """The content hash after each entry; of no entry, at 0."""
    with Shard.create(path, Schema(DIM, "l2"), PLAIN) as shard:
        hashes = {0: shard.content_hash()}
        for index, data in sorted(entries.items()):
            shard.apply([(index, data)])
            hashes[index] = shard.content_hash()
        return hashes


async def _check(
    moment: Moment, keep: Keep, scratch: Path, wanted: dict[int, dict[int, bytes]], chance: random.Random
) -> int:
    """Open what the power loss left; how many entries survived beyond the acknowledged ones."""
    copied(moment.root, scratch)
    disk = copy.deepcopy(moment.disk)
    disk.random.seed(chance.random())
    disk.crash(keep)
    (scratch / "log").mkdir()
    for path, content in disk.image().items():
        (scratch / "log" / path.name).write_bytes(content)
    for wal in (scratch / "shards").glob("*/shard.db-wal"):
        if wal.stat().st_size and chance.random() < 0.5:
            os.truncate(wal, chance.choice(frame_ends(wal)[moment.synced[int(wal.parent.name)] :]))
    beyond = 0
    async with opened(scratch, PLAIN) as pieces:
        for shard, hashes in wanted.items():
            applied, content = pieces.hashes()[shard]
            assert applied >= moment.acknowledged.get(shard, 0), "an acknowledged write is gone"
            assert content == hashes[max(index for index in hashes if index <= applied)]
            beyond += applied - moment.acknowledged.get(shard, 0)
    shutil.rmtree(scratch)
    return beyond


async def _campaign(folder: Path, writes: int, every: int, tears: int) -> None:
    recorder = Recorder(folder / "data", folder / "moments", every)
    entries = await _run(folder / "data", recorder, writes)
    wanted = {
        shard: _reference(folder / f"reference-{shard}", of_shard) for shard, of_shard in entries.items()
    }
    chance = random.Random(4)
    assert len(recorder.moments) >= 5
    survived = lost = 0
    for moment in recorder.moments:
        keeps: list[Keep] = ["none", *["torn"] * tears, "all"]  # type: ignore[list-item]
        beyond = [await _check(moment, keep, folder / "lost", wanted, chance) for keep in keeps]
        survived += beyond[-1]
        lost += beyond[0] < beyond[-1]
    assert recorder.dropped, "no file of the log was dropped"
    # Of two records before one sync a power loss may keep the later alone, and that looks like damage.
    assert recorder.most_unsynced == 1, f"{recorder.most_unsynced} records were written before one sync"
    assert survived, "nothing was unsynced at any moment"
    assert lost, "no power loss took anything"


async def test_unsynced_tail(tmp_path: Path) -> None:
    """None, part or all of what was written since the last sync survives: acknowledged entries always do."""
    await _campaign(tmp_path, writes=120, every=7, tears=2)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
async def test_unsynced_tail_at_every_sync(tmp_path: Path) -> None:
    """The same at every sync, with more tears, over many files of the log."""
    await _campaign(tmp_path, writes=700, every=1, tears=6)
