"""Errors of the parts below as the statuses of the API."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from vecdb_index import DeadlineExceeded, ShardClosed, ShardDamaged, StorageFailed
from vecdb_index.filters import FilterError
from vecdb_proto.v1 import search_pb2
from vecdb_replication.host import (
    ChangeRefused,
    GroupBlocked,
    GroupDamaged,
    GroupError,
    GroupStopped,
    HostClosed,
    NotLeader,
    OutcomeUnknown,
    ProposalLost,
    UnknownGroup,
)
from vecdb_replication.wal import LogBusy, LogFailed

from tests.support.inprocess import InProcessNode, refusal
from tests.unit.vecdb.api.bad_input import search
from vecdb.api.errors import as_request_error, grpc_code, status_of
from vecdb.query import Database, RequestError
from vecdb.security import AuthError
from vecdb.shards import UnknownShard


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (RequestError("ABORTED", "VERSION_CONFLICT", "x"), "ABORTED", "VERSION_CONFLICT"),
        (AuthError("PERMISSION_DENIED", "x"), "PERMISSION_DENIED", "PERMISSION_DENIED"),
        (FilterError("x", ""), "INVALID_ARGUMENT", "BAD_FILTER"),
        (DeadlineExceeded("x"), "DEADLINE_EXCEEDED", "OVERLOADED"),
        (UnknownShard("x"), "UNAVAILABLE", "NO_LEADER"),
        (ShardClosed("x"), "UNAVAILABLE", "NO_LEADER"),
        (StorageFailed("x"), "UNAVAILABLE", "OVERLOADED"),
        (ShardDamaged("x", "rotten"), "DATA_LOSS", "SHARD_DAMAGED"),
        (UnknownGroup("x"), "UNAVAILABLE", "NO_LEADER"),
    ],
)
def test_known_errors_have_their_status(error: Exception, code: str, reason: str) -> None:
    """Each failure of the engine, the host and security is told as what it means to the caller."""
    told = as_request_error(error)
    assert told is not None
    assert (told.code, told.reason) == (code, reason)
    assert "x" in told.message or code == "DEADLINE_EXCEEDED"
    assert grpc_code(told) is grpc.StatusCode[code]
    status = status_of(told)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("vecdb", reason)
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details) == (told.retry_after is not None)


def test_other_errors_are_nobodys() -> None:
    """What is not known is not dressed up as the caller's fault."""
    assert as_request_error(ZeroDivisionError()) is None


def test_an_error_of_the_program_is_internal_and_keeps_its_words(
    node: InProcessNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception is INTERNAL with its type's name alone, and the node goes on; in a stream it is
    the answer to its query."""
    db = node.node_database()

    def broken(record: Any) -> Any:
        raise ZeroDivisionError("a secret path")

    with monkeypatch.context() as patch:
        patch.setattr(type(db), "opened", lambda self, record: broken(record))
        refused = refusal(lambda: node.search.Search(search()))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert "ZeroDivisionError" in refused.message
        assert "secret" not in refused.message
        (streamed,) = node.search.SearchStream(iter([streaming()]))
        assert streamed.error.code == grpc.StatusCode.INTERNAL.value[0]
        assert "secret" not in streamed.error.message
    assert node.search.Search(search()).hits


def streaming() -> Any:
    return search_pb2.SearchStreamRequest(tag=1, request=search())


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (GroupBlocked("no room"), "RESOURCE_EXHAUSTED", "DISK_FULL"),
        (LogBusy("a queue"), "RESOURCE_EXHAUSTED", "OVERLOADED"),
        (HostClosed("bye"), "UNAVAILABLE", "SHUTTING_DOWN"),
        (NotLeader("not here", 2), "UNAVAILABLE", "NO_LEADER"),
        (ProposalLost("another's"), "UNAVAILABLE", "NO_LEADER"),
        (UnknownGroup("none"), "UNAVAILABLE", "NO_LEADER"),
        (OutcomeUnknown("perhaps"), "UNAVAILABLE", "OUTCOME_UNKNOWN"),
        (ChangeRefused("another change"), "ABORTED", "CHANGE_UNDER_WAY"),
        (GroupStopped("broken"), "INTERNAL", "SHARD_DAMAGED"),
        (GroupDamaged("rotten"), "INTERNAL", "SHARD_DAMAGED"),
        (LogFailed("no disk"), "INTERNAL", "SHARD_DAMAGED"),
    ],
)
async def test_a_group_that_cannot_write_is_told(failure: Exception, code: str, reason: str) -> None:
    """Each in its way, in its own words; a hint when to come again for all but damage."""

    class Host:
        async def propose(self, group: int, data: bytes) -> None:
            raise failure

    parts: dict[str, Any] = dict.fromkeys(("catalog", "shards", "embedding", "readers"))
    db = Database(host=Host(), max_collections=1, disk_full=str, **parts)  # type: ignore[arg-type]
    with pytest.raises(RequestError) as caught:
        await db.propose(2, b"x")
    assert (caught.value.code, caught.value.reason, caught.value.message) == (code, reason, str(failure))
    assert (caught.value.retry_after is None) == (code == "INTERNAL")
    if isinstance(failure, GroupError):
        told = as_request_error(failure)
        assert told is not None
        assert (told.code, told.reason) == (code, reason)
