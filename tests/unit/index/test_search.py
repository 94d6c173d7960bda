"""Search: recall as asked, exact answers where they are owed, ties, thresholds, tombstones and threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
import pytest
from pyroaring import BitMap
from shards import STILL, Document, Model, ids_of
from vecdb_index import DeadlineExceeded, FieldSpec, FieldType, Schema, Shard, ShardOptions, documents, knn
from vecdb_index.calibrate import RECALLS, Efforts, Level, calibrate, first
from vecdb_index.filters import And, Eq, FilterError, Not, Range
from vecdb_index.fulltext.analysis import analyzer
from vecdb_index.growing import Block
from vecdb_index.knn import flat_over, new_graph, normalized
from vecdb_index.near import EFS, Effort, Near
from vecdb_index.parts import Part, bits_of, candidate_rows, full_bits
from vecdb_index.plan import Wish, effort_for

QUICK = ShardOptions(seal_rows=1000, rest_rows=64, rest_seconds=0.02, flat_rows=200, threads=2)
DIM = 24


def clustered(rows: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Vectors around random centres."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((40, DIM))
    return (centres[random.integers(0, 40, rows)] + 0.4 * random.standard_normal((rows, DIM))).astype(
        np.float32
    )


BASE, QUERIES = clustered(4000), clustered(4300)[4000:]


LUCK = 0.005  # graphs are built by racing threads, and 300 queries are a sample


def truth(metric: str, base: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    points, queries = base.astype(np.float64), QUERIES.astype(np.float64)
    if metric == "l2":
        keys = ((points[None] - queries[:, None]) ** 2).sum(axis=2)
    else:
        if metric == "cosine":
            points = points / np.linalg.norm(points, axis=1, keepdims=True)
        keys = -(queries @ points.T)
    return np.argsort(keys, axis=1, kind="stable")[:, :k]


def recall(shard: Shard, wanted: npt.NDArray[np.int64], names: list[str], k: int = 10, **how: Any) -> float:
    found = shard.search(QUERIES, k, **how)
    assert found.counts.tolist() == [k] * len(QUERIES)
    got = ids_of(shard, found.docnos)
    hits = [
        len({names[at] for at in row} & set(got[k * place : k * place + k]))
        for place, row in enumerate(wanted)
    ]
    return sum(hits) / (k * len(wanted))


@pytest.fixture(params=["cosine", "dot", "l2"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Shard]]:
    schema = Schema(DIM, request.param, fields=(FieldSpec("n", FieldType.INT),))
    with Shard.create(tmp_path / "shard", schema, QUICK) as shard:
        for start in range(0, len(BASE), 500):
            rows = BASE[start : start + 500]
            shard.upsert(
                [f"d{start + at}" for at in range(500)], rows, [{"n": start + at} for at in range(500)]
            )
        yield request.param, shard


NAMES = [f"d{at}" for at in range(len(BASE))]


def test_recall_is_what_was_asked(loaded: tuple[str, Shard]) -> None:
    """At rest each recall level is reached by graphs, ef overrides it, and exact search finds everything."""
    metric, shard = loaded
    wanted = truth(metric, BASE, 10)
    assert recall(shard, wanted, NAMES, exact=True) == 1.0  # while some of it is not indexed yet
    assert shard.wait_indexed(60)
    stats = shard.stats()
    assert stats.state == "ready"
    assert stats.unindexed_rows == 0
    assert 1 <= len(stats.segments) <= 4
    assert stats.recall is not None
    assert stats.recall >= 0.95
    assert all(segment.kind == "hnsw" for segment in stats.segments)
    for level in (0.9, 0.95, 0.99):
        assert recall(shard, wanted, NAMES, recall=level) >= level - LUCK
    assert recall(shard, wanted, NAMES) >= 0.95 - LUCK
    assert recall(shard, wanted, NAMES, exact=True) == recall(shard, wanted, NAMES, recall=1.0) == 1.0
    assert recall(shard, wanted, NAMES, ef=10) <= recall(shard, wanted, NAMES, ef=400)
    assert recall(shard, truth(metric, BASE, 100), NAMES, k=100) >= 0.95 - LUCK
    one = shard.search(QUERIES[0], 10, exact=True)
    many = shard.search(QUERIES, 10, exact=True)
    assert ids_of(shard, one.docnos) == ids_of(shard, many.docnos[:10])
    assert np.allclose(one.scores, many.scores[:10], rtol=1e-4, atol=1e-4)


def test_recall_survives_deletes_and_rewrites(loaded: tuple[str, Shard]) -> None:
    """With half of the documents gone or moved, recall is as asked, before and after the rebuild."""
    metric, shard = loaded
    assert shard.wait_indexed(60)
    shard.delete(NAMES[::4])
    moved = NAMES[1::4]
    base = BASE.copy()
    base[1::4] = clustered(len(moved), seed=5)
    shard.upsert(moved, base[1::4])
    kept = np.flatnonzero(np.arange(len(BASE)) % 4 != 0)
    names, wanted = [NAMES[at] for at in kept], truth(metric, base[kept], 10)
    assert recall(shard, wanted, names) >= 0.95 - LUCK
    assert recall(shard, wanted, names, exact=True) == 1.0
    assert shard.wait_indexed(60)
    assert recall(shard, wanted, names) >= 0.95 - LUCK
    stats = shard.stats()
    assert sum(segment.tombstones for segment in stats.segments) < 0.2 * len(kept)
    assert stats.documents == len(kept)
    dead = shard._core.store.writer.execute("SELECT COUNT(*) FROM dead").fetchone()[0]
    assert dead == sum(segment.tombstones for segment in stats.segments)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_filtered_recall(loaded: tuple[str, Shard], share: float) -> None:
    """Selective filters find min(k, matches) hits with the recall asked for."""
    metric, shard = loaded
    assert shard.wait_indexed(60)
    # Every so many-th document: the filter has nothing to do with where vectors are.
    chosen = np.flatnonzero(np.arange(len(BASE)) % round(1 / share) == 0)
    shard.update([NAMES[at] for at in chosen], {"n": -1})
    assert shard.wait_indexed(60)
    names = [NAMES[at] for at in chosen]
    assert recall(shard, truth(metric, BASE[chosen], 10), names, filter=Eq("n", -1)) >= 0.95 - LUCK


def test_a_filter_far_from_the_query(tmp_path: Path) -> None:
    """A graph that gives up before it meets a match is backed by exact search: k hits, all of them right."""
    random = np.random.default_rng(0)
    near, far = random.standard_normal((3000, 8)), 100 + random.standard_normal((600, 8))
    base = np.concatenate([near, far]).astype(np.float32)
    with Shard.create(
        tmp_path / "shard", Schema(8, "l2", fields=(FieldSpec("far", FieldType.BOOL),)), QUICK
    ) as shard:
        ids = [f"d{at}" for at in range(len(base))]
        shard.upsert(ids, base, [{"far": at >= 3000} for at in range(len(base))])
        assert shard.wait_indexed(60)
        where = Eq("far", True)
        query = np.zeros((2, 8), np.float32)
        plain = shard.search(query, 10, filter=where, ef=16, explain=True)
        exact = shard.search(query, 10, filter=where, exact=True)
        assert plain.counts.tolist() == [10, 10]
        assert np.array_equal(plain.docnos, exact.docnos)
        assert shard.search(query, 1000, filter=where).counts.tolist() == [600, 600]
        assert shard.search(query, 10, filter=And((where, Not(where)))).counts.tolist() == [0, 0]


def test_explain_says_what_was_done(loaded: tuple[str, Shard]) -> None:
    """Explain names the plan of each part and what the filter left."""
    _, shard = loaded
    assert shard.wait_indexed(60)
    narrow = shard.search(QUERIES[0], 5, filter=Range("n", lt=40), explain=True).explain
    assert (narrow["matches"], narrow["filter_by_index"]) == (40, True)
    assert {part["plan"] for part in narrow["parts"]} == {"exact"}
    wide = shard.search(QUERIES[0], 5, filter=Range("n", gte=40), ef=16, explain=True).explain
    assert {part["plan"] for part in wide["parts"]} == {"graph"}
    assert shard.search(QUERIES[0], 5).explain == {}
    scanned = shard.search(QUERIES[0], 5, filter=Eq("undeclared", 1), explain=True)
    assert (scanned.explain["filter_by_index"], scanned.counts.tolist()) == (False, [0])


def test_thresholds_cut_the_worse_side(tmp_path: Path) -> None:
    """Similarities below and distances above a threshold are dropped; those equal to it stay."""
    vectors = np.array([[1, 0], [0.6, 0.8], [-1, 0]], np.float32)
    for metric, threshold, kept in (("cosine", 0.0, 2), ("dot", 1.0, 1), ("l2", 0.8, 2), ("l2", 4.0, 3)):
        with Shard.create(tmp_path / f"{metric}{threshold}", Schema(2, metric), STILL) as shard:  # type: ignore[arg-type]
            shard.upsert(["a", "b", "c"], vectors)
            found = shard.search(np.stack([vectors[0]] * 2), 3, threshold=threshold)
            assert found.counts.tolist() == [kept, kept]
            assert ids_of(shard, found.docnos) == ["a", "b", "c"][:kept] * 2


@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_ties_break_by_id(tmp_path: Path, index: Any) -> None:
    """Of equal scores the smallest ids win, also where k cuts through them and parts disagree."""
    options = ShardOptions(seal_rows=50, rest_rows=10, rest_seconds=0.02, flat_rows=1000)
    random = np.random.default_rng(1)
    order = random.permutation(200)
    with Shard.create(tmp_path / "shard", Schema(2, "dot", index), options) as shard:
        for start in range(0, 200, 20):
            names = [f"t{at:03}" for at in order[start : start + 20]]
            shard.upsert(names, np.tile(np.array([[1, 2]], np.float32), (20, 1)))
        shard.upsert(["winner", "loser"], np.array([[3, 3], [-1, -1]], np.float32))
        for _ in range(2):
            found = shard.search(np.array([[1, 1], [-1, -1]], np.float32), 5)
            got = ids_of(shard, found.docnos)
            assert got[:5] == ["winner", "t000", "t001", "t002", "t003"]
            assert got[5:] == ["loser", "t000", "t001", "t002", "t003"]
            assert shard.wait_indexed(30)


def test_cosine_of_odd_vectors(tmp_path: Path) -> None:
    """Zero, tiny and huge vectors have finite scores, and raw vectors come back to the bit."""
    vectors = np.array([[0, 0], [1e-20, 0], [1e18, 1e18], [0, 1]], np.float32)
    model = Model("cosine")
    with Shard.create(tmp_path / "shard", Schema(2), STILL) as shard:
        ids = ["zero", "tiny", "huge", "unit"]
        shard.upsert(
            ["first"], np.array([[1, 0]], np.float32)
        )  # unit vectors share their matrix until one is not
        shard.upsert(ids, vectors)
        for id_, vector in zip(ids, vectors, strict=True):
            model.documents[id_] = Document(1, vector, {}, None, "")
        query = np.array([3, 1], np.float32)
        found = shard.search(query, 5)
        scores = dict(zip(ids_of(shard, found.docnos), found.scores.tolist(), strict=True))
        assert {id_: pytest.approx(score, abs=1e-6) for id_, score in model.scores(query).items()} == {
            id_: scores[id_] for id_ in ids
        }
        rows = shard.get(ids, vector=True)
        assert [row.vector.tobytes() for row in rows if row.vector is not None] == [
            row.tobytes() for row in vectors
        ]


def test_unit_vectors_are_stored_once(tmp_path: Path) -> None:
    """Cosine over normalized vectors writes no second matrix."""
    unit = normalized(BASE[:500])
    with Shard.create(tmp_path / "shard", Schema(DIM), QUICK) as shard:
        shard.upsert(NAMES[:500], unit)
        assert shard.wait_indexed(30)
        assert not list((shard.path / "segments").glob("*.unit"))
        assert shard.search(unit[7], 1).docnos.tolist() == [7]


def test_bad_arguments(tmp_path: Path) -> None:
    """Arguments out of range are ValueErrors that say so, filters FilterErrors, deadlines TimeoutErrors."""
    with Shard.create(tmp_path / "shard", Schema(2), STILL) as shard:
        query = np.ones(2, np.float32)
        assert shard.search(query, 3).counts.tolist() == [0]
        shard.upsert(["a"], query[None])
        for bad in (np.ones(3), np.ones((1, 1, 2)), np.array([np.nan, 1])):
            with pytest.raises(ValueError, match="queries must be"):
                shard.search(bad.astype(np.float32), 1)
        for k in (0, -1, 100_001):
            with pytest.raises(ValueError, match="k must be"):
                shard.search(query, k)
        for how in ({"ef": 0}, {"recall": 0.0}, {"recall": 1.5}):
            with pytest.raises(ValueError, match=next(iter(how))):
                shard.search(query, 1, **how)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="limit"):
            shard.scroll(None, 0)
        with pytest.raises(FilterError):
            shard.search(query, 1, filter=And([]))  # type: ignore[arg-type]
        with pytest.raises(DeadlineExceeded):
            shard.search(query, 1, deadline=time.monotonic() - 1)
        assert shard.search(query, 1, deadline=time.monotonic() + 60).docnos.tolist() == [0]
        assert len(shard.search(np.empty((0, 2), np.float32), 3).counts) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dim", 0),
        ("dim", 65_537),
        ("dim", True),
        ("metric", "hamming"),
        ("index", "annoy"),
        ("storage", "int4"),
        ("target_recall", 0.2),
    ],
)
def test_bad_schemas(field: str, value: Any) -> None:
    """A schema out of range names the field."""
    with pytest.raises(ValueError, match=field):
        Schema(**{"dim": 4, **{field: value}})


def test_bad_options() -> None:
    """Options out of range name the option."""
    for bad in ({"seal_rows": 0}, {"threads": 0}, {"synchronous": "off"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ShardOptions(**bad)  # type: ignore[arg-type]
    twice = (FieldSpec("n", FieldType.INT), FieldSpec("n", FieldType.BOOL))
    with pytest.raises(ValueError, match="different names"):
        Schema(4, fields=twice)
    with pytest.raises(ValueError, match="at most"):
        Schema(4, fields=tuple(FieldSpec(f"f{at}", FieldType.INT) for at in range(300)))


def test_fetch_keeps_order_and_gaps(tmp_path: Path) -> None:
    """Rows come in the order asked, None for the deleted, and only what was asked for."""
    with Shard.create(tmp_path / "shard", Schema(2), STILL) as shard:
        shard.upsert(["a", "b", "c"], np.ones((3, 2), np.float32), [{"n": 1}] * 3, ["x", None, "z"])
        shard.delete(["b"])
        rows = shard.fetch([2, 1, 0, 99])
        assert [None if row is None else row.id for row in rows] == ["c", None, "a", None]
        bare = shard.fetch(np.array([2]), payload=False, text=False, vector=True)[0]
        assert bare is not None
        assert (bare.payload, bare.text) == (b"", None)
        assert bare.vector is not None
        assert msgpack.unpackb(rows[0].payload) == {"n": 1}  # type: ignore[union-attr]
        many = [f"m{at:04}" for at in range(1200)]
        shard.upsert(many, np.ones((1200, 2), np.float32))
        assert [row.id for row in shard.get(many[::-1])] == many[::-1]
        assert [row.id for row in shard.scroll("m", 1200)] == many


def test_many_ids_are_read_at_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents asked for by more ids than a statement takes are of one moment, whoever writes meanwhile."""
    ids = [f"m{at:04}" for at in range(1200)]
    with Shard.create(tmp_path / "shard", Schema(2), STILL) as shard:
        version = shard.upsert(ids, np.ones((1200, 2), np.float32))
        plain = documents._chunks

        def overtaken(items: Sequence[str]) -> Iterator[Sequence[str]]:
            for some in plain(items):
                yield some
                shard.upsert(ids, np.ones((1200, 2), np.float32))

        monkeypatch.setattr(documents, "_chunks", overtaken)
        assert {row.version for row in shard.get(ids)} == {version}


def test_scroll_over_many_matches(tmp_path: Path) -> None:
    """A filter that leaves more than are worth sorting is walked in id order, page by page."""
    with Shard.create(tmp_path / "shard", Schema(1, "l2"), STILL) as shard:
        ids = [f"{at:05}" for at in np.random.default_rng(0).permutation(6000)]
        shard.upsert(ids, np.ones((6000, 1), np.float32), [{"odd": int(id_) % 5 != 0} for id_ in ids])
        pages, after = [], None
        while page := shard.scroll(after, 1000, Eq("odd", True), payload=False):
            pages += [row.id for row in page]
            after = page[-1].id
        assert pages == sorted(id_ for id_ in ids if int(id_) % 5)


def test_readers_beside_writers(tmp_path: Path) -> None:
    """While documents are rewritten, sealed and merged, every search is whole and sees what was written."""
    options = ShardOptions(seal_rows=64, rest_rows=16, rest_seconds=0.01, flat_rows=64, checkpoint_bytes=1)
    schema = Schema(4, "l2", fields=(FieldSpec("n", FieldType.INT),))
    ids = [f"d{at}" for at in range(40)]
    vectors = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    failures: list[BaseException] = []
    done = threading.Event()
    with Shard.create(tmp_path / "shard", schema, options) as shard:
        shard.upsert(ids, vectors, [{"n": 0}] * 40)

        def read(filtered: bool) -> None:
            try:
                while not done.is_set():
                    where = Range("n", gte=0) if filtered else None
                    found = shard.search(vectors[:3], 40, filter=where, exact=filtered)
                    assert found.counts.tolist() == [40, 40, 40]
                    assert len(shard.get(ids, vector=True)) == 40
                    assert len(shard.scroll(None, 100, Not(Eq("other", 1)))) == 40
                    shard.fetch(found.docnos, vector=True)
                    shard.stats()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=read, args=(bool(at % 2),)) for at in range(3)]
        for thread in threads:
            thread.start()
        for turn in range(1, 120):
            shard.upsert(ids[turn % 2 :: 2], vectors[turn % 2 :: 2], [{"n": turn}] * 20)
            assert shard.count(Eq("n", turn)) == 20
        done.set()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        assert shard.wait_indexed(30)
        shard.verify()


# --- parts


def test_tombstones_of_a_growing_block() -> None:
    """Rows added after others died are alive, whatever bits the old bitmap's last byte had."""
    block = Block(1, "l2", analyzer("en"))
    dead: list[int] = []
    for start in range(0, 60, 6):
        block.append(np.arange(start, start + 6), np.ones((6, 1), np.float32))
        dead += [start + 1, start + 5]
        part = block.publish(np.array([start + 1, start + 5]))
        alive = [at for at in range(start + 6) if at not in dead]
        assert part.living_docnos().tolist() == alive
        assert part.living == len(alive)
        assert part.is_alive(np.arange(start + 6)).tolist() == [at in alive for at in range(start + 6)]


def test_candidates_of_a_part() -> None:
    """Rows of a bitmap are found the same by look-up and by table, in any order of docnos."""
    random = np.random.default_rng(0)
    block = Block(1, "l2", analyzer("en"))
    block.append(np.arange(0, 3000, 3), np.ones((1000, 1), np.float32))
    part = block.publish(np.array([30, 33]))
    for size in (0, 5, 900):
        chosen = random.choice(3000, size, replace=False)
        rows = candidate_rows(part, BitMap(chosen.tolist()))
        wanted = sorted(at // 3 for at in chosen if at % 3 == 0 and at not in (30, 33))
        assert rows.tolist() == wanted


def test_bitmaps() -> None:
    """Bitmaps have no bit beyond their rows."""
    for count in (1, 7, 8, 9, 64):
        assert np.unpackbits(full_bits(count), bitorder="little").sum() == count
        rows = np.arange(0, count, 2)
        assert (
            np.flatnonzero(np.unpackbits(bits_of(rows, count), bitorder="little")).tolist() == rows.tolist()
        )


# --- calibration and planning


def graph_of(graph: Any) -> Near:
    return Near("hnsw", graph, graph, graph.ntotal)


def test_calibration_is_honest() -> None:
    """The recall measured on held-out rows is there for other queries, and tables rise."""
    graph = new_graph(DIM, "l2")
    graph.add(BASE)
    held = clustered(4556)[4300:]
    table = calibrate(graph_of(graph), graph.storage, held, None)
    widths = [level.effort.width for level in table.levels]
    assert [level.recall for level in table.levels] == list(RECALLS)
    assert widths == sorted(widths)
    own = np.arange(0, 4000, 16)
    inside = calibrate(graph_of(graph), graph.storage, BASE[own], own)
    wanted = truth("l2", BASE, 10)
    for recall_level in (0.9, 0.95, 0.99):
        for made in (table, inside):
            effort = made.effort(recall_level)
            assert effort is not None
            assert effort.depth == 0
            _, rows = knn.search(graph, QUERIES, 10, graph_of(graph).params(effort, 10))
            assert (
                np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, wanted, strict=True)])
                >= recall_level - LUCK
            )


@pytest.mark.parametrize("size", [1, 2, 9])
def test_the_first_place_is_found_without_looking_far(size: int) -> None:
    """Of places of which all from some one on hold, that one is found, whatever the start; nothing is tried
    at more than twice the distance.
    """
    for low in range(size):
        for begins in range(size + 1):
            tried: list[int] = []

            def holds(at: int, begins: int = begins, tried: list[int] = tried) -> bool:
                tried.append(at)
                return at >= begins

            found = first(low, size - 1, holds)
            assert found == min(size - 1, max(low, begins))
            assert all(at - low <= 2 * max(1, found - low) + 1 for at in tried)


def test_calibration_of_almost_nothing() -> None:
    """One row, no queries, or all rows equal: the widest search, or the narrowest, but always a table."""
    graph = new_graph(2, "l2")
    graph.add(np.ones((1, 2), np.float32))
    one = calibrate(graph_of(graph), graph.storage, np.ones((3, 2), np.float32), None)
    assert one.effort(0.5) == Effort(EFS[-1])
    graph.add(np.ones((50, 2), np.float32))
    equal = calibrate(graph_of(graph), graph.storage, np.ones((20, 2), np.float32), np.arange(20))
    assert equal.effort(0.999) == Effort(EFS[0])


def test_efforts() -> None:
    """A level serves the recalls up to its own; beyond the last there is none."""
    table = Efforts((Level(0.9, Effort(16), 0.93), Level(0.99, Effort(64, 30), 0.995)))
    assert (table.effort(0.5), table.effort(0.95), table.effort(0.999)) == (Effort(16), Effort(64, 30), None)
    assert (table.measured(0.9), table.measured(0.999)) == (0.93, None)
    assert Efforts.unpack(tuple(table.pack())) == table
    assert Efforts.unpack(((0.9, 16, 0.93),)) == Efforts(table.levels[:1])


def test_plans() -> None:
    """Few matches are searched exactly, many through the graph, wider as they get fewer."""
    block = Block(2, "l2", analyzer("en"))
    block.append(np.arange(50_000), np.ones((50_000, 2), np.float32))
    rows = block.publish(np.empty(0, np.int64)).rows
    table = Efforts(tuple(Level(level, Effort(24), level) for level in RECALLS[:-1]))
    near = Near("hnsw", object(), object(), len(rows))
    graphed = Part(
        type(rows)(
            rows.docnos, rows.raw, rows.vectors, flat_over(rows.vectors, "l2"), rows.words, near, table
        )
    )

    def graph_width(part: Part, wish: Wish, k: int, matching: int | None) -> int | None:
        effort = effort_for(part, wish, k, matching)
        return None if effort is None else effort.width

    wish = Wish(0.95)
    assert graph_width(Part(rows), wish, 10, None) is None
    assert graph_width(graphed, wish, 10, None) == 24
    assert graph_width(graphed, Wish(0.95, exact=True), 10, None) is None
    assert graph_width(graphed, Wish(1.0), 10, None) is None
    assert graph_width(graphed, Wish(1.0, ef=70), 10, None) == 70
    assert graph_width(graphed, wish, 10, 500) is None
    assert graph_width(graphed, wish, 100, None) == 24 + 2 * 90
    assert graph_width(graphed, Wish(0.9999), 10, None) == EFS[-1]
    tenth, half = graph_width(graphed, wish, 10, 5000), graph_width(graphed, wish, 10, 25_000)
    assert tenth is not None
    assert half is not None
    assert tenth > half > 24
    assert graph_width(graphed, wish, 40_000, None) is None
