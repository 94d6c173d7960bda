"""vecdb.v1.Documents."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import numpy.typing as npt
from vecdb_index import Delete, Row, Update, Upsert
from vecdb_proto.v1 import common_pb2
from vecdb_proto.v1 import documents_pb2 as pb

from vecdb.api import checks, convert, filters
from vecdb.api.dispatch import Call
from vecdb.api.permits import permitted
from vecdb.catalog import CollectionRecord
from vecdb.config import Limits
from vecdb.query import Database, RequestError, reads, writes
from vecdb.query.ingest import delete_source
from vecdb.query.writes import Outcome
from vecdb.security import Role

_DEFAULT_PAGE = 100
# Bytes of payloads that are checked on the loop: a few milliseconds at the most.
_INLINE_PAYLOADS = 256 << 10


class DocumentsService:
    """See proto/vecdb/v1/documents.proto."""

    def __init__(self, db: Database, limits: Limits) -> None:
        self._db = db
        self._limits = limits

    # --- writing -------------------------------------------------------------

    async def Upsert(self, request: pb.UpsertRequest, call: Call) -> pb.WriteResponse:
        """Write documents."""
        record = permitted(self._db, call, Role.WRITE, request.collection)
        mutation = await self._upsert(request, record, call.principal.name)
        return self._written(await writes.write(self._db, record, mutation))

    async def _upsert(
        self, request: pb.UpsertRequest, record: CollectionRecord, author: str
    ) -> writes.DocumentWrite:
        """The request as a mutation that will be accepted, or RequestError."""
        if request.named_vectors or request.sparse_vectors:
            raise checks.not_served("named_vectors", "named and sparse vectors")
        ids = checks.ids(request.ids, self._limits)
        count = len(ids)
        texts = (
            checks.texts(request.texts, self._limits)
            if checks.column(request.texts, count, "texts")
            else None
        )
        payloads = None
        if checks.column(request.payloads, count, "payloads"):
            payloads = await self._payloads(request.payloads)
        if_versions = checks.versions(request.if_versions, count)
        session, sequence = checks.session(request.options.session_id, request.options.sequence)
        return Upsert(
            ids=ids,
            vectors=await self._vectors(request, record, texts),
            payloads=payloads,
            texts=None if texts is None else [text or None for text in texts],
            if_versions=if_versions,
            author=author,
            written_at_ms=now_ms(),
            session=session,
            sequence=sequence,
        )

    async def _payloads(self, payloads: Sequence[bytes]) -> list[bytes]:
        if sum(map(len, payloads)) <= _INLINE_PAYLOADS:
            return checks.payloads(payloads, self._limits)
        return await self._db.run(checks.payloads, payloads, self._limits)

    async def _vectors(
        self, request: pb.UpsertRequest, record: CollectionRecord, texts: Sequence[str] | None
    ) -> npt.NDArray[np.float32]:
        if request.vectors:
            return checks.matrix(request.vectors, len(request.ids), record.dim, record.metric, "vectors")
        if texts is None:
            needed = "vectors or texts are" if record.model else "vectors are"
            raise checks.invalid("vectors", f"{needed} needed")
        return await self._db.embedding.passages(record, texts, "texts")

    async def Update(self, request: pb.UpdateRequest, call: Call) -> pb.WriteResponse:
        """Change payloads."""
        record = permitted(self._db, call, Role.WRITE, request.collection)
        checks.payload(request.payload, self._limits, "payload")
        removed = checks.remove_keys(request.remove_keys)
        if not request.payload and not request.remove_keys and not request.replace:
            raise checks.invalid("payload", "there is nothing to change: give a payload or remove_keys")
        session, sequence = checks.session(request.options.session_id, request.options.sequence)
        author, now = call.principal.name, now_ms()

        async def write(ids: list[str], versions: list[int | None] | None, attempt: int) -> Outcome:
            change = Update(
                ids,
                request.payload or b"\x80",
                removed,
                request.replace,
                author,
                now,
                versions,
                writes.session_of(session, attempt),
                sequence,
            )
            return await writes.write(self._db, record, change)

        await self._refuse_hidden(record, request.ids)
        return await self._write_chosen(request, record, write, hidden=False)

    async def _refuse_hidden(self, record: CollectionRecord, ids: Sequence[str]) -> None:
        """FAILED_PRECONDITION for documents of quarantined authors.

        A change makes its author the document's, so it would bring them back into answers.
        """
        quarantined = self._db.state.quarantined
        if not quarantined or not ids:
            return
        checked = checks.ids(ids, self._limits)
        bare = reads.Parts(payload=False, text=False)
        rows = await reads.get(self._db, record, checked, bare, hidden=True)
        for row in rows:
            if row.author in quarantined:
                where = f"ids[{checked.index(row.id)}]"
                problem = f"the author of {checks.short(row.id)} is quarantined"
                raise RequestError(
                    "FAILED_PRECONDITION",
                    "AUTHOR_QUARANTINED",
                    f"{where}: {problem}",
                    violations=[(where, problem)],
                    metadata={"author": row.author},
                )

    async def Delete(self, request: pb.DeleteRequest, call: Call) -> pb.WriteResponse:
        """Delete by ids, filter or source."""
        record = permitted(self._db, call, Role.WRITE, request.collection)
        session, sequence = checks.session(request.options.session_id, request.options.sequence)
        if request.source:
            if request.ids or request.HasField("filter"):
                raise checks.invalid("source", "goes with neither ids nor filter")
            return self._written(await delete_source(self._db, record, request.source))

        async def write(ids: list[str], versions: list[int | None] | None, attempt: int) -> Outcome:
            removal = Delete(ids, versions, writes.session_of(session, attempt), sequence)
            return await writes.write(self._db, record, removal)

        return await self._write_chosen(request, record, write, hidden=True)

    async def _write_chosen(
        self,
        request: pb.UpdateRequest | pb.DeleteRequest,
        record: CollectionRecord,
        write: Callable[[list[str], list[int | None] | None, int], Awaitable[Outcome]],
        *,
        hidden: bool,
    ) -> pb.WriteResponse:
        """Write to the documents that a request names or matches; `hidden` as for `reads.scroll`."""
        if bool(request.ids) == request.HasField("filter"):
            raise checks.invalid("ids", "give ids or a filter" + (", not both" if request.ids else ""))
        if request.ids:
            ids = checks.ids(request.ids, self._limits)
            return self._written(await write(ids, checks.versions(request.if_versions, len(ids)), 0))
        if request.if_versions:
            raise checks.invalid("if_versions", "goes with ids, not with a filter")
        where = filters.parse(request.filter, self._limits)
        limit = self._limits.max_batch
        found = await reads.matching(self._db, record, where, limit + 1, hidden=hidden)
        if len(found) > limit:
            raise RequestError(
                "RESOURCE_EXHAUSTED",
                "LIMIT_EXCEEDED",
                f"filter: more than {limit} documents match (max_batch); narrow it, or go by ids",
                violations=[("filter", "matches too many documents")],
            )
        return self._written(await writes.settled(self._db, record, found, write))

    def _written(self, outcome: Outcome) -> pb.WriteResponse:
        reply = pb.WriteResponse()
        convert.fill_write(reply, outcome, self._db.written(outcome.positions))
        return reply

    # --- reading -------------------------------------------------------------

    async def Get(self, request: pb.GetRequest, call: Call) -> pb.GetResponse:
        """Documents by id."""
        record = permitted(self._db, call, Role.READ, request.collection)
        ids = checks.ids(request.ids, self._limits)
        parts = convert.parts(request)
        await self._fresh(record, request)
        rows = await reads.get(self._db, record, ids, parts, self._limits.max_message_bytes)
        return pb.GetResponse(documents=await self._messages(rows, parts), session=self._token(record))

    async def Scroll(self, request: pb.ScrollRequest, call: Call) -> pb.ScrollResponse:
        """Documents in id order."""
        record = permitted(self._db, call, Role.READ, request.collection)
        limit = request.limit or min(_DEFAULT_PAGE, self._limits.max_batch)
        checks.between(limit, 1, self._limits.max_batch, "limit", "max_batch")
        after = cursor(request.cursor)
        where = filters.parse(request.filter, self._limits) if request.HasField("filter") else None
        parts = convert.parts(request)
        await self._fresh(record, request)
        # A page fits into a message, whatever the documents' sizes; one document always does.
        size = self._limits.max_message_bytes // 2
        page = await reads.scroll(self._db, record, after, limit, where, parts, size)
        documents = await self._messages(page.rows, parts)
        reply = pb.ScrollResponse(documents=documents, session=self._token(record))
        if page.more:
            reply.next_cursor = page.rows[-1].id.encode()
        return reply

    async def _messages(self, rows: list[Row], parts: reads.Parts) -> list[common_pb2.Document]:
        if convert.is_heavy(len(rows), parts):
            return await self._db.run(convert.documents, rows, parts.fields)
        return convert.documents(rows, parts.fields)

    async def Count(self, request: pb.CountRequest, call: Call) -> pb.CountResponse:
        """How many documents there are, or match."""
        record = permitted(self._db, call, Role.READ, request.collection)
        where = filters.parse(request.filter, self._limits) if request.HasField("filter") else None
        await self._fresh(record, request)
        found = await reads.count(self._db, record, where)
        return pb.CountResponse(count=found, session=self._token(record))

    async def _fresh(
        self, record: CollectionRecord, request: pb.GetRequest | pb.ScrollRequest | pb.CountRequest
    ) -> None:
        wanted = convert.freshness(request.read)
        await self._db.await_fresh(record.shards, wanted)

    def _token(self, record: CollectionRecord) -> common_pb2.SessionToken:
        return convert.session_token(self._db.positions(record.shards))


def cursor(data: bytes) -> str | None:
    """The id that a page begins after."""
    try:
        return data.decode() or None
    except UnicodeDecodeError:
        raise checks.invalid("cursor", "is none that this server has given out") from None


def now_ms() -> int:
    """Milliseconds since the Unix epoch, by this node's clock."""
    return time.time_ns() // 1_000_000
