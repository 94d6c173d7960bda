"""All connections of a node to its peers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from vecdb_proto.peer.v1 import peer_pb2

from vecdb_replication.host import Envelope
from vecdb_replication.transport.dialer import Dialer
from vecdb_replication.transport.errors import FetchFailed
from vecdb_replication.transport.fetch import fetch
from vecdb_replication.transport.link import Link
from vecdb_replication.transport.options import PeerStatus, TransportOptions
from vecdb_replication.transport.seams import NoSnapshots, Receiver, SnapshotSource
from vecdb_replication.transport.server import PeerServer
from vecdb_replication.transport.trust import Trust


@dataclass(slots=True)
class _Known:
    link: Link
    address: str
    dialing: asyncio.Task[None] | None


class Transport:
    """The outbox of a host, over one gRPC stream a peer. Belongs to one event loop.

    `name` is this node's, as its certificate has it, and `cluster` the id that
    all peers share. Of two nodes, the one with the smaller name dials.
    """

    def __init__(
        self,
        name: str,
        cluster: str,
        trust: Trust,
        *,
        options: TransportOptions | None = None,
    ) -> None:
        self._name = name
        self._cluster = cluster
        self._trust = trust
        self._options = options or TransportOptions()
        self._peers: dict[str, _Known] = {}
        self._links: dict[str, Link] = {}
        self._receiver: Receiver | None = None
        self._server: PeerServer | None = None

    async def start(self, receiver: Receiver, listen: str, *, source: SnapshotSource | None = None) -> int:
        """Listen on `listen` (`host:port`) for `receiver`; returns the port. Once.

        `source` has the files of this node's snapshots. Raises TransportError where the port is
        taken, TrustError, and ValueError where the receiver's entries may be too large to be sent.
        """
        if receiver.max_entry_bytes > (limit := self._options.max_entry_bytes):
            raise ValueError(f"entries of {receiver.max_entry_bytes} bytes, and {limit} is what can be sent")
        if self._receiver is not None:
            raise ValueError("the transport has been started already")
        self._receiver = receiver
        self._server = PeerServer(
            self._name, self._cluster, self._links, self._trust, source or NoSnapshots(), self._options
        )
        return await self._server.start(listen)

    # Who is there

    def add(self, peer: str, address: str) -> None:
        """Connect with a peer at `host:port`, now and whenever the connection breaks. After `start`."""
        if self._receiver is None:
            raise ValueError("the transport has not been started")
        if peer == self._name or peer in self._peers:
            raise ValueError(f"{peer!r} is this node, or known already")
        link = Link(peer, self._receiver, self._options, dials=self._name < peer)
        dialing = None
        if link.dials:
            dialer = Dialer(link, address, self._name, self._cluster, self._trust, self._options)
            dialing = asyncio.get_running_loop().create_task(dialer.run())
        self._links[peer] = link
        self._peers[peer] = _Known(link, address, dialing)

    async def remove(self, peer: str) -> None:
        """End the connection with a peer, and take no more from it."""
        known = self._peers.pop(peer, None)
        if known is not None:
            del self._links[peer]
            await _end(known, "it is no peer of this node any more")

    async def connected(self, peer: str) -> None:
        """Wait until there is a stream to a peer. KeyError for a stranger."""
        await self._links[peer].connected()

    def status(self) -> tuple[PeerStatus, ...]:
        """How the connections stand."""
        return tuple(link.status() for link in self._links.values())

    # What goes there

    def send(self, peer: str, envelope: Envelope) -> None:
        """See `Outbox.send`: never blocks. What there is no stream or no room for is dropped and reported."""
        if (link := self._links.get(peer)) is not None:
            link.send(envelope.messages)

    async def fetch(
        self, peer: str, group: int, snapshot: str, name: str, offset: int = 0
    ) -> AsyncIterator[bytes]:
        """The bytes of a file of a peer's snapshot, from `offset` on, in chunks of at most 1 MiB.

        Raises SnapshotGone where it is not to be had (any more), and
        FetchFailed where it may be had later, from behind what came.
        """
        known = self._peers.get(peer)
        if known is None:
            raise FetchFailed(f"{peer!r} is no peer of this node")
        request = peer_pb2.FetchRequest(group=group, snapshot=snapshot, name=name, offset=offset)
        async for chunk in fetch(known.address, peer, self._trust, self._options, request):
            if self._peers.get(peer) is not known:
                raise FetchFailed(f"{peer!r} is no peer of this node any more")
            yield chunk

    async def close(self) -> None:
        """Let what is queued leave, for a moment, and end all connections. Before the receiver is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.close_seconds):
                for link in self._links.values():
                    await link.drained()
        for peer in list(self._peers):
            known = self._peers.pop(peer)
            del self._links[peer]
            await _end(known, "the node is shutting down")
        if self._server is not None:
            await self._server.stop()


async def _end(known: _Known, problem: str) -> None:
    known.link.close(problem)
    if known.dialing is not None:
        known.dialing.cancel()
        await asyncio.gather(known.dialing, return_exceptions=True)
