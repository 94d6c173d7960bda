"""Nodes of a replicated cluster as real processes: hosts over logs with fsync, and the transport over TLS.

    python -m tests.support.replicas CONFIG

runs one of them until its stdin ends. Each line there is a JSON object that
says what to `do`, with arguments; each is answered by a line on stdout. Group
g of replica i is on node i, in a shard of the engine or in nothing at all.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import signal
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import uvloop
from vecdb_index import Schema, Shard, ShardOptions, Upsert, encode
from vecdb_replication.host import GroupError, Host
from vecdb_replication.transport import FileTrust, TlsFiles, Transport
from vecdb_replication.wal import Wal

from tests.support.authority import Authority
from vecdb.shards.machine import ShardMachine, recover

BATCH = 256
DIM = 784


def write_batches(path: Path, vectors: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    """Write upserts of 256 vectors each, as they go into the log, one behind the other."""
    with path.open("wb") as file:
        for start in range(0, len(vectors) // BATCH * BATCH, BATCH):
            ids = [f"doc-{start + at}" for at in range(BATCH)]
            entry = encode(Upsert(ids, vectors[start : start + BATCH], [b"\x80"] * BATCH))
            file.write(len(entry).to_bytes(8, "little") + entry)


def read_batches(path: Path) -> list[bytes]:
    """What `write_batches` wrote."""
    entries = []
    with path.open("rb") as file:
        while head := file.read(8):
            entries.append(file.read(int.from_bytes(head, "little")))
    return entries


# In the process of a node


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """All that one process has to know. `peers` are ports, by node; `machine` is "shard" or "nothing"."""

    node: int
    peers: dict[int, int]
    folder: str
    certificates: tuple[str, str, str]
    machine: str
    groups: int
    compact_bytes: int
    profile: str


class Nothing:
    """A state that forgets what it applied."""

    applied_index = 0

    @property
    def durable_index(self) -> int:
        """Nothing is to be made durable."""
        return self.applied_index

    def apply(self, entries: Any) -> list[object]:
        """Count."""
        self.applied_index = entries[-1][0]
        return [None] * len(entries)

    def checkpoint(self) -> int:
        """Nothing to do."""
        return self.applied_index


class Node:
    """A host with its transport, told what to do by lines on stdin."""

    def __init__(
        self, config: NodeConfig, wal: Wal, host: Host, transport: Transport, machines: dict[int, Any]
    ) -> None:
        self.config = config
        self.wal = wal
        self.host = host
        self.transport = transport
        self.machines = machines

    async def leads(self) -> int:
        """How many groups this node leads."""
        return sum(self.host.status(group).leader == self.config.node for group in self.host.groups())

    async def led(self) -> int:
        """How many groups have a leader, as far as is known here."""
        return sum(self.host.status(group).leader > 0 for group in self.host.groups())

    async def applied(self) -> int:
        """The last entry of the first group that is applied here."""
        return self.host.status(1).applied_index

    async def wait_applied(self, index: int) -> None:
        """Wait until an entry of the first group is applied here."""
        await self.host.wait_applied(1, index)

    async def content(self) -> tuple[int, str]:
        """How many documents the first shard has with all that was acknowledged, and their hash."""
        await self.host.barrier(1)
        shard: Shard = self.machines[1].shard
        return shard.count(), shard.content_hash().hex()

    async def compact(self) -> int:
        """Shorten the log; from which entry on it has the first group."""
        await self.host.compact()
        return self.wal.state(1).first_index

    async def hand_over(self) -> None:
        """Spread leadership: group g belongs on node g modulo the number of nodes, plus one."""
        count = len(self.config.peers)
        for group in self.host.groups():
            if self.host.status(group).leader == self.config.node != group % count + 1:
                self.host.transfer(group, group % count + 1)

    async def idle(self, seconds: float) -> dict[str, float]:
        """The share of a core that this process takes while nothing happens, and what it sends meanwhile."""
        frames = sum(status.sent_frames for status in self.transport.status())
        began, used = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        took = time.perf_counter() - began
        sent = sum(status.sent_frames for status in self.transport.status()) - frames
        return {"cpu": (time.process_time() - used) / took, "frames_per_second": sent / took}

    async def load(
        self, batches: str, writers: int, begin: int = 0, end: int | None = None
    ) -> dict[str, float]:
        """Write batches to the first group, which this node leads; vectors a second."""
        # Not on the loop, which owes the others its heartbeats.
        entries = (await asyncio.to_thread(read_batches, Path(batches)))[begin:end]
        waiting = iter(entries)
        latencies: list[float] = []

        async def write() -> None:
            for entry in waiting:
                began = time.perf_counter()
                await self.host.propose(1, entry)
                latencies.append(time.perf_counter() - began)

        began, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(write() for _ in range(writers)))
        took = time.perf_counter() - began
        return {
            "vectors_per_second": len(entries) * BATCH / took,
            "median_ms": 1e3 * statistics.median(latencies),
            "cpu": (time.process_time() - used) / took,
        }


async def serve(config: NodeConfig) -> None:
    """Run a node until stdin ends."""
    folder, name = Path(config.folder), f"n{config.node}"
    async with AsyncExitStack() as stack:
        wal = stack.enter_context(Wal.open(folder / "log"))
        files = TlsFiles(*map(Path, config.certificates))
        trust = FileTrust(files, {f"n{node}": f"n{node}.peers.test" for node in config.peers})
        transport = Transport(name, "test", trust)
        host = Host(
            wal,
            outbox=transport,
            files=transport,
            locate=lambda _, replica: f"n{replica}",
            compact_bytes=config.compact_bytes,
        )
        stack.push_async_callback(host.close)
        stack.push_async_callback(transport.close)
        await transport.start(host, f"127.0.0.1:{config.peers[config.node]}", source=host)
        others = [node for node in config.peers if node != config.node]
        for node in others:
            transport.add(f"n{node}", f"127.0.0.1:{config.peers[node]}")
        for node in others:
            await transport.connected(f"n{node}")
        machines = {group: machine(config, group, stack) for group in range(1, config.groups + 1)}
        for group, each in machines.items():
            await host.add(group, each, replica=config.node, founders=tuple(config.peers))
        print(json.dumps("ready"), flush=True)
        await obey(Node(config, wal, host, transport, machines))


def machine(config: NodeConfig, group: int, stack: AsyncExitStack) -> Any:
    """The state of a group; a shard is closed with the stack."""
    if config.machine == "nothing":
        return Nothing()
    path, options = Path(config.folder) / f"shard-{group}", ShardOptions()
    recover(path)
    shard = Shard.open(path, options) if path.exists() else Shard.create(path, Schema(DIM, "l2"), options)
    found = ShardMachine(shard, group, options)
    stack.callback(found.close)
    return found


async def obey(node: Node) -> None:
    """Do what the lines on stdin say."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        try:
            answer = await getattr(node, asked.pop("do"))(**asked)
        except GroupError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def main() -> None:
    """The main of a node's process."""
    raw = json.loads(sys.argv[1])
    raw["peers"] = {int(node): port for node, port in raw["peers"].items()}
    config = NodeConfig(**raw)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if not config.profile:
        uvloop.run(serve(config))
        return
    profile = cProfile.Profile()
    profile.runcall(uvloop.run, serve(config))
    profile.dump_stats(Path(config.profile) / f"n{config.node}.prof")


# In the process that has them


class Process:
    """A node in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, config: NodeConfig) -> Process:
        """Start it; `answer` tells when it is ready."""
        pipe = asyncio.subprocess.PIPE
        arguments = ("-m", "tests.support.replicas", json.dumps(asdict(config)))
        return cls(await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe))

    async def answer(self) -> Any:
        """The next line it says. RuntimeError where it has ended, or could not do what it was asked."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a node ended: {await self._process.wait()}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(f"a node could not go on: {answer['error']}")
        return answer

    async def ask(self, what: str, **arguments: Any) -> Any:
        """Have it do something, and wait for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **arguments}).encode() + b"\n")
        return await self.answer()

    async def stop(self) -> None:
        """End it, and wait for that."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def kill(self) -> None:
        """kill -9."""
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


class Processes:
    """A cluster of them. `nodes` has those that run."""

    def __init__(
        self, folder: Path, authority: Authority, size: int, machine: str, groups: int, **settings: Any
    ) -> None:
        self.nodes: dict[int, Process] = {}
        self.configs = {}
        settings = {"compact_bytes": 64 << 20, "profile": "", **settings}
        peers = dict(enumerate(free_ports(size), 1))
        for node in peers:
            own = folder / f"n{node}"
            own.mkdir()
            files = authority.issue(f"n{node}", f"DNS:n{node}.peers.test")
            certificates = (str(files.ca), str(files.cert), str(files.key))
            self.configs[node] = NodeConfig(node, peers, str(own), certificates, machine, groups, **settings)

    async def start(self, *nodes: int) -> None:
        """Start nodes, and wait until they know all others and have their groups."""
        for node in nodes:
            self.nodes[node] = await Process.start(self.configs[node])
        await asyncio.gather(*(self.nodes[node].answer() for node in nodes))

    async def kill(self, node: int) -> None:
        """kill -9."""
        await self.nodes.pop(node).kill()

    async def settled(self, what: str, wanted: Iterable[Any], push: str = "led") -> None:
        """Wait until all nodes answer what is wanted; until then, ask for `push` again and again."""
        while True:
            if all([await node.ask(what) in wanted for node in self.nodes.values()]):
                return
            for node in self.nodes.values():
                await node.ask(push)
            await asyncio.sleep(0.1)

    async def leader(self) -> int:
        """Who leads the first group, by its own account."""
        while True:
            for node, process in self.nodes.items():
                if await process.ask("leads"):
                    return node
            await asyncio.sleep(0.1)


@asynccontextmanager
async def processes(
    folder: Path, authority: Authority, size: int, machine: str, groups: int, **settings: Any
) -> AsyncIterator[Processes]:
    """A cluster whose groups all have leaders; ended at the end."""
    found = Processes(folder, authority, size, machine, groups, **settings)
    try:
        await found.start(*found.configs)
        await found.settled("led", [groups])
        yield found
    finally:
        await asyncio.gather(*(node.stop() for node in found.nodes.values()))


def free_ports(count: int) -> list[int]:
    """Ports that are free now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


if __name__ == "__main__":
    main()
