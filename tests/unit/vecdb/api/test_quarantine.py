"""Quarantined authors: in no answer of any kind, and back as they were once released."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from vecdb_client import (
    Client,
    Diversity,
    FailedPreconditionError,
    Grant,
    NotFoundError,
    UnimplementedError,
)
from vecdb_client import Filter as F

from tests.support.inprocess import InProcessNode

TOKEN = "0123456789abcdef0123456789abcdef"
DIM = 4


@pytest.fixture
def node(tmp_path: Path) -> Iterator[InProcessNode]:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    with InProcessNode(tmp_path, token_file=path) as node:
        yield node


@pytest.fixture
def root(node: InProcessNode) -> Iterator[Client]:
    with node.client(token=TOKEN) as root:
        root.create_collection("vecs", dim=DIM, metric="l2", shards=3, fields={"n": "int"})
        root.create_collection("docs", model="wordllama-256")
        yield root


@pytest.fixture
def of(node: InProcessNode, root: Client) -> Iterator[Callable[[str], Client]]:
    """The client of a principal who may write everywhere."""
    made: dict[str, Client] = {}

    def client(principal: str) -> Client:
        if principal not in made:
            made[principal] = node.client(token=root.create_token(principal, [Grant("write")]).secret)
        return made[principal]

    yield client
    for each in made.values():
        each.close()


def vectors(numbers: range) -> Any:
    return np.array([[n, 0, 0, 1] for n in numbers], dtype=np.float32)


def write(of: Callable[[str], Client]) -> None:
    """Twenty vectors of each, eve's the nearer ones, and a source of each."""
    for place, name in enumerate(("eve", "ann")):
        numbers = range(20 * place, 20 * place + 20)
        payloads = [{"n": n} for n in numbers]
        of(name).upsert(
            "vecs", ids=[f"{name}{n}" for n in numbers], vectors=vectors(numbers), payloads=payloads
        )
        report = of(name).ingest("docs", [(f"{name}.txt", f"The rain of {name} is wet.".encode())])
        assert not report.failures


def served(db: Client, mode: str) -> Any:
    """What a search of that mode finds; None where the node does not serve it."""
    try:
        return db.search("docs", text="rain", k=5, mode=mode)
    except UnimplementedError:
        assert mode != "vector"
        return None


def seen(db: Client) -> set[str]:
    """The authors in answers of every kind."""
    origin = [0.0, 0, 0, 1]
    found = [
        db.search("vecs", vector=origin, k=30),
        db.search("vecs", vector=origin, k=30, exact=True, filter=F("n") >= 0),
        db.search("vecs", vector=origin, k=30, filter=F("unknown").exists() | (F("n") < 100)),
        db.search("vecs", vector=origin, k=5, group_by="@author", group_size=3),
        db.search("vecs", vector=origin, k=30, diversity=Diversity(relevance=0.5, candidates=60)),
        *db.search_batch("vecs", vectors=np.array([origin] * 3, dtype=np.float32), k=30),
        *(answer.hits for answer in db.search_stream("vecs", [origin], k=30)),
        *(found for mode in ("vector", "bm25", "hybrid") if (found := served(db, mode)) is not None),
        db.retrieve("docs", "rain").sources,
        db.get("vecs", [f"{name}{n}" for n in range(40) for name in ("eve", "ann")]),
        db.get("vecs", ["eve1", "ann21"], with_vector=True),
        list(db.scroll("vecs")),
        list(db.scroll("vecs", filter=F("n") < 1000, with_vector=True)),
        list(db.scroll("docs")),
    ]
    each = [{row.author for row in rows} for rows in found]
    assert all(authors == each[0] for authors in each), each
    count = 20 * len(each[0])
    assert db.count("vecs") == db.count("vecs", filter=F("n") >= 0) == count
    assert len(db.search("vecs", vector=origin, k=100)) == count
    assert db.count("docs") == len(each[0])
    assert {source.uri.removesuffix(".txt") for source in db.list_sources("docs")} == each[0]
    assert db.count("vecs", filter=F("@author") == "eve") == (20 if "eve" in each[0] else 0)
    return each[0]


def test_no_answer_has_documents_of_a_quarantined_author(
    node: InProcessNode, root: Client, of: Callable[[str], Client]
) -> None:
    """From the answer of the quarantine on no kind of answer has them, what is written later included; a
    restart changes nothing; nor is anything lost by it."""
    write(of)
    assert seen(root) == {"eve", "ann"}
    held = [node_hash(root, name) for name in ("vecs", "docs")]
    root.quarantine_author("eve", "spam")
    assert seen(root) == seen(of("eve")) == {"ann"}
    of("eve").upsert("vecs", ids=["eve1"], vectors=vectors(range(1)), payloads=[{"n": 0}])
    assert seen(root) == {"ann"}
    node.restart()
    assert seen(root) == {"ann"}
    (listed,) = root.list_quarantined()
    assert (listed.author, listed.reason) == ("eve", "spam")
    of("eve").upsert("vecs", ids=["eve1"], vectors=vectors(range(1, 2)), payloads=[{"n": 1}])
    root.release_author("eve")
    assert seen(root) == {"eve", "ann"}
    assert [node_hash(root, "docs")] == held[1:]
    with pytest.raises(NotFoundError, match="not quarantined"):
        root.release_author("eve")


def node_hash(db: Client, collection: str) -> list[bytes]:
    return [shard.content_hash for shard in db.describe(collection).shards]


def test_an_example_of_a_quarantined_author_is_not_there(root: Client, of: Callable[[str], Client]) -> None:
    """A search by examples cannot ask for what no answer has."""
    write(of)
    assert len(root.search("vecs", like=["eve3"], k=3)) == 3
    root.quarantine_author("eve", "")
    with pytest.raises(NotFoundError, match="eve3"):
        root.search("vecs", like=["eve3"], k=3)


def test_a_change_does_not_bring_documents_back(root: Client, of: Callable[[str], Client]) -> None:
    """An update would make its author the document's: by id it is refused and changes nothing, by filter it
    passes over them."""
    write(of)
    root.quarantine_author("eve", "")
    with pytest.raises(FailedPreconditionError, match=r"ids\[1\]: the author of 'eve7'") as caught:
        of("ann").update("vecs", ["ann25", "eve7"], payload={"checked": True})
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert (caught.value.reason, caught.value.details.metadata["author"]) == ("AUTHOR_QUARANTINED", "eve")
    assert of("ann").update("vecs", filter=F("n") >= 0, payload={"seen": True}).count == 20
    assert of("ann").update("vecs", ["ann25"], payload={"checked": True}).count == 1
    root.release_author("eve")
    assert root.count("vecs", filter=F("checked").exists()) == 1
    assert root.count("vecs", filter=F("seen").exists()) == 20


def test_what_is_hidden_can_be_replaced_and_removed(root: Client, of: Callable[[str], Client]) -> None:
    """Another author's upsert or ingestion takes a hidden document's place, and a delete by filter, id or
    source finds it."""
    write(of)
    root.quarantine_author("eve", "")
    of("ann").upsert("vecs", ids=["eve3"], vectors=vectors(range(3, 4)), payloads=[{"n": 3}])
    assert root.count("vecs") == 21
    (result,) = of("ann").ingest("docs", [("eve.txt", b"The rain of eve is wet.")])
    assert (result.outcome, result.passages) == ("updated", 1)
    assert {row.author for row in root.scroll("docs")} == {"ann"}
    assert root.count("docs") == 2
    assert root.delete("vecs", ids=["eve4"]).count == 1
    assert root.delete("vecs", filter=F("@author") == "eve").count == 18
    of("eve").ingest("docs", [("other.txt", b"More rain.")])
    assert root.count("docs") == 2
    assert root.delete("docs", source="other.txt").count == 1
    root.release_author("eve")
    assert (root.count("vecs"), root.count("docs")) == (21, 2)
