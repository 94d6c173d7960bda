"""vecdb.v1.Knowledge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgpack
from google.rpc import code_pb2
from vecdb_index import Row
from vecdb_proto.v1 import knowledge_pb2 as pb
from vecdb_proto.v1.search_pb2 import HybridWeights

from vecdb.api import checks, convert, filters
from vecdb.api.dispatch import Call
from vecdb.api.documents import cursor
from vecdb.api.errors import as_request_error
from vecdb.api.permits import permitted
from vecdb.api.questions import Reader, check_mode
from vecdb.catalog import CollectionRecord
from vecdb.config import Limits
from vecdb.knowledge import ChunkOptions, Citation, Format, Sandbox, SourceError, detect
from vecdb.knowledge import Limits as SourceLimits
from vecdb.query import Database, RequestError, reads, searches
from vecdb.query.ingest import Ingestor, Tally, Upload, delete_source
from vecdb.query.retrieve import Retrieved, retrieved
from vecdb.query.wanted import Wanted
from vecdb.query.writes import Outcome
from vecdb.security import Role

_MAX_DATA: Final = 1 << 20
_MAX_URI: Final = 1024
# Bytes of sources that are in progress on the node; four of the largest, where those are more.
_LEAST_ROOM: Final = 64 << 20
# Ids of passages begin with the uri only as far as there is room for it.
_MAX_PREFIX: Final = 400
_LISTED: Final = 1_000
_OUTCOMES: Final = {
    True: pb.INGEST_OUTCOME_UPDATED,
    False: pb.INGEST_OUTCOME_ADDED,
}


class _Room:
    """The bytes of sources that all streams together hold while they arrive and are ingested."""

    __slots__ = ("_held", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    def take(self, count: int) -> None:
        """RequestError RESOURCE_EXHAUSTED where there is no room for so many more."""
        if self._held + count > self._limit:
            problem = (
                f"sources in progress hold {self._held} bytes; with these it were more than {self._limit}"
            )
            raise RequestError("RESOURCE_EXHAUSTED", "OVERLOADED", problem, retry_after=1.0)
        self._held += count

    def give_back(self, count: int) -> None:
        """Of what was taken."""
        self._held -= count


class KnowledgeService:
    """See proto/vecdb/v1/knowledge.proto."""

    def __init__(self, db: Database, limits: Limits, sandbox: Sandbox) -> None:
        self._db = db
        self._limits = limits
        self._sandbox = sandbox
        self._room = _Room(max(_LEAST_ROOM, 4 * limits.max_source_bytes))

    # --- ingest --------------------------------------------------------------

    async def Ingest(
        self, requests: AsyncIterator[pb.IngestRequest], call: Call
    ) -> AsyncIterator[pb.IngestResponse]:
        """Take sources, and answer once for each."""
        ingestor: Ingestor | None = None
        waiting: pb.SourceHeader | None = None
        data = bytearray()
        try:
            async for request in requests:
                part = request.WhichOneof("part")
                if part == "header":
                    if ingestor is not None:
                        raise checks.invalid("header", "comes once, and first")
                    ingestor = self._ingestor(request.header, call)
                    continue
                if ingestor is None:
                    raise checks.invalid("header", "must come first")
                if part == "source":
                    if waiting is not None:
                        raise checks.invalid(
                            "source", f"{waiting.uri!r} is not complete: {len(data)} bytes came"
                        )
                    waiting = self._checked(request.source)
                elif part == "data" and waiting is not None:
                    if len(request.data) > _MAX_DATA:
                        problem = f"{len(request.data)} bytes in one message; the limit is {_MAX_DATA}"
                        raise checks.invalid("data", problem, "LIMIT_EXCEEDED")
                    if len(data) + len(request.data) > waiting.size:
                        raise checks.invalid("data", f"more than the {waiting.size} bytes announced")
                    self._room.take(len(request.data))
                    data += request.data
                else:
                    raise checks.invalid("data", "must follow a source")
                if waiting is not None and len(data) == waiting.size:
                    answer = await self._take(ingestor, waiting, bytes(data))
                    # Whoever is slow to read the answer holds no room meanwhile.
                    self._room.give_back(len(data))
                    waiting, data = None, bytearray()
                    yield answer
            if waiting is not None:
                raise checks.invalid("source", f"{waiting.uri!r} was not sent to its end")
        finally:
            self._room.give_back(len(data))

    def _ingestor(self, header: pb.IngestHeader, call: Call) -> Ingestor:
        record = permitted(self._db, call, Role.WRITE, header.collection)
        if not record.model:
            problem = f"collection {record.name!r} has no model, so it cannot take texts"
            raise checks.invalid("header.collection", problem, "MODEL_REQUIRED")
        checks.payload(header.payload, self._limits, "header.payload")
        # Timestamps stay what they came as: not each of them is a moment of Python's calendar.
        payload: dict[str, Any] = msgpack.unpackb(header.payload, timestamp=0) if header.payload else {}
        return Ingestor(
            self._db,
            record,
            self._sandbox,
            author=call.principal.name,
            options=_chunking(header.chunking),
            payload=payload,
            limits=SourceLimits(
                max_bytes=self._limits.max_source_bytes, max_depth=self._limits.max_payload_depth
            ),
            max_payload_bytes=self._limits.max_payload_bytes,
        )

    def _checked(self, source: pb.SourceHeader) -> pb.SourceHeader:
        size = len(source.uri.encode())
        if not 1 <= size <= _MAX_URI or not source.uri.isprintable():
            raise checks.invalid("source.uri", f"must be 1 to {_MAX_URI} bytes without control characters")
        checks.between(source.size, 0, self._limits.max_source_bytes, "source.size", "max_source_bytes")
        return source

    async def _take(self, ingestor: Ingestor, source: pb.SourceHeader, data: bytes) -> pb.IngestResponse:
        """Ingest one source; what is wrong with it is in the answer, and the stream goes on."""
        try:
            tally = await ingestor.ingest(Upload(source.uri, data, _format(source)))
        except Exception as error:
            known = as_request_error(error)
            if known is None or known.code in {"INTERNAL", "UNAVAILABLE", "RESOURCE_EXHAUSTED"}:
                raise
            return pb.IngestResponse(
                uri=source.uri,
                outcome=pb.INGEST_OUTCOME_FAILED,
                code=code_pb2.Code.Value(known.code),
                message=known.message,
            )
        return self._answer(source.uri, tally)

    def _answer(self, uri: str, tally: Tally) -> pb.IngestResponse:
        outcome = pb.INGEST_OUTCOME_UNCHANGED
        if tally.unchanged < tally.sources:
            outcome = _OUTCOMES[tally.existed]
        return pb.IngestResponse(
            uri=uri,
            outcome=outcome,
            passages=tally.passages,
            deleted=tally.deleted,
            sources=tally.sources,
            unchanged=tally.unchanged,
            session=convert.session_token(self._db.written(tally.positions)),
        )

    # --- sources -------------------------------------------------------------

    async def ListSources(self, request: pb.ListSourcesRequest, call: Call) -> pb.ListSourcesResponse:
        """The sources of a collection."""
        record = permitted(self._db, call, Role.READ, request.collection)
        limit = request.limit or min(1_000, self._limits.max_batch)
        checks.between(limit, 1, self._limits.max_batch, "limit", "max_batch")
        checks.between(len(request.prefix.encode()), 0, _MAX_PREFIX, "prefix")
        after = cursor(request.cursor)
        await self._fresh(record, request)
        reply = pb.ListSourcesResponse(session=convert.session_token(self._db.positions(record.shards)))
        while rows := await reads.by_prefix(self._db, record, request.prefix, after or "", _LISTED):
            for row in rows:
                info = _source_info(row)
                # A source that is being replaced has a first passage twice: the old one and the new one.
                if info is not None and not (reply.sources and reply.sources[-1].uri == info.uri):
                    if len(reply.sources) == limit:
                        reply.next_cursor = (after or "").encode()
                        return reply
                    reply.sources.append(info)
                after = row.id
            if len(rows) < _LISTED:
                break
        return reply

    async def DeleteSources(self, request: pb.DeleteSourcesRequest, call: Call) -> pb.DeleteSourcesResponse:
        """Delete all passages of sources."""
        record = permitted(self._db, call, Role.WRITE, request.collection)
        checks.between(len(request.uris), 1, 1_000, "uris")
        total = Outcome()
        for at, uri in enumerate(request.uris):
            if not uri:
                raise checks.invalid(f"uris[{at}]", "must not be empty")
        for uri in request.uris:
            total.add(await delete_source(self._db, record, uri))
        return pb.DeleteSourcesResponse(
            count=total.count,
            session=convert.session_token(self._db.written(total.positions)),
        )

    # --- retrieve ------------------------------------------------------------

    async def Retrieve(self, request: pb.RetrieveRequest, call: Call) -> pb.RetrieveResponse:
        """Passages that answer a question, with citations."""
        record = permitted(self._db, call, Role.READ, request.collection)
        question = checks.query_text(request.question, self._limits, "question")
        budget = request.token_budget or 1_500
        checks.between(budget, 32, 200_000, "token_budget")
        candidates = request.candidates or 20
        checks.between(candidates, 1, 1_000, "candidates")
        check_mode(request.mode, "mode")
        wanted = Wanted(
            k=candidates,
            where=filters.parse(request.filter, self._limits) if request.HasField("filter") else None,
            threshold=request.score_threshold if request.HasField("score_threshold") else None,
            parts=reads.Parts(payload=False),
            deadline=call.deadline(),
            max_bytes=self._limits.max_message_bytes,
        )
        await self._fresh(record, request)
        # A question is prose: no sign in it is meant to say how to search.
        reader = Reader(self._db, record, self._limits)
        asked = await reader.texts([question], "question", request.mode, HybridWeights(), plain=True)
        (found,) = await searches.search(self._db, record, asked, wanted)
        laid_out = await self._db.run(retrieved, found.hits, budget)
        return self._cited(record, laid_out)

    def _cited(self, record: CollectionRecord, laid_out: Retrieved) -> pb.RetrieveResponse:
        reply = pb.RetrieveResponse(
            text=laid_out.context.text,
            tokens=laid_out.context.tokens,
            session=convert.session_token(self._db.positions(record.shards)),
        )
        for citation in laid_out.context.sources:
            _fill_citation(reply.citations.add(), citation, laid_out.rows[citation.id])
        return reply

    async def _fresh(
        self, record: CollectionRecord, request: pb.ListSourcesRequest | pb.RetrieveRequest
    ) -> None:
        wanted = convert.freshness(request.read)
        await self._db.await_fresh(record.shards, wanted)


def _chunking(options: pb.ChunkOptions) -> ChunkOptions:
    target = options.target_tokens or 200
    checks.between(target, 16, 2_048, "header.chunking.target_tokens")
    largest = options.max_tokens or max(256, target)
    checks.between(largest, target, 4_096, "header.chunking.max_tokens")
    overlap = options.overlap_sentences if options.HasField("overlap_sentences") else 1
    checks.between(overlap, 0, 8, "header.chunking.overlap_sentences")
    return ChunkOptions(target, largest, overlap)


def _format(source: pb.SourceHeader) -> Format | None:
    """What the header says that the source is; None where it does not."""
    if not source.format:
        return None
    try:
        return Format(source.format)
    except ValueError:
        pass
    try:
        return detect(f"source.{source.format.removeprefix('.')}", b"\0")
    except SourceError:
        problem = f"{source.format!r} is no format that can be read"
        raise RequestError("INVALID_ARGUMENT", "SOURCE_UNREADABLE", f"source.format: {problem}") from None


def _source_info(row: Row) -> pb.SourceInfo | None:
    """The source whose first passage a row is; None for every other row."""
    if not row.source:
        return None
    source = convert.source(row.source)
    if source.ordinal:
        return None
    return pb.SourceInfo(
        uri=source.uri, title=source.title, content_hash=source.content_hash, passages=source.count
    )


def _fill_citation(message: pb.Citation, citation: Citation, row: Row) -> None:
    message.number = citation.number
    message.ids.extend(citation.ids or (citation.id,))
    if row.source:
        message.source.CopyFrom(convert.source(row.source))
    message.source.uri = citation.source
    message.source.title = citation.title
    message.source.start = citation.start
    message.source.end = citation.end
    message.score = citation.score
    message.author = citation.author
    message.version = citation.version
    message.text = citation.text
