"""Hits unlike each other: maximal marginal relevance, as its formula says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vecdb_index import DeadlineExceeded
from vecdb_proto.v1 import common_pb2, search_pb2

from tests.support.inprocess import InProcessNode
from tests.unit.vecdb.query.requests import create, equals, found, packed, search, unpacked, upsert
from vecdb.query import choosing
from vecdb.query.candidates import Asked
from vecdb.query.diversity import Diversity, diversified
from vecdb.query.questions import Nearest
from vecdb.query.wanted import Wanted

Name = Callable[[], str]
COUNT = 150
METRICS = {"l2": common_pb2.METRIC_L2, "dot": common_pb2.METRIC_DOT, "cosine": common_pb2.METRIC_COSINE}


@dataclass(frozen=True)
class Data:
    node: InProcessNode
    ids: list[str]
    vectors: np.ndarray


@pytest.fixture(scope="module")
def data(node: InProcessNode) -> Data:
    """The same documents under each metric in one shard and three; a fifth are near copies."""
    random = np.random.default_rng(5)
    vectors = random.standard_normal((COUNT, 6)).astype(np.float32)
    vectors[4::5] = vectors[3::5] + np.float32(0.01) * random.standard_normal((COUNT // 5, 6))
    ids = [f"{at:03}" for at in range(COUNT)]
    for metric, number in METRICS.items():
        for shards in (1, 3):
            create(node, f"mmr-{metric}{shards}", dim=6, metric=number, shards=shards)
            payloads = [{"third": at % 3} for at in range(COUNT)]
            upsert(node, f"mmr-{metric}{shards}", ids, vectors, payloads)
    return Data(node, ids, vectors)


def diversity(relevance: float, candidates: int = 0) -> search_pb2.Diversity:
    return search_pb2.Diversity(**{"lambda": relevance, "candidates": candidates})


def alike(metric: str, one: np.ndarray, other: np.ndarray) -> float:
    """How alike two vectors are by a metric, higher for more."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    if metric == "l2":
        return -float(((one - other) ** 2).sum())
    product = float(one @ other)
    return product / float(np.linalg.norm(one) * np.linalg.norm(other)) if metric == "cosine" else product


def marginals(
    metric: str, pool: list[np.ndarray], query: np.ndarray, relevance: float, taken: list[int]
) -> dict[int, float]:
    """What the formula gives for each candidate that is not taken."""
    return {
        at: relevance * alike(metric, pool[at], query)
        - (1 - relevance) * max(alike(metric, pool[at], pool[other]) for other in taken)
        for at in range(len(pool))
        if at not in taken
    }


def follows_the_formula(
    metric: str, pool: list[np.ndarray], query: np.ndarray, relevance: float, order: list[int]
) -> None:
    """Each pick has the most of what is left, as far as float32 can tell; of equal vectors the first."""
    assert order[:1] == [0][: len(order)]
    for place in range(1, len(order)):
        left = marginals(metric, pool, query, relevance, order[:place])
        assert left[order[place]] == pytest.approx(max(left.values()), abs=2e-4)
        twins = [at for at in left if np.array_equal(pool[at], pool[order[place]])]
        assert order[place] == min(twins)


@settings(max_examples=60, deadline=None)
@given(
    metric=st.sampled_from(sorted(METRICS)),
    seed=st.integers(0, 10_000),
    count=st.integers(1, 30),
    relevance=st.floats(0, 1),
    twins=st.booleans(),
)
def test_each_step_takes_the_most_marginally_relevant(
    metric: str, seed: int, count: int, relevance: float, twins: bool
) -> None:
    """The order is the formula's at every step, and covers all candidates once."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((count, 5)).astype(np.float32)
    if twins:
        vectors[count // 2 :] = vectors[: count - count // 2]
    query = random.standard_normal(5).astype(np.float32)
    pool = sorted(vectors, key=lambda vector: -alike(metric, vector, query))
    similarities = np.array([alike(metric, vector, query) for vector in pool])
    order = list(diversified(similarities, np.stack(pool), metric, relevance))
    assert sorted(order) == list(range(count))
    follows_the_formula(metric, pool, query, relevance, order)


@pytest.mark.parametrize("metric", METRICS)
def test_relevance_alone_keeps_the_order(metric: str) -> None:
    """At lambda 1 the candidates come as they stand, equal ones too."""
    vectors = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    similarities = np.repeat(np.linspace(1, 0, 5), 4)
    assert list(diversified(similarities, vectors, metric, 1.0)) == list(range(20))


def test_nothing_to_choose_from(data: Data) -> None:
    """No candidates, no hits."""
    for collection in ("mmr-l21", "mmr-l23"):
        none = equals("third", 7)
        assert not search(data.node, collection, data.vectors[0], diversity=diversity(0.5), filter=none).hits


@settings(max_examples=30, deadline=None)
@given(
    metric=st.sampled_from(sorted(METRICS)),
    shards=st.sampled_from([1, 3]),
    row=st.integers(0, COUNT - 1),
    k=st.integers(1, 20),
    offset=st.integers(0, 10),
    more=st.integers(0, 40),
    relevance=st.floats(0, 1, width=32),
    third=st.none() | st.integers(0, 2),
)
def test_hits_are_chosen_among_the_nearest(
    data: Data,
    metric: str,
    shards: int,
    row: int,
    k: int,
    offset: int,
    more: int,
    relevance: float,
    third: int | None,
) -> None:
    """From the candidates of a plain search the formula chooses; offsets cut what was chosen; scores stay."""
    options = {} if third is None else {"filter": equals("third", third)}
    name, query, pool_size = f"mmr-{metric}{shards}", data.vectors[row], k + offset + more
    plain = found(search(data.node, name, query, k=pool_size, **options))
    whole = found(
        search(data.node, name, query, k=k + offset, diversity=diversity(relevance, pool_size), **options)
    )
    assert dict(whole).items() <= dict(plain).items()
    assert len(whole) == min(k + offset, len(plain))
    places = [id_ for id_, _ in plain]
    pool = [data.vectors[data.ids.index(id_)] for id_ in places]
    order = [places.index(id_) for id_, _ in whole]
    follows_the_formula(metric, pool, query, round(relevance, 6), order)
    page = search(
        data.node, name, query, k=k, offset=offset, diversity=diversity(relevance, pool_size), **options
    )
    assert found(page) == whole[offset:]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shards", [1, 3])
def test_relevance_alone_is_a_plain_search(data: Data, metric: str, shards: int) -> None:
    """At lambda 1 the answer is that of a search without diversity, whatever the candidates."""
    name, query = f"mmr-{metric}{shards}", data.vectors[8]
    plain = found(search(data.node, name, query, k=12, offset=2))
    for candidates in (0, 14, 100):
        assert (
            found(search(data.node, name, query, k=12, offset=2, diversity=diversity(1, candidates))) == plain
        )


def test_near_copies_give_way(data: Data) -> None:
    """Where two documents nearly say the same, a diverse answer has the nearer one and something else."""
    query = data.vectors[3] + np.float32(0.001)
    plain = [id_ for id_, _ in found(search(data.node, "mmr-cosine3", query, k=2))]
    assert sorted(plain) == ["003", "004"]
    diverse = [
        id_ for id_, _ in found(search(data.node, "mmr-cosine3", query, k=2, diversity=diversity(0.5)))
    ]
    assert diverse[0] == plain[0]
    assert diverse[1] != plain[1]


def test_parts_and_explanation(data: Data) -> None:
    """Hits carry what was asked for, and explain says what was chosen from."""
    reply = search(
        data.node,
        "mmr-l23",
        data.vectors[0],
        k=5,
        diversity=diversity(0.25),
        explain=True,
        projection=common_pb2.Projection(vector=True),
    )
    for hit in reply.hits:
        assert unpacked(hit.document.vector) == data.vectors[data.ids.index(hit.document.id)].tolist()
        assert not hit.document.payload
    *shards, step = reply.explain.steps
    assert [each.name.split()[0] for each in shards] == ["shard"] * 3
    assert (step.name, dict(step.details)) == ("diversity", {"lambda": "0.25", "candidates": "20"})
    assert not search(data.node, "mmr-l23", data.vectors[0], diversity=diversity(0.25)).explain.steps


def test_batches_and_streams_are_diverse_too(data: Data) -> None:
    """SearchBatch and SearchStream give each query what Search gives it."""
    queries = data.vectors[[3, 40, 99]]
    options = search_pb2.SearchOptions(k=6, offset=1, exact=True, diversity=diversity(0.3, 30))
    for collection in ("mmr-dot1", "mmr-cosine3"):
        asked = [
            search_pb2.SearchRequest(
                collection=collection, query=search_pb2.Query(vector=packed(query)), options=options
            )
            for query in queries
        ]
        single = [found(data.node.search.Search(request)) for request in asked]
        batch = data.node.search.SearchBatch(
            search_pb2.SearchBatchRequest(collection=collection, vectors=packed(queries), options=options)
        )
        assert list(batch.ids) == [id_ for hits in single for id_, _ in hits]
        assert unpacked(batch.scores) == [score for hits in single for _, score in hits]
        tagged = [search_pb2.SearchStreamRequest(tag=at, request=request) for at, request in enumerate(asked)]
        answers = {answer.tag: answer.response for answer in data.node.search.SearchStream(iter(tagged))}
        assert [found(answers[at]) for at in range(3)] == single


def test_examples_are_not_chosen(data: Data) -> None:
    """Documents to be like are no hits, nor do they push others out."""
    request = search_pb2.SearchRequest(
        collection="mmr-l23",
        query=search_pb2.Query(examples=search_pb2.Examples(positive=["003"])),
        options=search_pb2.SearchOptions(k=3, exact=True, diversity=diversity(0.5, 10)),
    )
    hits = [id_ for id_, _ in found(data.node.search.Search(request))]
    assert hits[0] == "004"
    assert "003" not in hits
    assert len(hits) == 3


async def test_a_deadline_ends_the_choosing(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that passes while hits are chosen is met then, not once all are."""
    db = data.node.node_database()
    record = db.state.collections["mmr-l21"]
    wanted = Wanted(k=20, deadline=time.monotonic() + 60)
    picks: list[int] = []

    def late(asked: Asked) -> None:
        picks.append(1)
        if len(picks) == 8:
            raise DeadlineExceeded("the search ran past its deadline")

    monkeypatch.setattr(Asked, "check_deadline", late)
    with pytest.raises(DeadlineExceeded):
        await choosing.search(db, record, Nearest(data.vectors[:1]), wanted, Diversity(0.5, 80))
    assert len(picks) == 8
