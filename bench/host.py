"""What the host and its Raft core add to an acknowledged write, against the bare log writer, side by side.

    python -m bench.host [--path DIR] [--seconds 3] [--rounds 3]

Rows: batches of 800 KB (256 vectors of 784 dimensions), 64 KB and 1 KB, from 1, 4 and 16 writers, each of
which waits for its answer before it writes again. `log writer` submits and awaits durability from an event
loop, as the node did before there was Raft; `host` proposes to a group of one whose state machine keeps
nothing. Both run on uvloop, as the node does. Rounds alternate, so that a slow moment of the disk meets both,
and the ratio is the median of the rounds' own. Last, the CPU of idle groups: of one replica on one host, and
of three on three hosts in this process, whose network costs nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import uvloop
from vecdb_replication.host import Host, MemoryNetwork
from vecdb_replication.wal import Entry, GroupUpdate, HardState, LogWriter, Wal


class Nothing:
    """A state that forgets what it applied."""

    applied_index = 0

    @property
    def durable_index(self) -> int:
        """Nothing is to be made durable."""
        return self.applied_index

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> list[object]:
        """Count."""
        self.applied_index = entries[-1][0]
        return [None] * len(entries)

    def checkpoint(self) -> int:
        """Nothing to do."""
        return self.applied_index


async def _latencies(write: Callable[[], Awaitable[object]], writers: int, seconds: float) -> list[float]:
    found: list[float] = []
    end = time.perf_counter() + seconds

    async def one() -> None:
        while (began := time.perf_counter()) < end:
            await write()
            found.append(time.perf_counter() - began)

    await asyncio.gather(*(one() for _ in range(writers)))
    return found


async def bare(path: Path, size: int, writers: int, seconds: float) -> list[float]:
    """Straight to the log's writer."""
    data, index = os.urandom(size), 0
    with Wal.open(path / "bare") as wal, LogWriter(wal) as writer:

        async def write() -> None:
            nonlocal index
            index += 1
            update = GroupUpdate(1, [Entry(1, index, 0, data)], HardState(1, 1, index - 1))
            await asyncio.wrap_future(writer.submit([update]))

        found = await _latencies(write, writers, seconds)
    _clear(path / "bare")
    return found


async def hosted(path: Path, size: int, writers: int, seconds: float) -> list[float]:
    """Through the host."""
    data = os.urandom(size)
    with Wal.open(path / "host") as wal:
        host = Host(wal)
        await host.add(1, Nothing())
        found = await _latencies(lambda: host.propose(1, data), writers, seconds)
        await host.close()
    _clear(path / "host")
    return found


def _clear(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


async def idle(path: Path, groups: int, replicas: int, seconds: float) -> float:
    """The share of a core that idle groups take on each of as many hosts as they have replicas."""
    network = MemoryNetwork()
    members = range(1, replicas + 1)
    with ExitStack() as stack:
        hosts = []
        for node in members:
            wal = stack.enter_context(Wal.open(path / f"idle{node}"))
            host = Host(wal, outbox=network.outbox(f"n{node}"), locate=lambda _, replica: f"n{replica}")
            network.attach(f"n{node}", host.receive, _ignored)
            hosts.append(host)
        for group in range(1, groups + 1):
            for node, host in enumerate(hosts, 1):
                await host.add(group, Nothing(), replica=node, founders=members)
        # Until everybody has a leader, and nobody stands for election any more.
        await asyncio.sleep(5.0 if replicas > 1 else 0.0)
        began = time.process_time()
        await asyncio.sleep(seconds)
        share = (time.process_time() - began) / seconds / replicas
        for host in hosts:
            await host.close()
    for node in members:
        _clear(path / f"idle{node}")
    return share


def _ignored(*_: object) -> None:
    """There are no snapshots here."""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--path", default=None, help="a directory on the disk to measure")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'bytes':>8} {'writers':>8} {'log writer':>12} {'host':>10} {'ratio':>7}   (median ms a write)")
    with tempfile.TemporaryDirectory(dir=options.path) as folder:
        path = Path(folder)
        for size in (800_000, 64_000, 1_000):
            for writers in (1, 4, 16):
                log, host = [], []
                for _ in range(options.rounds):
                    log.append(statistics.median(uvloop.run(bare(path, size, writers, options.seconds))))
                    host.append(statistics.median(uvloop.run(hosted(path, size, writers, options.seconds))))
                was, now = statistics.median(log) * 1e3, statistics.median(host) * 1e3
                ratio = statistics.median(after / before for before, after in zip(log, host, strict=True))
                print(f"{size:>8} {writers:>8} {was:>12.3f} {now:>10.3f} {ratio:>7.2f}")
        for replicas in (1, 3):
            share = uvloop.run(idle(path, 200, replicas, 5.0))
            print(f"200 idle groups of {replicas}: {share:.2%} of a core on each host")


if __name__ == "__main__":
    main()
