"""Many callers, one model: requests that arrive together are embedded together.

No timer and no waiting. The first request of an idle model goes at once, as a
batch of its own; those that arrive while it runs form the next batch. So a
lone caller pays nothing, and under load the batches grow by themselves to
what the model needs to keep up (the rule of a group commit).

Requests are cut into slices of a batch, and queries take turns with passages,
so that a question does not wait behind somebody's ten thousand pages.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from vecdb.models.base import Embedder, Vectors
from vecdb.models.errors import EmbeddingError, ModelBusy, ModelUnavailable


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How a model likes its work.

    `max_batch`: texts in one call. `concurrency`: calls under way at once.
    `max_queue`: texts that may wait. `inline_chars`: queries of one text up to
    this long are embedded on the event loop itself, because a thread would
    cost more than the embedding; 0 for never.
    """

    max_batch: int = 64
    concurrency: int = 1
    max_queue: int = 4096
    inline_chars: int = 0


@dataclass(slots=True, eq=False)
class _Request:
    texts: Sequence[str]
    vectors: Vectors
    future: asyncio.Future[Vectors]
    taken: int = 0  # texts handed to a batch
    embedded: int = 0  # texts whose vectors are in


@dataclass(frozen=True, slots=True)
class _Slice:
    request: _Request
    start: int
    stop: int

    @property
    def texts(self) -> Sequence[str]:
        return self.request.texts[self.start : self.stop]


@dataclass(slots=True, eq=False)
class _Lane:
    """Requests of one kind, oldest first; a batch never mixes kinds."""

    embed: Callable[[Sequence[str]], Vectors]
    requests: deque[_Request] = field(default_factory=deque)

    def take(self, limit: int) -> list[_Slice]:
        """Up to `limit` texts from the oldest requests that still want them."""
        slices: list[_Slice] = []
        while self.requests and limit > 0:
            request = self.requests[0]
            if request.future.done():  # cancelled, or failed by an earlier slice
                self.requests.popleft()
                continue
            stop = min(request.taken + limit, len(request.texts))
            slices.append(_Slice(request, request.taken, stop))
            limit -= stop - request.taken
            request.taken = stop
            if stop == len(request.texts):
                self.requests.popleft()
        return slices


class BatchingEmbedder:
    """An `Embedder` for coroutines. Belongs to one event loop.

    Cancelling a call drops what of it is still queued; a batch that runs
    already is finished and its vectors thrown away.
    """

    def __init__(self, embedder: Embedder, limits: BatchLimits | None = None) -> None:
        self.embedder = embedder
        self.limits = limits or BatchLimits()
        self._queries = _Lane(embedder.embed_queries)
        self._passages = _Lane(embedder.embed_passages)
        self._next = self._queries
        self._waiting = 0  # texts that no batch has taken
        self._running: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(self.limits.concurrency, thread_name_prefix="embed")
        self._closed = False

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The (n, dim) float32 vectors of questions.

        Raises EmbeddingError with positions in `texts`, ModelBusy where the
        queue is full, ModelUnavailable where an endpoint does not answer.
        """
        if len(texts) == 1 and len(texts[0]) <= self.limits.inline_chars and not self._closed:
            return self.embedder.embed_queries(texts)
        return await self._submit(self._queries, texts)

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """As `embed_queries`, for what is to be found."""
        return await self._submit(self._passages, texts)

    async def close(self) -> None:
        """Refuses what is queued and waits for what runs; the embedder stays open."""
        self._closed = True
        for lane in (self._queries, self._passages):
            for request in lane.requests:
                _fail(request, ModelUnavailable("the node is shutting down"))
        await asyncio.gather(*self._running)
        self._threads.shutdown(wait=False)

    async def _submit(self, lane: _Lane, texts: Sequence[str]) -> Vectors:
        if self._closed:
            raise ModelUnavailable("the node is shutting down")
        vectors = np.empty((len(texts), self.embedder.dim), dtype=np.float32)
        if not texts:
            return vectors
        # An empty queue takes a request of any size: refusing it could only
        # make the caller try again for ever.
        if self._waiting and self._waiting + len(texts) > self.limits.max_queue:
            raise ModelBusy(
                f"{self._waiting} texts are waiting for the model {self.embedder.name!r} "
                f"already (at most {self.limits.max_queue})"
            )
        request = _Request(texts, vectors, asyncio.get_running_loop().create_future())
        request.future.add_done_callback(lambda _: self._forget(request))
        lane.requests.append(request)
        self._waiting += len(texts)
        self._start_batches()
        return await request.future

    def _start_batches(self) -> None:
        while len(self._running) < self.limits.concurrency:
            lane, slices = self._take()
            if not slices:
                return
            task = asyncio.get_running_loop().create_task(self._run(lane, slices))
            self._running.add(task)
            task.add_done_callback(self._batch_ended)

    def _batch_ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start_batches()

    def _take(self) -> tuple[_Lane, list[_Slice]]:
        """The next batch; the lanes take turns while both have work."""
        lane = self._next
        other = self._passages if lane is self._queries else self._queries
        slices = lane.take(self.limits.max_batch)
        if slices:
            self._next = other
        else:
            lane, slices = other, other.take(self.limits.max_batch)
        self._waiting -= sum(part.stop - part.start for part in slices)
        return lane, slices

    def _forget(self, request: _Request) -> None:
        """A request is settled: what of it was still waiting, waits no more."""
        self._waiting -= len(request.texts) - request.taken
        request.taken = len(request.texts)

    async def _run(self, lane: _Lane, slices: list[_Slice]) -> None:
        """Embeds a batch and settles its requests.

        One caller's bad text must not fail the others. Where the error says
        which texts it is about, their callers are told and the rest go again;
        where it does not, every slice goes by itself. An endpoint that does
        not answer fails them all: asking it n more times helps nobody.
        """
        loop = asyncio.get_running_loop()
        texts = [text for part in slices for text in part.texts]
        try:
            vectors = await loop.run_in_executor(self._threads, lane.embed, texts)
            if vectors.shape != (len(texts), self.embedder.dim):
                raise ModelUnavailable(f"the model {self.embedder.name!r} returned {vectors.shape}")
        except Exception as error:
            if isinstance(error, EmbeddingError) and error.positions:
                if again := _blame(slices, error):
                    await self._run(lane, again)
            elif len(slices) == 1 or isinstance(error, ModelUnavailable):
                for part in slices:
                    _fail(part.request, error)
            else:
                for part in slices:
                    await self._run(lane, [part])
        else:
            _deliver(slices, vectors)


def _deliver(slices: list[_Slice], vectors: Vectors) -> None:
    row = 0
    for part in slices:
        request, count = part.request, part.stop - part.start
        request.vectors[part.start : part.stop] = vectors[row : row + count]
        row += count
        request.embedded += count
        if request.embedded == len(request.texts) and not request.future.done():
            request.future.set_result(request.vectors)


def _blame(slices: list[_Slice], error: EmbeddingError) -> list[_Slice]:
    """Fails the requests that own the bad positions; returns the other slices."""
    bad = set(error.positions)
    innocent: list[_Slice] = []
    row = 0
    for part in slices:
        count = part.stop - part.start
        positions = [part.start + i for i in range(count) if row + i in bad]
        row += count
        if positions:
            _fail(part.request, error.moved(positions))
        else:
            innocent.append(part)
    # Positions outside the batch would have the same slices go round for ever.
    if len(innocent) == len(slices):
        for part in slices:
            _fail(part.request, error)
        return []
    return innocent


def _fail(request: _Request, error: Exception) -> None:
    if not request.future.done():
        request.future.set_exception(error)
