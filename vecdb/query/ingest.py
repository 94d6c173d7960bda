"""One source into a collection: parsed, cut, embedded, written; then what it replaces is deleted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack
from vecdb_index import Delete, Row, Upsert

from vecdb.catalog import CollectionRecord
from vecdb.knowledge import (
    ChunkOptions,
    Format,
    Limits,
    NewChunk,
    Sandbox,
    SourceError,
    SourcePlan,
    SourceText,
    StoredChunk,
    chunk_prefix,
    plan_source,
)
from vecdb.query import reads, writes
from vecdb.query.database import Database
from vecdb.query.errors import RequestError, invalid

# Passages that are embedded and proposed together. Small enough that a batch of long ones stays far below the
# size of a log segment, large enough that a sync is spread over many.
_BATCH: Final = 256
# Sources of a container that are read back and planned together.
_SOURCES: Final = 64
_PAGE: Final = 1000


@dataclass(slots=True)
class Tally:
    """What became of one upload, which may hold many sources."""

    sources: int = 0
    unchanged: int = 0
    existed: bool = False
    passages: int = 0
    deleted: int = 0
    positions: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upload:
    """A source as it arrived."""

    uri: str
    data: bytes
    format: Format | None


class Ingestor:
    """Puts uploads into one collection, on behalf of one author.

    `payload` is set in every passage's payload, beside the source's own
    metadata; where both have a key, `payload` wins.
    """

    def __init__(
        self,
        db: Database,
        record: CollectionRecord,
        sandbox: Sandbox,
        *,
        author: str,
        options: ChunkOptions,
        payload: Mapping[str, Any],
        limits: Limits,
        max_payload_bytes: int,
    ) -> None:
        self._db = db
        self._record = record
        self._sandbox = sandbox
        self._author = author
        self._options = options
        self._payload = payload
        self._limits = limits
        self._max_payload_bytes = max_payload_bytes

    async def ingest(self, upload: Upload) -> Tally:
        """Bring the collection to what the upload says. RequestError; safe to repeat."""
        try:
            texts = await self._sandbox.aparse(upload.uri, upload.data, upload.format, self._limits)
        except SourceError as error:
            raise RequestError(
                "INVALID_ARGUMENT", "SOURCE_UNREADABLE", str(error), violations=[("source", str(error))]
            ) from None
        tally = Tally()
        for start in range(0, len(texts), _SOURCES):
            await self._take(texts[start : start + _SOURCES], tally)
        return tally

    async def _take(self, texts: Sequence[SourceText], tally: Tally) -> None:
        plans = []
        for text in texts:
            stored = await self._stored(text.source)
            plan = await asyncio.to_thread(plan_source, text, stored, self._options)
            tally.sources += 1
            tally.existed = tally.existed or bool(stored)
            tally.unchanged += plan.unchanged
            plans.append(plan)
        await self._write([chunk for plan in plans for chunk in plan.upsert], tally)
        await self._delete(plans, tally)

    async def _stored(self, uri: str) -> list[StoredChunk]:
        found = []
        hidden = self._db.state.quarantined.keys() - {self._author}
        for row, source in await stored_passages(self._db, self._record, uri):
            # What nobody is shown does not stand for the source: somebody else's ingestion replaces it.
            held = "" if row.author in hidden else source.get("content_hash", "")
            found.append(StoredChunk(row.id, held, source.get("count", 0)))
        return found

    async def _write(self, chunks: Sequence[NewChunk], tally: Tally) -> None:
        # Two batches at a time: one is embedded while the other is written.
        jobs: list[asyncio.Task[writes.Outcome]] = []
        try:
            for start in range(0, len(chunks), _BATCH):
                jobs.append(asyncio.create_task(self._write_batch(chunks[start : start + _BATCH])))
                if len(jobs) >= 2:
                    self._count(await jobs.pop(0), tally)
            while jobs:
                self._count(await jobs.pop(0), tally)
        finally:
            for job in jobs:
                job.cancel()

    async def _write_batch(self, chunks: Sequence[NewChunk]) -> writes.Outcome:
        texts = [chunk.text for chunk in chunks]
        vectors = await self._db.embedding.passages(self._record, texts, "source")
        mutation = Upsert(
            ids=[chunk.id for chunk in chunks],
            vectors=vectors,
            payloads=[self._payload_of(chunk) for chunk in chunks],
            texts=texts,
            sources=[_source_of(chunk) for chunk in chunks],
            author=self._author,
            written_at_ms=time.time_ns() // 1_000_000,
        )
        return await writes.write(self._db, self._record, mutation)

    def _payload_of(self, chunk: NewChunk) -> bytes:
        packed: bytes = msgpack.packb({**chunk.metadata, **self._payload}, datetime=True)
        if len(packed) > self._max_payload_bytes:
            problem = f"the metadata of {chunk.source!r} has {len(packed)} bytes; the limit is "
            raise invalid(
                "source", f"{problem}{self._max_payload_bytes} (max_payload_bytes)", "LIMIT_EXCEEDED"
            )
        return packed

    @staticmethod
    def _count(outcome: writes.Outcome, tally: Tally) -> None:
        tally.passages += outcome.count
        writes.advance(tally.positions, outcome.positions)
        if outcome.failures:
            first = outcome.failures[0]
            raise RequestError(first.code, first.reason, first.message)

    async def _delete(self, plans: Sequence[SourcePlan], tally: Tally) -> None:
        """Delete what the new passages replace, now that those are acknowledged."""
        gone = [id_ for plan in plans for id_ in plan.delete]
        for start in range(0, len(gone), _PAGE):
            outcome = await writes.write(self._db, self._record, Delete(gone[start : start + _PAGE]))
            tally.deleted += outcome.count
            writes.advance(tally.positions, outcome.positions)


async def stored_passages(
    db: Database, record: CollectionRecord, uri: str
) -> list[tuple[Row, dict[str, Any]]]:
    """What a collection has of one source: rows without payload and text, with their sources unpacked.

    Those of quarantined authors are among them: what is written takes their place.
    """
    prefix = chunk_prefix(uri)
    found: list[tuple[Row, dict[str, Any]]] = []
    after = ""
    while rows := await reads.by_prefix(db, record, prefix, after, _PAGE, hidden=True):
        after = rows[-1].id
        for row in rows:
            source = msgpack.unpackb(row.source) if row.source else {}
            # Records of a container share the prefix: "data.jsonl#7#0-..." is not of "data.jsonl".
            if source.get("uri") == uri:
                found.append((row, source))
        if len(rows) < _PAGE:
            break
    return found


async def delete_source(db: Database, record: CollectionRecord, uri: str) -> writes.Outcome:
    """Delete every passage that was cut from a source."""
    outcome = writes.Outcome()
    ids = [row.id for row, _ in await stored_passages(db, record, uri)]
    for start in range(0, len(ids), _PAGE):
        outcome.add(await writes.write(db, record, Delete(ids[start : start + _PAGE])))
    return outcome


def _source_of(chunk: NewChunk) -> bytes:
    """What is stored with a passage: the fields of vecdb.v1.Source."""
    packed: bytes = msgpack.packb(
        {
            "uri": chunk.source,
            "title": chunk.title,
            "start": chunk.start,
            "end": chunk.end,
            "ordinal": chunk.ordinal,
            "section": chunk.section,
            "page": chunk.page or 0,
            "content_hash": chunk.revision,
            "count": chunk.count,
        }
    )
    return packed
