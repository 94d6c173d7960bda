"""Opens the stream to a peer, and opens it again whenever it breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import grpc.aio
import structlog

from vecdb_replication.transport.codec import check_hello, encode_hello
from vecdb_replication.transport.link import Link, explain
from vecdb_replication.transport.options import TransportOptions
from vecdb_replication.transport.trust import Trust
from vecdb_replication.transport.wire import open_channel, open_stream

_log = structlog.get_logger(__name__)


class Backoff:
    """Pauses between attempts: each twice the one before, up to `limit` seconds, less up to a half by chance.

    Without the chance, all that lost the same peer would come back at once.
    """

    def __init__(self, first: float, limit: float, chance: Callable[[], float] = random.random) -> None:
        self._first = first
        self._limit = limit
        self._chance = chance
        self._next = first

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        pause, self._next = self._next, min(2 * self._next, self._limit)
        return pause * (1 - self._chance() / 2)

    def reset(self) -> None:
        """It worked: the next pause is short again."""
        self._next = self._first


class _Called:
    """The dialler's side of a stream."""

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        self._call = call

    async def read(self) -> bytes | None:
        frame = await self._call.read()
        return frame if isinstance(frame, bytes) else None

    async def write(self, frame: bytes) -> None:
        await self._call.write(frame)


class Dialer:
    """Keeps the stream of a link open. `run` it as a task, and cancel that to stop."""

    def __init__(
        self, link: Link, address: str, name: str, cluster: str, trust: Trust, options: TransportOptions
    ) -> None:
        self._link = link
        self._address = address
        self._name = name
        self._cluster = cluster
        self._trust = trust
        self._options = options
        self._backoff = Backoff(options.backoff_seconds, options.max_backoff_seconds)

    async def run(self) -> None:
        """Dial for ever. A reason why it does not work is logged once, until it changes or it works."""
        while True:
            try:
                problem = await self._once()
            except TimeoutError:
                problem = f"no answer within {self._options.hello_seconds} s"
            except Exception as error:
                # Whatever it is, gRPC's or ours: without this loop the peer would be lost for good.
                problem = explain(error)
            if self._link.failed(problem):
                _log.warning("no stream", peer=self._link.peer, address=self._address, problem=problem)
            await asyncio.sleep(self._backoff.next())

    async def _once(self) -> str:
        link, options = self._link, self._options
        loop = asyncio.get_running_loop()
        async with open_channel(self._address, link.peer, self._trust, options) as channel:
            stream = _Called(open_stream(channel))
            async with asyncio.timeout(options.hello_seconds):
                await stream.write(encode_hello(self._cluster, self._name))
                check_hello(await stream.read(), self._cluster, link.peer)
            _log.info("stream", peer=link.peer, address=self._address)
            began = loop.time()
            problem = await link.run(stream)
            if loop.time() - began >= options.max_backoff_seconds:
                # Not one that breaks at once, again and again.
                self._backoff.reset()
            return problem
