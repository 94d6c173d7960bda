"""What replication costs: three nodes as processes on this machine against one; and what idle groups take.

    python -m bench.replicated [--path DIR] [--machine shard|log] [--rows 60000] [--rounds 3] [--idle 200]

Nodes are real: a host over a log with fsync on DIR, and the transport over gRPC with mutual TLS on 127.0.0.1.
The load is batches of 256 vectors of 784 dimensions, from as many writers as `--writers` says, each of which
waits until its batch is acknowledged before it writes the next; it runs in the process of the leader. With
`--machine shard` each replica applies them to a shard of the engine, which builds its index meanwhile; with
`log` to nothing. Three nodes do three times the work on the same cores, so that a third of one node's rate is
the limit. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgpack
import structlog
import uvloop
from vecdb_index import Schema, Shard, ShardOptions, Upsert, encode
from vecdb_replication.host import GroupError, Host
from vecdb_replication.transport import FileTrust, TlsFiles, Transport
from vecdb_replication.wal import Wal

from bench.engine import load_data
from bench.host import Nothing
from tests.support.authority import Authority
from vecdb.shards.machine import ShardMachine

BATCH = 256
DIM = 784


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """All that one process has to know. `peers` are ports, by node; replica i is on node i."""

    node: int
    peers: dict[int, int]
    folder: str
    certificates: tuple[str, str, str]
    machine: str
    groups: int
    batches: str
    writers: int
    profile: str


def write_batches(path: Path, rows: int) -> None:
    """Write upserts of 256 vectors each, as they go into the log, one behind the other."""
    vectors, _ = load_data(None, rows // BATCH * BATCH, DIM)
    with path.open("wb") as file:
        for start in range(0, len(vectors), BATCH):
            ids = [f"doc-{start + at}" for at in range(BATCH)]
            payloads = [msgpack.packb({"n": start + at}) for at in range(BATCH)]
            entry = encode(Upsert(ids, vectors[start : start + BATCH], payloads))
            file.write(len(entry).to_bytes(8, "little") + entry)


def read_batches(path: Path) -> list[bytes]:
    """What `write_batches` wrote."""
    entries = []
    with path.open("rb") as file:
        while head := file.read(8):
            entries.append(file.read(int.from_bytes(head, "little")))
    return entries


# In the process of a node


class Node:
    """A host with its transport, told what to do by lines on stdin."""

    def __init__(self, config: NodeConfig, host: Host, transport: Transport) -> None:
        self.config = config
        self.host = host
        self.transport = transport

    async def leads(self) -> int:
        """How many groups this node leads."""
        return sum(self.host.status(group).leader == self.config.node for group in self.host.groups())

    async def led(self) -> int:
        """How many groups have a leader, as far as is known here."""
        return sum(self.host.status(group).leader > 0 for group in self.host.groups())

    async def applied(self) -> int:
        """The last entry of the first group that is applied here."""
        return self.host.status(1).applied_index

    async def hand_over(self) -> int:
        """Spread leadership: group g belongs on node g modulo three."""
        count = len(self.config.peers)
        for group in self.host.groups():
            if self.host.status(group).leader == self.config.node != group % count + 1:
                self.host.transfer(group, group % count + 1)
        return 0

    async def idle(self) -> dict[str, float]:
        """The share of a core that this process takes while nothing happens, and what it sends meanwhile."""
        frames = sum(status.sent_frames for status in self.transport.status())
        began, used = time.perf_counter(), time.process_time()
        await asyncio.sleep(10)
        took = time.perf_counter() - began
        sent = sum(status.sent_frames for status in self.transport.status()) - frames
        return {"cpu": (time.process_time() - used) / took, "frames_per_second": sent / took}

    async def load(self) -> dict[str, float]:
        """Write all batches to the first group, which this node leads; vectors a second."""
        # Not on the loop, which owes the others its heartbeats.
        entries = await asyncio.to_thread(read_batches, Path(self.config.batches))
        waiting = iter(entries)
        latencies: list[float] = []

        async def write() -> None:
            for entry in waiting:
                began = time.perf_counter()
                await self.host.propose(1, entry)
                latencies.append(time.perf_counter() - began)

        began, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(write() for _ in range(self.config.writers)))
        took = time.perf_counter() - began
        return {
            "vectors_per_second": len(entries) * BATCH / took,
            "median_ms": 1e3 * statistics.median(latencies),
            "cpu": (time.process_time() - used) / took,
        }


async def serve(config: NodeConfig) -> None:
    """Run a node until stdin ends."""
    folder = Path(config.folder)
    async with AsyncExitStack() as stack:
        wal = stack.enter_context(Wal.open(folder / "log"))
        files = TlsFiles(*map(Path, config.certificates))
        trust = FileTrust(files, {f"n{node}": f"n{node}.peers.bench" for node in config.peers})
        transport = Transport(f"n{config.node}", "bench", trust)
        host = Host(wal, outbox=transport, locate=lambda _, replica: f"n{replica}")
        stack.push_async_callback(host.close)
        stack.push_async_callback(transport.close)
        await transport.start(host, f"127.0.0.1:{config.peers[config.node]}")
        others = [node for node in config.peers if node != config.node]
        for node in others:
            transport.add(f"n{node}", f"127.0.0.1:{config.peers[node]}")
        for node in others:
            await transport.connected(f"n{node}")
        for group in range(1, config.groups + 1):
            machine: Any = Nothing()
            if config.machine == "shard":
                path = folder / f"shard-{group}"
                machine = ShardMachine(
                    stack.enter_context(Shard.create(path, Schema(DIM, "l2"), ShardOptions()))
                )
            await host.add(group, machine, replica=config.node, founders=tuple(config.peers))
        node = Node(config, host, transport)
        print(json.dumps("ready"), flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            try:
                answer = await getattr(node, json.loads(line))()
            except GroupError as error:
                answer = {"error": str(error)}
            print(json.dumps(answer), flush=True)


def run_node(config: NodeConfig) -> None:
    """The main of a node's process."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    profile = cProfile.Profile()
    if config.profile:
        profile.enable()
    uvloop.run(serve(config))
    if config.profile:
        profile.disable()
        profile.dump_stats(Path(config.profile) / f"n{config.node}.prof")


# In the process that measures


class Process:
    """A node in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, config: NodeConfig) -> Process:
        """Start it; `answer` tells when it is ready."""
        pipe = asyncio.subprocess.PIPE
        arguments = ("-m", "bench.replicated", "--node", json.dumps(asdict(config)))
        started = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe)
        return cls(started)

    async def answer(self) -> Any:
        """The next line it says."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a node ended: {await self._process.wait()}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(f"a node could not go on: {answer['error']}")
        return answer

    async def ask(self, what: str) -> Any:
        """Have it do something, and wait for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        return await self.answer()

    async def stop(self) -> None:
        """End it, and wait for that."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that are free now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


async def settle(nodes: Sequence[Process], what: str, wanted: Sequence[int], push: str = "led") -> None:
    """Wait until all nodes answer what is wanted; until then, keep asking for `push`."""
    while True:
        if all([await node.ask(what) in wanted for node in nodes]):
            return
        for node in nodes:
            await node.ask(push)
        await asyncio.sleep(0.5)


@asynccontextmanager
async def cluster(
    asked: argparse.Namespace, authority: Authority, batches: Path, size: int, machine: str, groups: int
) -> AsyncIterator[list[Process]]:
    """Nodes that know each other, with as many groups, all of which have a leader."""
    peers = dict(enumerate(free_ports(size), 1))
    with tempfile.TemporaryDirectory(dir=asked.path) as folder:
        nodes: list[Process] = []
        try:
            for node in peers:
                own = Path(folder) / f"n{node}"
                own.mkdir()
                files = authority.issue(f"n{node}", f"DNS:n{node}.peers.bench")
                certificates = (str(files.ca), str(files.cert), str(files.key))
                config = NodeConfig(
                    node,
                    peers,
                    str(own),
                    certificates,
                    machine,
                    groups,
                    str(batches),
                    asked.writers,
                    asked.profile,
                )
                nodes.append(await Process.start(config))
            await asyncio.gather(*(node.answer() for node in nodes))
            await settle(nodes, "led", (groups,))
            yield nodes
        finally:
            await asyncio.gather(*(node.stop() for node in nodes))


async def loaded(
    asked: argparse.Namespace, authority: Authority, batches: Path, size: int
) -> dict[str, float]:
    """The load on a cluster of that size, through whoever leads."""
    async with cluster(asked, authority, batches, size, asked.machine, 1) as nodes:
        for node in nodes:
            if await node.ask("leads"):
                return await node.ask("load")  # type: ignore[no-any-return]
        raise RuntimeError("leadership moved while nothing happened")


async def rested(asked: argparse.Namespace, authority: Authority, batches: Path) -> list[dict[str, float]]:
    """Idle groups of three replicas, led in equal parts; what each node takes."""
    async with cluster(asked, authority, batches, 3, "log", asked.idle) as nodes:
        share = asked.idle // 3
        await settle(nodes, "leads", (share, share + 1), push="hand_over")
        return list(await asyncio.gather(*(node.ask("idle") for node in nodes)))


async def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for. Rounds alternate, so that a slow moment meets both."""
    report: dict[str, Any] = {"cores": os.cpu_count(), "machine": asked.machine, "rows": asked.rows}
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder) / "bench")
        batches = Path(folder) / "batches"
        write_batches(batches, asked.rows if asked.rounds else 0)
        rounds = [
            (await loaded(asked, authority, batches, 1), await loaded(asked, authority, batches, 3))
            for _ in range(asked.rounds)
        ]
        if rounds:
            report["one"] = [one for one, _ in rounds]
            report["three"] = [three for _, three in rounds]
            report["ratio"] = statistics.median(_ratios(rounds))
        if asked.idle:
            report["idle"] = await rested(asked, authority, batches)
    return report


def _ratios(rounds: Sequence[tuple[dict[str, float], dict[str, float]]]) -> list[float]:
    return [three["vectors_per_second"] / one["vectors_per_second"] for one, three in rounds]


def main() -> None:
    """Measure, or be a node."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--path", default=None, help="a directory on the disk to measure")
    parser.add_argument("--machine", choices=("shard", "log"), default="shard")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="0 for no load")
    parser.add_argument("--idle", type=int, default=200, help="groups of three replicas; 0 for none")
    parser.add_argument(
        "--profile", default="", help="a directory: each node leaves a profile of its loop there"
    )
    parser.add_argument("--node", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.node:
        raw = json.loads(asked.node)
        raw["peers"] = {int(node): port for node, port in raw["peers"].items()}
        run_node(NodeConfig(**raw))
        return
    print(json.dumps(asyncio.run(measure(asked)), indent=1))


if __name__ == "__main__":
    main()
