"""Limits of tokens, the metrics of refusals, and the audit log, on a node."""

from __future__ import annotations

import json
import queue
import re
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import structlog
from vecdb_client import (
    Client,
    Grant,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    RetryPolicy,
)
from vecdb_proto.v1 import access_pb2, documents_pb2, search_pb2

from tests.support.inprocess import InProcessNode, refusal
from vecdb.security import limits

TOKEN = "0123456789abcdef0123456789abcdef"
ONCE = RetryPolicy(attempts=1)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessNode]:
    folder = tmp_path_factory.mktemp("limits")
    path = folder / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    with InProcessNode(folder, token_file=path) as node:
        with node.client(token=TOKEN) as root:
            root.create_collection("c", dim=2)
            root.upsert("c", ids=["a"], vectors=[[1, 0]])
        yield node


@pytest.fixture(scope="module")
def root(node: InProcessNode) -> Iterator[Client]:
    with node.client(token=TOKEN) as root:
        yield root


def search() -> search_pb2.SearchStreamRequest:
    query = search_pb2.Query(vector=b"\0\0\x80\x3f\0\0\0\0")
    return search_pb2.SearchStreamRequest(request=search_pb2.SearchRequest(collection="c", query=query))


def test_a_token_beyond_its_rate_waits(
    node: InProcessNode, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second's worth comes at once; the next is RESOURCE_EXHAUSTED, naming the limit, with the time to
    wait, which the client does by itself. Other tokens are not held up."""
    made = root.create_token("ann", [Grant("read")], requests_per_second=4)
    assert made.token.requests_per_second == 4
    request = documents_pb2.CountRequest(collection="c")
    headers = [("authorization", f"Bearer {made.secret}")]
    begun = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(limits, "monotonic", lambda: begun)
        for _ in range(4):
            node.documents.Count(request, metadata=headers)
        refused = refusal(lambda: node.documents.Count(request, metadata=headers))
        assert root.count("c") == 1
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "THROTTLED")
    assert refused.metadata["limit"] == "requests_per_second"
    assert refused.retry_after == pytest.approx(0.25)
    assert "4 requests a second" in refused.message
    with node.client(token=made.secret) as ann:
        assert [ann.count("c") for _ in range(3)] == [1, 1, 1]
    assert time.monotonic() - begun >= 0.75


def test_a_token_has_so_many_requests_at_a_time(node: InProcessNode, root: Client) -> None:
    """A stream that is open is one; another call is refused while it is, and answered once it has ended."""
    made = root.create_token("ann", [Grant("read")], concurrent_requests=1)
    asked: queue.Queue[Any] = queue.Queue()
    stream = node.search.SearchStream(
        iter(asked.get, None), metadata=[("authorization", f"Bearer {made.secret}")], timeout=20
    )
    asked.put(search())
    assert next(stream).response.hits
    with node.client(token=made.secret, retry=ONCE) as hasty, node.client(token=made.secret) as patient:
        with pytest.raises(ResourceExhaustedError, match="1 requests in progress") as caught:
            hasty.count("c")
        assert caught.value.reason == "THROTTLED"
        assert caught.value.details.metadata["limit"] == "concurrent_requests"
        asked.put(None)
        assert list(stream) == []
        assert patient.count("c") == 1
        assert hasty.count("c") == 1


def test_a_stream_goes_at_its_tokens_rate(node: InProcessNode, root: Client) -> None:
    """Each query counts and waits for its turn; none is refused."""
    made = root.create_token("ann", [Grant("read")], requests_per_second=20)
    begun = time.monotonic()
    answers = node.search.SearchStream(
        iter([search()] * 29), metadata=[("authorization", f"Bearer {made.secret}")], timeout=20
    )
    assert sum(len(answer.response.hits) for answer in answers) == 29
    assert time.monotonic() - begun >= 0.49


def metric(node: InProcessNode, reason: str) -> float:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    text = opener.open(f"{node.http_url}/metrics", timeout=10).read().decode()
    (found,) = re.findall(rf'^vecdb_access_refusals_total{{reason="{reason}"}} (\S+)$', text, re.MULTILINE)
    return float(found)


def test_refusals_are_counted(node: InProcessNode, root: Client) -> None:
    """Each by its reason, from nought."""
    before = {name: metric(node, name) for name in ("UNAUTHENTICATED", "PERMISSION_DENIED", "THROTTLED")}
    made = root.create_token("ann", [Grant("read", "elsewhere")], requests_per_second=1)
    with node.client(token=made.secret, retry=ONCE) as ann:
        with pytest.raises(PermissionDeniedError):
            ann.count("c")
        with pytest.raises(ResourceExhaustedError):
            [ann.whoami() for _ in range(1000)]
    assert refusal(lambda: node.access.WhoAmI(access_pb2.WhoAmIRequest())).reason == "UNAUTHENTICATED"
    assert {name: metric(node, name) - before[name] for name in before} == dict.fromkeys(before, 1)


# --- the audit log ----------------------------------------------------------------


def audited(lines: list[Any]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == "audit"]


def test_administrative_acts_leave_a_line(node: InProcessNode, root: Client) -> None:
    """Who, by which token, from where, what, and how it ended: done, refused, or wrong. No secret is in it,
    and what is no administrative act, or nobody's, leaves none."""
    with structlog.testing.capture_logs() as lines:
        made = root.create_token("ann", [Grant("admin", "own")])
        root.quarantine_author("eve", 'spam" forged=1')
        root.count("c")
        with node.client(token=made.secret) as ann:
            ann.create_collection("own", dim=2)
            with pytest.raises(PermissionDeniedError):
                ann.drop_collection("c")
            with pytest.raises(NotFoundError):
                root.revoke_token("nobody")
        refusal(lambda: node.access.CreateToken(access_pb2.CreateTokenRequest()))
    found = audited(lines)
    assert [(line["act"], line["principal"], line["outcome"]) for line in found] == [
        ("Access.CreateToken", "root", "OK"),
        ("Access.QuarantineAuthor", "root", "OK"),
        ("Collections.Create", "ann", "OK"),
        ("Collections.Drop", "ann", "PERMISSION_DENIED"),
        ("Access.RevokeToken", "root", "NOT_FOUND"),
    ]
    created, quarantined, _, denied, _ = found
    assert created["made"] == made.token.token_id == denied["token_id"]
    assert json.loads(created["request"])["token"]["principal"] == "ann"
    assert json.loads(quarantined["request"]) == {"author": "eve", "reason": 'spam" forged=1'}
    assert json.loads(denied["request"]) == {"collection": "c"}
    assert "needs the role admin" in denied["problem"]
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in found)
    assert made.secret not in str(lines)


def test_a_failure_of_the_node_is_in_the_audit_log(
    node: InProcessNode, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An act that failed for no fault of its caller's is told as that, and a long request is cut."""

    def broken(self: Any, command: Any) -> Any:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(type(node.node_database()), "change", broken)
    with structlog.testing.capture_logs() as lines, pytest.raises(Exception, match="internal error"):
        root.create_token("ann", [Grant("read", f"{n:0100}") for n in range(60)])
    (line,) = audited(lines)
    assert (line["outcome"], line["problem"]) == ("INTERNAL", "ZeroDivisionError")
    assert len(line["request"]) == 2_003
