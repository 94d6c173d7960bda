"""What the two clients share: everything but how a call is awaited."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any, TypeVar

import grpc
from vecdb_proto.v1 import cluster_pb2

from vecdb_client._errors import DeadlineExceededError
from vecdb_client._infos import CollectionInfo
from vecdb_client._plans import Core
from vecdb_client._session import CONSISTENCIES, Session, WriteCounter
from vecdb_client._snapshots import RestoreProgress
from vecdb_client._transport import Attempts, Endpoints, RetryPolicy, TlsOption

T = TypeVar("T")


def described(method: Callable[..., Any], build: Callable[..., Any], result: str = "{}") -> None:
    """Gives a client's method the name, docstring and signature of its builder.

    A builder returns a plan, the method what comes of it: the last parameter
    of the plan's type, which `result` may wrap.
    """
    wraps(build)(method)
    signature = inspect.signature(build)
    core, *parameters = signature.parameters.values()
    plan = str(signature.return_annotation)
    inner = plan[plan.index("[") + 1 : -1]
    if not plan.startswith("Call["):  # Fanout[R, T] and Pages[R, T], R without a comma at the top
        inner = inner.partition(", ")[2]
    own = core.replace(name="self", annotation=inspect.Parameter.empty)
    shown = signature.replace(parameters=[own, *parameters], return_annotation=result.format(inner))
    method.__signature__ = shown  # type: ignore[attr-defined]


class BaseClient(ABC):
    """Settings, session and endpoints of a client. See `Client`."""

    def __init__(
        self,
        addresses: str | Iterable[str] = "127.0.0.1:7700",
        *,
        token: str | None = None,
        tls: TlsOption = None,
        session: str | bytes | None = None,
        timeout: float | None = 30.0,
        consistency: str = "session",
        concurrency: int = 2,
        retry: RetryPolicy | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        if consistency not in CONSISTENCIES:
            raise ValueError(f"consistency must be one of {', '.join(CONSISTENCIES)}, not {consistency!r}")
        if concurrency < 1:
            raise ValueError(f"concurrency is at least 1, not {concurrency}")
        self._endpoints = Endpoints(addresses, token, tls, options)
        self._core = Core(Session(session), WriteCounter(), consistency, concurrency)
        self._timeout = timeout
        self._retry = retry or RetryPolicy()
        self._closed = False
        self._setup()

    @abstractmethod
    def _setup(self) -> None:
        """Makes what the kind of client needs on top."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses, in the order they are tried."""
        return self._endpoints.addresses

    @property
    def session(self) -> str:
        """What this client has seen, to hand to another process: opaque, URL-safe text.

        `Client(..., session=token)` reads at least that. It is a claim about
        positions, not a credential. Empty where nothing was seen yet.
        """
        return self._core.session.token

    def merge_session(self, token: str | bytes) -> None:
        """Takes in what another client has seen. Raises ValueError where that is no session token."""
        self._core.session.merge_token(token)

    def forget_session(self) -> None:
        """Forgets what was seen, after a StaleSessionError: a snapshot was restored, reads may go back."""
        self._core.session.forget()

    def _attempts(self) -> Attempts:
        return Attempts(self._retry, len(self._endpoints.addresses))

    def _restored(
        self, message: cluster_pb2.RestoreResponse, progress: Callable[[RestoreProgress], object] | None
    ) -> tuple[CollectionInfo, ...]:
        """What one answer of a restore tells; after the last the session is of the restored cluster."""
        told = RestoreProgress.of(message)
        if message.HasField("session"):
            self._core.session.forget()
            self._core.session.merge(message.session)
        if progress is not None:
            progress(told)
        return told.collections

    @staticmethod
    def _polls() -> Iterator[float]:
        """Seconds between looks at an index that is being built: short at first, half a second at most."""
        pause = 0.02
        while True:
            yield pause
            pause = min(0.5, pause * 1.5)

    @staticmethod
    def _not_indexed(info: CollectionInfo, timeout: float) -> DeadlineExceededError:
        message = f"{info.unindexed} documents of {info.name} still wait for an index after {timeout:g} s"
        return DeadlineExceededError(message, code=grpc.StatusCode.DEADLINE_EXCEEDED)


class Guarded(Iterator[T]):
    """An iterator for gRPC to read from, whose error reaches the caller.

    gRPC reads requests in a thread of its own and only logs what iterating
    them raises. This one ends instead, and `finish` raises.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return next(self._items)
        except StopIteration:
            raise
        except Exception as error:
            self._error = error
            raise StopIteration from None

    def finish(self) -> None:
        """Raises what iterating raised."""
        if self._error is not None:
            raise self._error
