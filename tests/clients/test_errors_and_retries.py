from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import vecdb_client as vc
from google.rpc import status_pb2
from vecdb_client import _errors, _transport
from vecdb_proto.v1 import common_pb2, documents_pb2

from tests.clients.scripted import Fail, ScriptedServer

Code = grpc.StatusCode
COUNT = documents_pb2.CountResponse(count=7)
DOWN = Fail(Code.UNAVAILABLE, "no leader", "NO_LEADER")


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (Code.INVALID_ARGUMENT, "WRONG_DIMENSION", vc.InvalidArgumentError),
        (Code.NOT_FOUND, "COLLECTION_NOT_FOUND", vc.NotFoundError),
        (Code.ALREADY_EXISTS, "COLLECTION_EXISTS", vc.AlreadyExistsError),
        (Code.FAILED_PRECONDITION, "MODEL_REQUIRED", vc.FailedPreconditionError),
        (Code.FAILED_PRECONDITION, "STALE_SESSION", vc.StaleSessionError),
        (Code.FAILED_PRECONDITION, "UNKNOWN_SHARD", vc.StaleSessionError),
        (Code.PERMISSION_DENIED, "PERMISSION_DENIED", vc.PermissionDeniedError),
        (Code.UNAUTHENTICATED, "UNAUTHENTICATED", vc.UnauthenticatedError),
        (Code.RESOURCE_EXHAUSTED, "DISK_FULL", vc.ResourceExhaustedError),
        (Code.UNIMPLEMENTED, "NOT_IMPLEMENTED", vc.UnimplementedError),
        (Code.ABORTED, "VERSION_CONFLICT", vc.ConflictError),
        (Code.ABORTED, "", vc.AbortedError),
        (Code.OUT_OF_RANGE, "", vc.OutOfRangeError),
        (Code.INTERNAL, "INTERNAL", vc.InternalError),
        (Code.DATA_LOSS, "SHARD_DAMAGED", vc.DataLossError),
        (Code.UNKNOWN, "", vc.VecdbError),
    ],
)
def test_each_code_has_its_class(
    server: ScriptedServer, db: Any, code: grpc.StatusCode, reason: str, kind: type[vc.VecdbError]
) -> None:
    """A status becomes exactly its class, with code, reason and message, and is not tried again."""
    server.script("Documents/Count", Fail(code, "what happened", reason))
    with pytest.raises(vc.VecdbError) as caught:
        db.count("c")
    error = caught.value
    assert (type(error), error.code, error.reason, error.message) == (kind, code, reason, "what happened")
    assert len(server.requests["Documents/Count"]) == 1


def test_details_are_told(server: ScriptedServer, db: Any) -> None:
    """Metadata, field violations and the retry hint all arrive, and the text names the broken field."""
    server.script(
        "Documents/Count",
        Fail(
            Code.INVALID_ARGUMENT,
            "bad request",
            "LIMIT_EXCEEDED",
            metadata={"limit": "max_k"},
            violations=(("options.k", "is 0"),),
            retry_after=1.5,
        ),
    )
    with pytest.raises(vc.InvalidArgumentError, match=r"LIMIT_EXCEEDED.*options\.k: is 0") as caught:
        db.count("c")
    assert caught.value.details.metadata == {"limit": "max_k"}
    assert caught.value.details.violations == (vc.FieldViolation("options.k", "is 0"),)
    assert caught.value.retry_after == 1.5
    assert isinstance(caught.value, ValueError)


def test_errors_survive_pickling() -> None:
    """An error can cross a process boundary with all it says."""
    for error in (
        vc.NotFoundError("gone", code=Code.NOT_FOUND, reason="R", details=vc.ErrorDetails({"a": "b"})),
        vc.PartialWriteError({1: 2}, [vc.WriteFailure(3, Code.ABORTED, "m", "r")], count=4, not_sent=5),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.__dict__, str(copy)) == (type(error), error.__dict__, str(error))


class _Damaged(grpc.RpcError):
    """What gRPC raises, with a details trailer that a proxy has cut."""

    def code(self) -> grpc.StatusCode:
        return Code.NOT_FOUND

    def details(self) -> str:
        return "plain"

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", b"\xff\xff"),)


def test_damaged_details_leave_the_plain_status() -> None:
    """A trailer that does not parse never hides the status itself; unknown details are passed over."""
    error = _errors.from_rpc(_Damaged())
    assert (type(error), error.message) == (vc.NotFoundError, "plain")
    status = status_pb2.Status(code=5, message="m")
    status.details.add(type_url="type.googleapis.com/some.Other", value=b"x")
    assert type(_errors.from_status(status)) is vc.NotFoundError
    assert _errors.status_code(99) is Code.UNKNOWN


def test_unavailable_is_tried_again(server: ScriptedServer, db: Any) -> None:
    """Two failures, then an answer: the caller sees the answer."""
    server.script("Documents/Count", DOWN, DOWN, COUNT)
    assert db.count("c") == 7
    assert len(server.requests["Documents/Count"]) == 3


def test_a_call_that_the_node_ended_is_tried_again(server: ScriptedServer, db: Any) -> None:
    """Nobody here cancels: a node that stops may, and the next try is answered, or the error is its own."""
    server.script("Documents/Count", Fail(Code.CANCELLED, ""), COUNT)
    assert db.count("c") == 7
    server.script("Documents/Count", Fail(Code.CANCELLED, "stopped"))
    with pytest.raises(vc.CancelledError, match="stopped") as caught:
        db.count("c")
    assert isinstance(caught.value, vc.UnavailableError)
    assert len(server.requests["Documents/Count"]) == 2 + 4


def test_attempts_end(server: ScriptedServer, db: Any) -> None:
    """A node that stays unavailable is given up after the policy's attempts, with its own error."""
    server.script("Documents/Count", DOWN)
    with pytest.raises(vc.UnavailableError, match="NO_LEADER"):
        db.count("c")
    assert len(server.requests["Documents/Count"]) == 4


def test_a_write_keeps_its_number_over_retries(server: ScriptedServer, db: Any) -> None:
    """Every try of one request carries the same session id and sequence; the next request the next number."""
    ok = documents_pb2.WriteResponse(count=1)
    server.script("Documents/Upsert", DOWN, DOWN, ok)
    db.upsert("c", ids=["a"], vectors=[[1.0]])
    db.upsert("c", ids=["a"], vectors=[[1.0]])
    sent = [request.options for request in server.requests["Documents/Upsert"]]
    assert [options.sequence for options in sent] == [1, 1, 1, 2]
    assert {len(options.session_id) for options in sent} == {16}
    assert len({options.session_id for options in sent}) == 1


def test_overload_waits_as_told(server: ScriptedServer, db: Any) -> None:
    """RESOURCE_EXHAUSTED with a hint is tried again no sooner than the hint says."""
    busy = Fail(Code.RESOURCE_EXHAUSTED, "busy", "OVERLOADED", retry_after=0.05)
    server.script("Documents/Count", busy, COUNT)
    began = time.monotonic()
    assert db.count("c") == 7
    assert time.monotonic() - began >= 0.05


def test_a_full_disk_is_not_tried_again(server: ScriptedServer, db: Any) -> None:
    """RESOURCE_EXHAUSTED without a hint fails at once: waiting would not help."""
    server.script("Documents/Count", Fail(Code.RESOURCE_EXHAUSTED, "full", "DISK_FULL"), COUNT)
    with pytest.raises(vc.ResourceExhaustedError):
        db.count("c")


def test_retries_never_outlive_the_deadline(server: ScriptedServer, db: Any) -> None:
    """A hint beyond the time that is left raises the server's error now, not a timeout later."""
    server.script("Documents/Count", Fail(Code.RESOURCE_EXHAUSTED, "busy", retry_after=60))
    began = time.monotonic()
    with pytest.raises(vc.ResourceExhaustedError):
        db.count("c", timeout=0.5)
    assert time.monotonic() - began < 10


def test_the_deadline_is_the_callers(server: ScriptedServer, db: Any) -> None:
    """A slow answer ends with DeadlineExceededError, which is a TimeoutError."""
    release = threading.Event()
    server.script("Documents/Count", lambda _request, _context: (release.wait(30), COUNT)[1])
    with pytest.raises(TimeoutError) as caught:
        db.count("c", timeout=0.1)
    release.set()
    assert isinstance(caught.value, vc.DeadlineExceededError)


def test_the_next_address_is_asked(server: ScriptedServer, connect: Callable[..., Any]) -> None:
    """A node that does not answer is passed over, and the one that does is kept."""
    server.script("Documents/Count", COUNT)
    db = connect(["127.0.0.1:1", server.address])
    assert db.count("c") == 7
    assert db.count("c") == 7
    assert len(server.requests["Documents/Count"]) == 2


def test_a_restarted_node_is_found_again(connect: Callable[..., Any]) -> None:
    """A node that comes back on its address serves the same client again."""
    first = ScriptedServer()
    first.script("Documents/Count", COUNT)
    db = connect(first.address, retry=vc.RetryPolicy(attempts=100, maximum=0.1))
    assert db.count("c") == 7
    first.stop()
    second = ScriptedServer(first.address)
    try:
        second.script("Documents/Count", documents_pb2.CountResponse(count=8))
        assert db.count("c") == 8
    finally:
        second.stop()


def test_the_token_is_sent(server: ScriptedServer, connect: Callable[..., Any]) -> None:
    """The access token goes with every call, as a bearer."""
    server.script("Documents/Count", COUNT)
    connect(server.address, token="s3cret").count("c")
    assert server.metadata["Documents/Count"][0]["authorization"] == "Bearer s3cret"
    connect(server.address).count("c")
    assert "authorization" not in server.metadata["Documents/Count"][1]


def test_a_closed_client_says_so(server: ScriptedServer, connect: Callable[..., Any]) -> None:
    """After close a call raises RuntimeError; closing twice is no error."""
    server.script("Documents/Count", COUNT)
    db = connect(server.address)
    assert db.count("c") == 7
    db.close() if isinstance(db, vc.Client) else db._await(db._client.close())
    with pytest.raises(RuntimeError, match="closed"):
        db.count("c")


def test_backoff_has_full_jitter_and_a_ceiling() -> None:
    """Pauses are uniform up to a doubling bound; other addresses are tried without a pause."""
    policy = vc.RetryPolicy(attempts=20, initial=0.1, maximum=0.4)
    down = vc.UnavailableError("down", code=Code.UNAVAILABLE)
    for bound, nth in ((0.1, 1), (0.2, 2), (0.4, 3), (0.4, 9)):
        pauses = []
        for _ in range(300):
            attempts = _transport.Attempts(policy, 1)
            pause = [attempts.pause(down, None) for _ in range(nth)][-1]
            assert pause is not None
            pauses.append(pause)
        assert max(pauses) <= bound
        assert max(pauses) > 0.8 * bound
        assert min(pauses) < 0.2 * bound
    attempts = _transport.Attempts(policy, 3)
    assert [attempts.pause(down, None) for _ in range(2)] == [0, 0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("host", ("host:7700",)),
        ("host:1", ("host:1",)),
        ("::1", ("[::1]:7700",)),
        ("[::1]", ("[::1]:7700",)),
        ("[::1]:5", ("[::1]:5",)),
        ("unix:/run/vecdb", ("unix:/run/vecdb",)),
        (["a:1", " b "], ("a:1", "b:7700")),
    ],
)
def test_addresses_get_their_port(given: Any, expected: tuple[str, ...]) -> None:
    """An address without a port means 7700, in every notation."""
    assert vc.Client(given).addresses == expected


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"addresses": []}, ValueError),
        ({"addresses": ""}, ValueError),
        ({"addresses": "http://host"}, ValueError),
        ({"addresses": [7700]}, TypeError),
        ({"token": b"x"}, TypeError),
        ({"consistency": "strong"}, ValueError),
        ({"concurrency": 0}, ValueError),
        ({"session": "nonsense!"}, ValueError),
        ({"session": 5}, TypeError),
        ({"tls": "/nowhere/ca.pem"}, OSError),
        ({"tls": vc.TLS(cert=b"x")}, ValueError),
    ],
)
def test_wrong_settings_are_refused_at_once(settings: dict[str, Any], error: type[Exception]) -> None:
    """What is wrong about a client shows when it is made, not with the first request."""
    with pytest.raises(error):
        vc.Client(**settings)
    with pytest.raises(ValueError):
        vc.RetryPolicy(attempts=0)


def test_a_token_without_tls_is_warned_about() -> None:
    """Off the loopback a token in plaintext can be read by anyone on the way."""
    with pytest.warns(UserWarning, match="without TLS"):
        vc.Client("db.example:7700", token="x").close()


def test_retryable_writes_apply_once(server: ScriptedServer, db: Any) -> None:
    """A reply that was lost is asked for again under the same number, so a server can answer it again."""
    applied: set[tuple[bytes, int]] = set()

    def upsert(request: documents_pb2.UpsertRequest, _context: Any) -> Any:
        key = (request.options.session_id, request.options.sequence)
        first = key not in applied
        applied.add(key)
        place = common_pb2.ShardPosition(shard=1, index=len(applied))
        return DOWN if first else documents_pb2.WriteResponse(count=1, positions=[place])

    server.script("Documents/Upsert", upsert)
    assert db.upsert("c", ids=["a"], vectors=[[1.0]]).positions == {1: 1}
    assert len(applied) == 1
