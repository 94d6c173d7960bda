"""The node's data as the API sees it: collections by name, and what can be done to the set of them."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import structlog
from vecdb_index import Shard, StorageFailed
from vecdb_replication.host import Committed, GroupBlocked, GroupError, Host
from vecdb_replication.wal import LogError, LogFull

from vecdb.catalog import (
    CATALOG_GROUP,
    MAX_FIELDS,
    AlterCollection,
    CatalogMachine,
    CatalogResult,
    CatalogState,
    CollectionRecord,
    Command,
    CreateCollection,
    DropCollection,
    QuarantineAuthor,
    RevokeToken,
    UpdateAliases,
    encode,
)
from vecdb.durable import is_full
from vecdb.query.embedding import Embedding
from vecdb.query.errors import RequestError, invalid, of_group
from vecdb.query.sessions import Freshness, Positions, await_fresh
from vecdb.shards import ShardSet, open_files

log = structlog.get_logger(__name__)

_MAX_ALIASES: Final = 1_000

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Database:
    """What every service works on. Its coroutines belong to the node's loop."""

    host: Host
    catalog: CatalogMachine
    shards: ShardSet
    embedding: Embedding
    readers: ThreadPoolExecutor
    max_collections: int
    disk_full: Callable[[], str]
    """Says why there is too little room for writes, or nothing."""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever changes the set of collections: the catalogue and the shards move together."""
    under_way: set[asyncio.Task[Any]] = field(default_factory=set)
    """Changes in progress. They are the database's own, so that nobody who goes away takes one along."""
    lacking: dict[str, str] = field(default_factory=dict)
    """Why the shards of a collection are not as the catalogue says, as last told."""

    @property
    def state(self) -> CatalogState:
        """The catalogue as applied here."""
        return self.catalog.state

    @property
    def max_entry_bytes(self) -> int:
        """The size of the largest entry that `propose` takes."""
        return self.host.max_entry_bytes

    def opened(self, record: CollectionRecord) -> list[Shard]:
        """The shards of a collection, in order."""
        return [self.shards.get(shard) for shard in record.shards]

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work off the loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.readers, lambda: work(*args, **kwargs))

    def positions(self, shards: Sequence[int]) -> Positions:
        """The session token of a read that has just seen these shards."""
        return self.written({shard: self.shards.get(shard).applied_index for shard in shards})

    def written(self, positions: Mapping[int, int]) -> Positions:
        """The session token of a write that stands at these positions."""
        state = self.catalog.state
        return Positions(state.epoch, state.applied, positions)

    async def await_fresh(self, shards: Sequence[int], wanted: Freshness) -> None:
        """See `sessions.await_fresh`."""
        await await_fresh(self.host, self.catalog.state.epoch, shards, wanted)

    async def propose(self, group: int, data: bytes, *, frees: bool = False) -> Committed:
        """Write to a group's log. RequestError where that cannot be done now, see `of_group`.

        What frees room is taken even from the room that is kept back: that is what it is kept for.
        """
        if not frees and (why := self.disk_full()):
            raise RequestError("RESOURCE_EXHAUSTED", "DISK_FULL", why, retry_after=5.0)
        try:
            return await self.host.propose(group, data)
        except (GroupError, LogError) as refused:
            raise of_group(refused) from refused

    # --- collections ---------------------------------------------------------

    async def create(
        self, record: CollectionRecord, shard_count: int, if_not_exists: bool
    ) -> CollectionRecord:
        """Make a collection and open its shards. ALREADY_EXISTS, RESOURCE_EXHAUSTED."""
        record = replace(record, created_at_ms=time.time_ns() // 1_000_000)
        return await self._alone(partial(self._create, record, shard_count, if_not_exists))

    async def _create(
        self, record: CollectionRecord, shard_count: int, if_not_exists: bool
    ) -> CollectionRecord:
        if record.name not in self.state.collections:
            self._refuse_too_many(shard_count)
        try:
            done = await self.change(CreateCollection(record, shard_count))
        except RequestError as refused:
            held = self.state.collections.get(record.name)
            if not (if_not_exists and refused.code == "ALREADY_EXISTS" and held is not None):
                raise
            if not _same(held, record, shard_count):
                message = f"collection {record.name!r} exists with another configuration"
                raise RequestError("ALREADY_EXISTS", "COLLECTION_EXISTS", message) from None
            await self._ensure(held)
            return held
        assert done.record is not None, "a created collection has a record"
        try:
            await self._ensure(done.record)
        except Exception:
            await self._undo(done.record)
            raise
        return done.record

    def _refuse_too_many(self, new_shards: int) -> None:
        if len(self.state.collections) >= self.max_collections:
            raise RequestError(
                "RESOURCE_EXHAUSTED",
                "LIMIT_EXCEEDED",
                f"there are {self.max_collections} collections, which is the limit (max_collections)",
            )
        if why := open_files.why_not(new_shards):
            raise RequestError("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", why)

    async def _alone(self, change: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a change with no other beside it, and to its end.

        Between the catalogue's part of a change and the shards' part nothing may stop it. A caller who is
        cancelled before it has begun takes it back; one who is cancelled later only misses the answer.
        """
        await self.changing.acquire()
        task = asyncio.create_task(change())
        self.under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.under_way.discard(task)
        self.changing.release()

    async def settle(self) -> None:
        """Wait for the change in progress, and let no other begin: the node is stopping."""
        await self.changing.acquire()

    async def reconcile(self) -> None:
        """Bring the shards to what the catalogue says, where a change could not be finished.

        What stands in the way is logged once for each collection, and tried again at the next call.
        """
        lacking = await self._alone(lambda: self.shards.reconcile(self.state))
        for name, why in lacking.items():
            if self.lacking.get(name) != why:
                log.warning("the shards are not as the catalogue says", collection=name, reason=why)
        self.lacking.clear()
        self.lacking.update(lacking)

    async def _ensure(self, record: CollectionRecord) -> None:
        try:
            await self.shards.ensure(record)
        except (GroupBlocked, LogFull, StorageFailed, OSError, sqlite3.Error) as error:
            if open_files.are_short(error):
                message = "the node has too many open files to open the collection's shards (ulimit -n)"
                raise RequestError("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", message) from error
            if isinstance(error, sqlite3.Error) or (isinstance(error, OSError) and not is_full(error)):
                raise
            raise RequestError("RESOURCE_EXHAUSTED", "DISK_FULL", str(error), retry_after=5.0) from error

    async def _undo(self, record: CollectionRecord) -> None:
        """Take back a collection whose shards could not be made, if that can be done."""
        try:
            await self.change(DropCollection(record.name))
            await self.shards.drop(record)
        except (RequestError, GroupError, LogError, OSError) as error:
            # Where it stays, its shards are made as soon as that can be done.
            log.warning("a collection could not be taken back", collection=record.name, reason=str(error))

    async def alter(self, command: AlterCollection) -> CollectionRecord:
        """Change what a collection declares. INVALID_ARGUMENT for too many fields."""
        return await self._alone(partial(self._alter, command))

    async def _alter(self, command: AlterCollection) -> CollectionRecord:
        if (held := self.state.collections.get(command.name)) is not None:
            kept = {name for name, _ in held.fields} - set(command.drop_fields)
            if len(kept | {name for name, _ in command.add_fields}) > MAX_FIELDS:
                problem = f"a collection has at most {MAX_FIELDS} fields"
                raise invalid("add_fields", problem, "LIMIT_EXCEEDED")
        done = await self.change(command)
        assert done.record is not None, "an altered collection has a record"
        await self._ensure(done.record)
        return done.record

    async def update_aliases(self, command: UpdateAliases) -> None:
        """Point aliases elsewhere. RESOURCE_EXHAUSTED."""
        await self._alone(partial(self._update_aliases, command))

    async def _update_aliases(self, command: UpdateAliases) -> None:
        held = self.state.aliases.keys()
        after = held | {alias for alias, target in command.changes if target}
        after -= {alias for alias, target in command.changes if not target}
        if len(after) > max(_MAX_ALIASES, len(held)):
            message = f"there may be {_MAX_ALIASES} aliases, and this would make {len(after)}"
            raise RequestError("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", message)
        await self.change(command)

    async def drop(self, name: str) -> None:
        """Drop a collection for good."""
        await self._alone(partial(self._drop, name))

    async def _drop(self, name: str) -> None:
        if name in self.state.aliases:
            raise RequestError(
                "FAILED_PRECONDITION",
                "BAD_ARGUMENT",
                f"{name!r} is an alias; drop the collection by its name",
            )
        done = await self.change(DropCollection(name))
        assert done.record is not None, "a dropped collection has a record"
        await self.shards.drop(done.record)

    async def change(self, command: Command) -> CatalogResult:
        """Change the catalogue alone. RequestError for what it refuses."""
        # What shuts somebody out must not wait for room on the disk either.
        frees = isinstance(command, DropCollection | RevokeToken | QuarantineAuthor)
        result: Any = (await self.propose(CATALOG_GROUP, encode(command), frees=frees)).result
        assert isinstance(result, CatalogResult), "the catalogue answers with its own type"
        if result.code:
            raise RequestError(result.code, result.reason, result.message)
        return result


def _same(held: CollectionRecord, wanted: CollectionRecord, shard_count: int) -> bool:
    """Whether two declarations ask for the same collection."""
    ignored = {
        "collection_id": held.collection_id,
        "shards": held.shards,
        "created_at_ms": held.created_at_ms,
        "fields": held.fields,
    }
    return (
        replace(wanted, **ignored) == held  # type: ignore[arg-type]
        and len(held.shards) == shard_count
        and dict(held.fields) == dict(wanted.fields)
    )
