"""The way to one peer: what waits for it, and the stream that takes it there, while there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

import structlog

from vecdb_replication import raft
from vecdb_replication.transport.codec import Addressed, Decoder, encode, encode_in_pieces
from vecdb_replication.transport.lanes import Lanes, fits, weight
from vecdb_replication.transport.options import PeerStatus, TransportOptions
from vecdb_replication.transport.seams import Receiver

_log = structlog.get_logger(__name__)

_NEWER = "the peer has opened a newer stream"

# What may wait a moment for company. With a context it is a read that waits for it.
_CALM = frozenset({raft.MessageType.HEARTBEAT, raft.MessageType.HEARTBEAT_RESP})


class Stream(Protocol):
    """Frames to and from a peer, in order."""

    async def read(self) -> bytes | None:
        """The next frame; None where the peer has ended the stream."""
        ...

    async def write(self, frame: bytes) -> None:
        """Send a frame; returns once there is room for the next."""
        ...


class Link:
    """One peer, whoever dials. Belongs to one event loop.

    Without a stream, what is sent is dropped: Raft says it again, and newer.
    """

    def __init__(self, peer: str, receiver: Receiver, options: TransportOptions, *, dials: bool) -> None:
        self.peer = peer
        self.dials = dials
        self._receiver = receiver
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._lanes = Lanes(options.max_queued_messages, options.max_queued_bytes)
        self._waiting = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._up = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()
        self._comers = 0
        self._ended: asyncio.Future[str] | None = None
        self._overflowing = False
        self._snapshots: set[tuple[int, int]] = set()
        self._too_large: set[int] = set()
        self._problem = "not connected yet"
        self._closed = ""
        self._connects = self._dropped = 0
        self._sent_messages = self._sent_frames = self._sent_bytes = 0
        self._received_messages = self._received_frames = self._received_bytes = 0

    # What the host says

    def send(self, messages: Iterable[Addressed]) -> None:
        """Queue messages; those that there is no room for are dropped and reported."""
        if self._ended is None:
            self._lose(messages)
            return
        refused = []
        calm = True
        options = self._options
        limits = (options.frame_bytes, options.max_frame_bytes, options.max_entry_bytes)
        for group, message in messages:
            calm = calm and message.type in _CALM and not message.context
            size = weight(message)
            if not fits(message, size, *limits):
                self._complain(group, size)
                refused.append((group, message))
            elif not self._lanes.put(group, message, size):
                refused.append((group, message))
        if refused:
            self._lose(refused)
            self._overflow()
        self._drained.clear()
        if not calm:
            self._waiting.set()
        elif self._linger is None:
            # Idle groups say nothing else, many times a second, and a frame costs more than what is in it.
            self._linger = self._loop.call_later(self._options.linger_seconds, self._waiting.set)

    def _complain(self, group: int, size: int) -> None:
        """Raft tries for ever to send what is too large: a group is worth one line."""
        if group not in self._too_large:
            self._too_large.add(group)
            limit = self._options.max_entry_bytes
            _log.error("message too large", peer=self.peer, group=group, bytes=size, limit=limit)

    def _overflow(self) -> None:
        """Tell the host once that messages get lost, until there is room again: telling takes time too."""
        if not self._overflowing:
            self._overflowing = True
            # In a turn of its own: the host is in the middle of a pass.
            self._loop.call_soon(self._receiver.unreachable, self.peer)

    def _lose(self, messages: Iterable[Addressed]) -> None:
        for group, message in messages:
            self._dropped += 1
            if message.type is raft.MessageType.SNAP:
                self._report_lost(group, message.to)

    def _report_lost(self, group: int, replica: int) -> None:
        self._loop.call_soon(lambda: self._receiver.report_snapshot(group, replica, failed=True))

    # The stream

    async def run(self, stream: Stream) -> str:
        """Serve the peer over a stream until that ends; returns why it did.

        One that is running already is ended: a peer comes again only when the old one is dead to it.
        """
        self._comers += 1
        comer = self._comers
        self.end(_NEWER)
        async with self._turn:
            if self._closed or comer < self._comers:
                return self._closed or _NEWER
            ended = self._ended = self._loop.create_future()
            self._connects += 1
            self._problem = ""
            self._up.set()
            tasks = [self._loop.create_task(self._write(stream)), self._loop.create_task(self._read(stream))]
            problem = "the stream was cancelled"
            try:
                await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
                problem = _reason(ended, tasks)
            finally:
                for task in tasks:
                    task.cancel()
                try:
                    await asyncio.gather(*tasks, return_exceptions=True)
                finally:
                    self._down(problem)
            return problem

    def asked_for_files(self, group: int) -> None:
        """The peer fetches a snapshot of a group: its message has arrived, and is lost with no stream."""
        self._snapshots = {each for each in self._snapshots if each[0] != group}

    def end(self, problem: str) -> None:
        """End the stream, if there is one."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(problem)

    def close(self, problem: str) -> None:
        """End the stream, and take no other."""
        self._closed = problem
        self.end(problem)

    def failed(self, problem: str) -> bool:
        """Note why there is no stream; whether that is news."""
        news = problem != self._problem
        self._problem = problem
        return news

    def _down(self, problem: str) -> None:
        self._ended = None
        self._up.clear()
        self._problem = problem
        self._overflowing = False
        self._stop_lingering()
        self._lose(self._lanes.clear())
        self._drained.set()
        # Nobody knows which of them arrived. A report of one that did is ignored.
        lost, self._snapshots = self._snapshots, set()
        for group, replica in lost:
            self._report_lost(group, replica)
        self._loop.call_soon(self._receiver.unreachable, self.peer)

    async def _write(self, stream: Stream) -> None:
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            while self._lanes:
                await self._write_frame(stream, self._lanes.take(self._options.frame_bytes))
            self._drained.set()

    async def _write_frame(self, stream: Stream, messages: list[Addressed]) -> None:
        self._stop_lingering()
        if self._overflowing and self._lanes.relaxed:
            self._overflowing = False
        for group, message in messages:
            if message.type is raft.MessageType.SNAP:
                self._snapshots.add((group, message.to))
        self._sent_messages += len(messages)
        group, last = messages[-1]
        if weight(last) <= self._options.frame_bytes:
            await self._put(stream, encode(messages))
            return
        if others := messages[:-1]:
            await self._put(stream, encode(others))
        for frame in encode_in_pieces(group, last, self._options.frame_bytes):
            await self._put(stream, frame)
            # What is urgent waits for a piece, not for all of it.
            if urgent := self._lanes.take_light(self._options.frame_bytes):
                self._sent_messages += len(urgent)
                await self._put(stream, encode(urgent))

    async def _put(self, stream: Stream, frame: bytes) -> None:
        self._sent_frames += 1
        self._sent_bytes += len(frame)
        await stream.write(frame)

    def _stop_lingering(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    async def _read(self, stream: Stream) -> None:
        decoder = Decoder(self._options.max_entry_bytes)
        while (frame := await stream.read()) is not None:
            self._received_frames += 1
            self._received_bytes += len(frame)
            envelope = decoder.decode(frame)
            if envelope is None:
                continue
            self._received_messages += len(envelope.messages)
            self._receiver.receive(self.peer, envelope)

    # How it stands

    async def connected(self) -> None:
        """Wait until there is a stream."""
        await self._up.wait()

    async def drained(self) -> None:
        """Wait until what is queued has been handed to the stream, or lost with it."""
        if self._ended is not None and not self._drained.is_set():
            self._waiting.set()
            await self._drained.wait()

    def status(self) -> PeerStatus:
        """How it stands."""
        return PeerStatus(
            self.peer,
            self.dials,
            self._ended is not None,
            self._connects,
            self._problem,
            len(self._lanes),
            self._lanes.bytes,
            self._dropped,
            self._sent_messages,
            self._sent_frames,
            self._sent_bytes,
            self._received_messages,
            self._received_frames,
            self._received_bytes,
        )


def _reason(ended: asyncio.Future[str], tasks: Iterable[asyncio.Task[None]]) -> str:
    """Why a stream is over."""
    if ended.done():
        return ended.result()
    for task in tasks:
        error = task.exception() if task.done() else None
        if error is not None:
            return explain(error)
    return "the peer has ended the stream"


def explain(error: BaseException) -> str:
    """An error in words for a log."""
    details = getattr(error, "details", None)
    if callable(details):
        return f"{error.code().name}: {details()}"  # type: ignore[attr-defined]
    return str(error) or type(error).__name__
