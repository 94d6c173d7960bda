"""Fetches files of a peer's snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from vecdb_proto.peer.v1 import peer_pb2

from vecdb_replication.snapshots import SnapshotGone
from vecdb_replication.transport.errors import FetchFailed, TransportError
from vecdb_replication.transport.link import explain
from vecdb_replication.transport.options import TransportOptions
from vecdb_replication.transport.trust import Trust
from vecdb_replication.transport.wire import FETCH, open_channel, path

_GONE = frozenset(
    {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
)


async def fetch(
    address: str, peer: str, trust: Trust, options: TransportOptions, request: peer_pb2.FetchRequest
) -> AsyncIterator[bytes]:
    """The bytes of a file, a chunk at a time, over a connection of their own.

    Raises SnapshotGone where asking again is of no use, and FetchFailed where
    it may be, `offset` moved behind what came.
    """
    try:
        async with open_channel(address, peer, trust, options) as channel:
            ask = channel.unary_stream(
                path(FETCH),
                request_serializer=peer_pb2.FetchRequest.SerializeToString,
                response_deserializer=peer_pb2.Chunk.FromString,
            )
            call = ask(request)
            while True:
                async with asyncio.timeout(options.chunk_seconds):
                    chunk = await call.read()
                if not isinstance(chunk, peer_pb2.Chunk):
                    return
                yield chunk.data
    except grpc.aio.AioRpcError as error:
        failure = SnapshotGone if error.code() in _GONE else FetchFailed
        raise failure(f"{request.name} from {peer}: {explain(error)}") from None
    except TimeoutError:
        raise FetchFailed(f"{request.name} from {peer}: nothing for {options.chunk_seconds} s") from None
    except TransportError as error:
        raise FetchFailed(f"{request.name} from {peer}: {error}") from error
