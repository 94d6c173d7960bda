"""Load and search through a real node over gRPC, beside FAISS in process, in one run.

    python -m bench.serve --data fashion-mnist --out results.json

Measures: the rate of acknowledged (fsynced) writes, the time until everything
is indexed, recall@10, unary searches a second of closed-loop clients in
processes of their own (payloads returned), their latency percentiles, batches
of 64, the node's CPU time a request, and the same graph search by FAISS alone
on one thread at the same recall. Every figure comes from this run; machines
are noisy, so quote ratios.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil
from vecdb_client import Client

from bench.datasets import Dataset, load, recall


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="clustered", help="fashion-mnist or clustered")
    parser.add_argument("--n", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=784, help="of clustered data")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each search measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=500, help="documents a write")
    parser.add_argument("--target-recall", type=float, default=0.99)
    parser.add_argument(
        "--dir", type=Path, help="where the node keeps its data (default: a temporary folder)"
    )
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    args = parser.parse_args()
    data = load(args.data, n=args.n, dim=args.dim)
    folder = Path(tempfile.mkdtemp(prefix="vecdb-bench-", dir=args.dir))
    node = NodeProcess(folder / "data")
    try:
        results = {"environment": _environment(), "arguments": {k: str(v) for k, v in vars(args).items()}}
        results["load"] = _load(node, data, args)
        results["search"] = _search(node, data, args)
        results["restart"] = _restart(node, data)
    finally:
        node.stop()
        shutil.rmtree(folder, ignore_errors=True)
    text = json.dumps(results, indent=2)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n")


class NodeProcess:
    """A `vecdb serve` process."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.port = _free_port()
        self.start()

    def start(self) -> float:
        """Start it; returns the seconds until it answers."""
        begun = time.perf_counter()
        command = [sys.executable, "-m", "vecdb", "serve", "--data-dir", str(self.data_dir)]
        command += ["--listen", self.address, "--http-listen", f"127.0.0.1:{_free_port()}"]
        self.process = subprocess.Popen([*command, "--log-level", "warning"])
        with Client(self.address) as db:
            while True:
                try:
                    db.list_collections()
                    return time.perf_counter() - begun
                except Exception:
                    if self.process.poll() is not None:
                        raise SystemExit("the node ended") from None
                    time.sleep(0.02)

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """In good order."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _load(node: NodeProcess, data: Dataset, args: argparse.Namespace) -> dict[str, Any]:
    n, dim = data.base.shape
    with Client(node.address) as db:
        db.create_collection("bench", dim=dim, metric="l2", target_recall=args.target_recall)
        payloads = [{"row": row, "label": f"item {row}", "even": row % 2 == 0} for row in range(n)]
        ids = [str(row) for row in range(n)]
        before = node.cpu_seconds()
        begun = time.perf_counter()
        for start in range(0, n, args.batch * 8):
            end = min(n, start + args.batch * 8)
            db.upsert("bench", ids=ids[start:end], vectors=data.base[start:end], payloads=payloads[start:end])
        acknowledged = time.perf_counter() - begun
        probe = db.search("bench", vector=data.base[-1], k=1)
        assert probe[0].id == ids[-1], "the last write is searchable at once"
        if not db.wait_indexed("bench", timeout=600):
            raise SystemExit("not indexed in ten minutes")
        indexed = time.perf_counter() - begun
        info = db.describe("bench")
    return {
        "documents": n,
        "dim": dim,
        "acknowledged_seconds": round(acknowledged, 2),
        "acknowledged_per_second": round(n / acknowledged),
        "indexed_seconds": round(indexed, 2),
        "node_cpu_seconds": round(node.cpu_seconds() - before, 2),
        "disk_bytes": info.disk_bytes,
        "segments": len(info.shards[0].segments),
    }


def _search(node: NodeProcess, data: Dataset, args: argparse.Namespace) -> dict[str, Any]:
    found, _ = _faiss_setup(data)
    results: dict[str, Any] = {}
    with Client(node.address) as db:
        answers = [
            [int(hit.id) for hit in db.search("bench", vector=query, k=10)] for query in data.queries[:1000]
        ]
        results["recall_at_10"] = round(recall(answers, data.truth[:1000]), 4)
        results["batch_recall_at_10"] = round(_batch_recall(db, data), 4)
    ef = found(results["recall_at_10"])
    results["faiss_ef"] = ef
    rounds = []
    for _ in range(args.rounds):
        one: dict[str, Any] = {"faiss_1_thread_per_second": round(_faiss_rate(data, ef, 3.0))}
        for clients in args.clients:
            one[f"clients_{clients}"] = _closed_loop(node, data, clients, args.seconds)
        one["batch_64"] = _batches(node, data, args.seconds)
        rounds.append(one)
    results["rounds"] = rounds
    for clients in args.clients:
        rates = [one[f"clients_{clients}"]["per_second"] for one in rounds]
        results[f"clients_{clients}_median_per_second"] = float(np.median(rates))
    return results


_GRAPH: list[Any] = []


def _faiss_setup(data: Dataset) -> tuple[Any, Any]:
    """FAISS's HNSW16 over the same vectors, and a function that finds the ef for a recall."""
    graph = faiss.IndexHNSWFlat(data.base.shape[1], 16)
    graph.hnsw.efConstruction = 40
    graph.add(data.base)
    _GRAPH.append(graph)

    def ef_for(wanted: float) -> int:
        for ef in (16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512):
            params = faiss.SearchParametersHNSW(efSearch=ef)
            _, rows = graph.search(data.queries[:1000], 10, params=params)
            if recall(rows.tolist(), data.truth[:1000]) >= wanted:
                return ef
        return 1024

    return ef_for, graph


def _faiss_rate(data: Dataset, ef: int, seconds: float) -> float:
    graph = _GRAPH[0]
    params = faiss.SearchParametersHNSW(efSearch=ef)
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        query = data.queries[done % len(data.queries)][None]
        graph.search(query, 10, params=params)
        done += 1
    return done / (time.perf_counter() - begun)


def _batch_recall(db: Client, data: Dataset) -> float:
    answers: list[list[int]] = []
    for start in range(0, 1000, 100):
        lists = db.search_batch("bench", vectors=data.queries[start : start + 100], k=10)
        answers += [[int(hit.id) for hit in hits] for hits in lists]
    return recall(answers, data.truth[:1000])


def _closed_loop(node: NodeProcess, data: Dataset, clients: int, seconds: float) -> dict[str, Any]:
    """Each client asks, waits, asks again."""
    context = mp.get_context("spawn")
    barrier = context.Barrier(clients + 1)
    pipes = []
    for number in range(clients):
        mine, theirs = context.Pipe()
        queries = data.queries[number::clients]
        process = context.Process(target=_client, args=(node.address, queries, seconds, barrier, theirs))
        process.start()
        pipes.append((process, mine))
    barrier.wait()
    before = node.cpu_seconds()
    latencies = np.concatenate([pipe.recv() for _, pipe in pipes])
    cpu = node.cpu_seconds() - before
    for process, _ in pipes:
        process.join()
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99]) * 1e3
    return {
        "per_second": round(len(latencies) / seconds),
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
        "p99_ms": round(float(p99), 2),
        "node_cpu_us_per_request": round(cpu / len(latencies) * 1e6),
    }


def _client(address: str, queries: Any, seconds: float, barrier: Any, pipe: Any) -> None:
    with Client(address) as db:
        for query in queries[:50]:
            hits = db.search("bench", vector=query, k=10)
        assert hits[0].payload["label"].startswith("item"), "payloads come with the hits"
        barrier.wait()
        latencies = []
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            db.search("bench", vector=queries[len(latencies) % len(queries)], k=10)
            latencies.append(time.perf_counter() - begun)
        pipe.send(np.array(latencies))


def _batches(node: NodeProcess, data: Dataset, seconds: float) -> dict[str, Any]:
    with Client(node.address) as db:
        done, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            start = done % (len(data.queries) - 64)
            db.search_batch("bench", vectors=data.queries[start : start + 64], k=10, with_payload=True)
            done += 64
        return {"queries_per_second": round(done / (time.perf_counter() - begun))}


def _restart(node: NodeProcess, data: Dataset) -> dict[str, Any]:
    """Kill it, start it again; everything is there."""
    node.kill()
    seconds = node.start()
    with Client(node.address) as db:
        count = db.count("bench")
    if count != len(data.base):
        raise SystemExit(f"{count} documents after a crash, {len(data.base)} before")
    return {"seconds_after_kill_9": round(seconds, 2), "documents": count}


def _environment() -> dict[str, Any]:
    packages = ("vecdb", "faiss-cpu", "numpy", "grpcio", "protobuf", "uvloop")
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
