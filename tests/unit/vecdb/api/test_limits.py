"""What a node takes of one request, and of all of them together."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import msgpack
import numpy as np
import pytest
from vecdb_client import ResourceExhaustedError, RetryPolicy
from vecdb_proto.v1 import (
    documents_pb2,
    models_pb2,
    search_pb2,
)

from tests.support.inprocess import InProcessNode, refusal
from tests.unit.vecdb.api.bad_input import (
    GOOD,
    UNIMPLEMENTED,
    config,
    matrix,
    method,
    search,
    state_of,
    upsert,
    year,
)
from vecdb.api.dispatch import Dispatcher, Gate
from vecdb.security import Authenticator
from vecdb.telemetry import NodeMetrics


def test_an_oversized_message_is_refused(node: InProcessNode) -> None:
    """A message beyond max_message_bytes is answered RESOURCE_EXHAUSTED, and the size is told."""
    before = state_of(node)
    refused = refusal(lambda: node.documents.Upsert(upsert(vectors=bytes(300 << 10))))
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(256 << 10) in refused.message
    assert state_of(node) == before


def test_bytes_that_are_no_message_are_refused(node: InProcessNode) -> None:
    """A request that is no protobuf fails, and the node goes on."""
    call = node.channel.unary_unary("/vecdb.v1.Documents/Upsert")
    with pytest.raises(grpc.RpcError):
        call(b"\xff\xff\xff\xff")
    assert node.documents.Count(documents_pb2.CountRequest(collection="vecs")).count == 2


def test_an_unknown_method_is_unimplemented(node: InProcessNode) -> None:
    """A method that is not in the contract is UNIMPLEMENTED."""
    for path in ("/vecdb.v1.Documents/Nope", "/vecdb.v9.Documents/Upsert"):
        refused = refusal(lambda path=path: node.channel.unary_unary(path)(b""))  # type: ignore[misc]
        assert refused.code is UNIMPLEMENTED


@pytest.mark.parametrize("name", ["search.Search", "documents.Upsert", "search.SearchStream"])
def test_a_deadline_already_past_does_nothing(node: InProcessNode, name: str) -> None:
    """A call whose time is over before the node comes to it ends so, and a write has not been done."""
    before = state_of(node)
    request: Any = upsert() if name == "documents.Upsert" else search()
    if name == "search.SearchStream":
        request = iter([search_pb2.SearchStreamRequest(request=request)])
    node.soon(lambda: time.sleep(0.3))
    with pytest.raises(grpc.RpcError) as caught:
        list(method(node, name)(request, timeout=0.05))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert state_of(node) == before


def test_k_of_zero_stands_for_ten(node: InProcessNode) -> None:
    """0 is what proto3 sends for a k that was left out: it means 10, and with two documents gives both."""
    assert len(node.search.Search(search(k=0)).hits) == 2


def test_the_client_refuses_k_of_zero(node: InProcessNode) -> None:
    """In Python a k of 0 is a mistake, not a default."""
    with node.client() as db, pytest.raises(ValueError, match="k"):
        db.search("vecs", vector=GOOD, k=0)


def test_a_filter_that_matches_too_much_is_refused(tmp_path: Any) -> None:
    """A write by filter settles at most max_batch documents; beyond, nothing is written."""
    limits = {"min_free_disk_bytes": 0, "max_batch": 3}
    with InProcessNode(tmp_path, limits=limits) as node, node.client() as db:
        db.create_collection("c", dim=2)
        for each in "abcd":
            db.upsert("c", ids=[each], vectors=[[1, 0]], payloads=[{"year": 1}])
        before = node.fingerprint("c")
        request = documents_pb2.DeleteRequest(collection="c", filter=year(1))
        refused = refusal(lambda: node.documents.Delete(request))
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.reason == "LIMIT_EXCEEDED"
        assert refused.fields == ["filter"]
        assert "max_batch" in refused.message
        assert node.fingerprint("c") == before


def test_large_payloads_are_checked_beside_the_loop(tmp_path: Any) -> None:
    """While many small keys are checked, the node goes on answering; what is wrong is still found."""
    payload = msgpack.packb({f"k{at}": at % 100 for at in range(900)})
    payloads = [*[payload] * 4_000, msgpack.packb({1: 2})]
    count = len(payloads)
    request = upsert(
        ids=[f"d{at}" for at in range(count)], vectors=matrix(GOOD) * count, payloads=payloads, collection="c"
    )
    with InProcessNode(tmp_path) as node, ThreadPoolExecutor(1) as other:
        node.collections.Create(config(name="c"))
        started = time.monotonic()
        refused = other.submit(refusal, lambda: node.documents.Upsert(request))
        waits = []
        while not refused.done():
            asked = time.monotonic()
            node.run(lambda: None)
            waits.append(time.monotonic() - asked)
        took = time.monotonic() - started
        assert refused.result().reason == "BAD_PAYLOAD"
        assert refused.result().fields == [f"payloads[{count - 1}]"]
        assert max(waits) < took / 3


def test_collections_are_limited(tmp_path: Any) -> None:
    """One collection more than max_collections is RESOURCE_EXHAUSTED; the others go on."""
    limits = {"min_free_disk_bytes": 0, "max_collections": 1}
    with InProcessNode(tmp_path, limits=limits) as node:
        node.collections.Create(config(name="one"))
        refused = refusal(lambda: node.collections.Create(config(name="two")))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert "max_collections" in refused.message
        refused = refusal(lambda: node.collections.Create(config(name="one")))
        assert refused.code is grpc.StatusCode.ALREADY_EXISTS
        assert [name for name, _ in state_of(node)[0]] == ["one"]


def test_concurrent_requests_are_limited(tmp_path: Any) -> None:
    """A request beyond max_concurrent_requests is RESOURCE_EXHAUSTED with a hint when to come again."""
    limits = {"min_free_disk_bytes": 0, "max_concurrent_requests": 1}
    with InProcessNode(tmp_path, limits=limits) as node:
        node.run(node.node._gate.enter)
        refused = refusal(lambda: node.models.List(models_pb2.ListModelsRequest()))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert refused.retry_after is not None
        assert "max_concurrent_requests" in refused.message
        stream = refusal(lambda: list(node.search.SearchStream(iter([]))))
        assert stream.reason == "OVERLOADED"
        node.run(node.node._gate.leave)
        assert node.models.List(models_pb2.ListModelsRequest()).models


def test_large_requests_in_progress_are_bounded(tmp_path: Path) -> None:
    """What together has more than max_concurrent_bytes is refused before it is parsed, with a hint; a small
    request is served meanwhile, and the same large one once there is room."""
    with InProcessNode(tmp_path) as node, node.client(retry=RetryPolicy(attempts=1)) as db:
        db.create_collection("c", dim=4096)
        large = {"ids": [f"d{at}" for at in range(90)], "vectors": np.ones((90, 4096), np.float32)}
        node.run(lambda: node.node._gate.enter(255 << 20))
        with pytest.raises(ResourceExhaustedError, match="max_concurrent_bytes") as caught:
            db.upsert("c", **large)
        assert caught.value.retry_after is not None
        assert db.count("c") == 0
        node.run(lambda: node.node._gate.leave(255 << 20))
        assert db.upsert("c", **large).count == 90
        assert _let_go(node)


def _let_go(node: InProcessNode) -> bool:
    """Whether requests hold no bytes any more, a moment after the last was answered."""
    deadline = time.monotonic() + 10
    while node.node._gate.held and time.monotonic() < deadline:
        time.sleep(0.01)
    return not node.node._gate.held


def test_a_large_message_that_is_none(tmp_path: Path) -> None:
    """Many bytes that cannot be parsed are INVALID_ARGUMENT, and hold no room afterwards."""
    with InProcessNode(tmp_path) as node:
        call = node.channel.unary_unary("/vecdb.v1.Documents/Count")
        refused = refusal(lambda: call(b"\xff" * (2 << 20)))
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
        assert _let_go(node)


async def test_a_call_that_arrives_late_is_not_begun() -> None:
    """A handler is not run where the deadline passed on the way and the cancellation has not come yet."""

    class Late:
        def invocation_metadata(self) -> tuple[()]:
            return ()

        def time_remaining(self) -> float:
            return 0

        async def abort(self, code: grpc.StatusCode, message: str, trailing_metadata: Any) -> None:
            raise RuntimeError(f"{code.name}: {message}")

    begun: list[Any] = []

    class Service:
        async def Count(self, request: Any, call: Any) -> None:
            begun.append(request)

    dispatcher = Dispatcher(Authenticator(None), NodeMetrics(), Gate(1))
    descriptor = documents_pb2.DESCRIPTOR.services_by_name["Documents"]
    handler = dispatcher._handler(descriptor.methods_by_name["Count"], Service())
    with pytest.raises(RuntimeError, match="DEADLINE_EXCEEDED"):
        await handler.unary_unary(documents_pb2.CountRequest(), Late())
    assert begun == []
