"""Numbers at the edge of float32, and widths beyond every graph: what has no score is no hit."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from shards import STILL, ids_of
from vecdb_index import FieldSpec, FieldType, Schema, Shard, ShardOptions, StorageFailed, knn
from vecdb_index.filters import Eq, Range

HUGE = np.float32(3e38)
GRAPHS = ShardOptions(rest_rows=1, rest_seconds=0.01, flat_rows=16, threads=1, scrub=False)


def test_what_has_no_distance_is_no_hit(tmp_path: Path) -> None:
    """Where distances overflow there are fewer hits, and never a document deleted or filtered out."""
    schema = Schema(2, "l2", fields=(FieldSpec("n", FieldType.INT),))
    with Shard.create(tmp_path / "shard", schema, STILL) as shard:
        vectors = np.array([[1, 0], [HUGE, 0], [HUGE, HUGE], [2, 0]], np.float32)
        shard.upsert(["near", "far", "farther", "gone"], vectors, [{"n": 1}, {"n": 1}, {"n": 1}, {"n": 2}])
        shard.delete(["gone"])
        for k in (1, 2, 3, 10):
            for how in ({}, {"exact": True}, {"filter": Eq("n", 1)}):
                found = shard.search(np.zeros(2, np.float32), k, **how)
                assert found.counts.tolist() == [1]
                assert ids_of(shard, found.docnos) == ["near"]
        nothing = shard.search(np.zeros(2, np.float32), 1, filter=Eq("n", 2))
        assert nothing.counts.tolist() == [0]


def test_places_without_a_hit_are_no_ties(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that comes up short is not repeated wider and wider: nothing is there to be found."""
    with Shard.create(tmp_path / "shard", Schema(2, "l2"), STILL) as shard:
        shard.upsert([f"d{at}" for at in range(50)], np.full((50, 2), HUGE, np.float32))
        calls = []
        real = knn.search
        monkeypatch.setattr(knn, "search", lambda *args: (calls.append(1), real(*args))[1])
        assert shard.search(np.zeros(2, np.float32), 5).counts.tolist() == [0]
        assert len(calls) == 1


def graph_shard(path: Path) -> Shard:
    """300 documents in a graph, one of them with no distance to anything."""
    shard = Shard.create(path, Schema(4, "l2", fields=(FieldSpec("n", FieldType.INT),)), GRAPHS)
    vectors = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    vectors[299] = HUGE
    shard.upsert([f"d{at}" for at in range(300)], vectors, [{"n": at} for at in range(300)])
    assert shard.wait_indexed(30)
    assert shard.exact_rows == 0
    return shard


def test_a_graph_that_comes_up_short_is_filled_up_exactly(tmp_path: Path) -> None:
    """Every query of a batch gets all that has a score, whichever of them the graph failed."""
    with graph_shard(tmp_path / "shard") as shard:
        queries = np.random.default_rng(1).standard_normal((8, 4)).astype(np.float32)
        queries[3] = HUGE
        found = shard.search(queries, 300, ef=300)
        assert found.counts.tolist() == [299, 299, 299, 1, 299, 299, 299, 299]
        at = int(found.counts[:3].sum())
        assert ids_of(shard, found.docnos[at : at + 1]) == ["d299"]


@pytest.mark.parametrize("ef", [300, 2**31, 10**400], ids=["all", "long", "longer"])
def test_a_width_is_clamped(tmp_path: Path, ef: int) -> None:
    """Whatever efSearch is asked for, FAISS gets one within the graph, and the answer is as good as exact."""
    with graph_shard(tmp_path / "shard") as shard:
        query = np.zeros(4, np.float32)
        wanted = shard.search(query, 10, exact=True).docnos.tolist()
        found = shard.search(query, 10, ef=ef, explain=True)
        assert found.docnos.tolist() == wanted
        assert [part["ef"] for part in found.explain["parts"]] == [300]
        some = shard.search(query, 10, ef=ef, filter=Range("n", gte=150))
        assert set(some.docnos.tolist()) <= set(range(150, 299))


def test_no_file_handle_left(tmp_path: Path) -> None:
    """A read that can open no connection is told so, and served again once there are handles."""
    with Shard.create(tmp_path / "shard", Schema(2, "l2"), STILL) as shard:
        shard.upsert(["a"], np.ones((1, 2), np.float32))
        assert shard.get(["a"])
        shard._core.store._close_idle()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        fillers = []
        with suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        try:
            with pytest.raises(StorageFailed, match="unable to open"):
                shard.get(["a"])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fillers:
                os.close(filler)
        assert shard.get(["a"])
