"""What replication costs: three nodes as processes on this machine against one; and what idle groups take.

    python -m bench.replicated [--path DIR] [--machine shard|nothing] [--rows 60000] [--rounds 3] [--idle 200]

Nodes are real: a host over a log with fsync on DIR, and the transport over gRPC with mutual TLS on 127.0.0.1.
The load is batches of 256 vectors of 784 dimensions, from as many writers as `--writers` says, each of which
waits until its batch is acknowledged before it writes the next; it runs in the process of the leader. With
`--machine shard` each replica applies them to a shard of the engine, which builds its index meanwhile; with
`nothing` the log is all there is. Three nodes do three times the work on the same cores, so that a third of
one node's rate is the limit. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.engine import load_data
from tests.support.authority import Authority
from tests.support.replicas import DIM, processes, write_batches

_IDLE_SECONDS = 10.0


async def loaded(asked: argparse.Namespace, authority: Authority, batches: Path, size: int) -> dict[str, Any]:
    """The load on a cluster of that size, through whoever leads."""
    with tempfile.TemporaryDirectory(dir=asked.path) as folder:
        async with processes(
            Path(folder), authority, size, asked.machine, 1, profile=asked.profile
        ) as cluster:
            leader = cluster.nodes[await cluster.leader()]
            began = time.perf_counter()
            found = await leader.ask("load", batches=str(batches), writers=asked.writers)
            answered = time.perf_counter()
            last = await leader.ask("applied")
            for node in cluster.nodes.values():
                await node.ask("wait_applied", index=last)
            # A quorum has it by then, and the last replica a while later.
            behind = time.perf_counter() - answered
            return {**found, "seconds": answered - began, "last_replica_behind_seconds": behind}


async def rested(asked: argparse.Namespace, authority: Authority) -> list[dict[str, float]]:
    """Idle groups of three replicas, led in equal parts; what each node takes."""
    with tempfile.TemporaryDirectory(dir=asked.path) as folder:
        async with processes(
            Path(folder), authority, 3, "nothing", asked.idle, profile=asked.profile
        ) as cluster:
            share = asked.idle // 3
            await cluster.settled("leads", [share, share + 1], push="hand_over")
            nodes = cluster.nodes.values()
            return list(await asyncio.gather(*(node.ask("idle", seconds=_IDLE_SECONDS) for node in nodes)))


async def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for. Rounds alternate, so that a slow moment meets both."""
    report: dict[str, Any] = {"cores": os.cpu_count(), "machine": asked.machine, "rows": asked.rows}
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder) / "bench")
        batches = Path(folder) / "batches"
        if asked.rounds:
            write_batches(batches, load_data(None, asked.rows, DIM)[0])
            rounds = [
                (await loaded(asked, authority, batches, 1), await loaded(asked, authority, batches, 3))
                for _ in range(asked.rounds)
            ]
            report["one"] = [one for one, _ in rounds]
            report["three"] = [three for _, three in rounds]
            report["ratio"] = statistics.median(
                three["vectors_per_second"] / one["vectors_per_second"] for one, three in rounds
            )
        if asked.idle:
            report["idle"] = await rested(asked, authority)
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--path", default=None, help="a directory on the disk to measure")
    parser.add_argument("--machine", choices=("shard", "nothing"), default="shard")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="0 for no load")
    parser.add_argument("--idle", type=int, default=200, help="groups of three replicas; 0 for none")
    parser.add_argument("--profile", default="", help="a directory for a profile of each node's loop")
    print(json.dumps(asyncio.run(measure(parser.parse_args())), indent=1))


if __name__ == "__main__":
    main()
