"""Searches in words and hybrid ones, over the wire: alike for any number of shards, fused by the formula."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
import vecdb_client as vc
from vecdb_client import Client, HybridWeights
from vecdb_client import Filter as F
from vecdb_index import Row, SearchResult, WordStatistics, parse_words
from vecdb_proto.v1 import search_pb2

from tests.support.inprocess import InProcessNode, refusal
from tests.unit.vecdb.query.requests import packed
from vecdb.models import ModelRegistry, bundled_models
from vecdb.query.questions import Fused, Nearest, Weights, Worded
from vecdb.query.wanted import Wanted

WORDS = ["rain", "snow", "wind", "sun", "cloud", "storm", "the", "of", "and", "a"]
COUNT = 120


def text_of(at: int) -> str:
    random = np.random.default_rng(at)
    shares = np.arange(1, len(WORDS) + 1) / sum(range(1, len(WORDS) + 1))
    return " ".join(random.choice(WORDS, random.integers(1, 12), p=shares))


VECTORS = np.random.default_rng(5).standard_normal((COUNT, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def client(node: InProcessNode) -> Iterator[Client]:
    """The same documents in one shard and in three."""
    with Client(node.address) as client:
        for name, shards in (("one", 1), ("three", 3)):
            client.create_collection(name, dim=4, metric="l2", shards=shards, fields={"third": "int"})
            client.upsert(
                name,
                ids=[f"d{at:03}" for at in range(COUNT)],
                vectors=VECTORS,
                payloads=[{"third": at % 3, "kind": f"k{at % 7}"} for at in range(COUNT)],
                texts=[text_of(at) for at in range(COUNT)],
            )
            client.delete(name, ids=[f"d{at:03}" for at in range(0, COUNT, 10)])
        yield client


def pairs(hits: Any) -> list[tuple[str, float]]:
    return [(hit.id, round(hit.score, 5)) for hit in hits]


QUERIES = ["storm of the sun", '"the sun" rain', "+rain -the", "cloud AND (snow OR wind)", "storms"]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_shards_do_not_show(client: Client, query: str, mode: str) -> None:
    """Scores and order are those of one shard: statistics are summed, ranks are over all."""
    vector = VECTORS[7] if mode == "hybrid" else None
    for options in ({}, {"offset": 3, "k": 4}, {"filter": F("third") == 1}, {"score_threshold": 0.1}):
        one, three = (
            client.search(name, vector, query, mode=mode, exact=True, **options) for name in ("one", "three")
        )
        assert pairs(one) == pairs(three)
    assert len(one) or query == "storms"


def test_what_bm25_finds(client: Client) -> None:
    """Only documents with a word of the query, the living ones, and no more than are asked for."""
    found = client.search("three", text="storms", mode="bm25", k=100)
    wanted = {f"d{at:03}" for at in range(COUNT) if at % 10 and "storm" in text_of(at).split()}
    assert set(found.ids) == wanted
    assert list(found.scores) == sorted(found.scores, reverse=True)
    page = client.search("three", text="storms", mode="bm25", k=3, offset=2)
    assert page.ids == found.ids[2:5]
    assert "storm" in (found[0].text or "")
    assert found[0].payload is not None


def test_a_write_is_searchable_by_words_at_once(client: Client) -> None:
    """Read your writes holds for words: new, changed and deleted texts show in the next search."""
    client.create_collection("live", dim=4, metric="l2", shards=2)
    client.upsert("live", ids=["a", "b"], vectors=VECTORS[:2], texts=["drizzle", "fog"])
    assert client.search("live", text="drizzle", mode="bm25").ids == ["a"]
    client.upsert("live", ids=["b"], vectors=VECTORS[:1], texts=["more drizzle"])
    assert client.search("live", text="drizzle", mode="bm25").ids == ["a", "b"]
    client.delete("live", ids=["a"])
    assert client.search("live", text="drizzle", mode="bm25").ids == ["b"]


def test_batches_answer_as_single_searches(client: Client) -> None:
    """Each query of a batch has the hits that it has alone."""
    lists = client.search_batch("three", texts=QUERIES, mode="bm25", k=7)
    assert [pairs(hits) for hits in lists] == [
        pairs(client.search("three", text=query, mode="bm25", k=7)) for query in QUERIES
    ]


@pytest.mark.parametrize("name", ["one", "three"])
@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
@pytest.mark.parametrize("field", ["kind", "third"])
def test_groups_of_words(client: Client, name: str, mode: str, field: str) -> None:
    """The best of each group are the first of it in the whole ranking, declared field or not."""
    vector = VECTORS[3] if mode == "hybrid" else None
    every = client.search(name, vector, "sun and rain", mode=mode, k=1000, exact=True)
    found = client.search(
        name, vector, "sun and rain", mode=mode, k=3, group_by=field, group_size=2, exact=True
    )
    groups: dict[Any, list[str]] = {}
    for hit in every:
        groups.setdefault(hit.payload[field], []).append(hit.id)
    wanted = [id_ for members in list(groups.values())[:3] for id_ in members[:2]]
    if mode == "bm25":
        assert found.ids == wanted
    assert len(found) == 6
    assert len({hit.group for hit in found}) == 3


def test_explanations(client: Client) -> None:
    """Each shard says what it looked at; a hybrid search tells of both halves and their weights."""
    (one, *_) = client.search("three", text="sun", mode="bm25", explain=True).explain
    assert one.details["words"] == "1"
    steps = client.search("three", VECTORS[0], "sun", mode="hybrid", explain=True).explain
    assert len(steps) == 3
    for step in steps:
        assert step.details["weights"] == "1 : 1"
        assert "postings" in step.details["bm25"]
        assert "plan" in step.details["vector"]


def test_hybrid_is_reciprocal_rank_fusion(client: Client) -> None:
    """Scores are the formula's, with the weights and the constant that are asked for."""
    vector, text = VECTORS[11], "rain of the storm"
    nearest = client.search("three", vector, k=100, exact=True).ids
    worded = client.search("three", text=text, mode="bm25", k=100).ids
    weights = HybridWeights(0.7, 0.2, 33)
    found = client.search("three", vector, text, mode="hybrid", hybrid=weights, exact=True, k=20)
    scores: dict[str, float] = {}
    for weight, ranking in ((0.7, nearest), (0.2, worded)):
        for rank, id_ in enumerate(ranking, 1):
            scores[id_] = scores.get(id_, 0.0) + weight / (33 + rank)
    wanted = sorted(scores, key=lambda id_: (-np.float32(scores[id_]), id_))[:20]
    assert found.ids == wanted
    assert found.scores == pytest.approx([scores[id_] for id_ in wanted], rel=1e-6)
    cut = float(found.scores[4])
    kept = client.search(
        "three", vector, text, mode="hybrid", hybrid=weights, exact=True, k=20, score_threshold=cut
    )
    assert kept.ids == found.ids[:5]


@pytest.mark.parametrize(
    ("weights", "mode"), [(HybridWeights(1, 0), "vector"), (HybridWeights(0, 1), "bm25")]
)
def test_a_weight_of_nothing_leaves_a_half_out(client: Client, weights: HybridWeights, mode: str) -> None:
    """With one weight zero the order is that of the other half alone."""
    vector, text = VECTORS[2], "wind and snow"
    found = client.search("three", vector, text, mode="hybrid", hybrid=weights, exact=True)
    alone = client.search(
        "three", vector if mode == "vector" else None, text if mode == "bm25" else None, mode=mode, exact=True
    )
    assert found.ids == alone.ids


def test_hybrid_without_a_word_is_a_vector_search(client: Client) -> None:
    """Text that has no word leaves the vector's half, where BM25 alone has nothing to look for."""
    found = client.search("three", VECTORS[4], "?!", mode="hybrid", exact=True)
    assert found.ids == client.search("three", VECTORS[4], exact=True).ids


@dataclass(frozen=True)
class Ranking:
    """A shard that always answers the same."""

    nearest: Sequence[int]
    worded: Sequence[int]

    def search(self, queries: np.ndarray, k: int, **options: Any) -> SearchResult:
        return _answer(self.nearest, k, len(queries))

    def word_statistics(self, query: Any, deadline: Any) -> Any:
        return WordStatistics()

    def search_words(self, query: Any, k: int, **options: Any) -> SearchResult:
        return _answer(self.worded, k, 1)

    def fetch(self, docnos: Sequence[int], **parts: Any) -> list[Row]:
        return [Row(f"id{docno}", 1, "", 0, None, b"", None, docno) for docno in docnos]


def _answer(docnos: Sequence[int], k: int, times: int) -> SearchResult:
    some = np.array(list(docnos)[:k] * times, dtype=np.int64)
    scores = np.tile(np.arange(len(docnos), 0, -1)[:k].astype(np.float32), times)
    return SearchResult(np.full(times, len(docnos[:k]), dtype=np.int32), some, scores)


def test_ranks_tie_by_id() -> None:
    """Documents that score alike come by id: with equal weights those first in one half each."""
    asked = Fused(Nearest(np.ones((2, 4), np.float32)), Worded((parse_words("a"),) * 2), Weights(1, 1))

    class Record:
        metric, target_recall = "dot", 0.9

    (answer,) = asked.answers([Ranking([2, 1], [1, 2])], Record(), Wanted(k=5))  # type: ignore[list-item, arg-type]
    assert answer.counts.tolist() == [2, 2]
    assert answer.docnos.tolist() == [1, 2, 1, 2]


# --- with a model


@pytest.fixture(scope="module")
def worded(node: InProcessNode) -> Iterator[Client]:
    """Three sources, in the collection's language."""
    with Client(node.address) as client:
        client.create_collection("notes", model="wordllama-256")
        client.create_collection("notizen", model="wordllama-256", language="de", shards=2)
        client.upsert(
            "notes",
            ids=["raft", "grpc", "zx"],
            texts=[
                "The members of a group elect a leader, who replicates its log.",
                "Requests go over the wire as messages.",
                "Error ZX-81 means that the tape is damaged.",
            ],
        )
        client.upsert("notizen", ids=["haus", "baum"], texts=["Die Häuser am Platz", "Bäume im Wald"])
        yield client


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_texts_are_asked_in_words(worded: Client, mode: str) -> None:
    """A text goes to the model and to BM25; what only words tell comes first."""
    assert worded.search("notes", text="what is ZX-81", mode=mode).ids[0] == "zx"
    (hits,) = worded.search_batch("notes", texts=["what is ZX-81"], mode=mode)
    assert hits.ids[0] == "zx"


def test_the_language_of_a_collection(worded: Client) -> None:
    """Words are stemmed by it."""
    assert worded.search("notizen", text="Haus", mode="bm25").ids == ["haus"]
    assert worded.search("notizen", text="Baum", mode="bm25").ids == ["baum"]


def test_default_weights_are_the_model_s(worded: Client) -> None:
    """A weak embedder's ranking weighs less than that of BM25."""
    (step,) = worded.search("notes", text="tape", mode="hybrid", explain=True).explain
    weight = ModelRegistry(bundled_models()).get("wordllama-256").hybrid_weight
    assert step.details["weights"] == f"{weight:g} : 1"
    assert weight < 1


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_retrieve_in_words(worded: Client, mode: str) -> None:
    """A question is prose: its signs mean nothing, so that "-81" leaves nothing out."""
    context = worded.retrieve("notes", 'Which "error" is it -81 (ZX', 300, mode=mode)
    assert context.sources[0].ids == ("zx",)


# --- what is refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def request(text: str = "rain", mode: int = search_pb2.SEARCH_MODE_BM25, **options: Any) -> Any:
    return search_pb2.SearchRequest(
        collection="one",
        query=search_pb2.Query(text=text),
        options=search_pb2.SearchOptions(mode=mode, **options),  # type: ignore[arg-type]
    )


HYBRID = search_pb2.SEARCH_MODE_HYBRID


@pytest.mark.parametrize(
    ("asked", "reason", "field"),
    [
        (request("!?"), "BAD_ARGUMENT", "query.text"),
        (request("-rain"), "BAD_ARGUMENT", "query.text"),
        (request("(" * 33 + "a"), "LIMIT_EXCEEDED", "query.text"),
        (request("  "), "BAD_ARGUMENT", "query.text"),
        (request(mode=HYBRID), "MODEL_REQUIRED", "query.text"),
        (request(diversity=search_pb2.Diversity()), "BAD_ARGUMENT", "options.diversity"),
        (request(hybrid=search_pb2.HybridWeights(vector=1)), "BAD_ARGUMENT", "options.hybrid"),
        (
            request(mode=HYBRID, hybrid=search_pb2.HybridWeights(vector=-1)),
            "BAD_ARGUMENT",
            "options.hybrid.vector",
        ),
        (
            request(mode=HYBRID, hybrid=search_pb2.HybridWeights(text=float("nan"))),
            "BAD_ARGUMENT",
            "options.hybrid.text",
        ),
        (
            request(mode=HYBRID, hybrid=search_pb2.HybridWeights(rank_constant=10_001)),
            "BAD_ARGUMENT",
            "options.hybrid.rank_constant",
        ),
    ],
)
def test_what_makes_no_sense(
    client: Client, node: InProcessNode, asked: Any, reason: str, field: str
) -> None:
    """Each is refused by the name of the field."""
    refused = refusal(lambda: node.search.Search(asked))
    assert (refused.code, refused.reason) == (INVALID, reason)
    assert field in refused.fields


def test_words_need_a_text(client: Client, node: InProcessNode) -> None:
    """Vectors and examples have no words."""
    by_vector = request("")
    by_vector.query.vector = packed(VECTORS[0])
    by_example = request("")
    by_example.query.examples.positive.append("d001")
    for asked in (by_vector, by_example):
        assert refusal(lambda asked=asked: node.search.Search(asked)).fields == ["query"]
    with pytest.raises(vc.InvalidArgumentError, match="vectors"):
        client.search_batch("one", VECTORS[:2], mode="bm25")


def test_a_question_without_a_word(client: Client) -> None:
    """Retrieve in words needs one."""
    with pytest.raises(vc.InvalidArgumentError, match="question: has no word"):
        client.retrieve("one", "?!", mode="bm25")
