"""Opening, creating and dropping shards."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import structlog
from vecdb_index import (
    AlterFields,
    FieldSpec,
    FieldType,
    Schema,
    Shard,
    ShardDamaged,
    ShardError,
    ShardOptions,
    encode,
)
from vecdb_replication.host import GroupDamaged, Host
from vecdb_replication.wal import Wal

from vecdb.catalog import CATALOG_GROUP, CatalogState, CollectionRecord
from vecdb.durable import sync_directory
from vecdb.shards.machine import SNAPSHOTS, ShardMachine, recover
from vecdb.telemetry import ShardSample

log = structlog.get_logger(__name__)

# Directories of shards that are not there yet, or not any more: nothing in them counts.
_UNFINISHED = ".new"
_DROPPED = ".dropped"


class UnknownShard(LookupError):
    """No such shard is here."""


class ShardSet:
    """The node's shards, each the state machine of the group with its id.

    `open_all` brings up what the catalogue names and clears away what it does
    not; afterwards `ensure` and `drop` follow its changes, one at a time, and
    `reconcile` makes good what they could not finish. A shard whose files are
    damaged is not served, and keeps nothing else from it. The coroutines belong to
    the host's loop; `get` and `samples` may be called anywhere.
    """

    def __init__(self, root: Path, host: Host, wal: Wal, options: ShardOptions) -> None:
        self._root = root
        self._host = host
        self._wal = wal
        self._options = options
        self._machines: dict[int, ShardMachine] = {}
        self._damaged: dict[int, ShardDamaged] = {}
        self._owners: dict[int, str] = {}
        self._followed: CatalogState | None = None

    def get(self, shard: int) -> Shard:
        """An open shard. UnknownShard; ShardDamaged where it could not be opened."""
        found = self._machines.get(shard)
        if found is None:
            damage = self._damaged.get(shard)
            if damage is not None:
                raise ShardDamaged(damage.path, damage.reason)
            raise UnknownShard(f"shard {shard} is not on this node")
        return found.shard

    def look_at_authors(self) -> None:
        """Have every shard see whose documents are quarantined now, before a reader waits for it. Blocks."""
        for machine in list(self._machines.values()):
            # One that is closed or damaged shows nobody's.
            with suppress(ShardError):
                machine.shard.count()

    def __contains__(self, shard: int) -> bool:
        return shard in self._machines

    def __len__(self) -> int:
        return len(self._machines)

    # --- following the catalogue -------------------------------------------------

    async def open_all(self, state: CatalogState) -> None:
        """Open every shard of the catalogue that is whole. Raises what `Shard.open` and `Host.add` raise."""
        self._root.mkdir(parents=True, exist_ok=True)
        await self._clear_surplus(_shards_of(state))
        for record in state.collections.values():
            await self.ensure(record)
        self._followed = state

    async def reconcile(self, state: CatalogState) -> dict[str, str]:
        """Drive the shards to what the catalogue says; returns what hinders it, by collection.

        What belongs to no collection any more is told under the empty name. A
        state that was reached is not gone through again.
        """
        if state is self._followed:
            return {}
        hindered = {}
        wanted = _shards_of(state)
        try:
            for shard in self._machines.keys() - wanted:
                await self._drop(shard)
            await self._clear_surplus(wanted)
        except Exception as error:
            hindered[""] = str(error)
        for record in state.collections.values():
            # One collection that cannot be served must not keep the others from it.
            try:
                await self.ensure(record)
            except Exception as error:
                hindered[record.name] = str(error)
        if not hindered:
            self._followed = state
        return hindered

    async def _clear_surplus(self, wanted: set[int]) -> None:
        """Remove the files and logs of shards that are not wanted and not open."""
        await asyncio.to_thread(self._clear, wanted)
        for group in self._wal.groups():
            if group not in wanted and group != CATALOG_GROUP and not self._wal.state(group).tombstone:
                await self._host.bury(group)

    def _clear(self, wanted: set[int]) -> None:
        """Remove shards whose making or dropping the node could not finish, and what belongs to them."""
        for path in sorted(self._root.iterdir()):
            unfinished = path.suffix in {_UNFINISHED, _DROPPED}
            if unfinished or (path.stem.isdecimal() and int(path.stem) not in wanted):
                log.info("removing an unfinished or dropped shard", path=str(path))
                shutil.rmtree(path)

    async def ensure(self, record: CollectionRecord) -> None:
        """Open or create the shards of a collection, and declare its fields in them."""
        for shard in record.shards:
            self._owners[shard] = record.name
            if shard in self._damaged:
                continue
            if shard not in self._machines:
                try:
                    machine = await asyncio.to_thread(self._open, shard, record)
                except ShardDamaged as damage:
                    self._damaged[shard] = damage
                    continue
                try:
                    await self._host.add(shard, machine)
                except BaseException:
                    await asyncio.to_thread(machine.close)
                    raise
                self._machines[shard] = machine
            await self._declare(shard, record)

    def _open(self, shard: int, record: CollectionRecord) -> ShardMachine:
        path = self._root / str(shard)
        recover(path)
        if (path / "shard.db").exists():
            return ShardMachine.open(path, shard, self._options)
        logged = self._wal.state(shard)
        if logged.first_index > 1:
            raise GroupDamaged(
                f"{path} is gone, and the log of shard {shard} only begins at entry {logged.first_index}: "
                "its documents are lost on this node"
            )
        # The log has all there is. A crash must not leave half a shard under the name of a whole one.
        made = path.with_suffix(_UNFINISHED)
        for old in (path, made):
            if old.exists():
                shutil.rmtree(old)
        Shard.create(made, schema_of(record), self._options).close()
        made.rename(path)
        sync_directory(self._root)
        return ShardMachine.open(path, shard, self._options)

    async def _declare(self, shard: int, record: CollectionRecord) -> None:
        """Bring the shard's declared fields to what the catalogue says, through the shard's own log."""
        held = {spec.name: spec.type.value for spec in self.get(shard).schema.fields}
        wanted = dict(record.fields)
        if held == wanted:
            return
        drop = tuple(name for name, kind in held.items() if wanted.get(name) != kind)
        add = tuple(
            FieldSpec(name, FieldType(kind)) for name, kind in wanted.items() if held.get(name) != kind
        )
        await self._host.propose(shard, encode(AlterFields(add, drop)))

    async def drop(self, record: CollectionRecord) -> None:
        """Close the shards of a dropped collection and remove their files."""
        for shard in record.shards:
            await self._drop(shard)

    async def _drop(self, shard: int) -> None:
        machine = self._machines.pop(shard, None)
        self._owners.pop(shard, None)
        self._damaged.pop(shard, None)
        if machine is None:
            return  # its files and its log are surplus now
        try:
            await self._host.remove(shard)
        finally:
            # Without its tombstone the log alone is left, which the next reconciliation buries.
            await asyncio.to_thread(self._remove, machine.shard)

    def _remove(self, shard: Shard) -> None:
        shard.close()
        # Renamed first, so that a crash in the middle leaves nothing that looks like a shard.
        gone = shard.path.with_suffix(_DROPPED)
        shard.path.rename(gone)
        shutil.rmtree(gone)
        shutil.rmtree(shard.path.with_suffix(SNAPSHOTS), ignore_errors=True)

    def close(self) -> None:
        """Close every shard. The host must have stopped applying."""
        for machine in self._machines.values():
            machine.close()
        self._machines.clear()

    # --- telling -----------------------------------------------------------------

    def samples(self) -> Iterator[ShardSample]:
        """One sample a shard, for metrics."""
        for shard, machine in list(self._machines.items()):
            stats = machine.shard.stats()
            yield ShardSample(
                collection=self.owner(shard),
                shard=shard,
                documents=stats.documents,
                disk_bytes=stats.disk_bytes,
                unindexed=stats.unindexed_rows,
                applied_index=stats.applied_index,
                durable_index=stats.durable_index,
                calibrated_recall=1.0 if stats.recall is None else stats.recall,
                failing=stats.error is not None,
                segments={"growing": 1 if stats.growing_rows else 0, "sealed": len(stats.segments)},
            )
        for shard in list(self._damaged):
            yield ShardSample(collection=self.owner(shard), shard=shard, failing=True)

    def troubles(self) -> dict[int, str]:
        """Why background work fails, or what is damaged, for each shard where something is."""
        errors = ((shard, machine.shard.error) for shard, machine in list(self._machines.items()))
        failing = {shard: error for shard, error in errors if error is not None}
        return failing | {shard: str(damage) for shard, damage in list(self._damaged.items())}

    def owner(self, shard: int) -> str:
        """The collection that a shard belongs to; empty for none."""
        return self._owners.get(shard, "")


def _shards_of(state: CatalogState) -> set[int]:
    return {shard for record in state.collections.values() for shard in record.shards}


def schema_of(record: CollectionRecord) -> Schema:
    """The schema of a collection's shards when they are made. Fields follow through each shard's log."""
    return Schema(
        dim=record.dim,
        metric=record.metric,  # type: ignore[arg-type]
        index=record.index,  # type: ignore[arg-type]
        target_recall=record.target_recall,
        storage=record.storage,  # type: ignore[arg-type]
        language=record.language,
    )
