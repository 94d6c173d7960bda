"""Documents by id, in order, or counted; over all shards of a collection."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from vecdb_index import Row
from vecdb_index.filters import Filter

from vecdb.catalog import CollectionRecord
from vecdb.query import slots
from vecdb.query.database import Database


@dataclass(frozen=True, slots=True)
class Parts:
    """Which parts of documents are wanted."""

    payload: bool = True
    text: bool = True
    vector: bool = False
    fields: frozenset[str] = frozenset()
    """Only these top-level keys of the payload; empty for all of it."""


EVERYTHING = Parts()


async def get(db: Database, record: CollectionRecord, ids: Sequence[str], parts: Parts) -> list[Row]:
    """Documents in the order asked, missing ones left out."""

    def read() -> list[Row]:
        found: dict[str, Row] = {}
        for shard, positions in slots.split(ids, record.shards).items():
            rows = db.shards.get(shard).get(
                [ids[at] for at in positions], payload=parts.payload, text=parts.text, vector=parts.vector
            )
            found.update((row.id, row) for row in rows)
        return [found[id_] for id_ in ids if id_ in found]

    return await db.run(read)


async def scroll(
    db: Database,
    record: CollectionRecord,
    after: str | None,
    limit: int,
    where: Filter | None,
    parts: Parts,
) -> list[Row]:
    """The next `limit` documents in id order, by UTF-8 bytes."""

    def read() -> list[Row]:
        pages = [
            shard.scroll(after, limit, where, payload=parts.payload, text=parts.text, vector=parts.vector)
            for shard in db.opened(record)
        ]
        if len(pages) == 1:
            return pages[0]
        # Code points sort as their UTF-8 bytes do.
        return list(heapq.merge(*pages, key=lambda row: row.id))[:limit]

    return await db.run(read)


async def count(db: Database, record: CollectionRecord, where: Filter | None) -> int:
    """How many documents there are, or match."""
    shards = db.opened(record)
    if where is None:
        return sum(shard.count() for shard in shards)
    return await db.run(lambda: sum(shard.count(where) for shard in shards))


async def matching(
    db: Database, record: CollectionRecord, where: Filter, limit: int
) -> list[tuple[str, int]]:
    """(id, version) of up to `limit` matching documents."""

    def read() -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for shard in db.opened(record):
            if len(found) < limit:
                found += shard.matching_ids(where, limit - len(found))
        return found

    return await db.run(read)


async def by_prefix(db: Database, record: CollectionRecord, prefix: str, after: str, limit: int) -> list[Row]:
    """The next documents whose ids begin with `prefix`, without their payloads and texts."""
    start = after if after > prefix else _before(prefix)
    rows = await scroll(db, record, start, limit, None, Parts(payload=False, text=False))
    return [row for row in rows if row.id.startswith(prefix)]


def _before(prefix: str) -> str | None:
    """An id just before all that begin with the prefix, so that the prefix itself is found too."""
    if not prefix:
        return None
    last = ord(prefix[-1])
    if last == 0:
        return prefix[:-1] or None
    # Surrogates are no characters: step over them.
    lower = 0xD7FF if last == 0xE000 else last - 1
    return prefix[:-1] + chr(lower) + chr(0x10FFFF)
