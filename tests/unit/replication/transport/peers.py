"""Nodes with a transport and somebody behind it who writes down what comes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from vecdb_replication import raft
from vecdb_replication.host import Envelope
from vecdb_replication.transport import FileTrust, SnapshotSource, TlsFiles, Transport, TransportOptions

CLUSTER = "test"
PEERS = {peer: f"{peer}.peers.test" for peer in ("n0", "n1", "n2", "n3")}
QUICK = TransportOptions(
    linger_seconds=0.005,
    hello_seconds=2.0,
    backoff_seconds=0.01,
    max_backoff_seconds=0.05,
    close_seconds=0.2,
    chunk_seconds=2.0,
)
SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Certificates:
    """Those of the peers; one by the same authority that is nobody's; one for n1 by another authority.

    One has n1's name, but as a URI; and one is n1's, with n3's name as a URI.
    """

    peers: dict[str, TlsFiles]
    nobody: TlsFiles
    stranger: TlsFiles
    lookalike: TlsFiles
    mixed: TlsFiles


class Recorder:
    """A receiver that keeps what it is told."""

    max_entry_bytes = 1 << 20

    def __init__(self) -> None:
        self.received: list[tuple[str, int, raft.Message]] = []
        self.lost: list[str] = []
        self.snapshots: list[tuple[int, int, bool]] = []
        self._told = asyncio.Event()

    def receive(self, sender: str, envelope: Envelope) -> None:
        self.received += [(sender, group, message) for group, message in envelope.messages]
        self._told.set()

    def unreachable(self, peer: str) -> None:
        self.lost.append(peer)
        self._told.set()

    def report_snapshot(self, group: int, replica: int, *, failed: bool) -> None:
        self.snapshots.append((group, replica, failed))
        self._told.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that comes about by what this receiver is told."""
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._told.clear()
                await self._told.wait()


@dataclass(slots=True)
class Node:
    """A transport, who is behind it, and its port."""

    transport: Transport
    recorder: Recorder
    port: int


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def node(
    files: TlsFiles,
    name: str,
    *,
    port: int = 0,
    cluster: str = CLUSTER,
    options: TransportOptions = QUICK,
    names: dict[str, str] | None = None,
    source: SnapshotSource | None = None,
) -> AsyncIterator[Node]:
    """A node that listens on a port of 127.0.0.1, without peers."""
    trust = FileTrust(files, PEERS if names is None else names)
    transport = Transport(name, cluster, trust, options=options)
    recorder = Recorder()
    try:
        found = await transport.start(recorder, f"127.0.0.1:{port}", source=source)
        yield Node(transport, recorder, found)
    finally:
        await transport.close()


@asynccontextmanager
async def pair(certificates: Certificates, **options: Any) -> AsyncIterator[tuple[Node, Node]]:
    """n1 and n2, connected; n1 dials."""
    quick = replace(QUICK, **options)
    async with (
        node(certificates.peers["n1"], "n1", options=quick) as one,
        node(certificates.peers["n2"], "n2", options=quick) as two,
    ):
        await join(one, two)
        yield one, two


async def join(one: Node, two: Node) -> None:
    """Connect n1 and n2."""
    one.transport.add("n2", f"127.0.0.1:{two.port}")
    two.transport.add("n1", f"127.0.0.1:{one.port}")
    async with asyncio.timeout(SECONDS):
        await one.transport.connected("n2")
        await two.transport.connected("n1")


def heartbeat(commit: int = 0, **fields: Any) -> raft.Message:
    """From replica 1 to replica 2."""
    return raft.Message(raft.MessageType.HEARTBEAT, 2, 1, 5, commit=commit, **fields)


def append(index: int, *data: bytes) -> raft.Message:
    """An append behind `index`, from replica 1 to replica 2."""
    entries = tuple(raft.Entry(5, index + place, data=word) for place, word in enumerate(data, 1))
    return raft.Message(raft.MessageType.APP, 2, 1, 5, 5, index, entries, commit=index)


def snapshot(index: int) -> raft.Message:
    """A snapshot from replica 1 to replica 2."""
    state = raft.Snapshot(index, 5, b"manifest", raft.ConfState((1, 2, 3), (1, 2), (4,), (5,), True))
    return raft.Message(raft.MessageType.SNAP, 2, 1, 5, snapshot=state)


def said(*messages: raft.Message, group: int = 7) -> Envelope:
    """An envelope of one group."""
    return Envelope(tuple((group, message) for message in messages))
