"""The shards of a node: they follow the catalogue, and come back from every half-done step."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from vecdb_index import Shard, ShardClosed, ShardOptions, StorageFailed, Upsert, encode
from vecdb_replication.host import GroupDamaged, Host, StorageFull
from vecdb_replication.wal import Wal

from tests.unit.vecdb.catalog.records import record
from vecdb.catalog import CatalogState, CollectionRecord
from vecdb.shards import ShardMachine, ShardSet, UnknownShard

DOCS = record("docs", shards=(2, 3), fields=(("year", "int"),))
OTHER = record("other", shards=(4,), fields=())
OPTIONS = ShardOptions(threads=1)


@dataclass(frozen=True)
class Place:
    host: Host
    wal: Wal
    shards: ShardSet
    root: Path


@asynccontextmanager
async def opened(folder: Path, *records: CollectionRecord, **settings: Any) -> AsyncIterator[Place]:
    """The shards of these collections, as a node that starts has them."""
    wal = Wal.open(folder / "log", segment_bytes=settings.pop("segment_bytes", 1 << 20))
    try:
        host = Host(wal, **settings)
        shards = ShardSet(folder / "shards", host, wal, OPTIONS)
        try:
            state = CatalogState(collections=MappingProxyType({each.name: each for each in records}))
            await shards.open_all(state)
            yield Place(host, wal, shards, folder / "shards")
        finally:
            await host.close()
            shards.close()
    finally:
        wal.close()


def write(*ids: str) -> bytes:
    vectors = np.ones((len(ids), 4), dtype=np.float32)
    return encode(Upsert(list(ids), vectors, None, None, "me", 1, None, None, b"", 0))


async def test_shards_follow_the_catalogue(tmp_path: Path) -> None:
    """ensure makes shards and declares fields through their logs; twice is once; drop leaves nothing."""
    async with opened(tmp_path) as place:
        await place.shards.ensure(DOCS)
        assert (len(place.shards), 2 in place.shards, 4 in place.shards) == (2, True, False)
        assert [spec.name for spec in place.shards.get(3).schema.fields] == ["year"]
        index = place.shards.get(3).applied_index
        await place.shards.ensure(DOCS)
        assert place.shards.get(3).applied_index == index
        await place.host.propose(2, write("a"))
        changed = replace(DOCS, fields=(("year", "keyword"), ("lang", "keyword")))
        await place.shards.ensure(changed)
        held = {spec.name: spec.type.value for spec in place.shards.get(2).schema.fields}
        assert held == dict(changed.fields)
        shard = place.shards.get(2)
        await place.shards.drop(changed)
        assert sorted(place.root.iterdir()) == []
        with pytest.raises(UnknownShard, match="shard 2"):
            place.shards.get(2)
        with pytest.raises(ShardClosed):
            shard.count()
        await place.shards.drop(changed)


async def test_a_restart_brings_back_what_was_acknowledged(tmp_path: Path) -> None:
    """Documents, fields and positions are there again."""
    async with opened(tmp_path, DOCS) as place:
        await place.host.propose(2, write("a", "b"))
        await place.host.propose(3, write("c"))
        before = [place.shards.get(shard).content_hash() for shard in (2, 3)]
    async with opened(tmp_path, DOCS) as place:
        assert [place.shards.get(shard).content_hash() for shard in (2, 3)] == before
        assert place.shards.get(2).count() == 2


async def test_a_shard_whose_making_was_cut_short_is_made_again(tmp_path: Path) -> None:
    """A folder without its database is a creation that a crash interrupted: the log has all there is."""
    async with opened(tmp_path, DOCS) as place:
        await place.host.propose(2, write("a"))
    (tmp_path / "shards" / "2" / "shard.db").unlink()
    shutil.rmtree(tmp_path / "shards" / "3")
    async with opened(tmp_path, DOCS) as place:
        assert place.shards.get(2).count() == 1
        assert place.shards.get(3).count() == 0


async def test_a_lost_shard_whose_log_was_shortened_is_damage(tmp_path: Path) -> None:
    """Where the log no longer holds everything, a missing folder is not answered with an empty shard."""
    async with opened(tmp_path, DOCS, compact_bytes=0) as place:
        await place.host.propose(2, write("a"))
        await place.host.compact()
        assert place.wal.state(2).first_index > 1
    shutil.rmtree(tmp_path / "shards" / "2")
    with pytest.raises(GroupDamaged, match="documents are lost"):
        async with opened(tmp_path, DOCS):
            pass


async def test_what_a_drop_left_behind_is_cleared_away(tmp_path: Path) -> None:
    """A crash between the catalogue's drop and the files: the next start removes files and log."""
    async with opened(tmp_path, DOCS, OTHER) as place:
        await place.host.propose(2, write("a"))
    (tmp_path / "shards" / "9.dropped").mkdir()
    (tmp_path / "shards" / "notes").mkdir()
    async with opened(tmp_path, OTHER) as place:
        assert sorted(path.name for path in place.root.iterdir()) == ["4", "notes"]
        assert all(place.wal.state(group).tombstone is not None for group in (2, 3))
        assert place.wal.state(4).tombstone is None
    with pytest.raises(GroupDamaged, match="removed"):
        async with opened(tmp_path, DOCS, OTHER):
            pass


async def test_a_shard_that_does_not_fit_its_log_is_closed_again(tmp_path: Path) -> None:
    """A refused shard does not stay open: it can be opened elsewhere at once."""
    async with opened(tmp_path, OTHER) as place:
        await place.host.propose(4, write("a"))
    shutil.rmtree(tmp_path / "log")
    async with opened(tmp_path) as place:
        assert len(place.shards) == 0
    async with opened(tmp_path, OTHER) as place:
        await place.host.propose(4, write("b"))
    shutil.rmtree(tmp_path / "log")
    with pytest.raises(GroupDamaged, match="group 4"):
        async with opened(tmp_path, OTHER):
            pass
    Shard.open(tmp_path / "shards" / "4", OPTIONS).close()


async def test_samples_tell_of_every_shard(tmp_path: Path) -> None:
    """One sample a shard, with its collection, documents and positions."""
    async with opened(tmp_path, DOCS, OTHER) as place:
        await place.host.propose(4, write("a", "b"))
        samples = {sample.shard: sample for sample in place.shards.samples()}
        assert sorted(samples) == [2, 3, 4]
        assert (samples[4].collection, samples[4].documents) == ("other", 2)
        assert samples[4].applied_index == place.shards.get(4).applied_index
        assert samples[4].calibrated_recall == 1.0
        assert samples[4].segments == {"growing": 1, "sealed": 0}


class Refusing:
    """A shard whose disk takes nothing."""

    applied_index = 7
    durable_index = 5

    def __init__(self, path: Path) -> None:
        self.path = path

    def apply(self, entries: Any) -> Any:
        raise StorageFailed("the disk is full")

    def checkpoint(self) -> int:
        raise StorageFailed("the disk is full")


def test_a_disk_that_refuses_is_for_another_time(tmp_path: Path) -> None:
    """The engine's StorageFailed is the host's StorageFull; a checkpoint without room gets nowhere."""
    machine = ShardMachine(Refusing(tmp_path / "7"), 7, OPTIONS)  # type: ignore[arg-type]
    with pytest.raises(StorageFull, match="the disk is full"):
        machine.apply([(8, b"")])
    assert (machine.applied_index, machine.checkpoint(), machine.durable_index) == (7, 5, 5)


async def test_what_belongs_to_a_shard_goes_with_it(tmp_path: Path) -> None:
    """Its snapshots, and what an interrupted installation left, also where the shard itself is gone."""
    async with opened(tmp_path, DOCS, OTHER) as place:
        await place.shards.drop(OTHER)
    for name in ("2.snapshots", "4.snapshots", "4.replaced"):
        (tmp_path / "shards" / name / "in").mkdir(parents=True)
    async with opened(tmp_path, DOCS) as place:
        assert [path.name for path in sorted(place.root.iterdir())] == ["2", "2.snapshots", "3"]
        await place.shards.drop(DOCS)
        assert list(place.root.iterdir()) == []


async def test_an_interrupted_installation_is_undone_at_the_next_start(tmp_path: Path) -> None:
    """The shard had been moved aside and nothing was in its place: it is there again, with its documents."""
    async with opened(tmp_path, DOCS) as place:
        await place.host.propose(2, write("a"))
    (tmp_path / "shards" / "2").rename(tmp_path / "shards" / "2.replaced")
    async with opened(tmp_path, DOCS) as place:
        assert place.shards.get(2).count() == 1
        assert [path.name for path in sorted(place.root.iterdir())] == ["2", "3"]
