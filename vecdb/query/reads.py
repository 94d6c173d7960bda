"""Documents by id, in order, or counted; over all shards of a collection."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from vecdb_index import Row, Shard
from vecdb_index.filters import Filter

from vecdb.catalog import CollectionRecord
from vecdb.query import slots
from vecdb.query.budget import SLICE, UNBOUNDED, Budget, size_of
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


@dataclass(frozen=True, slots=True)
class Page:
    """Documents in id order; `more` where there may be others behind them."""

    rows: list[Row]
    more: bool


async def get(
    db: Database,
    record: CollectionRecord,
    ids: Sequence[str],
    parts: Parts,
    max_bytes: int = UNBOUNDED,
    *,
    hidden: bool = False,
) -> list[Row]:
    """Documents in the order asked, missing ones left out. RequestError beyond `max_bytes`.

    `hidden` as for `scroll`.
    """

    def read() -> list[Row]:
        found: dict[str, Row] = {}
        budget = Budget(max_bytes)
        for number, positions in slots.split(ids, record.shards).items():
            shard = db.shards.get(number)
            # In one read a shard: its documents are those of one moment.
            rows = shard.get(
                [ids[at] for at in positions],
                payload=parts.payload,
                text=parts.text,
                vector=parts.vector,
                hidden=hidden,
            )
            budget.take(rows)
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
    max_bytes: int = UNBOUNDED,
    *,
    hidden: bool = False,
) -> Page:
    """The next `limit` documents in id order, by UTF-8 bytes; fewer where they are more than `max_bytes`.

    With `hidden`, those of quarantined authors too: for whoever is about to write to them.
    """

    def read() -> Page:
        pages = [_page(shard, after, limit, where, parts, max_bytes, hidden) for shard in db.opened(record)]
        rows = _in_order(pages)[:limit]
        kept = rows[: _fitting(rows, max_bytes)]
        more = len(kept) == limit or len(kept) < len(rows) or any(page.more for page in pages)
        return Page(kept, more)

    return await db.run(read)


def _page(
    shard: Shard,
    after: str | None,
    limit: int,
    where: Filter | None,
    parts: Parts,
    max_bytes: int,
    hidden: bool,
) -> Page:
    """A shard's part of a page: `more` where it ends before the limit because it has the bytes."""
    rows: list[Row] = []
    size = 0
    step = SLICE if parts.payload or parts.text or parts.vector else limit
    while len(rows) < limit:
        wanted = min(step, limit - len(rows))
        start = rows[-1].id if rows else after
        some = shard.scroll(
            start,
            wanted,
            where,
            payload=parts.payload,
            text=parts.text,
            vector=parts.vector,
            hidden=hidden,
        )
        rows += some
        size += sum(map(size_of, some))
        if len(some) < wanted:
            break
        if size > max_bytes:
            return Page(rows, len(rows) < limit)
        # A filter is evaluated anew each time: that may cost more than the rows do.
        step *= 2
    return Page(rows, False)


def _in_order(pages: Sequence[Page]) -> list[Row]:
    """Shards' pages as one, as far as all of them go."""
    if len(pages) == 1:
        return pages[0].rows
    # Code points sort as their UTF-8 bytes do.
    rows = heapq.merge(*(page.rows for page in pages), key=lambda row: row.id)
    ends = [page.rows[-1].id for page in pages if page.more]
    if not ends:
        return list(rows)
    end = min(ends)
    return list(takewhile(lambda row: row.id <= end, rows))


def _fitting(rows: Sequence[Row], max_bytes: int) -> int:
    """How many of the rows fit, which is one at the least."""
    for at, row in enumerate(rows):
        max_bytes -= size_of(row)
        if max_bytes < 0:
            return max(1, at)
    return len(rows)


async def count(db: Database, record: CollectionRecord, where: Filter | None) -> int:
    """How many documents there are, or match."""
    shards = db.opened(record)
    if where is None:
        return sum(shard.count() for shard in shards)
    return await db.run(lambda: sum(shard.count(where) for shard in shards))


async def matching(
    db: Database, record: CollectionRecord, where: Filter, limit: int, *, hidden: bool
) -> list[tuple[str, int]]:
    """(id, version) of up to `limit` matching documents; `hidden` as for `scroll`."""

    def read() -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for shard in db.opened(record):
            if len(found) < limit:
                found += shard.matching_ids(where, limit - len(found), hidden=hidden)
        return found

    return await db.run(read)


async def by_prefix(
    db: Database, record: CollectionRecord, prefix: str, after: str, limit: int, *, hidden: bool = False
) -> list[Row]:
    """The next documents whose ids begin with `prefix`, without their payloads and texts.

    `hidden` as for `scroll`.
    """
    start = after if after > prefix else _before(prefix)
    page = await scroll(db, record, start, limit, None, Parts(payload=False, text=False), hidden=hidden)
    return [row for row in page.rows if row.id.startswith(prefix)]


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
