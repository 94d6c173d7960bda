"""Refusals as gRPC statuses with details."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from vecdb_index import DeadlineExceeded, ShardClosed, ShardDamaged
from vecdb_index.filters import FilterError
from vecdb_replication.host import GroupError

from vecdb.query import RequestError
from vecdb.security import AuthError
from vecdb.shards import UnknownShard

DOMAIN = "vecdb"
DETAILS_KEY = "grpc-status-details-bin"


def as_request_error(error: BaseException) -> RequestError | None:
    """What a caller is told of an error that is somebody's fault; None for one that is nobody's."""
    match error:
        case RequestError():
            return error
        case AuthError():
            return RequestError(error.code, error.reason, str(error))
        case FilterError():
            return RequestError(
                "INVALID_ARGUMENT",
                "BAD_FILTER",
                f"filter: {error}",
                violations=[(f"filter.{error.path}" if error.path else "filter", str(error))],
            )
        case DeadlineExceeded():
            return RequestError("DEADLINE_EXCEEDED", "OVERLOADED", "the deadline passed during the search")
        case UnknownShard() | ShardClosed():
            # The collection is being made or dropped at this moment.
            return RequestError("UNAVAILABLE", "NO_LEADER", str(error), retry_after=0.2)
        case ShardDamaged():
            return RequestError("DATA_LOSS", "SHARD_DAMAGED", str(error))
        case GroupError():
            return RequestError("UNAVAILABLE", "NO_LEADER", str(error), retry_after=1.0)
        case _:
            return None


def status_of(error: RequestError) -> status_pb2.Status:
    """The google.rpc.Status of a refusal."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=error.message)
    status.details.extend(_details(error))
    return status


def _details(error: RequestError) -> Iterable[any_pb2.Any]:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    yield _packed(info)
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for field, problem in error.violations:
            bad.field_violations.add(field=field, description=problem, reason=error.reason)
        yield _packed(bad)
    if error.retry_after is not None:
        seconds = int(error.retry_after)
        delay = duration_pb2.Duration(seconds=seconds, nanos=int((error.retry_after - seconds) * 1e9))
        yield _packed(error_details_pb2.RetryInfo(retry_delay=delay))


def _packed(message: error_details_pb2.ErrorInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def grpc_code(error: RequestError) -> grpc.StatusCode:
    """The status code as grpc names it."""
    return grpc.StatusCode[error.code]
