"""One RPC as a service sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

from vecdb.query import RequestError
from vecdb.security import Bearer, Principal

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Call:
    """Who calls, and until when."""

    __slots__ = ("_context", "_tell", "bearer")

    def __init__(
        self, context: Context, bearer: Bearer, tell: Callable[[Exception, Context], RequestError]
    ) -> None:
        self._context = context
        self._tell = tell
        self.bearer = bearer

    @property
    def principal(self) -> Principal:
        """Who calls."""
        return self.bearer.principal

    def refusal(self, error: Exception) -> RequestError:
        """What the caller is told of an error; one that is nobody's fault is logged."""
        return self._tell(error, self._context)

    def seconds_left(self) -> float | None:
        """Until the caller's deadline; None where there is none."""
        left: float | None = self._context.time_remaining()
        return left

    def deadline(self) -> float | None:
        """The caller's deadline by time.monotonic()."""
        left = self.seconds_left()
        return None if left is None else time.monotonic() + left

    @property
    def peer(self) -> str:
        """Where the call came from, as gRPC names it: `ipv4:10.0.0.5:41234`."""
        found: str = self._context.peer()
        return found
