"""Serving methods: authentication, limits, metrics and errors, once for all of them.

Handlers are made from the contract's descriptors: a service is an object with
a coroutine `Method(request, call)` for each method it implements; the others
answer UNIMPLEMENTED. Everything happens in one wrapper rather than a chain of
interceptors, because each link costs a request tens of microseconds.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from vecdb.api import audit
from vecdb.api.calls import Call as Call
from vecdb.api.calls import Context
from vecdb.api.errors import DETAILS_KEY, as_request_error, grpc_code, shortened, status_of
from vecdb.api.streams import while_good
from vecdb.query import RequestError
from vecdb.query.errors import invalid
from vecdb.security import Authenticator, Bearer, Throttle
from vecdb.telemetry import REFUSALS, NodeMetrics, RpcMeter

log = structlog.get_logger(__name__)

# Requests below this are counted by their number alone: together they are bounded by it.
_LARGE: Final = 1 << 20

Handler = Callable[[Any, Call], Any]


@dataclass(slots=True)
class Gate:
    """Counts the requests in progress, and the bytes of large ones, and refuses those beyond the limits.

    A request takes several times its bytes while it is parsed, checked and written.
    """

    limit: int
    max_bytes: int = sys.maxsize
    running: int = 0
    held: int = 0
    closed: bool = False

    def enter(self, size: int = 0) -> None:
        """RequestError where the node is full or shutting down. `size` in bytes, 0 for a small request."""
        if self.closed:
            raise RequestError("UNAVAILABLE", "SHUTTING_DOWN", "the node is shutting down", retry_after=1.0)
        if self.running >= self.limit:
            message = f"{self.limit} requests are in progress, which is the limit (max_concurrent_requests)"
            raise RequestError("RESOURCE_EXHAUSTED", "OVERLOADED", message, retry_after=0.1)
        if size and self.held + size > self.max_bytes:
            message = (
                f"requests in progress have {self.held} bytes; with the {size} of this one it were more than "
                f"{self.max_bytes} (max_concurrent_bytes)"
            )
            metadata = {"limit": "max_concurrent_bytes"}
            raise RequestError(
                "RESOURCE_EXHAUSTED", "OVERLOADED", message, metadata=metadata, retry_after=0.2
            )
        self.running += 1
        self.held += size

    def leave(self, size: int = 0) -> None:
        """One request less, of so many bytes."""
        self.running -= 1
        self.held -= size


class _Served:
    """One RPC from its begin to its end, for the gate and the metrics."""

    __slots__ = ("_admitted", "_begun", "_gate", "_meter", "_size", "_throttle", "code")

    def __init__(self, gate: Gate, meter: RpcMeter) -> None:
        self._gate = gate
        self._meter = meter
        self._admitted = False
        self._size = 0
        self._throttle: Throttle | None = None
        self.code = "OK"

    def __enter__(self) -> _Served:
        self._begun = time.perf_counter()
        self._meter.begin()
        return self

    def admit(self, request: Any) -> Any:
        """Take a place among the requests in progress; returns the message. RequestError."""
        kind = type(request)
        if kind is Large:
            self._size = len(request.data)
        self._gate.enter(self._size)
        self._admitted = True
        if kind is Large:
            request = request.parsed()
            kind = type(request)
        if kind is Malformed:
            raise request.refusal()
        return request

    def identify(self, bearer: Bearer) -> None:
        """Take a place among the requests of its token. LimitReached."""
        if bearer.throttle is not None:
            bearer.throttle.enter()
            self._throttle = bearer.throttle

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is asyncio.CancelledError or kind is GeneratorExit:
            self.code = "CANCELLED"
        if self._admitted:
            self._gate.leave(self._size)
        if self._throttle is not None:
            self._throttle.leave()
        self._meter.done(self.code, time.perf_counter() - self._begun)


class Dispatcher:
    """Makes gRPC handlers of services."""

    def __init__(self, authenticator: Authenticator, metrics: NodeMetrics, gate: Gate) -> None:
        self._authenticator = authenticator
        self._metrics = metrics
        self._gate = gate

    def handlers(self, descriptor: ServiceDescriptor, service: object) -> grpc.GenericRpcHandler[Any, Any]:
        """The handlers of one service."""
        methods = {method.name: self._handler(method, service) for method in descriptor.methods}
        return grpc.method_handlers_generic_handler(descriptor.full_name, methods)

    def _handler(self, method: MethodDescriptor, service: object) -> grpc.RpcMethodHandler[Any, Any]:
        answer: Handler = getattr(service, method.name, None) or _unimplemented(method)
        act = f"{method.containing_service.name}.{method.name}"
        if act in audit.ACTS:
            answer = audit.recorded(act, answer)
        meter = self._metrics.rpc(method.containing_service.name, method.name)
        parse = _parser(method)
        serialize = GetMessageClass(method.output_type).SerializeToString
        if not method.server_streaming and not method.client_streaming:
            return grpc.unary_unary_rpc_method_handler(self._unary(answer, meter), parse, serialize)
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(answer, meter), parse, serialize)
        return grpc.unary_stream_rpc_method_handler(self._stream(answer, meter), parse, serialize)

    def _bearer(self, context: Context) -> Bearer:
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                return self._authenticator.authenticate(str(value))
        return self._authenticator.authenticate(None)

    def _call(self, context: Context, served: _Served) -> Call:
        """The call, if its caller may be told apart, has not asked for too much, and still waits."""
        call = Call(context, self._bearer(context), self._refusal)
        served.identify(call.bearer)
        if call.seconds_left() == 0:
            raise RequestError("DEADLINE_EXCEEDED", "OVERLOADED", "the deadline had passed on arrival")
        return call

    def _unary(self, answer: Handler, meter: RpcMeter) -> Callable[[Any, Context], Awaitable[Any]]:
        async def serve(request: Any, context: Context) -> Any:
            with _Served(self._gate, meter) as served:
                try:
                    # Who calls comes first: nobody's large request is parsed before that is known.
                    call = self._call(context, served)
                    return await answer(served.admit(request), call)
                except Exception as error:
                    await self._refuse(error, context, served)

        return serve

    def _stream(self, answer: Handler, meter: RpcMeter) -> Callable[[Any, Context], AsyncIterator[Any]]:
        async def serve(request: Any, context: Context) -> AsyncIterator[Any]:
            with _Served(self._gate, meter) as served:
                try:
                    call = self._call(context, served)
                    requests = request = served.admit(request)
                    if hasattr(request, "__aiter__"):
                        requests = _well_formed(request, call.bearer.throttle)
                    async for reply in while_good(answer(requests, call), call.bearer):
                        yield reply
                except Exception as error:
                    await self._refuse(error, context, served)

        return serve

    async def _refuse(self, error: Exception, context: Context, served: _Served) -> None:
        """End the RPC with what its caller is told of an error."""
        refusal = self._refusal(error, context)
        served.code = refusal.code
        details = ((DETAILS_KEY, status_of(refusal).SerializeToString()),)
        await context.abort(grpc_code(refusal), shortened(refusal.message), trailing_metadata=details)

    def _refusal(self, error: Exception, context: Context) -> RequestError:
        known = as_request_error(error)
        if known is None:
            log.error("a request failed", peer=context.peer(), exc_info=error)
            known = RequestError(
                "INTERNAL", "INTERNAL", f"internal error ({type(error).__name__}); see the node's log"
            )
        if known.code in {"INTERNAL", "DATA_LOSS"}:
            self._metrics.error("api")
        if known.reason in REFUSALS:
            self._metrics.refused(known.reason)
        return known


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands for a message that cannot be parsed, until there is someone to tell."""

    kind: str

    def refusal(self) -> RequestError:
        """INVALID_ARGUMENT."""
        problem = f"is no {self.kind}: its bytes cannot be parsed, or are nested too deeply"
        return invalid("request", problem)


@dataclass(slots=True)
class Large:
    """The bytes of a large message, until it is known whether there is room to work on it."""

    data: bytes
    _parse: Callable[[bytes], Any]

    def parsed(self) -> Any:
        """The message or Malformed. Its bytes are let go of."""
        data, self.data = self.data, b""
        return self._parse(data)


def _parser(method: MethodDescriptor) -> Callable[[bytes], Any]:
    """A deserializer that never raises: what it raised, grpc would answer as UNKNOWN, unmetered."""
    parse = GetMessageClass(method.input_type).FromString
    malformed = Malformed(method.input_type.full_name)

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return malformed

    def small_parsed(data: bytes) -> Any:
        return parsed(data) if len(data) < _LARGE else Large(data, parsed)

    # The messages of a stream come when they are asked for, and take their room where they are kept.
    return parsed if method.client_streaming else small_parsed


async def _well_formed(requests: AsyncIterator[Any], throttle: Throttle | None) -> AsyncIterator[Any]:
    """The messages of a stream, each when its token may send it: the others wait, and then their sender."""
    async for request in requests:
        if throttle is not None and (wait := throttle.turn()):
            await asyncio.sleep(wait)
        if type(request) is Malformed:
            raise request.refusal()
        yield request


def _unimplemented(method: MethodDescriptor) -> Handler:
    message = f"{method.full_name} is part of the contract, but this version of the node does not serve it"

    def refusal() -> RequestError:
        return RequestError("UNIMPLEMENTED", "NOT_IMPLEMENTED", message)

    async def stream(request: Any, call: Call) -> AsyncIterator[Any]:
        raise refusal()
        yield  # what makes this a generator

    async def unary(request: Any, call: Call) -> Any:
        raise refusal()

    return stream if method.server_streaming or method.client_streaming else unary
