"""Refusals as gRPC statuses with details."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from vecdb_index import DeadlineExceeded, ShardClosed, ShardDamaged, StorageFailed
from vecdb_index.filters import FilterError
from vecdb_replication.host import GroupError

from vecdb.query import RequestError
from vecdb.query.errors import of_group
from vecdb.security import AuthError, LimitReached
from vecdb.shards import UnknownShard

DOMAIN = "vecdb"
DETAILS_KEY = "grpc-status-details-bin"
# gRPC clients take 8 KiB of metadata. The words stand in it twice: percent-encoded, and in the details, which
# are in base64.
_MAX_WORDS = 400
_MAX_VIOLATIONS = 3


def as_request_error(error: BaseException) -> RequestError | None:
    """What a caller is told of an error that is somebody's fault; None for one that is nobody's."""
    match error:
        case RequestError():
            return error
        case AuthError():
            return RequestError(error.code, error.reason, str(error), metadata=error.metadata)
        case LimitReached():
            return RequestError(
                "RESOURCE_EXHAUSTED",
                "THROTTLED",
                str(error),
                metadata={"limit": error.limit},
                retry_after=error.retry_after,
            )
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
        case StorageFailed():
            # Of a read: no file handle is left, or the disk fails.
            return RequestError("UNAVAILABLE", "OVERLOADED", str(error), retry_after=0.5)
        case ShardDamaged():
            return RequestError("DATA_LOSS", "SHARD_DAMAGED", str(error))
        case GroupError():
            return of_group(error)
        case _:
            return None


def shortened(text: str) -> str:
    """Words within what a trailer can carry: what a caller sent may be quoted in them, at any length."""
    data = text.encode(errors="replace")
    return text if len(data) <= _MAX_WORDS else data[:_MAX_WORDS].decode(errors="ignore") + "..."


def status_of(error: RequestError) -> status_pb2.Status:
    """The google.rpc.Status of a refusal."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=shortened(error.message))
    status.details.extend(_details(error))
    return status


def _details(error: RequestError) -> Iterable[any_pb2.Any]:
    metadata = {key: shortened(value) for key, value in error.metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    yield _packed(info)
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for field, problem in error.violations[:_MAX_VIOLATIONS]:
            bad.field_violations.add(
                field=shortened(field), description=shortened(problem), reason=error.reason
            )
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
