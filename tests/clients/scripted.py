"""A real gRPC server whose answers a test writes down, and both clients behind one face."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2, message_factory
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from vecdb_client import AsyncClient
from vecdb_proto.v1 import (
    access_pb2,
    cluster_pb2,
    collections_pb2,
    documents_pb2,
    knowledge_pb2,
    models_pb2,
    search_pb2,
)

_MODULES = (access_pb2, cluster_pb2, collections_pb2, documents_pb2, knowledge_pb2, models_pb2, search_pb2)


@dataclass(frozen=True)
class Fail:
    """A status to end a call with, and its details."""

    code: grpc.StatusCode
    message: str = "it failed"
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: tuple[tuple[str, str], ...] = ()
    retry_after: float | None = None

    def status(self) -> status_pb2.Status:
        details = []
        if self.reason:
            details.append(
                error_details_pb2.ErrorInfo(reason=self.reason, domain="vecdb", metadata=self.metadata)
            )
        if self.violations:
            broken = [
                error_details_pb2.BadRequest.FieldViolation(field=f, description=d)
                for f, d in self.violations
            ]
            details.append(error_details_pb2.BadRequest(field_violations=broken))
        if self.retry_after is not None:
            seconds, rest = divmod(self.retry_after, 1)
            delay = duration_pb2.Duration(seconds=int(seconds), nanos=round(rest * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        packed = []
        for detail in details:
            box = any_pb2.Any()
            box.Pack(detail)
            packed.append(box)
        return status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)


class ScriptedServer:
    """Answers each RPC by its script: messages and `Fail`s, one a call, the last for ever; or a function.

    A function gets the request (an iterator for a streaming RPC) and the
    context. `requests` holds what came, by "Service/Method".
    """

    def __init__(
        self, address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
    ) -> None:
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.metadata: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._scripts: dict[str, list[Any]] = {}
        self._lock = threading.Lock()
        self._server = grpc.server(
            ThreadPoolExecutor(8),
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20)],
        )
        self._server.add_generic_rpc_handlers((_Handler(self),))
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self._server.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def script(self, method: str, *steps: Any) -> None:
        self._scripts[method] = list(steps)

    def answer(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            if not isinstance(request, Iterator):
                self.requests[method].append(request)
            self.metadata[method].append(dict(context.invocation_metadata()))
            steps = self._scripts.get(method)
            step = Fail(grpc.StatusCode.UNIMPLEMENTED, f"{method} has no script") if not steps else steps[0]
            if steps and len(steps) > 1:
                steps.pop(0)
        if callable(step):
            step = step(request, context)
        if isinstance(step, Fail):
            context.abort_with_status(rpc_status.to_status(step.status()))
        return step

    def stop(self) -> None:
        self._server.stop(None).wait()


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: ScriptedServer) -> None:
        self._methods: dict[str, grpc.RpcMethodHandler] = {}
        for module in _MODULES:
            for service in module.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    path = f"/{service.full_name}/{method.name}"
                    self._methods[path] = self._handler(server, f"{service.name}/{method.name}", method)

    @staticmethod
    def _handler(server: ScriptedServer, name: str, method: Any) -> grpc.RpcMethodHandler:
        sides = (method.client_streaming, method.server_streaming)
        arity = "_".join("stream" if streaming else "unary" for streaming in sides)
        make: Callable[..., grpc.RpcMethodHandler] = getattr(grpc, f"{arity}_rpc_method_handler")
        return make(
            lambda request, context: server.answer(name, request, context),
            request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
            response_serializer=message_factory.GetMessageClass(method.output_type).SerializeToString,
        )

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._methods.get(details.method)


class Blocking:
    """An `AsyncClient` that a test calls like a `Client`: its loop runs in a thread."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = AsyncClient(*args, **settings)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            if inspect.isawaitable(result):
                return self._await(result)
            return self._iterate(result) if hasattr(result, "__anext__") else result

        return call

    def _await(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self._loop).result(60)

    def _iterate(self, items: Any) -> Iterator[Any]:
        end = object()
        try:
            while (item := self._await(anext(items, end))) is not end:
                yield item
        finally:
            self._await(items.aclose())

    def close(self) -> None:
        self._await(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
