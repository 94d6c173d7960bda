"""A node inside the test process: as quick to start as its parts are, and seen by coverage.

It lives in a thread with a loop of its own, so that tests may use blocking clients. What needs a process
(signals, kills, exit codes) is for `tests.support.node`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2, status_pb2
from vecdb_client import Client
from vecdb_proto.v1 import (
    access_pb2_grpc,
    cluster_pb2_grpc,
    collections_pb2,
    collections_pb2_grpc,
    documents_pb2_grpc,
    knowledge_pb2_grpc,
    models_pb2_grpc,
    search_pb2_grpc,
)

from tests.support.node import HOST, free_port
from vecdb.config import Settings
from vecdb.config.endpoint import Endpoint
from vecdb.models import ModelRegistry
from vecdb.node import Node
from vecdb.query import Database

WAIT_SECONDS = 30.0


class _Loop(asyncio.SelectorEventLoop):
    """A loop of a thread that is not the main one, which may not touch signals."""

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """Signals are the main thread's; this node is told to stop by its event."""


class _Watched(Node):
    """A node that shows what it has opened."""

    database: Database

    async def _open(self, *given: Any) -> tuple[Database, ModelRegistry]:
        self.database, registry = await super()._open(*given)
        return self.database, registry


class InProcessNode:
    """One node on the loopback; `settings` are keys of the configuration, as Python values.

    As a context manager it serves, and at the end stops in good order. `node`
    is the running `vecdb.node.Node`; stubs of all services are attributes.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.data_dir = folder / "data"
        self.port = free_port()
        self.http_port = free_port()
        self._given = settings
        self.failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._running: Future[tuple[asyncio.AbstractEventLoop, _Watched]] = Future()

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"{HOST}:{self.port}"

    @property
    def http_url(self) -> str:
        """Where its metrics and health pages are."""
        return f"http://{HOST}:{self.http_port}"

    def settings(self) -> Settings:
        """The node's configuration."""
        keys: dict[str, Any] = {
            "data_dir": self.data_dir,
            "listen": Endpoint(HOST, self.port),
            "peer_listen": Endpoint(HOST, free_port()),
            "http_listen": Endpoint(HOST, self.http_port),
            "limits": {"min_free_disk_bytes": 0},
        }
        return Settings(**keys | self._given)

    def start(self) -> Self:
        """Serve. Raises what kept the node from it."""
        self.failure = None
        self._running = Future()
        self._thread = threading.Thread(target=self._run, name="node", daemon=True)
        self._thread.start()
        self.node = self._running.result(WAIT_SECONDS)[1]
        self._wait_serving()
        self.channel = grpc.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)])
        self.access = access_pb2_grpc.AccessStub(self.channel)
        self.cluster = cluster_pb2_grpc.ClusterStub(self.channel)
        self.collections = collections_pb2_grpc.CollectionsStub(self.channel)
        self.documents = documents_pb2_grpc.DocumentsStub(self.channel)
        self.knowledge = knowledge_pb2_grpc.KnowledgeStub(self.channel)
        self.models = models_pb2_grpc.ModelsStub(self.channel)
        self.search = search_pb2_grpc.SearchStub(self.channel)
        return self

    def _run(self) -> None:
        loop = _Loop()
        asyncio.set_event_loop(loop)

        async def serve() -> None:
            node = _Watched(self.settings())
            self._running.set_result((loop, node))
            await node.serve()

        try:
            loop.run_until_complete(serve())
        except BaseException as error:
            self.failure = error
            if not self._running.done():
                self._running.set_exception(error)
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def _wait_serving(self) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while self._alive():
            if self.node._ready:
                return
            assert time.monotonic() < deadline, "the node does not serve"
            time.sleep(0.005)
        assert self.failure is not None, "the node ended by itself"
        raise self.failure

    def _alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def node_database(self) -> Database:
        """What the services work on. Its coroutines belong to the node's loop: see `run`."""
        return self.node.database

    def run(self, work: Callable[[], Any]) -> Any:
        """Run a coroutine function (or a plain one) on the node's loop; returns its result."""
        loop, _ = self._running.result(0)

        async def go() -> Any:
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(go(), loop).result(WAIT_SECONDS)

    def soon(self, work: Callable[[], object]) -> None:
        """Have the node's loop call something, without waiting for it."""
        loop, _ = self._running.result(0)
        loop.call_soon_threadsafe(work)

    def stop(self) -> None:
        """Stop in good order; raises what went wrong."""
        assert self._thread is not None, "the node is not running"
        loop, node = self._running.result(0)
        if self._thread.is_alive():
            loop.call_soon_threadsafe(node._stop.set)
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive(), "the node does not stop"
        self.channel.close()
        if self.failure is not None:
            raise self.failure

    def restart(self) -> None:
        """Stop and start again, with the same data and ports."""
        self.stop()
        self.start()

    def client(self, **settings: Any) -> Client:
        """A blocking client of it."""
        return Client(self.address, **settings)

    def fingerprint(self, collection: str) -> tuple[Any, ...]:
        """What a refused request must leave alone: documents, applied indexes, content hashes."""
        request = collections_pb2.DescribeCollectionRequest(collection=collection)
        info = self.collections.Describe(request).collection
        return (
            info.documents,
            info.config.SerializeToString(deterministic=True),
            tuple((each.shard, each.applied_index, each.content_hash) for each in info.shards),
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Refused:
    """A gRPC error, taken apart."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code: grpc.StatusCode = error.code()
        self.message: str = error.details() or ""
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.fields: list[str] = []
        self.retry_after: float | None = None
        trailers = dict(error.trailing_metadata() or ())
        if "grpc-status-details-bin" in trailers:
            self._take(status_pb2.Status.FromString(trailers["grpc-status-details-bin"]))

    def _take(self, status: status_pb2.Status) -> None:
        assert status.code == self.code.value[0], "status and details disagree"
        assert status.message == self.message, "message and details disagree"
        for detail in status.details:
            for kind in (
                error_details_pb2.ErrorInfo,
                error_details_pb2.BadRequest,
                error_details_pb2.RetryInfo,
            ):
                message = kind()
                if not detail.Unpack(message):
                    continue
                if isinstance(message, error_details_pb2.ErrorInfo):
                    assert message.domain == "vecdb"
                    self.reason, self.metadata = message.reason, dict(message.metadata)
                elif isinstance(message, error_details_pb2.BadRequest):
                    self.fields = [violation.field for violation in message.field_violations]
                else:
                    delay = message.retry_delay
                    self.retry_after = delay.seconds + delay.nanos / 1e9


def refusal(call: Callable[[], Any]) -> Refused:
    """What a call that must fail is answered with."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return Refused(error)
    raise AssertionError(f"the call was answered: {answer}")
