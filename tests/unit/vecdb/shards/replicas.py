"""Shards as replicas of each other: small ones, and the files that go from one to the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from vecdb_index import Schema, Shard, ShardOptions, Upsert, encode
from vecdb_replication.host import (
    Committed,
    Host,
    MemoryNetwork,
    NotLeader,
    Options,
    OutcomeUnknown,
    ProposalLost,
    UnknownGroup,
)
from vecdb_replication.snapshots import Disk, FileSource
from vecdb_replication.wal import Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import until
from vecdb.shards import ShardMachine
from vecdb.shards.machine import recover

GROUP = 7
LOG = Path("/log")
DIM = 4
OPTIONS = ShardOptions(
    seal_rows=8, rest_rows=4, rest_seconds=0.01, flat_rows=16, max_segments=2, checkpoint_bytes=1, threads=1
)


def write(*ids: str, session: bytes = b"", sequence: int = 0, value: float = 1.0) -> bytes:
    vectors = np.full((len(ids), DIM), value, dtype=np.float32)
    return encode(Upsert(list(ids), vectors, None, None, "me", 1, None, None, session, sequence))


def machine(folder: Path, *, ids: int = 0, disk: Disk | None = None) -> ShardMachine:
    """A new shard with so many documents, one an entry."""
    shard = Shard.create(folder / str(GROUP), Schema(DIM, "l2"), OPTIONS)
    for index in range(1, ids + 1):
        shard.apply([(index, write(f"d{index}"))])
    return ShardMachine(shard, GROUP, OPTIONS, disk)


class Direct:
    """Fetches from a machine in this process."""

    def __init__(self, giver: ShardMachine) -> None:
        self.giver = giver

    @property
    def source(self) -> FileSource:
        return FileSource(self, "n1", GROUP)

    async def fetch(
        self, peer: str, group: int, snapshot: str, name: str, offset: int = 0
    ) -> AsyncIterator[bytes]:
        with self.giver.open_file(snapshot, name) as file:
            file.seek(offset)
            while chunk := file.read(1 << 16):
                yield chunk


class Wires(MemoryNetwork):
    """Counts chunks of files, and the bytes that passed; breaks the connection in place of each in `breaks`.

    `hold` is set where chunks may pass.
    """

    def __init__(self) -> None:
        super().__init__(chunk_bytes=4096)
        self.chunks = 0
        self.passed = 0
        self.breaks: set[int] = set()
        self.asked: list[tuple[str, str, int]] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def fetch(
        self, reader: str, peer: str, group: int, snapshot: str, name: str, offset: int
    ) -> AsyncIterator[bytes]:
        self.asked.append((snapshot, name, offset))
        async for chunk in super().fetch(reader, peer, group, snapshot, name, offset):
            await self.hold.wait()
            self.chunks += 1
            if self.chunks in self.breaks:
                raise ConnectionError("the wire broke")
            self.passed += len(chunk)
            yield chunk


class Nodes:
    """Hosts named n1, n2... over one network; replica i of the group is a real shard on ni."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = Wires()
        self.hosts: dict[int, Host] = {}
        self.wals: dict[int, Wal] = {}
        self.machines: dict[int, ShardMachine] = {}
        self._disks: dict[int, FaultFileSystem] = {}

    async def start(self, node: int, founders: tuple[int, ...] = (1, 2, 3)) -> None:
        wal = self.wals[node] = Wal.open(LOG, fs=self._disks.setdefault(node, FaultFileSystem(node)))
        peer = f"n{node}"
        host = self.hosts[node] = Host(
            wal,
            outbox=self.network.outbox(peer),
            files=self.network.files(peer),
            locate=lambda _, replica: f"n{replica}",
            options=Options(tick_seconds=0.02),
            compact_bytes=0,
            retry_seconds=0.01,
        )
        self.network.attach(
            peer,
            host.receive,
            lambda group, to, failed: host.report_snapshot(group, to, failed=failed),
            host.open,
        )
        path = self.folder / peer / str(GROUP)
        recover(path)
        opened = ShardMachine.open(path, GROUP, OPTIONS) if path.exists() else machine(self.folder / peer)
        self.machines[node] = opened
        await host.add(GROUP, opened, replica=node, founders=founders)

    async def stop(self, node: int) -> None:
        self.network.detach(f"n{node}")
        await self.hosts.pop(node).close()
        self.machines.pop(node).close()
        self.wals.pop(node).close()

    async def leader(self) -> int:
        """Who leads, and knows it."""

        def leads() -> list[int]:
            return [n for n, host in self.hosts.items() if host.status(GROUP).leader == n]

        await until(lambda: len(leads()) == 1)
        return leads()[0]

    async def propose(self, data: bytes) -> Committed:
        """By way of whoever leads."""
        while True:
            try:
                return await self.hosts[await self.leader()].propose(GROUP, data)
            except (NotLeader, OutcomeUnknown, ProposalLost, UnknownGroup):
                await asyncio.sleep(0.01)

    async def shorten(self) -> int:
        """Shorten the logs until the leader's begins behind all that is there now; where it begins."""
        lead = await self.leader()
        index = self.machines[lead].applied_index
        while self.wals[lead].state(GROUP).first_index <= index:
            for host in list(self.hosts.values()):
                await host.compact()
            await asyncio.sleep(0.01)
        return self.wals[lead].state(GROUP).first_index

    def hashes(self) -> set[bytes]:
        return {each.shard.content_hash() for each in self.machines.values()}


@asynccontextmanager
async def three(folder: Path) -> AsyncIterator[Nodes]:
    """A group of three."""
    nodes = Nodes(folder)
    try:
        for node in (1, 2, 3):
            await nodes.start(node)
        yield nodes
    finally:
        for node in list(nodes.hosts):
            await nodes.stop(node)
