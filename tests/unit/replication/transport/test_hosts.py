"""Groups of three replicas on hosts that speak over real gRPC with TLS."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import BinaryIO

import pytest
from vecdb_replication.host import EntryTooLarge, Host, NotLeader, Options
from vecdb_replication.snapshots import FileSource
from vecdb_replication.transport import FileTrust, Transport
from vecdb_replication.wal import Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import FOLDER, Notes, until
from tests.unit.replication.transport.peers import CLUSTER, PEERS, QUICK, SECONDS, Certificates, free_port

G = 7
TICKS = Options(tick_seconds=0.02, max_kept_bytes=0, max_entry_bytes=12 << 20)


class Filed(Notes):
    """Notes whose snapshots are one file, which is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf: dict[str, bytes] = {}
        self.fetched: dict[bytes, bytes] = {}

    def capture(self) -> tuple[int, bytes]:
        index, data = super().capture()
        self.shelf[f"s{index}"] = data
        return index, b"s%d" % index

    def open_file(self, snapshot: str, name: str) -> BinaryIO:
        assert name == "notes"
        return io.BytesIO(self.shelf[snapshot])

    async def fetch(self, data: bytes, source: FileSource) -> None:
        chunks = [chunk async for chunk in source.read(data.decode(), "notes", 0)]
        self.fetched[data] = b"".join(chunks)

    def stage(self, index: int, data: bytes) -> None:
        super().stage(index, self.fetched[data])

    def is_sending(self) -> bool:
        return False

    def tidy(self) -> None:
        """Nothing is to be removed."""


class Cluster:
    """Hosts n1, n2, n3; replica i of the group is on ni."""

    def __init__(self, certificates: Certificates) -> None:
        self.certificates = certificates
        self.ports = {node: free_port() for node in (1, 2, 3)}
        self.disks = {node: FaultFileSystem(node) for node in (1, 2, 3)}
        self.notes = {node: Filed() for node in (1, 2, 3)}
        self.hosts: dict[int, Host] = {}
        self.transports: dict[int, Transport] = {}
        self._stacks: dict[int, AsyncExitStack] = {}

    async def start(self, node: int) -> None:
        stack = self._stacks[node] = AsyncExitStack()
        wal = Wal.open(FOLDER, fs=self.disks[node])
        stack.callback(wal.close)
        trust = FileTrust(self.certificates.peers[f"n{node}"], PEERS)
        transport = self.transports[node] = Transport(f"n{node}", CLUSTER, trust, options=QUICK)
        host = self.hosts[node] = Host(
            wal,
            outbox=transport,
            files=transport,
            locate=lambda _, replica: f"n{replica}",
            options=TICKS,
            compact_bytes=0,
        )
        stack.push_async_callback(host.close)
        stack.push_async_callback(transport.close)
        await transport.start(host, f"127.0.0.1:{self.ports[node]}", source=host)
        for other, port in self.ports.items():
            if other != node:
                transport.add(f"n{other}", f"127.0.0.1:{port}")
        await host.add(G, self.notes[node], replica=node, founders=(1, 2, 3))

    async def stop(self, node: int) -> None:
        del self.hosts[node], self.transports[node]
        await self._stacks.pop(node).aclose()

    async def leader(self) -> int:
        """Who leads, by its own account and a follower's."""

        def known() -> int:
            leads = [host.status(G).leader for host in self.hosts.values()]
            return max((lead for lead in leads if lead in self.hosts), key=leads.count, default=0)

        await until(lambda: known() and self.hosts[known()].status(G).leader == known())
        return known()

    async def write(self, data: bytes) -> int:
        """Write by way of whoever leads."""
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    return (await self.hosts[await self.leader()].propose(G, data)).index
                except NotLeader:
                    await asyncio.sleep(TICKS.tick_seconds)

    async def close(self) -> None:
        for node in list(self._stacks):
            await self.stop(node)


@asynccontextmanager
async def cluster(certificates: Certificates) -> AsyncIterator[Cluster]:
    found = Cluster(certificates)
    try:
        for node in (1, 2, 3):
            await found.start(node)
        yield found
    finally:
        await found.close()


async def test_three_hosts_elect_and_replicate(certificates: Certificates) -> None:
    """Large entries among small ones: every replica applies the same history."""
    words = [b"%d" % number if number % 10 else bytes([number]) * (3 << 20) for number in range(30)]
    async with cluster(certificates) as c:
        lead = c.hosts[await c.leader()]
        await asyncio.gather(*(lead.propose(G, word) for word in words))
        for notes in c.notes.values():
            await until(lambda notes=notes: len(notes.words) == 30)
            assert notes.words == words


async def test_entries_up_to_the_limit_are_replicated_and_larger_ones_refused(
    certificates: Certificates,
) -> None:
    """One larger than a frame goes through; one above the limit leaves nothing, and holds up nothing."""
    async with cluster(certificates) as c:
        large = bytes(range(256)) * (TICKS.max_entry_bytes // 256)
        await c.write(large)
        lead = c.hosts[await c.leader()]
        before = lead.status(G)
        with pytest.raises(EntryTooLarge, match=f"entry of {len(large) + 1} bytes, and {len(large)} is the"):
            await lead.propose(G, large + b"x")
        assert lead.status(G).last_index == before.last_index
        await c.write(b"behind it")
        for notes in c.notes.values():
            await until(lambda notes=notes: notes.words == [large, b"behind it"])


async def test_a_read_on_a_follower_goes_to_the_leader_and_back(certificates: Certificates) -> None:
    """The context of a read travels in both directions, and the answer sees what was acknowledged."""
    async with cluster(certificates) as c:
        await c.write(b"seen")
        for node, host in c.hosts.items():
            async with asyncio.timeout(SECONDS):
                await host.barrier(G)
            assert c.notes[node].words == [b"seen"]


async def test_the_group_survives_any_peer_and_takes_it_back(certificates: Certificates) -> None:
    """The leader goes, then a follower, each in its turn; what was written meanwhile reaches both."""
    async with cluster(certificates) as c:
        written = [b"first"]
        await c.write(b"first")
        lead = await c.leader()
        for gone in (lead, lead % 3 + 1):
            await c.stop(gone)
            for _ in range(5):
                written.append(b"without %d, %d" % (gone, len(written)))
                await c.write(written[-1])
            await c.start(gone)
            await until(lambda gone=gone: c.notes[gone].words == written)
        assert all(notes.words == written for notes in c.notes.values())


async def test_a_replica_behind_the_log_is_brought_up_by_a_snapshot(certificates: Certificates) -> None:
    """The log was shortened while it was away: a snapshot is offered, and its file fetched."""
    async with cluster(certificates) as c:
        await c.write(b"before")
        away = await c.leader() % 3 + 1
        await c.stop(away)
        for number in range(5):
            await c.write(b"meanwhile %d " % number + b"x" * 600_000)
        for host in c.hosts.values():
            await host.compact()
        await c.start(away)
        await c.write(b"after")
        await until(lambda: c.notes[away].words[-1:] == [b"after"])
        assert c.notes[away].words == c.notes[away % 3 + 1].words
        assert c.notes[away].installed
        assert max(map(len, c.notes[away].fetched.values())) > 3_000_000
