from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import msgpack
import numpy as np
import pytest
import vecdb_client as vc
from vecdb_client import Document
from vecdb_client import Filter as F
from vecdb_proto.v1 import common_pb2, documents_pb2

from tests.clients.scripted import Fail, ScriptedServer

Code = grpc.StatusCode
UPSERT = "Documents/Upsert"


def accept(request: documents_pb2.UpsertRequest, _context: Any) -> documents_pb2.WriteResponse:
    place = common_pb2.ShardPosition(shard=1, index=request.options.sequence)
    return documents_pb2.WriteResponse(count=len(request.ids), positions=[place])


@pytest.fixture
def sent(server: ScriptedServer) -> list[Any]:
    server.script(UPSERT, accept)
    return server.requests[UPSERT]


def rows(request: documents_pb2.UpsertRequest) -> np.ndarray:
    return np.frombuffer(request.vectors, "<f4").reshape(len(request.ids), -1)


def test_columns_go_over_as_they_are(db: Any, sent: list[Any]) -> None:
    """ids, vectors, payloads, texts and conditions each become their column, in order."""
    result = db.upsert(
        "c",
        ids=["a", "b"],
        vectors=np.array([[1, 2], [3, 4]], np.float64),
        payloads=[{"year": 2024}, None],
        texts=[None, "words"],
        if_versions=[None, 0],
    )
    assert result == vc.WriteResult(2, {1: 1})
    (request,) = sent
    assert request.collection == "c"
    assert list(request.ids) == ["a", "b"]
    assert rows(request).tolist() == [[1, 2], [3, 4]]
    assert [msgpack.unpackb(p) for p in request.payloads] == [{"year": 2024}, {}]
    assert list(request.texts) == ["", "words"]
    assert list(request.if_versions) == [-1, 0]


def test_documents_become_columns(db: Any, sent: list[Any]) -> None:
    """A list of documents makes the same request; columns that no document fills are left out."""
    db.upsert("c", [Document("a", vector=[1, 2], if_version=7), Document("b", vector=np.array([3.0, 4.0]))])
    (request,) = sent
    assert rows(request).tolist() == [[1, 2], [3, 4]]
    assert list(request.if_versions) == [7, -1]
    assert not request.texts
    assert not request.payloads
    db.upsert("c", [Document("t", text="words", payload={"k": 1})])
    assert (sent[1].vectors, list(sent[1].texts)) == (b"", ["words"])
    assert msgpack.unpackb(sent[1].payloads[0]) == {"k": 1}


def test_stored_documents_can_be_written_again(db: Any, sent: list[Any]) -> None:
    """What `get` gave can be handed to `upsert`: payload bytes and vector pass unchanged."""
    raw = msgpack.packb({"k": msgpack.Timestamp(1 << 40, 1)})
    stored = vc.StoredDocument(common_pb2.Document(id="a", vector=b"\0\0\x80?", payload=raw, text="t"))
    db.upsert("c", [stored])
    assert (sent[0].vectors, list(sent[0].payloads), list(sent[0].texts)) == (b"\0\0\x80?", [raw], ["t"])


def test_named_and_sparse_vectors_name_their_rows(db: Any, sent: list[Any]) -> None:
    """A named column lists positions within its request, and none where every row has one."""
    documents = [
        Document("a", vector=[1], vectors={"title": [1, 1]}, sparse_vectors={"words": {3: 0.5}}),
        Document("b", vector=[2]),
        Document(
            "c",
            vector=[3],
            vectors={"title": [3, 3]},
            sparse_vectors={"words": vc.SparseVector((1,), (2.0,))},
        ),
    ]
    db.upsert("c", documents, batch_documents=2)
    first, second = sorted(sent, key=lambda request: str(request.ids[0]))
    (column,) = first.named_vectors
    assert (column.name, list(column.positions)) == ("title", [0])
    assert np.frombuffer(column.data, "<f4").tolist() == [1, 1]
    assert list(first.sparse_vectors[0].positions) == [0]
    assert (list(second.named_vectors[0].positions), list(second.sparse_vectors[0].positions)) == ([], [])
    db.upsert(
        "c",
        ids=["a", "b"],
        vectors=[[1], [2]],
        named_vectors={"title": np.eye(2)},
        sparse_vectors={"words": [None, {1: 1.0}]},
    )
    (column,) = sent[2].named_vectors
    assert (list(column.positions), np.frombuffer(column.data, "<f4").tolist()) == ([], [1, 0, 0, 1])
    assert list(sent[2].sparse_vectors[0].positions) == [1]


def test_a_large_batch_is_cut_by_count_and_by_bytes(db: Any, sent: list[Any]) -> None:
    """Requests stay within both limits, cover every document once, in order, and the result sums them up."""
    ids = [f"{i:04}" for i in range(100)]
    vectors = np.arange(1000, dtype=np.float32).reshape(100, 10)
    result = db.upsert("c", ids=ids, vectors=vectors, batch_documents=30)
    by_count = sorted(sent, key=lambda r: r.ids[0])
    assert [len(r.ids) for r in by_count] == [30, 30, 30, 10]
    assert [i for r in by_count for i in r.ids] == ids
    assert np.concatenate([rows(r) for r in by_count]).tolist() == vectors.tolist()
    assert (result.count, max(result.positions)) == (100, 1)
    assert result.positions[1] == 4
    sent.clear()
    payloads = [{"x": "y" * 1000}] * 100
    texts = ["é" * 500] * 100
    db.upsert("c", ids=ids, vectors=vectors, payloads=payloads, texts=texts, batch_bytes=20_000)
    assert len(sent) > 9
    assert all(r.ByteSize() < 22_000 for r in sent)
    assert sorted(i for r in sent for i in r.ids) == ids


def test_the_default_cut_stays_below_the_message_limit(db: Any, sent: list[Any]) -> None:
    """6,000 vectors of 784 dimensions (18 MiB) go out as three requests of at most about 8 MiB."""
    count = 6_000
    db.upsert("c", ids=[str(i) for i in range(count)], vectors=np.zeros((count, 784), np.float32))
    assert len(sent) == 3
    assert max(r.ByteSize() for r in sent) < 9 << 20


def test_a_document_beyond_the_limit_goes_alone(db: Any, sent: list[Any]) -> None:
    """One that is larger than a whole request is still sent, for the server to judge."""
    texts = ["a", "b" * 5000, "c"]
    db.upsert("c", ids=["1", "2", "3"], texts=texts, batch_bytes=1000, concurrency=1)
    assert [list(r.ids) for r in sent] == [["1"], ["2"], ["3"]]


def test_requests_overlap_up_to_the_concurrency(server: ScriptedServer, db: Any) -> None:
    """With concurrency 3 three requests are under way at once, and never a fourth."""
    barrier = threading.Barrier(3)
    running, most = 0, 0
    lock = threading.Lock()

    def slow(request: Any, context: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(20)  # breaks unless three arrive together
        with lock:
            running -= 1
        return accept(request, context)

    server.script(UPSERT, slow)
    ids = [str(i) for i in range(9)]
    assert db.upsert("c", ids=ids, texts=ids, batch_documents=1, concurrency=3).count == 9
    assert most == 3


def test_documents_may_come_from_an_iterator(db: Any, sent: list[Any]) -> None:
    """An iterator is read block by block, as requests leave."""

    def stream() -> Iterator[Document]:
        for i in range(10):
            yield Document(str(i), text=f"text {i}")

    assert db.upsert("c", stream(), batch_documents=3).count == 10
    assert sorted(len(r.ids) for r in sent) == [1, 3, 3, 3]


def test_an_id_twice_is_refused_across_blocks(db: Any, sent: list[Any]) -> None:
    """Requests overlap, so which of two equal ids would win is not settled: a ValueError."""
    with pytest.raises(ValueError, match="'1' is there twice"):
        db.upsert("c", (Document(i, text="x") for i in ["1", "2", "1"]), batch_documents=2)
    with pytest.raises(ValueError, match="'a' is there twice"):
        db.upsert("c", ids=["a", "b", "a"], texts=["x"] * 3)


def test_nothing_to_write_is_no_request(db: Any, sent: list[Any]) -> None:
    """Empty batches answer with a count of 0 and send nothing."""
    for result in (
        db.upsert("c", []),
        db.upsert("c", iter([])),
        db.upsert("c", ids=[], vectors=[]),
        db.upsert("c", ids=[], vectors=np.zeros((0, 5))),
        db.delete("c", []),
    ):
        assert result == vc.WriteResult(0, {})
    assert not sent


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"ids": [1, 2], "texts": ["a", "b"]}, TypeError, r"strings, not int: use str\(id\)"),
        ({"ids": np.array([1, 2]), "texts": ["a", "b"]}, TypeError, "not int"),
        ({"ids": "ab", "texts": ["a", "b"]}, TypeError, "one string"),
        ({"ids": ["a"], "vectors": [[1.0], [2.0]]}, ValueError, "1 ids but 2 vectors"),
        ({"ids": ["a"], "vectors": [1.0]}, ValueError, "matrix"),
        ({"ids": ["a"], "vectors": [["x"]]}, TypeError, "real numbers"),
        ({"ids": ["a"], "payloads": []}, ValueError, "1 ids but 0 payloads"),
        ({"ids": ["a"], "payloads": {"a": 1}}, TypeError, "payloads must be a list"),
        ({"ids": ["a"], "payloads": ["x"]}, TypeError, "mapping"),
        ({"ids": ["a"], "texts": "a"}, TypeError, "texts must be a list"),
        ({"ids": ["a"], "texts": [5]}, TypeError, "text is a string"),
        ({"ids": ["a"], "texts": ["x"], "if_versions": [1, 2]}, ValueError, "if_versions"),
        ({"ids": ["a"], "texts": ["x"], "if_versions": [-1]}, ValueError, "at least 0"),
        ({"ids": ["a"], "texts": ["x"], "if_versions": [True]}, TypeError, "bool"),
        ({"ids": ["a"], "named_vectors": {"t": [[1], [2]]}}, ValueError, "vectors 't'"),
        ({"ids": ["a"], "sparse_vectors": {"t": []}}, ValueError, "sparse vectors 't'"),
        ({}, TypeError, "either documents or ids"),
        ({"documents": [Document("a")], "ids": ["a"]}, TypeError, "either documents or ids"),
        ({"documents": [Document("a")], "texts": ["a"]}, TypeError, "part of the documents"),
        ({"documents": Document("a")}, TypeError, "list of Documents"),
        ({"documents": [{"id": "a"}]}, TypeError, "Document is wanted, not dict"),
        ({"documents": [Document("a", vector=[1]), Document("b")]}, ValueError, r"others none \('b'\)"),
        ({"documents": [Document("a", vector=[1]), Document("b", vector=[1, 2])]}, ValueError, r"\[1, 2\]"),
        (
            {"documents": [Document("a", vectors={"t": [1]}), Document("b", vectors={"t": [[1]]})]},
            ValueError,
            "'t'",
        ),
        ({"documents": [Document(5, text="x")]}, TypeError, "not int"),  # type: ignore[arg-type]
        ({"ids": ["a"], "texts": ["x"], "batch_documents": 0}, ValueError, "at least 1"),
    ],
)
def test_what_is_wrong_on_its_face_is_refused_unsent(
    db: Any, sent: list[Any], arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    """Types and lengths are checked before anything is sent, and the message says what was wrong."""
    with pytest.raises(error, match=says):
        db.upsert("c", **arguments)
    assert not sent


def test_failures_carry_input_positions(server: ScriptedServer, db: Any) -> None:
    """Failures of later requests are numbered by the caller's input; the rest is written and counted."""

    def one_fails(request: documents_pb2.UpsertRequest, _context: Any) -> documents_pb2.WriteResponse:
        place = common_pb2.ShardPosition(shard=2, index=9)
        reply = documents_pb2.WriteResponse(count=len(request.ids), positions=[place])
        if "3" in request.ids:
            reply.count -= 1
            position = list(request.ids).index("3")
            reply.failures.add(position=position, code=10, message="conflict", reason="VERSION_CONFLICT")
        return reply

    server.script(UPSERT, one_fails)
    ids = [str(i) for i in range(6)]
    with pytest.raises(vc.PartialWriteError, match="1 documents were not written, 5 were") as caught:
        db.upsert("c", ids=ids, texts=ids, batch_documents=2)
    error = caught.value
    assert error.failures == (vc.WriteFailure(3, Code.ABORTED, "conflict", "VERSION_CONFLICT"),)
    assert (error.positions, error.count, error.not_sent) == ({2: 9}, 5, None)
    assert (error.code, error.reason) == (Code.ABORTED, "VERSION_CONFLICT")
    assert len(server.requests[UPSERT]) == 3


def test_a_failed_request_ends_the_batch_and_says_what_was_written(server: ScriptedServer, db: Any) -> None:
    """After a failed request nothing more is sent; its documents are failures, its error the cause."""

    def full(request: documents_pb2.UpsertRequest, context: Any) -> Any:
        return (
            Fail(Code.RESOURCE_EXHAUSTED, "full", "DISK_FULL")
            if "2" in request.ids
            else accept(request, context)
        )

    server.script(UPSERT, full)
    ids = [str(i) for i in range(8)]
    with pytest.raises(vc.PartialWriteError) as caught:
        db.upsert("c", ids=ids, texts=ids, batch_documents=2, concurrency=1)
    error = caught.value
    assert [failure.position for failure in error.failures] == [2, 3]
    assert {failure.reason for failure in error.failures} == {"DISK_FULL"}
    assert (error.count, error.not_sent) == (2, 4)
    assert isinstance(error.__cause__, vc.ResourceExhaustedError)
    assert len(server.requests[UPSERT]) == 2
    with pytest.raises(vc.PartialWriteError) as caught:
        db.upsert("c", (Document(i, text=i) for i in ids), batch_documents=2, concurrency=2)
    assert caught.value.not_sent in (4, 6)


def test_an_error_of_the_whole_is_raised_itself(server: ScriptedServer, db: Any) -> None:
    """Where nothing was written the server's error comes through, also for many requests."""
    server.script(UPSERT, Fail(Code.NOT_FOUND, "no such collection", "COLLECTION_NOT_FOUND"))
    for size in (10, 1):
        with pytest.raises(vc.NotFoundError):
            db.upsert("c", ids=["a", "b", "c"], texts=["x", "y", "z"], batch_documents=size)


def test_update_sets_and_removes_keys(server: ScriptedServer, db: Any) -> None:
    """An update names ids or a filter, the keys to set and those to remove."""
    server.script("Documents/Update", documents_pb2.WriteResponse(count=2))
    assert db.update("c", ["a", "b"], payload={"x": 1}, remove_keys=["y"], if_versions=[3, None]).count == 2
    db.update("c", filter=F("x") == 1, replace=True)
    first, second = server.requests["Documents/Update"]
    assert (list(first.ids), list(first.remove_keys), list(first.if_versions)) == (["a", "b"], ["y"], [3, -1])
    assert msgpack.unpackb(first.payload) == {"x": 1}
    assert not first.replace
    assert second.filter == (F("x") == 1).message()
    assert (second.replace, second.payload) == (True, b"\x80")
    for wrong in ({}, {"ids": ["a"], "filter": F("x") == 1}, {"ids": ["a"], "remove_keys": "x"}):
        with pytest.raises(TypeError):
            db.update("c", **wrong)


def test_delete_takes_exactly_one_way(server: ScriptedServer, db: Any) -> None:
    """Ids, a filter or a source; more than 10,000 ids take several requests."""
    server.script("Documents/Delete", documents_pb2.WriteResponse(count=1))
    db.delete("c", ids=["a"], if_versions=[4])
    db.delete("c", filter=F("x") == 1)
    db.delete("c", source="notes.md")
    first, second, third = server.requests["Documents/Delete"]
    assert (list(first.ids), list(first.if_versions)) == (["a"], [4])
    assert second.filter == (F("x") == 1).message()
    assert third.source == "notes.md"
    assert db.delete("c", [str(i) for i in range(25_000)]).count == 3
    assert sorted(len(r.ids) for r in server.requests["Documents/Delete"][3:]) == [5_000, 10_000, 10_000]
    for wrong in (
        {},
        {"ids": ["a"], "source": "x"},
        {"ids": [1]},
        {"filter": F("x") == 1, "if_versions": [1]},
    ):
        with pytest.raises(TypeError):
            db.delete("c", **wrong)
    with pytest.raises(ValueError, match="empty"):
        db.delete("c", source="")


def test_a_client_can_be_shared_by_threads(server: ScriptedServer, connect: Callable[..., Any]) -> None:
    """Writes of many threads through one client each get a number of their own."""
    server.script(UPSERT, accept)
    db = connect(server.address)
    threads = [
        threading.Thread(
            target=lambda n=n: [db.upsert("c", ids=[f"{n}-{i}"], texts=["x"]) for i in range(20)]
        )
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r.options.sequence for r in server.requests[UPSERT]) == list(range(1, 81))
