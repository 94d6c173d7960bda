"""kill -9 at any moment, under writing clients: what was acknowledged is there, and nothing is half there."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from vecdb_client import Client
from vecdb_client import Filter as F
from vecdb_index import Shard

from tests.crash.ledger import Track
from tests.crash.load import Churner, Worker, Writer, paused, wait_until
from tests.support.node import Node

# Small segments and a short log: seals, merges, checkpoints and dropped log files all the time.
ENV = {
    "VECDB_ENGINE__SEAL_ROWS": "64",
    "VECDB_ENGINE__WAL_SEGMENT_BYTES": "1MiB",
    "VECDB_ENGINE__THREADS": "1",
    "VECDB_LIMITS__MIN_FREE_DISK_BYTES": "0",
}
WRITERS = 3
KEYS = 600
# Name: dimensions, metric, shards.
COLLECTIONS = {"plain": (8, "l2", 1), "spread": (24, "cosine", 3)}


def _tracks(db: Client) -> list[list[Track]]:
    """A list for each writer: its documents in each collection."""
    by_writer: list[list[Track]] = [[] for _ in range(WRITERS)]
    for name, (dim, metric, shards) in COLLECTIONS.items():
        fields = {"owner": "keyword", "stamp": "int"} if shards > 1 else None
        db.create_collection(name, dim=dim, metric=metric, shards=shards, fields=fields)
        ids = [shard.shard for shard in db.describe(name).shards]
        for number, tracks in enumerate(by_writer):
            keys = [f"w{number}-{name}-{key:04}" for key in range(KEYS)]
            tracks.append(Track(name, keys, dim, ids))
    return by_writer


def _check_under_load(db: Client, tracks: Sequence[Track]) -> None:
    """Each writer's documents are those of a prefix of its writes, while it goes on writing."""
    for track in tracks:
        before = track.before()
        track.check(before, db.get(track.collection, track.keys, with_vector=True))


def _check_at_rest(db: Client, tracks: Sequence[Track], churner: Churner) -> None:
    """With nothing under way there is one allowed answer; listing, counts, filters and searches agree."""
    churner.verify(db)
    for name, (_, _, shards) in COLLECTIONS.items():
        own = [track for track in tracks if track.collection == name]
        listed = list(db.scroll(name, with_vector=True))
        states = [track.living() for track in own]
        assert db.count(name) == len(listed) == sum(map(len, states))
        for track, living in zip(own, states, strict=True):
            before = track.before()
            track.check(before, [each for each in listed if each.id in set(track.keys)])
            owner = track.keys[0].partition("-")[0]
            assert db.count(name, filter=F("owner") == owner) == len(living)
        _check_searches(db, name, own, len(listed), shards)


def _check_searches(db: Client, name: str, tracks: Sequence[Track], count: int, shards: int) -> None:
    keys, vectors = [], []
    for track in tracks:
        for key, state in track.living().items():
            keys.append(key)
            vectors.append(track.vector(key, state))
    if not keys:
        return
    queries = np.stack(vectors)
    exact = db.search_batch(name, vectors=queries, k=1, exact=True)
    assert [hits.ids for hits in exact] == [[key] for key in keys]
    graph = db.search_batch(name, vectors=queries, k=1)
    found = sum(hits.ids == [key] for hits, key in zip(graph, keys, strict=True))
    assert found >= 0.95 * len(keys), f"{found} of {count} documents in {shards} shards are their own nearest"


def _campaign(folder: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    node = Node(folder, env=ENV)
    workers: list[Worker] = []
    with node, node.client() as db:
        by_writer = _tracks(db)
        tracks = [track for own in by_writer for track in own]
        churner = Churner("churner", node.address, seed)
        workers = [
            Writer(f"writer {number}", node.address, seed + 1 + number, own)
            for number, own in enumerate(by_writer)
        ]
        workers.append(churner)
        for worker in workers:
            worker.start()
        for number in range(kills):
            _run_for_a_while(workers, chance)
            node.kill()
            if number % 3 == 2:
                # Once more, somewhere between the first import and the first answer.
                node.start(wait=False)
                time.sleep(chance.uniform(0.3, 2.5))
                node.kill()
            node.start()
            # What was under way when it died is being tried again meanwhile.
            _check_under_load(db, tracks)
            with paused(workers):
                _check_at_rest(db, tracks, churner)
        for worker in workers:
            worker.end()
        print(f"\n{kills + kills // 3} kills, {sum(worker.done for worker in workers)} acknowledged requests")
        _check_under_load(db, tracks)
        assert any(
            segment.state == "sealed" for name in COLLECTIONS for shard in db.describe(name).shards
            for segment in shard.segments
        )  # fmt: skip
    for path in sorted((node.data_dir / "shards").iterdir()):
        with Shard.open(path) as shard:
            shard.verify()


def _run_for_a_while(workers: Sequence[Worker], chance: random.Random) -> None:
    """Let some writes be acknowledged, then go on to a random moment within the next."""
    wanted = sum(worker.done for worker in workers) + chance.randint(1, 60)

    def enough() -> bool:
        for worker in workers:
            worker.check()
        return sum(worker.done for worker in workers) >= wanted

    wait_until(enough, "writes to be acknowledged")
    if chance.random() < 0.4:
        # Segments are merged when writes pause: die in the middle of that.
        with paused(workers):
            time.sleep(chance.uniform(0.3, 1.3))
    time.sleep(chance.uniform(0.0, 0.05))


@pytest.mark.timeout(600)  # half a minute where the machine is idle
def test_kill_under_writes(tmp_path: Path) -> None:
    """Six kills, two of them while starting: after each, clients find what they were promised."""
    _campaign(tmp_path, 6, seed=1)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [11, 12])
def test_fifty_kills_under_writes(tmp_path: Path, seed: int) -> None:
    """The same fifty times, with other moments."""
    _campaign(tmp_path, 50, seed)
