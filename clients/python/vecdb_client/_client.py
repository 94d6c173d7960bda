"""The client for threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from os import PathLike
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc
from numpy.typing import ArrayLike

from vecdb_client import _methods as methods
from vecdb_client._base import BaseClient, Guarded, described
from vecdb_client._calls import collections, documents, knowledge, operations
from vecdb_client._calls import search as searches
from vecdb_client._errors import VecdbError, from_rpc
from vecdb_client._infos import CollectionInfo
from vecdb_client._ingest import Chunking, Feed, IngestReport, IngestResult, SourceLike
from vecdb_client._methods import Method
from vecdb_client._plans import Call, Core, Fanout, Pages
from vecdb_client._results import StreamAnswer
from vecdb_client._snapshots import RestoreProgress, SnapshotResult, SnapshotWriter, restore_messages
from vecdb_client._transport import Attempts, left

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def _called(build: Callable[Concatenate[Core, P], Call[T]]) -> Callable[Concatenate[Client, P], T]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._call(build(self._core, *args, **kwargs))

    described(method, build)
    return method


def _fanned(build: Callable[Concatenate[Core, P], Fanout[R, T]]) -> Callable[Concatenate[Client, P], T]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._fan_out(build(self._core, *args, **kwargs))

    described(method, build)
    return method


def _paged(
    build: Callable[Concatenate[Core, P], Pages[R, T]],
) -> Callable[Concatenate[Client, P], Iterator[T]]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._pages(build(self._core, *args, **kwargs))

    described(method, build, "Iterator[{}]")
    return method


class Client(BaseClient):
    """A vecdb node, or several, to talk to. Threads may share one.

    `addresses` is "host:port" (7700 where there is no port) or a list of
    them: any node answers any request, and where one is UNAVAILABLE the next
    is asked. `token` is an access token; `tls` is None for plaintext, True to
    trust the system's roots, the path of a CA file, or a `TLS` value (its
    files are read now: OSError).

    `session` is what `.session` of another client gave: reads then include at
    least what that one had seen. `timeout` is in seconds for each request
    (None: no limit), retries included; every method takes its own.
    `consistency` is what reads ask for where they do not say: "session" (reads
    include this client's writes and never go back), "eventual" or
    "linearizable". `concurrency` is how many requests of a large batch are
    under way at once. `retry` says when to try again; a repeated write is
    applied once. `options` are further gRPC channel options.

    Connecting happens with the first request. Use it as a context manager, or
    `close()` it. Errors are `VecdbError`s; values that are wrong on their face
    are TypeErrors and ValueErrors.
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
    ) -> Iterator[StreamAnswer]:
        """Many independent queries over one stream; answers come as they are ready.

        A query is a vector of shape (dim,) or a text; `options` are those of
        `search`, the same for all. A failed query is an answer with an
        `error` and does not end the stream; a broken stream raises, and is not
        taken up again. `timeout` is for the whole stream, None for no limit.
        """
        messages = Guarded(
            searches.stream_request(self._core, index, collection, query, options)
            for index, query in enumerate(queries)
        )
        return self._search_stream(messages, timeout)

    def _search_stream(self, messages: Guarded[Any], timeout: float | None) -> Iterator[StreamAnswer]:
        stream = self._open(self._endpoints.current, methods.SEARCH_STREAM, messages, timeout)
        try:
            for message in stream:
                yield searches.stream_answer(self._core, message)
        except grpc.RpcError as error:
            raise from_rpc(error) from None
        finally:
            stream.cancel()
        messages.finish()

    def ingest(
        self,
        collection: str,
        sources: Iterable[SourceLike] | SourceLike,
        *,
        chunking: Chunking | None = None,
        payload: Mapping[str, Any] | bytes | None = None,
        format: str = "",  # noqa: A002
        root: str | PathLike[str] | None = None,
        progress: Callable[[IngestResult], object] | None = None,
        timeout: float | None = None,
    ) -> IngestReport:
        """Has the server cut sources into passages, embed and write them; the collection needs a model.

        A source is a path (a folder stands for the files below it, hidden ones
        left out) or (uri, bytes). The uri of a file is its path as given, or
        relative to `root`. Sources are read as they are sent; one that the
        server has unchanged is skipped, the passages of a changed one are
        replaced. `payload` is set in every passage; `format` is an extension
        or media type for all of them, "" to go by uri and content.

        `progress` is called with each source's result, in order. A source
        that fails does not end the others: see `report.failures`. `timeout` is
        for all of it, None for no limit. A broken stream is taken up again
        where it broke. Raises NotFoundError, FailedPreconditionError where the
        collection has no model, and what iterating `sources` raises.
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
            stream = self._open(index, methods.INGEST, feed.messages(), left(deadline))
            try:
                for message in stream:
                    self._core.session.merge(message.session)
                    settle(feed.answered(message))
                    attempts = self._attempts()
            except grpc.RpcError as error:
                self._wait(attempts, from_rpc(error), index, deadline)
            else:
                settle(feed.finish())
                return IngestReport(results)
            finally:
                stream.cancel()

    def snapshot(
        self,
        folder: str | PathLike[str],
        collections: Iterable[str] = (),
        *,
        progress: Callable[[int], object] | None = None,
        timeout: float | None = None,
    ) -> SnapshotResult:
        """Writes a snapshot of collections (all of them, where none is named) to a folder.

        Every file is verified by size and SHA-256; the folder is complete once
        it holds `manifest.msgpack`, which comes last. One that was interrupted is
        taken up where it broke. `progress` is called with the bytes received
        so far; `timeout` is for all of it, None for no limit. Raises
        NotFoundError, DataLossError for damage on the way, OSError.
        """
        writer = SnapshotWriter(folder)
        request = operations.snapshot_request(collections, writer.have())
        stream = self._open(self._endpoints.current, methods.SNAPSHOT, request, timeout)
        try:
            for message in stream:
                writer.take(message)
                if progress is not None:
                    progress(writer.received_bytes)
            return writer.finish()
        except grpc.RpcError as error:
            raise from_rpc(error) from None
        finally:
            stream.cancel()
            writer.close()

    def restore(
        self,
        folder: str | PathLike[str],
        *,
        progress: Callable[[RestoreProgress], object] | None = None,
        timeout: float | None = None,
    ) -> list[CollectionInfo]:
        """Restores the snapshot in a folder and says what was restored, verified by count and content hash.

        The session begins anew, since what it had seen may be gone. `timeout`
        is for all of it, None for no limit. Raises FileNotFoundError where the
        folder holds no complete snapshot, AlreadyExistsError where a
        collection is in the way, OSError.
        """
        messages = Guarded(restore_messages(folder))
        index = self._endpoints.current
        stream = self._open(index, methods.RESTORE, messages, timeout)
        restored: list[CollectionInfo] = []
        try:
            for message in stream:
                restored += self._restored(message, progress)
        except grpc.RpcError as error:
            messages.finish()
            raise from_rpc(error) from None
        finally:
            stream.cancel()
        messages.finish()
        return restored

    def wait_indexed(self, collection: str, timeout: float = 120) -> CollectionInfo:
        """Waits until everything that should be in an index is, and describes the collection.

        Raises DeadlineExceededError (a TimeoutError) after `timeout` seconds,
        NotFoundError.
        """
        deadline = time.monotonic() + timeout
        for pause in self._polls():
            info = self.describe(collection, timeout=max(0.001, deadline - time.monotonic()))
            if info.indexed:
                return info
            if time.monotonic() + pause >= deadline:
                raise self._not_indexed(info, timeout)
            time.sleep(pause)
        raise AssertionError("polls never end")

    def _setup(self) -> None:
        self._lock = threading.Lock()
        self._channels: dict[int, grpc.Channel] = {}
        self._stubs: dict[tuple[int, Method], Any] = {}

    def _stub(self, index: int, method: Method) -> Any:
        try:
            return self._stubs[index, method]
        except KeyError:
            pass
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            channel = self._channels.get(index)
            if channel is None:
                channel = self._channels[index] = self._endpoints.channel(grpc, index)
            stub = getattr(channel, method.arity)(method.path, method.serialize, method.parse)
            self._stubs[index, method] = stub
            return stub

    def _open(self, index: int, method: Method, messages: Any, limit: float | None) -> Any:
        return self._stub(index, method)(messages, timeout=limit, metadata=self._endpoints.metadata)

    def _call(self, call: Call[T]) -> T:
        timeout = self._timeout if call.timeout is None else call.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        attempts: Attempts | None = None
        while True:
            index = self._endpoints.current
            try:
                reply = self._stub(index, call.method)(call.request, timeout, self._endpoints.metadata)
            except grpc.RpcError as error:
                attempts = attempts or self._attempts()
                self._wait(attempts, from_rpc(error), index, deadline)
                timeout = left(deadline)
                continue
            if call.method.session:
                self._core.session.merge(reply.session)
            return call.parse(reply)

    def _wait(self, attempts: Attempts, error: VecdbError, index: int, deadline: float | None) -> None:
        """Waits for the next attempt. Raises the error where there should be none."""
        pause = attempts.pause(error, left(deadline))
        if pause is None:
            raise error from None
        self._endpoints.failed(index, error)
        time.sleep(pause)

    def _fan_out(self, plan: Fanout[R, T]) -> T:
        first = list(islice(plan.calls, min(plan.concurrency, 2)))
        if len(first) < 2:  # most batches: no thread needed
            return plan.join(self._one_by_one(first, plan.calls))
        outcomes: list[Any] = []
        with ThreadPoolExecutor(plan.concurrency, "vecdb-client") as pool:
            under_way = deque(pool.submit(self._outcome, call) for call in first)
            while under_way:
                if len(under_way) < plan.concurrency and not _failed(outcomes):
                    call = next(plan.calls, None)
                    if call is not None:
                        under_way.append(pool.submit(self._outcome, call))
                        continue
                outcomes.append(under_way.popleft().result())
        return plan.join(outcomes)

    def _one_by_one(self, first: Iterable[Call[R]], rest: Iterator[Call[R]]) -> list[Any]:
        outcomes: list[Any] = []
        for call in chain(first, rest):
            outcomes.append(self._outcome(call))
            if _failed(outcomes):
                break
        return outcomes

    def _outcome(self, call: Call[Any]) -> Any:
        try:
            return self._call(call)
        except VecdbError as error:
            return error

    def _pages(self, plan: Pages[R, T]) -> Iterator[T]:
        call = plan.first
        while call is not None:
            items, call = plan.split(self._call(call))
            yield from items

    def close(self) -> None:
        """Ends the connections. Calls under way are cancelled; later ones raise RuntimeError."""
        with self._lock:
            self._closed = True
            channels = list(self._channels.values())
            self._channels.clear()
            self._stubs.clear()
        for channel in channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _failed(outcomes: list[Any]) -> bool:
    return any(isinstance(outcome, VecdbError) for outcome in outcomes[-1:])
