"""How long a node with many documents takes to serve again."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from vecdb_client import Client

from tests.crash.load import wait_until
from tests.support.node import Node

COUNT, DIM, STEP = 60_000, 784, 2_000
LIMIT_SECONDS = 3.0
# The best of several: others may use the machine.
TRIES = 3


def _started(node: Node) -> float:
    """Start it; the seconds until a search was answered, with everything there."""
    began = time.perf_counter()
    node.start()
    with node.client(timeout=60.0) as db:
        assert db.search("docs", vector=np.ones(DIM), k=10).ids
        took = time.perf_counter() - began
        assert db.count("docs") == COUNT
    return took


def _opening(node: Node) -> float:
    """The part of its last start that opened the data, as the node itself logs it."""
    return float(re.findall(r"\bready\b.*\bseconds=([\d.]+)", node.log_tail(20_000))[-1])


def _load(db: Client) -> None:
    rng = np.random.default_rng(8)
    db.create_collection("docs", dim=DIM, metric="l2")
    # Clusters, as real embeddings have: pure noise is the worst that a graph can be given, and builds slowly.
    centres = rng.standard_normal((200, DIM)).astype(np.float32)
    for first in range(0, COUNT, STEP):
        vectors = centres[rng.integers(0, 200, STEP)] + 0.5 * rng.standard_normal((STEP, DIM))
        db.upsert(
            "docs",
            ids=[f"d{number}" for number in range(first, first + STEP)],
            vectors=vectors.astype(np.float32),
            payloads=[{"n": number} for number in range(first, first + STEP)],
        )


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_a_large_node_is_back_within_seconds(tmp_path: Path) -> None:
    """60,000 x 784: killed in the middle of indexing, killed at rest, and stopped, it serves within 3 s."""
    node = Node(tmp_path)
    with node:
        with node.client(timeout=120.0) as db:
            began = time.perf_counter()
            _load(db)
            loaded = time.perf_counter() - began
        node.kill()
        took = {"killed after the last write": (_started(node), _opening(node))}
        with node.client() as db:
            wait_until(lambda: db.describe("docs").index_state == "indexed", "indexing", 900.0)
        for how, end in {"killed at rest": node.kill, "stopped": node.stop}.items():
            tries = []
            for _ in range(TRIES):
                end()
                tries.append((_started(node), _opening(node)))
            took[how] = min(tries)
    print(f"\nloaded in {loaded:.1f} s")
    for how, (whole, opening) in took.items():
        print(f"{how}: {whole:.2f} s to the first answer, {opening:.2f} s of it to open the data")
    assert max(took.values())[0] < LIMIT_SECONDS, took
