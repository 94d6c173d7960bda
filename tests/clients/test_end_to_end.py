"""The pinned API against a real node: what the documentation promises, tried by both clients."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vecdb_client as vc
from vecdb_client import Document
from vecdb_client import Filter as F

from tests.support.node import Node

DIM = 16
COUNT = 500
_names = itertools.count()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def db(connect: Callable[..., Any], node: Node) -> Any:
    return connect(node.address, retry=vc.RetryPolicy())


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((COUNT, DIM)).astype(np.float32)


@pytest.fixture
def vecs(db: Any, vectors: np.ndarray) -> str:
    """A collection of 500 vectors with years, languages and texts."""
    name = f"vecs-{next(_names)}"
    db.create_collection(name, dim=DIM, metric="l2", fields={"year": "int", "lang": "keyword"})
    payloads = [{"year": 2000 + i % 25, "lang": "en" if i % 2 else "de", "n": i} for i in range(COUNT)]
    result = db.upsert(
        name,
        ids=ids(range(COUNT)),
        vectors=vectors,
        payloads=payloads,
        texts=[f"text {i}" for i in range(COUNT)],
    )
    assert result.count == COUNT
    assert result.positions
    return name


def ids(numbers: Any) -> list[str]:
    return [f"{i:04}" for i in numbers]


def nearest(vectors: np.ndarray, query: np.ndarray, among: Any, k: int) -> list[str]:
    rows = np.array(list(among))
    distances = ((vectors[rows] - query) ** 2).sum(axis=1)
    return ids(rows[np.argsort(distances)[:k]])


def test_a_write_is_found_at_once(db: Any, vecs: str, vectors: np.ndarray) -> None:
    """Exact search finds the true neighbours, with everything that was stored, right after the write."""
    query = vectors[42] + 0.01
    hits = db.search(vecs, vector=query, k=10, exact=True, with_vector=True)
    assert hits.ids == nearest(vectors, query, range(COUNT), 10)
    best = hits[0]
    assert (best.id, best.text, best.payload) == ("0042", "text 42", {"year": 2017, "lang": "de", "n": 42})
    assert best.vector.tolist() == vectors[42].tolist()
    assert best.score == pytest.approx(((vectors[42] - query) ** 2).sum(), rel=1e-3)
    assert best.version > 0
    assert abs((datetime.now(UTC) - best.written_at).total_seconds()) < 600
    assert not hits.partial
    plain = db.search(vecs, vector=query, with_payload=False, with_text=False)[0]
    assert (plain.payload, plain.text, plain.vector) == ({}, "", None)


def test_filters_choose_what_is_searched(db: Any, vecs: str, vectors: np.ndarray) -> None:
    """A filtered search is the search among the matching documents; count agrees."""
    condition = (F("year") >= 2020) & (F("lang") == "en")
    among = [i for i in range(COUNT) if i % 25 >= 20 and i % 2]
    query = vectors[0]
    assert db.search(vecs, vector=query, filter=condition, exact=True).ids == nearest(
        vectors, query, among, 10
    )
    assert db.count(vecs, filter=condition) == len(among)
    assert db.count(vecs, filter=~condition) == COUNT - len(among)
    assert db.count(vecs, filter=F("n").isin([1, 2, 9999])) == 2
    assert db.count(vecs) == COUNT


def test_a_batch_answers_as_single_searches_do(db: Any, vecs: str, vectors: np.ndarray) -> None:
    """search_batch and search_stream give each query what search gives it."""
    queries = vectors[:5] + 0.02
    batch = db.search_batch(vecs, vectors=queries, k=5, exact=True)
    stream = sorted(db.search_stream(vecs, list(queries), k=5, exact=True), key=lambda answer: answer.index)
    for query, hits, answer in zip(queries, batch, stream, strict=True):
        alone = db.search(vecs, vector=query, k=5, exact=True)
        assert [(h.id, h.payload, h.version) for h in hits] == [(h.id, h.payload, h.version) for h in alone]
        assert answer.hits.ids == alone.ids
        assert np.allclose(hits.scores, alone.scores)


def test_groups_and_diversity(db: Any, vecs: str, vectors: np.ndarray) -> None:
    """group_by gives the best of each value; diversity the nearest first, then others than a plain search."""
    query = vectors[7] + 0.01
    hits = db.search(vecs, vector=query, k=2, group_by="lang", group_size=3, exact=True)
    english, german = (nearest(vectors, query, range(at, COUNT, 2), 3) for at in (1, 0))
    assert hits.ids == english + german
    assert [hit.group for hit in hits] == ["en"] * 3 + ["de"] * 3
    (batch,) = db.search_batch(vecs, vectors=[query], k=2, group_by="lang", group_size=3, exact=True)
    assert batch.ids == hits.ids
    (answer,) = db.search_stream(vecs, [query], k=2, group_by="lang", group_size=3, exact=True)
    assert [hit.group for hit in answer.hits] == [hit.group for hit in hits]
    plain = db.search(vecs, vector=query, k=10, exact=True)
    assert [hit.group for hit in plain] == [""] * 10
    assert db.search(vecs, vector=query, k=10, exact=True, diversity=vc.Diversity(1.0)).ids == plain.ids
    diverse = db.search(vecs, vector=query, k=10, exact=True, diversity=vc.Diversity(0.2, 200), explain=True)
    assert diverse.ids[0] == plain.ids[0]
    assert len(set(diverse.ids)) == 10 > len(set(diverse.ids) & set(plain.ids))
    assert diverse.explain[-1].name == "diversity"
    with pytest.raises(vc.InvalidArgumentError, match="group_by"):
        db.search(vecs, vector=query, group_by="lang", diversity=vc.Diversity())


def test_documents_are_read_by_id_and_in_order(db: Any, vecs: str) -> None:
    """get keeps the order asked and leaves out what is missing; scroll goes through all in id order."""
    found = db.get(vecs, ["0007", "none", "0003"])
    assert [(d.id, d.text) for d in found] == [("0007", "text 7"), ("0003", "text 3")]
    assert [d.id for d in db.scroll(vecs, page_size=64)] == ids(range(COUNT))
    years = [d.payload["year"] for d in db.scroll(vecs, filter=F("year") == 2003, limit=5)]
    assert years == [2003] * 5


def test_writes_change_and_delete(db: Any, vecs: str) -> None:
    """update sets and removes keys, delete takes ids and filters, and reads agree at once."""
    assert db.update(vecs, ["0001", "0002"], payload={"seen": True}, remove_keys=["n"]).count == 2
    (document,) = db.get(vecs, ["0001"])
    assert document.payload == {"year": 2001, "lang": "en", "seen": True}
    assert db.delete(vecs, ids=["0001", "none"]).count == 1
    assert db.get(vecs, ["0001"]) == []
    assert db.delete(vecs, filter=F("lang") == "de").count == COUNT // 2
    assert db.count(vecs) == COUNT // 2 - 1
    assert db.count(vecs, filter=F("lang") == "de") == 0


def test_conditions_protect_writes(db: Any, vecs: str) -> None:
    """if_version holds against another write, and 0 means that it must be new."""
    (document,) = db.get(vecs, ["0005"], with_vector=True)
    vector = document.vector
    db.upsert(vecs, ids=["0005"], vectors=[vector], if_versions=[document.version])
    with pytest.raises((vc.ConflictError, vc.PartialWriteError)) as caught:
        db.upsert(vecs, ids=["0005"], vectors=[vector], if_versions=[document.version])
    assert caught.value.reason == "VERSION_CONFLICT"
    with pytest.raises((vc.ConflictError, vc.PartialWriteError)):
        db.upsert(vecs, [Document("0005", vector=vector, if_version=0)])
    assert db.upsert(vecs, [Document("new", vector=vector, if_version=0)]).count == 1


def test_a_large_batch_is_split_and_whole(db: Any, connect: Callable[..., Any]) -> None:
    """Thousands of documents in many overlapping requests are all there, each with its own vector."""
    name = f"large-{next(_names)}"
    db.create_collection(name, dim=8, index="flat")
    vectors = np.random.default_rng(1).standard_normal((5_000, 8))
    result = db.upsert(name, ids=ids(range(5_000)), vectors=vectors, batch_documents=700, concurrency=3)
    assert result.count == db.count(name) == 5_000
    found = db.get(name, ids(range(0, 5_000, 100)), with_vector=True)
    assert np.array_equal(np.stack([d.vector for d in found]), vectors[::100].astype(np.float32))
    assert db.wait_indexed(name, timeout=60).documents == 5_000


def test_collections_are_made_shown_and_dropped(db: Any) -> None:
    """create, describe, list and drop agree; the second create of a name is refused."""
    name = f"made-{next(_names)}"
    made = db.create_collection(name, dim=4, metric="dot", target_recall=0.9, fields={"a.b": "float"})
    assert (made.config.metric, made.config.dim, made.config.shards) == ("dot", 4, 1)
    info = db.describe(name)
    assert (info.documents, info.fields, info.config.target_recall) == (0, {"a.b": "float"}, 0.9)
    assert name in [listed.name for listed in db.list_collections()]
    with pytest.raises(vc.AlreadyExistsError):
        db.create_collection(name, dim=4)
    db.create_collection(
        name, dim=4, metric="dot", target_recall=0.9, fields={"a.b": "float"}, if_not_exists=True
    )
    db.drop_collection(name)
    with pytest.raises(vc.NotFoundError):
        db.describe(name)
    with pytest.raises(vc.NotFoundError):
        db.search(name, vector=[0.0] * 4)


def test_bad_requests_are_named(db: Any, vecs: str) -> None:
    """A wrong dimension, a NaN and a bad id are refused with their reasons, and change nothing."""
    before = db.count(vecs)
    for arguments, reason in (
        ({"ids": ["x"], "vectors": [[1.0] * (DIM + 1)]}, "WRONG_DIMENSION"),
        ({"ids": ["x", "y"], "vectors": [[1.0] * DIM, [float("nan")] * DIM]}, "NOT_FINITE"),
        ({"ids": [""], "vectors": [[1.0] * DIM]}, "BAD_ID"),
    ):
        with pytest.raises(vc.InvalidArgumentError) as caught:
            db.upsert(vecs, **arguments)
        assert caught.value.reason == reason
    with pytest.raises(vc.InvalidArgumentError):
        db.search(vecs, vector=[1.0] * (DIM + 1))
    assert db.count(vecs) == before


def test_another_process_reads_what_the_session_has_seen(
    db: Any, node: Node, connect: Callable[..., Any], vecs: str
) -> None:
    """A session token goes to another client, which then reads at least as much."""
    assert db.session
    other = connect(node.address, session=db.session)
    assert other.count(vecs) == COUNT
    assert other.count(vecs, consistency="linearizable") == COUNT
    assert other.count(vecs, consistency="eventual") == COUNT


def test_text_goes_in_and_cited_passages_come_out(db: Any, tmp_path: Path) -> None:
    """With a model: texts are embedded, files are ingested once, and a question gets a cited context."""
    name = f"docs-{next(_names)}"
    db.create_collection(name, model="wordllama-256")
    db.upsert(name, [Document("rain", text="It rains a lot in Bergen.", payload={"year": 2024})])
    db.upsert(name, [Document("sun", text="The desert is dry and sunny.", payload={"year": 1999})])
    assert db.search(name, text="How much does it rain?", k=1)[0].id == "rain"
    assert db.search(name, text="rain", k=2, filter=F("year") < 2000).ids == ["sun"]
    assert db.embed("wordllama-256", ["a", "b"]).shape == (2, 256)
    assert "wordllama-256" in [model.name for model in db.models()]

    (tmp_path / "whales.md").write_text("# Whales\n\nWhales are mammals. They breathe air at the surface.\n")
    (tmp_path / "bees.txt").write_text("Bees make honey. A hive has one queen.\n")
    report = db.ingest(name, tmp_path, root=tmp_path)
    assert (report.added, report.failures) == (2, [])
    assert db.ingest(name, tmp_path, root=tmp_path).unchanged == 2
    assert [source.uri for source in db.list_sources(name)] == ["bees.txt", "whales.md"]
    context = db.retrieve(name, "What do bees make?", token_budget=200)
    assert "[1]" in context.text
    assert "honey" in context.text
    cited = {citation.source.uri for citation in context.sources}
    assert "bees.txt" in cited
    assert 0 < context.tokens <= 200
    assert db.delete_sources(name, ["bees.txt"]) == 1
    assert [source.uri for source in db.list_sources(name)] == ["whales.md"]


def test_the_cluster_tells_its_state(db: Any, node: Node, vecs: str) -> None:
    """cluster_status names the member that answers and the collection's shard."""
    status = db.cluster_status()
    assert status.node in [member.peer_id for member in status.members]
    assert vecs in [shard.collection for shard in status.shards]


def test_the_documented_example_runs(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """The first example of docs/client.md prints what the page says."""
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    code, printed = re.search(r"```python\n(.*?)```\s+```\n(.*?)```", page, re.DOTALL).groups()
    exec(code.replace("127.0.0.1:7700", node.address), {})
    assert capsys.readouterr().out == printed


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """kill -9 after an acknowledged write, and the same client reads it from the restarted node."""
    with Node(tmp_path) as node, node.client(retry=vc.RetryPolicy(attempts=100)) as db:
        db.create_collection("c", dim=2)
        db.upsert("c", ids=["a", "b"], vectors=[[1, 0], [0, 1]], payloads=[{"k": 1}, {"k": 2}])
        node.kill()
        node.restart()
        assert [(d.id, d.payload) for d in db.get("c", ["a", "b"])] == [("a", {"k": 1}), ("b", {"k": 2})]
        assert db.search("c", vector=[0.9, 0.1], k=1).ids == ["a"]
        node.stop()
        node.restart()
        assert db.count("c") == 2
