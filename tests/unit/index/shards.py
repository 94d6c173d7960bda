"""What the tests of the engine share: tiny thresholds, crash copies, a plain model, and small helpers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from vecdb_index import Schema, Shard, ShardOptions

TINY = ShardOptions(
    seal_rows=8, rest_rows=4, rest_seconds=0.01, flat_rows=16, max_segments=2, checkpoint_bytes=1, threads=1
)
STILL = ShardOptions(rest_rows=10**9, rest_seconds=3600.0, seal_rows=10**9, threads=1, scrub=False)


def crash_copy(shard: Shard, target: Path) -> Path:
    """The directory as a kill would leave it: all files at one moment. The shard lives on.

    The locks only make the moment: writers and checkpoints wait while files are copied one after the other.
    """
    core = shard._core
    with core.lock, core.store._checkpoint_lock:
        shutil.copytree(shard.path, target, ignore=shutil.ignore_patterns("*-shm", "LOCK"))
    return target


def by_hand(path: Path, schema: Schema | None = None, **options: Any) -> Shard:
    """A new shard whose builder takes a turn only when it is told to (``shard._builder._turn()``)."""
    defaults: dict[str, Any] = {"rest_seconds": 3600.0, "threads": 1, "scrub": False}
    shard = Shard.create(path, schema or Schema(4, "cosine"), ShardOptions(**{**defaults, **options}))
    shard._builder.stop()
    return shard


def pack(payload: dict[str, Any]) -> bytes:
    return msgpack.packb(payload)


def ids_of(shard: Shard, docnos: Any) -> list[str]:
    """The ids of a search's docnos; each of them is there."""
    rows = shard.fetch(docnos)
    assert None not in rows
    return [row.id for row in rows if row is not None]


@dataclass
class Document:
    version: int
    vector: np.ndarray
    payload: dict[str, Any]
    text: str | None
    author: str


@dataclass
class Model:
    """Documents in a dict, searched by looking at each."""

    metric: str
    documents: dict[str, Document] = field(default_factory=dict)

    def scores(self, query: np.ndarray) -> dict[str, float]:
        found = {}
        for id_, document in self.documents.items():
            vector = document.vector.astype(np.float64)
            point = query.astype(np.float64)
            if self.metric == "l2":
                found[id_] = float(((vector - point) ** 2).sum())
            elif self.metric == "dot":
                found[id_] = float(vector @ point)
            else:
                norms = np.linalg.norm(vector) * np.linalg.norm(point)
                found[id_] = float(vector @ point / norms) if norms else 0.0
        return found

    def nearest(self, query: np.ndarray, k: int, ids: Sequence[str] | None = None) -> list[tuple[str, float]]:
        scores = self.scores(query)
        sign = 1.0 if self.metric == "l2" else -1.0
        among = scores.keys() if ids is None else ids
        return sorted(((id_, scores[id_]) for id_ in among), key=lambda hit: (sign * hit[1], hit[0]))[:k]
