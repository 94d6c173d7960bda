"""The client for asyncio: the same names as `vecdb_client.Client`, to await.

`scroll`, `list_sources` and `search_stream` are async iterators.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from os import PathLike
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc
import grpc.aio
from numpy.typing import ArrayLike

from vecdb_client import _methods as methods
from vecdb_client._base import BaseClient, Guarded, described
from vecdb_client._calls import collections, documents, knowledge, operations
from vecdb_client._calls import search as searches
from vecdb_client._errors import UnavailableError, VecdbError, from_rpc
from vecdb_client._infos import CollectionInfo
from vecdb_client._ingest import Chunking, Feed, IngestReport, IngestResult, SourceLike
from vecdb_client._methods import Method
from vecdb_client._plans import Call, Core, Fanout, Pages
from vecdb_client._results import StreamAnswer
from vecdb_client._snapshots import RestoreProgress, SnapshotResult, SnapshotWriter, restore_messages
from vecdb_client._transport import Attempts, left

__all__ = ["Client"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_STATUS_LOST = "Internal error from Core"


def _called(
    build: Callable[Concatenate[Core, P], Call[T]],
) -> Callable[Concatenate[Client, P], Coroutine[Any, Any, T]]:
    async def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._call(build(self._core, *args, **kwargs))

    described(method, build)
    return method


def _fanned(
    build: Callable[Concatenate[Core, P], Fanout[R, T]],
) -> Callable[Concatenate[Client, P], Coroutine[Any, Any, T]]:
    async def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._fan_out(build(self._core, *args, **kwargs))

    described(method, build)
    return method


def _paged(
    build: Callable[Concatenate[Core, P], Pages[R, T]],
) -> Callable[Concatenate[Client, P], AsyncIterator[T]]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self._pages(build(self._core, *args, **kwargs))

    described(method, build, "AsyncIterator[{}]")
    return method


class Client(BaseClient):
    """A vecdb node, or several, to talk to from one event loop.

    The arguments are those of `vecdb_client.Client`. Connecting happens with
    the first request, in the loop that makes it. Use it as an async context
    manager, or `await close()`.
    """

    create_collection = _called(collections.create_collection)
    describe = _called(collections.describe)
    list_collections = _called(collections.list_collections)
    alter_collection = _called(collections.alter_collection)
    set_aliases = _called(collections.set_aliases)
    drop_collection = _called(collections.drop_collection)

    upsert = _fanned(documents.upsert)
    update = _fanned(documents.update)
    delete = _fanned(documents.delete)
    get = _fanned(documents.get)
    scroll = _paged(documents.scroll)
    count = _called(documents.count)

    search = _called(searches.search)
    search_batch = _fanned(searches.search_batch)

    retrieve = _called(knowledge.retrieve)
    list_sources = _paged(knowledge.list_sources)
    delete_sources = _fanned(knowledge.delete_sources)
    models = _called(knowledge.models)
    embed = _fanned(knowledge.embed)

    whoami = _called(operations.whoami)
    create_token = _called(operations.create_token)
    list_tokens = _called(operations.list_tokens)
    revoke_token = _called(operations.revoke_token)
    quarantine_author = _called(operations.quarantine_author)
    release_author = _called(operations.release_author)
    list_quarantined = _called(operations.list_quarantined)
    cluster_status = _called(operations.cluster_status)
    invite = _called(operations.invite)
    drain_member = _called(operations.drain_member)
    remove_member = _called(operations.remove_member)
    move_replica = _called(operations.move_replica)

    def search_stream(
        self,
        collection: str,
        queries: Iterable[ArrayLike | str],
        *,
        timeout: float | None = None,
        **options: Any,
    ) -> AsyncIterator[StreamAnswer]:
        """Many independent queries over one stream; see `vecdb_client.Client.search_stream`."""
        messages = Guarded(
            searches.stream_request(self._core, index, collection, query, options)
            for index, query in enumerate(queries)
        )
        return self._search_stream(messages, timeout)

    async def _search_stream(
        self, messages: Guarded[Any], limit: float | None
    ) -> AsyncIterator[StreamAnswer]:
        index = self._endpoints.current
        stream = self._open(index, methods.SEARCH_STREAM, messages, limit)
        try:
            async for message in stream:
                yield searches.stream_answer(self._core, message)
        except grpc.RpcError as error:
            raise await self._reason(error, index, methods.SEARCH_STREAM) from None
        finally:
            stream.cancel()
        messages.finish()

    async def ingest(
        self,
        collection: str,
        sources: Iterable[SourceLike] | SourceLike,
        *,
        chunking: Chunking | None = None,
        payload: Mapping[str, Any] | bytes | None = None,
        format: str = "",  # noqa: A002
        root: str | PathLike[str] | None = None,
        progress: Callable[[IngestResult], object] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> IngestReport:
        """Has the server cut sources into passages, embed and write them; see `vecdb_client.Client.ingest`.

        Files are read in a thread, so that the loop goes on.
        """
        feed = Feed(collection, sources, chunking, payload, format, root)
        results: list[IngestResult] = []

        def settle(settled: Iterable[IngestResult]) -> None:
            for result in settled:
                results.append(result)
                if progress is not None:
                    progress(result)

        deadline = None if timeout is None else time.monotonic() + timeout
        attempts = self._attempts()
        while True:
            index = self._endpoints.current
            stream = self._open(index, methods.INGEST, _from_thread(feed.messages()), left(deadline))
            try:
                async for message in stream:
                    self._core.session.merge(message.session)
                    settle(feed.answered(message))
                    attempts = self._attempts()
            except grpc.RpcError as error:
                reason = await self._reason(error, index, methods.INGEST, feed.header)
                await self._wait(attempts, reason, index, deadline)
            else:
                settle(feed.finish())
                return IngestReport(results)
            finally:
                stream.cancel()

    async def snapshot(
        self,
        folder: str | PathLike[str],
        collections: Iterable[str] = (),
        *,
        progress: Callable[[int], object] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> SnapshotResult:
        """Writes a snapshot of collections to a folder; see `vecdb_client.Client.snapshot`."""
        writer = await asyncio.to_thread(SnapshotWriter, folder)
        request = operations.snapshot_request(collections, await asyncio.to_thread(writer.have))
        stream = self._open(self._endpoints.current, methods.SNAPSHOT, request, timeout)
        try:
            async for message in stream:
                await asyncio.to_thread(writer.take, message)
                if progress is not None:
                    progress(writer.received_bytes)
            return await asyncio.to_thread(writer.finish)
        except grpc.RpcError as error:
            raise from_rpc(error) from None
        finally:
            stream.cancel()
            writer.close()

    async def restore(
        self,
        folder: str | PathLike[str],
        *,
        progress: Callable[[RestoreProgress], object] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> list[CollectionInfo]:
        """Restores the snapshot in a folder; see `vecdb_client.Client.restore`."""
        messages = Guarded(restore_messages(folder))
        index = self._endpoints.current
        stream = self._open(index, methods.RESTORE, _from_thread(messages), timeout)
        restored: list[CollectionInfo] = []
        try:
            async for message in stream:
                restored += self._restored(message, progress)
        except grpc.RpcError as error:
            messages.finish()
            raise await self._reason(error, index, methods.RESTORE) from None
        finally:
            stream.cancel()
        messages.finish()
        return restored

    async def wait_indexed(self, collection: str, timeout: float = 120) -> CollectionInfo:  # noqa: ASYNC109
        """Waits until everything that should be in an index is, and describes the collection.

        Raises DeadlineExceededError (a TimeoutError) after `timeout` seconds,
        NotFoundError.
        """
        deadline = time.monotonic() + timeout
        for pause in self._polls():
            info = await self.describe(collection, timeout=max(0.001, deadline - time.monotonic()))
            if info.indexed:
                return info
            if time.monotonic() + pause >= deadline:
                raise self._not_indexed(info, timeout)
            await asyncio.sleep(pause)
        raise AssertionError("polls never end")

    def _setup(self) -> None:
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._stubs: dict[tuple[int, Method], Any] = {}

    def _stub(self, index: int, method: Method) -> Any:
        try:
            return self._stubs[index, method]
        except KeyError:
            pass
        if self._closed:
            raise RuntimeError("the client is closed")
        channel = self._channels.get(index)
        if channel is None:
            channel = self._channels[index] = self._endpoints.channel(grpc.aio, index)
        stub = getattr(channel, method.arity)(method.path, method.serialize, method.parse)
        self._stubs[index, method] = stub
        return stub

    def _open(self, index: int, method: Method, messages: Any, limit: float | None) -> Any:
        return self._stub(index, method)(messages, timeout=limit, metadata=self._endpoints.metadata)

    async def _reason(self, error: grpc.RpcError, index: int, method: Method, *first: Any) -> VecdbError:
        """Why a stream ended.

        grpc.aio loses the status of a stream that the server ended while a
        message was being written: it puts an INTERNAL error of its own in its
        place. A stream that sends nothing but the `first` messages tells: a
        refusal is repeated, and otherwise the node was going away.
        """
        told = from_rpc(error)
        if told.code is not grpc.StatusCode.INTERNAL or told.message != _STATUS_LOST:
            return told
        try:
            async for _ in self._open(index, method, iter(first), self._timeout):
                pass
        except grpc.RpcError as again:
            told = from_rpc(again)
            if told.message != _STATUS_LOST:
                return told
        return UnavailableError("the stream broke while it was written to", code=grpc.StatusCode.UNAVAILABLE)

    async def _call(self, call: Call[T]) -> T:
        timeout = self._timeout if call.timeout is None else call.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        attempts: Attempts | None = None
        while True:
            index = self._endpoints.current
            try:
                reply = await self._stub(index, call.method)(
                    call.request, timeout=timeout, metadata=self._endpoints.metadata
                )
            except grpc.RpcError as error:
                attempts = attempts or self._attempts()
                await self._wait(attempts, from_rpc(error), index, deadline)
                timeout = left(deadline)
                continue
            if call.method.session:
                self._core.session.merge(reply.session)
            return call.parse(reply)

    async def _wait(self, attempts: Attempts, error: VecdbError, index: int, deadline: float | None) -> None:
        """Waits for the next attempt. Raises the error where there should be none."""
        pause = attempts.pause(error, left(deadline))
        if pause is None:
            raise error from None
        self._endpoints.failed(index, error)
        await asyncio.sleep(pause)

    async def _fan_out(self, plan: Fanout[R, T]) -> T:
        outcomes: list[Any] = []
        under_way: deque[asyncio.Task[Any]] = deque()
        failed = False
        try:
            while True:
                call = None if failed or len(under_way) >= plan.concurrency else next(plan.calls, None)
                if call is not None:
                    under_way.append(asyncio.ensure_future(self._outcome(call)))
                    await asyncio.sleep(0)  # let it leave before the next one is built
                elif under_way:
                    outcomes.append(await under_way[0])
                    under_way.popleft()
                    failed = failed or isinstance(outcomes[-1], VecdbError)
                else:
                    return plan.join(outcomes)
        finally:
            for task in under_way:
                task.cancel()

    async def _outcome(self, call: Call[Any]) -> Any:
        try:
            return await self._call(call)
        except VecdbError as error:
            return error

    async def _pages(self, plan: Pages[R, T]) -> AsyncIterator[T]:
        call = plan.first
        while call is not None:
            items, call = plan.split(await self._call(call))
            for item in items:
                yield item

    async def close(self) -> None:
        """Ends the connections. Calls under way are cancelled; later ones raise RuntimeError."""
        self._closed = True
        channels = list(self._channels.values())
        self._channels.clear()
        self._stubs.clear()
        for channel in channels:
            await channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _from_thread(messages: Iterator[Any]) -> AsyncIterator[Any]:
    while (message := await asyncio.to_thread(next, messages, None)) is not None:
        yield message
