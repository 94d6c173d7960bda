"""What a call can end with: one class a canonical gRPC code, with the server's details.

A server's error travels as a gRPC status whose trailer `grpc-status-details-bin`
holds a `google.rpc.Status` (google/rpc/status.proto); its details are an
ErrorInfo (reason and metadata), a BadRequest (which field breaks what) and a
RetryInfo (when it is worth trying again).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS_TRAILER = "grpc-status-details-bin"
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def status_code(number: int) -> grpc.StatusCode:
    """The code of that number (google.rpc.Code); UNKNOWN for a number that has none."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What one field of a request broke."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """What the server said beyond the message.

    `metadata` names the limit, the collection or the shard; `violations` the
    fields of the request that were refused.
    """

    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[FieldViolation, ...] = ()


@dataclass(frozen=True, slots=True)
class WriteFailure:
    """One document that was not written.

    `position` is its place in what the caller handed in, from 0.
    """

    position: int
    code: grpc.StatusCode
    message: str
    reason: str


class VecdbError(Exception):
    """A call that failed.

    `code` is the gRPC status code, `reason` the server's word for programs
    (e.g. "WRONG_DIMENSION"; empty where the failure did not come from a vecdb
    server), `message` is for people, and `retry_after` is in seconds, None
    where the server gave no hint.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        details: ErrorDetails | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.details = details if details is not None else ErrorDetails()
        self.retry_after = retry_after

    def __str__(self) -> str:
        label = f"{self.code.name}/{self.reason}" if self.reason else self.code.name
        text = f"{self.message} ({label})"
        for violation in self.details.violations:
            if violation.description not in self.message:
                text += f"; {violation.field}: {violation.description}"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException would call the class with `args` alone and lose the rest.
        return (type(self), self.args, self.__dict__)


class InvalidArgumentError(VecdbError, ValueError):
    """The request is wrong in itself; `details.violations` says where."""


class OutOfRangeError(VecdbError):
    """A place beyond the end."""


class NotFoundError(VecdbError):
    """No such collection, model, source or token."""


class AlreadyExistsError(VecdbError):
    """The name is taken."""


class FailedPreconditionError(VecdbError):
    """The request is sound, the state is not one in which it can be done."""


class StaleSessionError(FailedPreconditionError):
    """The session token is of another life of the cluster: a snapshot was restored, or it is another cluster.

    What this client has seen may be gone. `Client.forget_session()` begins anew.
    """


class PermissionDeniedError(VecdbError):
    """The caller is known and may not do this."""


class UnauthenticatedError(VecdbError):
    """No token, or a wrong one."""


class ResourceExhaustedError(VecdbError):
    """A limit or an overload; `retry_after` is set where waiting helps."""


class UnavailableError(VecdbError):
    """No node answered, or the one that did could not serve the request now."""


class DeadlineExceededError(VecdbError, TimeoutError):
    """The time given to the call ran out. A write may or may not have happened."""


class UnimplementedError(VecdbError):
    """This server cannot do that."""


class AbortedError(VecdbError):
    """The operation lost against another one."""


class ConflictError(AbortedError):
    """An `if_versions` condition did not hold; nothing of that request was written."""


class CancelledError(UnavailableError):
    """The node ended the call without an answer, as one that stops may; it is tried again like the others."""


class DataLossError(VecdbError):
    """Damaged data was found, and not served."""


class InternalError(VecdbError):
    """The server failed; this is a bug or damage on its side."""


class PartialWriteError(VecdbError):
    """Some of the documents handed in were not written; the others were.

    `positions` says where the written part stands ({shard: log index}),
    `count` how many documents it changed, `failures` lists what was not
    written by input position. `not_sent` is the input position from which
    nothing was sent any more, None where everything was tried. `__cause__` is
    the error of the request that ended it, where one did.
    """

    def __init__(
        self,
        positions: Mapping[int, int],
        failures: Sequence[WriteFailure],
        *,
        count: int = 0,
        not_sent: int | None = None,
    ) -> None:
        first = failures[0]
        message = f"{len(failures)} documents were not written, {count} were; number {first.position}: "
        super().__init__(message + first.message, code=first.code, reason=first.reason)
        self.positions = dict(positions)
        self.failures = tuple(failures)
        self.count = count
        self.not_sent = not_sent

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.positions, self.failures), self.__dict__)


_CLASSES: dict[grpc.StatusCode, type[VecdbError]] = {
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.ABORTED: AbortedError,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRangeError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DATA_LOSS: DataLossError,
}
# Reasons that deserve a class of their own, because programs react to them.
_REASON_CLASSES: dict[tuple[grpc.StatusCode, str], type[VecdbError]] = {
    (grpc.StatusCode.ABORTED, "VERSION_CONFLICT"): ConflictError,
    (grpc.StatusCode.FAILED_PRECONDITION, "STALE_SESSION"): StaleSessionError,
    (grpc.StatusCode.FAILED_PRECONDITION, "UNKNOWN_SHARD"): StaleSessionError,
}


def from_status(status: status_pb2.Status) -> VecdbError:
    """The error that a `google.rpc.Status` stands for."""
    reason, retry_after = "", None
    metadata: dict[str, str] = {}
    violations: list[FieldViolation] = []
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason = info.reason
            metadata.update(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            request = error_details_pb2.BadRequest.FromString(detail.value)
            violations += [FieldViolation(v.field, v.description) for v in request.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry_after = max(0.0, delay.seconds + delay.nanos / 1e9)
    code = status_code(status.code)
    kind = _REASON_CLASSES.get((code, reason)) or _CLASSES.get(code, VecdbError)
    details = ErrorDetails(metadata, tuple(violations))
    return kind(status.message, code=code, reason=reason, details=details, retry_after=retry_after)


def from_rpc(error: grpc.RpcError) -> VecdbError:
    """The error that a failed RPC (sync or aio) stands for."""
    # Both kinds are calls as well, with these methods; RpcError does not say so.
    code: grpc.StatusCode = error.code()
    message: str = error.details() or code.name
    trailer: Any = error.trailing_metadata() or ()
    for key, value in trailer:
        if key == _DETAILS_TRAILER:
            try:
                return from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break  # a proxy's, or damaged: the plain status still stands
    return from_status(status_pb2.Status(code=code.value[0], message=message))
