"""Streams that end with the token they were opened under."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeVar

from vecdb.security import Bearer

T = TypeVar("T")


async def while_good(replies: AsyncGenerator[T, None], bearer: Bearer) -> AsyncIterator[T]:
    """The replies of a stream, for as long as its caller's token is good.

    AuthError as soon as it is revoked or expires, also while nothing is said: what the stream is working on
    is cancelled. A reply that is on its way then still arrives.
    """
    loop = asyncio.get_running_loop()
    scope: asyncio.Timeout | None = None

    def end() -> None:
        if scope is not None and not scope.expired():
            scope.reschedule(loop.time())

    async with aclosing(replies):
        with bearer.watched(lambda: loop.call_soon_threadsafe(end)):
            while True:
                bearer.check()
                try:
                    # Around the wait for each reply and not around all of them: what is cancelled must be
                    # the stream's own work, never the transport's in between.
                    async with asyncio.timeout(bearer.seconds_left()) as scope:
                        reply = await anext(replies)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if scope is not None and scope.expired():
                        raise bearer.refusal() from None
                    raise
                finally:
                    scope = None
                yield reply
