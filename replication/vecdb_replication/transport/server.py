"""The port that peers come to: streams of envelopes, and files of snapshots."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, BinaryIO, NoReturn

import grpc
import grpc.aio
import structlog
from vecdb_proto.peer.v1 import peer_pb2

from vecdb_replication.transport.codec import check_hello, encode_hello
from vecdb_replication.transport.errors import Refused, TransportError
from vecdb_replication.transport.link import Link
from vecdb_replication.transport.options import TransportOptions
from vecdb_replication.transport.seams import SnapshotSource
from vecdb_replication.transport.trust import Trust
from vecdb_replication.transport.wire import EXCHANGE, FETCH, SERVICE, server_arguments

_log = structlog.get_logger(__name__)

_MAX_ID_BYTES = 128
_MAX_NAME_BYTES = 255

Context = grpc.aio.ServicerContext[Any, Any]


class _Accepted:
    """The server's side of a stream."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self) -> bytes | None:
        frame = await self._context.read()
        return frame if isinstance(frame, bytes) else None

    async def write(self, frame: bytes) -> None:
        await self._context.write(frame)


class PeerServer:
    """Serves the peers in `links`, which may change meanwhile, and nobody else."""

    def __init__(
        self,
        name: str,
        cluster: str,
        links: Mapping[str, Link],
        trust: Trust,
        source: SnapshotSource,
        options: TransportOptions,
    ) -> None:
        self._name = name
        self._cluster = cluster
        self._links = links
        self._trust = trust
        self._source = source
        self._options = options
        self._fetches: Counter[str] = Counter()
        self._server = grpc.aio.server(options=server_arguments(options))
        handlers = {
            EXCHANGE: grpc.stream_stream_rpc_method_handler(self._exchange),
            FETCH: grpc.unary_stream_rpc_method_handler(
                self._fetch, peer_pb2.FetchRequest.FromString, peer_pb2.Chunk.SerializeToString
            ),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def start(self, address: str) -> int:
        """Listen on `host:port`; the port, which is a free one for 0. TransportError where it cannot."""
        try:
            port = self._server.add_secure_port(address, self._trust.server())
        except RuntimeError as error:
            raise TransportError(f"cannot listen on {address}: {error}") from None
        await self._server.start()
        return port

    async def stop(self) -> None:
        """Take no more, and give what is under way a moment to end."""
        await self._server.stop(self._options.close_seconds)

    # The stream

    async def _exchange(self, _: AsyncIterator[bytes], context: Context) -> None:
        link = await self._admit(context)
        if link.dials:
            await self._refuse(context, link.peer, f"it is {self._name!r} who dials")
        stream = _Accepted(context)
        try:
            async with asyncio.timeout(self._options.hello_seconds):
                check_hello(await stream.read(), self._cluster, link.peer)
        except Refused as error:
            await self._refuse(context, link.peer, str(error))
        except TimeoutError:
            await self._refuse(context, link.peer, "no hello came")
        await stream.write(encode_hello(self._cluster, self._name))
        _log.info("stream", peer=link.peer, address=context.peer())
        problem = await link.run(stream)
        _log.warning("no stream", peer=link.peer, problem=problem)
        await context.abort(grpc.StatusCode.ABORTED, problem)

    async def _admit(self, context: Context) -> Link:
        """Who is there, by the certificate of the connection: asked again for each stream."""
        try:
            peer = self._trust.identify(context.auth_context())
        except Refused as error:
            await self._refuse(context, context.peer(), str(error))
        link = self._links.get(peer)
        if link is None:
            await self._refuse(context, peer, "it is no peer of this node")
        return link

    async def _refuse(self, context: Context, peer: str, problem: str) -> NoReturn:
        _log.warning("peer refused", peer=peer, address=context.peer(), problem=problem)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, problem)
        raise AssertionError("abort raises")

    # Files

    async def _fetch(self, request: peer_pb2.FetchRequest, context: Context) -> None:
        link = await self._admit(context)
        peer = link.peer
        if len(request.snapshot.encode()) > _MAX_ID_BYTES or len(request.name.encode()) > _MAX_NAME_BYTES:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a name that is too long")
        if self._fetches[peer] >= self._options.max_fetches_per_peer:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many fetches at a time")
        self._fetches[peer] += 1
        try:
            file = await asyncio.to_thread(
                self._source.open, peer, request.group, request.snapshot, request.name
            )
            link.asked_for_files(request.group)
            try:
                await self._send(file, request.offset, context, link)
            finally:
                await asyncio.to_thread(file.close)
        except LookupError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except PermissionError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except OSError as error:
            _log.error("snapshot file unreadable", group=request.group, file=request.name, problem=str(error))
            await context.abort(grpc.StatusCode.INTERNAL, "the file cannot be read")
        finally:
            self._fetches[peer] -= 1

    async def _send(self, file: BinaryIO, offset: int, context: Context, link: Link) -> None:
        size = await asyncio.to_thread(file.seek, 0, 2)
        if offset > size:
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, f"the file has {size} bytes")
        await asyncio.to_thread(file.seek, offset)
        while data := await asyncio.to_thread(file.read, self._options.chunk_bytes):
            if self._links.get(link.peer) is not link:
                await self._refuse(context, link.peer, "it is no peer of this node any more")
            await context.write(peer_pb2.Chunk(data=data))
