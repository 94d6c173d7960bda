"""Every kind of index over every storage: recall as asked, scores of the full vectors, and one content."""

from __future__ import annotations

import gc
import itertools
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from shards import ids_of
from vecdb_index import (
    FieldSpec,
    FieldType,
    LocalFileSystem,
    Schema,
    Shard,
    ShardDamaged,
    ShardOptions,
    knn,
    sealed,
    verify_snapshot,
)
from vecdb_index.calibrate import Efforts, Level
from vecdb_index.codes import Codec, flat_codec
from vecdb_index.filters import Range
from vecdb_index.fulltext.analysis import analyzer
from vecdb_index.fulltext.merge import indexed
from vecdb_index.growing import Block
from vecdb_index.indexing import measure_graph, vectors_of
from vecdb_index.near import Effort, Near, list_widths, plain_graph
from vecdb_index.parts import Part
from vecdb_index.plan import Wish, effort_for
from vecdb_index.sealed import Contents, Made

DIM = 24
LUCK = 0.01  # 200 queries are a sample
OPTIONS = ShardOptions(seal_rows=800, rest_rows=32, rest_seconds=0.02, flat_rows=200, threads=1, scrub=False)
KINDS = [
    ("hnsw", "f16", "l2"),
    ("hnsw", "sq8", "cosine"),
    ("hnsw", "rabitq", "dot"),
    ("hnsw", "rabitq", "cosine"),
    ("ivf", "f32", "dot"),
    ("ivf", "f16", "cosine"),
    ("ivf", "sq8", "dot"),
    ("ivf", "rabitq", "l2"),
]


def clustered(rows: int, seed: int) -> npt.NDArray[np.float32]:
    """Vectors around the same random centres."""
    centres = np.random.default_rng(0).standard_normal((40, DIM))
    random = np.random.default_rng(seed)
    drawn = centres[random.integers(0, 40, rows)] + 0.4 * random.standard_normal((rows, DIM))
    return drawn.astype(np.float32)


BASE, QUERIES = clustered(2400, 1), clustered(200, 2)
NAMES = [f"d{at}" for at in range(len(BASE))]


def write(shard: Shard, start: int, stop: int) -> None:
    shard.upsert(NAMES[start:stop], BASE[start:stop], [{"n": at} for at in range(start, stop)])


def recall(shard: Shard, k: int = 10, **how: Any) -> float:
    """Against exact search of the same shard; scores of what both find are the same."""
    found, wanted = shard.search(QUERIES, k, **how), shard.search(QUERIES, k, exact=True, **how)
    assert found.counts.tolist() == wanted.counts.tolist()
    shared_hits = 0
    for at in range(0, len(found.docnos), k):
        got = dict(zip(found.docnos[at : at + k].tolist(), found.scores[at : at + k].tolist(), strict=True))
        true = dict(
            zip(wanted.docnos[at : at + k].tolist(), wanted.scores[at : at + k].tolist(), strict=True)
        )
        shared = got.keys() & true.keys()
        shared_hits += len(shared)
        assert all(got[docno] == pytest.approx(true[docno], rel=1e-4, abs=1e-4) for docno in shared)
    return shared_hits / len(found.docnos)


@pytest.mark.parametrize(("index", "storage", "metric"), KINDS)
def test_a_kind_through_its_life(tmp_path: Path, index: Any, storage: Any, metric: Any) -> None:
    """Recall holds as calibrated, filtered, after deletes, extended, reopened, and in a snapshot."""
    schema = Schema(DIM, metric, index, fields=(FieldSpec("n", FieldType.INT),), storage=storage)
    with Shard.create(tmp_path / "shard", schema, OPTIONS) as shard:
        write(shard, 0, 1500)
        assert shard.wait_indexed(60)
        for level in (0.9, 0.99):
            assert recall(shard, recall=level) >= level - LUCK
        assert recall(shard, 50) >= 0.95 - LUCK
        assert recall(shard, filter=Range("n", gte=750)) >= 0.95 - LUCK
        write(shard, 1500, 2400)
        shard.delete(NAMES[:2400:10])
        assert shard.wait_indexed(60)
        assert recall(shard) >= 0.95 - LUCK
        (segment,) = shard.stats().segments
        assert (segment.kind, segment.storage, segment.rows - segment.tombstones) == (index, storage, 2160)
        assert segment.tombstones == (150 if index == "hnsw" else 0)
        assert segment.recall is not None
        assert segment.recall >= 0.95
        assert (segment.reranked >= 10) == (storage != "f32")
        itself = [f"d{at}" for at in range(2400) if at % 10]
        rows = np.delete(BASE, np.s_[::10], axis=0)
        if metric != "dot":
            assert np.mean(np.array(ids_of(shard, shard.search(rows, 1).docnos)) == itself) >= 0.95
        before = shard.search(QUERIES, 10)
        threads = knn.faiss.omp_get_max_threads()
        assert shard.search(QUERIES[0], 10).docnos.tolist() == before.docnos[:10].tolist()
        assert knn.faiss.omp_get_max_threads() == threads
        snapshot = shard.snapshot(tmp_path / "copy")
        content = shard.content_hash()
    for path in ("shard", "copy"):
        with Shard.open(tmp_path / path, OPTIONS) as shard:
            assert shard.search(QUERIES, 10).docnos.tolist() == before.docnos.tolist()
            assert shard.content_hash() == content
            shard.verify()
    assert verify_snapshot(tmp_path / "copy") == snapshot.applied_index
    with Shard.create(tmp_path / "plain", replace(schema, index="flat", storage="f32"), OPTIONS) as shard:
        write(shard, 0, 1500)
        write(shard, 1500, 2400)
        shard.delete(NAMES[:2400:10])
        assert shard.content_hash() == content


def test_bytes_are_told_and_fewer(tmp_path: Path) -> None:
    """Statistics tell what an index and the full vectors take; codes take what their name says."""
    told = {}
    for storage in ("f32", "f16", "sq8", "rabitq"):
        schema = Schema(DIM, "l2", "ivf", storage=storage)
        with Shard.create(tmp_path / storage, schema, OPTIONS) as shard:
            write(shard, 0, 1000)
            assert shard.wait_indexed(60)
            (segment,) = shard.stats().segments
            files = {path.suffix: path.stat().st_size for path in (shard.path / "segments").iterdir()}
            assert segment.bytes == sum(files.values())
            assert segment.vector_bytes == files[".raw"] == 4 * DIM * 1000
            others = files[".raw"] + files[".docnos"] + files[".words"]
            assert segment.index_bytes == segment.bytes - others
            told[storage] = files.get(".codes", 0) / 1000
    assert told["f32"] == 0
    assert (told["f16"], told["sq8"]) == (2 * DIM, DIM)
    assert told["rabitq"] < DIM


def test_codes_that_cannot_serve_are_given_up(tmp_path: Path) -> None:
    """Where no search by codes reaches the target, a segment is searched by its full vectors, and says so."""
    far = np.float32(1e6)  # beyond every half
    with Shard.create(tmp_path / "shard", Schema(DIM, "l2", storage="f16"), OPTIONS) as shard:
        shard.upsert(NAMES[:1500], BASE[:1500] + far)
        assert shard.wait_indexed(60)
        (segment,) = shard.stats().segments
        assert (segment.kind, segment.storage, segment.reranked) == ("hnsw", "f32", 0)
        assert not list((shard.path / "segments").glob("*.codes"))
        found = shard.search(BASE[:50] + far, 1, recall=0.99)
        assert np.mean(found.docnos == np.arange(50)) >= 0.95


def test_numbers_at_the_edge(tmp_path: Path) -> None:
    """A few huge numbers neither stop an index nor are hits without a score."""
    for index, storage in (("ivf", "f32"), ("ivf", "rabitq"), ("hnsw", "sq8"), ("hnsw", "f16")):
        schema = Schema(DIM, "l2", index, storage=storage)  # type: ignore[arg-type]
        with Shard.create(tmp_path / f"{index}-{storage}", schema, OPTIONS) as shard:
            vectors = BASE[:400].copy()
            vectors[7] = 3e38
            shard.upsert(NAMES[:400], vectors)
            assert shard.wait_indexed(60)
            found = shard.search(QUERIES[:20], 400)
            assert found.counts.tolist() == [399] * 20
            assert 7 not in found.docnos


def test_many_equal_vectors(tmp_path: Path) -> None:
    """Where more vectors are equal than are wanted, any of them is as good, to calibration as to a search."""
    for index, storage in (("ivf", "sq8"), ("hnsw", "rabitq")):
        with Shard.create(tmp_path / index, Schema(DIM, "l2", index, storage=storage), OPTIONS) as shard:  # type: ignore[arg-type]
            shard.upsert(NAMES[:600], np.repeat(BASE[:3], 200, axis=0))
            assert shard.wait_indexed(60)
            found = shard.search(BASE[:3], 10)
            assert found.scores.tolist() == [0.0] * 30
            assert [docno // 200 for docno in found.docnos.tolist()] == [0] * 10 + [1] * 10 + [2] * 10


def test_a_codec_that_does_not_fit_is_damage(tmp_path: Path) -> None:
    """What FAISS cannot read, or would read beyond its end, is named, whatever its checksum says."""
    (tmp_path / "segments").mkdir()
    codec = flat_codec("sq8", "l2", BASE)
    efforts = Efforts((Level(0.95, Effort(10, 10), 1.0),))
    graph = knn.new_graph(DIM, "l2")
    graph.add(BASE[:100])
    wrong = [
        Made(efforts, graph, None, b"no codec", codec.encode(BASE[:100])),
        Made(efforts, graph, None, codec.pack(), codec.encode(BASE[:100])[:, :-1].copy()),
        Made(efforts, None, np.array([50, 49]), codec.pack(), codec.encode(BASE[:100])),
    ]
    for number, made in enumerate(wrong):
        words = indexed([None] * 100, analyzer("en"))
        contents = Contents(np.arange(100), [BASE[:100]], None, words, lambda _, made=made: made)  # type: ignore[misc]
        manifest = sealed.write(tmp_path, LocalFileSystem(), number, DIM, contents)
        with pytest.raises(ShardDamaged, match="does not fit") as caught:
            sealed.open_rows(tmp_path, manifest, "l2", analyzer("en"))
        assert caught.value.path == manifest.path(tmp_path, "codec")


@pytest.mark.parametrize("storage", ["f16", "sq8", "rabitq"])
def test_codecs_read_back_code_alike(storage: Any) -> None:
    """A codec that was packed and read makes the same codes as the one that was trained."""
    codec = flat_codec(storage, "l2", BASE)
    again = Codec.unpack(codec.pack())
    assert np.array_equal(codec.encode(BASE[:50]), again.encode(BASE[:50]))
    assert codec.encode(BASE[:0]).shape == (0, codec.size)


def test_widths_of_lists() -> None:
    """From one list to all, each step an eighth at most (or one list)."""
    for lists in (1, 2, 17, 1000):
        widths = list_widths(lists)
        assert (widths[0], widths[-1]) == (1, lists)
        assert all(a < b <= a + max(1, a // 8) for a, b in itertools.pairwise(widths))


def test_plans_of_lists() -> None:
    """Lists are searched wider for more hits and under filters, and not at all where few rows match."""
    block = Block(2, "l2", analyzer("en"))
    block.append(np.arange(10_000), np.ones((10_000, 2), np.float32))
    plain = block.publish(np.empty(0, np.int64)).rows
    near = Near("ivf", object(), object(), len(plain), 100)  # re-ranked, for its two are not the same
    part = Part(replace(plain, near=near, efforts=Efforts((Level(0.95, Effort(8, 30), 0.96),))))
    wish = Wish(0.95)
    assert effort_for(part, wish, 10, None) == Effort(8, 30)
    more, half, tenth = (effort_for(part, wish, *how) for how in ((40, None), (10, 5000), (10, 1000)))
    assert more is not None
    assert half is not None
    assert tenth is not None
    assert 8 < half.width < more.width < tenth.width < 100
    short = replace(part, rows=replace(part.rows, near=replace(near, lists=1000)))
    many = effort_for(short, wish, 100, None)
    assert many is not None
    assert many.width >= 8 + 2 * 9  # in lists of ten rows, a hundred hits are in ten or more
    assert effort_for(part, wish, 10, 50) is None
    assert effort_for(part, Wish(0.99), 10, None) == Effort(100, 512)
    assert effort_for(part, Wish(0.95, ef=3), 1000, None) == Effort(3, 30)
    assert effort_for(part, Wish(0.95, ef=10**9), 10, None) == Effort(100, 30)


@pytest.mark.parametrize(
    ("index", "storage"), [("hnsw", "sq8"), ("hnsw", "rabitq"), ("ivf", "f32"), ("ivf", "rabitq")]
)
def test_a_segment_that_nobody_has_is_let_go_at_once(tmp_path: Path, index: Any, storage: Any) -> None:
    """What maps a segment's files goes with the last who holds it, so that unlinked files free their disk."""
    gc.collect()
    gc.disable()
    try:
        with Shard.create(tmp_path / "shard", Schema(DIM, "l2", index, storage=storage), OPTIONS) as shard:
            write(shard, 0, 400)
            assert shard.wait_indexed(60)
            (segment,) = shard._core.view.sealed
            manifest = segment.rows.manifest
            assert manifest is not None
            rows = shard._core.open_rows(manifest)
            near = rows.near
            assert near is not None
            gone = [weakref.ref(held) for held in (rows.vectors.base, near.finder, near.index)]
            del rows, near
            assert [held() for held in gone] == [None] * 3
    finally:
        gc.enable()


def test_a_graph_lent_to_codes_gets_its_vectors_back(tmp_path: Path) -> None:
    """Vectors that only the graph kept alive are its own again after it was measured by codes."""
    graph, flat = knn.new_graph(DIM, "l2"), knn.faiss.IndexFlat(DIM, knn.faiss_metric("l2"))
    graph.add(BASE[:500])
    flat.add(BASE[:500])
    plain_graph(graph, flat)
    held = weakref.ref(flat)
    del flat
    measured = measure_graph(graph, Schema(DIM, "l2", storage="sq8"), QUERIES, None)
    assert held() is not None
    assert np.array_equal(vectors_of(graph), BASE[:500])
    assert measured.codec is not None
    assert (graph.d, graph.ntotal) == (DIM, 500)
