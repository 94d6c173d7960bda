"""The node's log, host, catalogue and shards without its services: what a crash must leave whole."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from vecdb_index import ShardOptions
from vecdb_replication.host import Host
from vecdb_replication.wal import Wal
from vecdb_replication.wal.fs import FileSystem

from vecdb.catalog import (
    CATALOG_GROUP,
    CatalogMachine,
    CatalogResult,
    CollectionRecord,
    CreateCollection,
    DropCollection,
    encode,
)
from vecdb.shards import ShardSet

# Background work starts at once, and in small pieces; no scrub reads files that a test is about to remove.
BUSY = ShardOptions(
    seal_rows=64, rest_rows=16, rest_seconds=0.05, flat_rows=256, max_segments=2, threads=1, scrub=False
)


@dataclass(frozen=True, slots=True)
class Pieces:
    """What is open."""

    wal: Wal
    host: Host
    catalog: CatalogMachine
    shards: ShardSet

    def shard_ids(self) -> list[int]:
        """The shards of all collections."""
        return sorted(each for record in self.catalog.state.collections.values() for each in record.shards)

    def hashes(self) -> dict[int, tuple[int, bytes]]:
        """Applied index and content hash of each shard."""
        shards = {shard: self.shards.get(shard) for shard in self.shard_ids()}
        return {shard: (opened.applied_index, opened.content_hash()) for shard, opened in shards.items()}

    async def create(self, name: str, dim: int, shards: int, fields: dict[str, str]) -> CollectionRecord:
        """Make a collection."""
        record = CollectionRecord(
            collection_id=0,
            name=name,
            model="",
            fingerprint="",
            dim=dim,
            metric="l2",
            index="hnsw",
            target_recall=0.95,
            shards=(),
            replicas=1,
            fields=tuple(fields.items()),
            language="en",
            created_at_ms=0,
        )
        done = await self.host.propose(CATALOG_GROUP, encode(CreateCollection(record, shards)))
        assert isinstance(done.result, CatalogResult)
        assert done.result.record is not None, done.result.message
        await self.shards.ensure(done.result.record)
        return done.result.record

    async def drop(self, record: CollectionRecord) -> None:
        """Drop a collection."""
        await self.host.propose(CATALOG_GROUP, encode(DropCollection(record.name)))
        await self.shards.drop(record)


@asynccontextmanager
async def opened(
    root: Path,
    options: ShardOptions = BUSY,
    *,
    fs: FileSystem | None = None,
    segment_bytes: int = 1 << 20,
) -> AsyncIterator[Pieces]:
    """Open a data directory as a node does (see `vecdb.node`), and close it in order."""
    (root / "catalog").mkdir(parents=True, exist_ok=True)
    has_begun = (root / "catalog" / "state").exists()
    wal = Wal.open(root / "log", fs=fs, segment_bytes=segment_bytes, must_exist=has_begun)
    try:
        host = Host(wal)
        catalog = CatalogMachine(root / "catalog" / "state")
        shards = ShardSet(root / "shards", host, wal, options)
        try:
            await host.add(CATALOG_GROUP, catalog)
            await shards.open_all(catalog.state)
            yield Pieces(wal, host, catalog, shards)
        finally:
            await host.close()
            shards.close()
    finally:
        wal.close()


def copied(root: Path, target: Path) -> Path:
    """The directory as a kill at this moment would leave it. Nobody may be writing in it."""
    return shutil.copytree(root, target, ignore=shutil.ignore_patterns("*-shm", "LOCK"))
