"""vecdb.v1.Search."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import numpy as np
from vecdb_index import Row
from vecdb_proto.v1 import search_pb2 as pb

from vecdb.api import checks, choices, convert, filters, questions
from vecdb.api.dispatch import Call
from vecdb.api.errors import status_of
from vecdb.api.permits import permitted
from vecdb.api.questions import Reader
from vecdb.catalog import CollectionRecord
from vecdb.config import Limits
from vecdb.query import Database, choosing, reads, searches
from vecdb.query.choosing import Choice
from vecdb.query.questions import Nearest, Questions
from vecdb.query.searches import Found
from vecdb.query.wanted import Wanted
from vecdb.security import Role

_DEFAULT_K: Final = 10
_MAX_EF: Final = 10_000
# Hits of one batch, those that its offset leaves out included.
_MAX_HITS: Final = 200_000
# Answers of one stream that are worked on at a time.
_STREAM_WIDTH: Final = 16


class SearchService:
    """See proto/vecdb/v1/search.proto."""

    def __init__(self, db: Database, limits: Limits) -> None:
        self._db = db
        self._limits = limits

    async def Search(self, request: pb.SearchRequest, call: Call) -> pb.SearchResponse:
        """One query."""
        record = permitted(self._db, call, Role.READ, request.collection)
        wanted = self._wanted(request.options, call)
        questions.check_options(request.options)
        choice = choices.parse(request.options, wanted, record, self._limits)
        read = convert.freshness(request.read)
        await self._db.await_fresh(record.shards, read)
        asked, left_out = await Reader(self._db, record, self._limits).one(request.query, request.options)
        if choice is None:
            (found,) = await searches.search(self._db, record, asked, _widened(wanted, left_out))
            found.hits = _without(found, left_out, wanted)
        else:
            (found,) = await choosing.search(self._db, record, asked, wanted, choice, left_out)
        reply = pb.SearchResponse(session=convert.session_token(self._db.positions(record.shards)))
        if convert.is_heavy(len(found.hits), wanted.parts):
            await self._db.run(_fill_hits, reply, found, wanted.parts)
        else:
            _fill_hits(reply, found, wanted.parts)
        _explain(reply.explain, found)
        return reply

    async def SearchBatch(self, request: pb.SearchBatchRequest, call: Call) -> pb.SearchBatchResponse:
        """Many queries, answered in columns."""
        record = permitted(self._db, call, Role.READ, request.collection)
        wanted = self._wanted(request.options, call)
        questions.check_options(request.options)
        choice = choices.parse(request.options, wanted, record, self._limits)
        asked = await self._batch(record, request, wanted, choice)
        read = convert.freshness(request.read)
        await self._db.await_fresh(record.shards, read)
        if choice is None:
            found = await searches.search(self._db, record, asked, wanted)
        else:
            found = await choosing.search(self._db, record, asked, wanted, choice)
        reply = pb.SearchBatchResponse(session=convert.session_token(self._db.positions(record.shards)))
        if convert.is_heavy(sum(len(each.hits) for each in found), wanted.parts):
            await self._db.run(_fill_columns, reply, found, wanted.parts)
        else:
            _fill_columns(reply, found, wanted.parts)
        return reply

    async def SearchStream(
        self, requests: AsyncIterator[pb.SearchStreamRequest], call: Call
    ) -> AsyncIterator[pb.SearchStreamResponse]:
        """Many queries over one stream. Each is answered as soon as it can be, whatever comes after it."""
        answers: asyncio.Queue[pb.SearchStreamResponse | None] = asyncio.Queue()
        room = asyncio.Semaphore(_STREAM_WIDTH)
        running: set[asyncio.Task[None]] = set()

        async def answer(request: pb.SearchStreamRequest) -> None:
            answers.put_nowait(await self._answer(request, call))
            room.release()

        async def read() -> None:
            try:
                async for request in requests:
                    # Further requests wait in the transport, which slows their sender down.
                    await room.acquire()
                    task = asyncio.create_task(answer(request))
                    running.add(task)
                    task.add_done_callback(running.discard)
                await asyncio.gather(*running)
            finally:
                answers.put_nowait(None)

        reading = asyncio.create_task(read())
        try:
            while (ready := await answers.get()) is not None:
                yield ready
            # A reader that failed ends the stream with its error, once what was answered is sent.
            await reading
        finally:
            for task in (reading, *running):
                task.cancel()

    async def _answer(self, request: pb.SearchStreamRequest, call: Call) -> pb.SearchStreamResponse:
        try:
            return pb.SearchStreamResponse(tag=request.tag, response=await self.Search(request.request, call))
        except Exception as error:
            return pb.SearchStreamResponse(tag=request.tag, error=status_of(call.refusal(error)))

    # --- what is asked -------------------------------------------------------

    def _wanted(self, options: pb.SearchOptions, call: Call) -> Wanted:
        """The options, checked."""
        limits = self._limits
        k = options.k or min(_DEFAULT_K, limits.max_k)
        checks.between(k, 1, limits.max_k, "options.k", "max_k")
        checks.between(k + options.offset, 1, limits.max_k, "options.offset", "max_k", "k + offset")
        if options.vector_name:
            raise checks.not_served("options.vector_name", "named vectors")
        recall = ef = threshold = None
        if options.HasField("recall"):
            recall = round(options.recall, 6)
            checks.between(recall, 0.5, 1.0, "options.recall")
        if options.HasField("ef"):
            ef = options.ef
            checks.between(ef, 1, _MAX_EF, "options.ef")
        if options.HasField("score_threshold"):
            threshold = options.score_threshold
            if threshold != threshold:
                raise checks.invalid("options.score_threshold", "must not be NaN", "NOT_FINITE")
        return Wanted(
            k=k,
            offset=options.offset,
            where=filters.parse(options.filter, limits) if options.HasField("filter") else None,
            recall=recall,
            ef=ef,
            exact=options.exact,
            threshold=threshold,
            parts=convert.parts(options),
            explain=options.explain,
            deadline=call.deadline(),
            max_bytes=limits.max_message_bytes,
        )

    async def _batch(
        self, record: CollectionRecord, request: pb.SearchBatchRequest, wanted: Wanted, choice: Choice | None
    ) -> Questions:
        if bool(request.vectors) == bool(request.texts):
            raise checks.invalid("vectors", "give vectors or texts" + (", not both" if request.texts else ""))
        options = request.options
        if request.texts:
            self._batch_size(len(request.texts), "texts", wanted, choice)
            reader = Reader(self._db, record, self._limits)
            return await reader.texts(list(request.texts), "texts", options.mode, options.hybrid)
        if options.mode in (pb.SEARCH_MODE_BM25, pb.SEARCH_MODE_HYBRID):
            raise checks.invalid("vectors", "have no words to look for: give texts")
        vectors = checks.matrix(request.vectors, None, record.dim, record.metric, "vectors")
        self._batch_size(len(vectors), "vectors", wanted, choice)
        return Nearest(vectors)

    def _batch_size(self, count: int, field: str, wanted: Wanted, choice: Choice | None) -> None:
        checks.between(count, 1, self._limits.max_batch_queries, field, "max_batch_queries")
        each = choices.hits_of(choice, wanted)
        if count * each > _MAX_HITS:
            problem = f"{count} queries for {each} hits are {count * each} hits; the limit is {_MAX_HITS}"
            raise checks.invalid("options.k", problem, "LIMIT_EXCEEDED")


def _widened(wanted: Wanted, left_out: frozenset[str]) -> Wanted:
    """Enough hits that none is missing once the examples are left out."""
    if not left_out:
        return wanted
    return wanted.widened(wanted.k + wanted.offset + len(left_out))


def _without(found: Found, left_out: frozenset[str], wanted: Wanted) -> list[tuple[float, Row]]:
    if not left_out:
        return found.hits
    kept = [hit for hit in found.hits if hit[1].id not in left_out]
    return kept[wanted.offset : wanted.offset + wanted.k]


def _fill_hits(reply: pb.SearchResponse, found: Found, parts: reads.Parts) -> None:
    for score, row in found.hits:
        hit = reply.hits.add()
        hit.score = score
        convert.fill_document(hit.document, row, parts.fields)
    if found.groups:
        for hit, group in zip(reply.hits, found.groups, strict=True):
            hit.group = group


def _fill_columns(reply: pb.SearchBatchResponse, found: Sequence[Found], parts: reads.Parts) -> None:
    reply.counts.extend([len(each.hits) for each in found])
    hits = [hit for each in found for hit in each.hits]
    reply.ids.extend([row.id for _, row in hits])
    reply.scores = np.array([score for score, _ in hits], dtype="<f4").tobytes()
    reply.versions.extend([row.version for _, row in hits])
    names: dict[str, int] = {}
    reply.authors.extend([names.setdefault(row.author, len(names)) for _, row in hits])
    reply.author_names.extend(names)
    if parts.payload:
        reply.payloads.extend(
            [convert.projected(row.payload, parts.fields) if parts.fields else row.payload for _, row in hits]
        )
    if parts.text:
        reply.texts.extend([row.text or "" for _, row in hits])
    if parts.vector:
        reply.vectors = b"".join(row.vector.tobytes() for _, row in hits if row.vector is not None)
    if found:
        _explain(reply.explain, found[0])


def _explain(explain: pb.Explain, found: Found) -> None:
    for name, microseconds, details in found.explain:
        explain.steps.add(name=name, microseconds=microseconds, details=details)
