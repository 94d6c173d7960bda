"""A request that cannot be answered, in the terms of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vecdb_replication.host import (
    ChangeRefused,
    EntryTooLarge,
    GroupBlocked,
    GroupDamaged,
    GroupError,
    GroupStopped,
    HostClosed,
    NotLeader,
    OutcomeUnknown,
    ProposalLost,
)
from vecdb_replication.wal import LogBusy, LogDamaged, LogError, LogFailed, LogFull


class RequestError(Exception):
    """Carries what the caller is told.

    `code` is the name of a canonical gRPC status, `reason` one of those listed
    in proto/vecdb/v1/common.proto. `violations` are pairs of a field of the
    request and what it breaks; `retry_after` is in seconds.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        message: str,
        *,
        violations: Sequence[tuple[str, str]] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after


def invalid(field: str, problem: str, reason: str = "BAD_ARGUMENT", **metadata: str) -> RequestError:
    """INVALID_ARGUMENT about one field of the request."""
    return RequestError(
        "INVALID_ARGUMENT", reason, f"{field}: {problem}", violations=[(field, problem)], metadata=metadata
    )


def no_collection(name: str) -> RequestError:
    """NOT_FOUND for a collection."""
    return RequestError(
        "NOT_FOUND", "COLLECTION_NOT_FOUND", f"there is no collection {name!r}", metadata={"collection": name}
    )


def of_group(error: GroupError | LogError) -> RequestError:
    """What a caller is told where a replica or its log could not do its part.

    Every write carries a session and a sequence and is applied once. So all that is UNAVAILABLE may be tried
    again as it is, here or elsewhere; the reason tells whether the first try may still take effect.
    """
    code, reason, retry_after = _told(error)
    refusal = RequestError(code, reason, str(error), retry_after=retry_after)
    refusal.__cause__ = error
    return refusal


def _told(error: GroupError | LogError) -> tuple[str, str, float | None]:
    match error:
        case EntryTooLarge():
            return "RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", None
        case LogBusy():
            return "RESOURCE_EXHAUSTED", "OVERLOADED", 0.2
        case GroupBlocked() | LogFull():
            return "RESOURCE_EXHAUSTED", "DISK_FULL", 5.0
        case HostClosed():
            return "UNAVAILABLE", "SHUTTING_DOWN", 1.0
        case NotLeader() | ProposalLost():
            return "UNAVAILABLE", "NO_LEADER", 0.2
        case OutcomeUnknown():
            return "UNAVAILABLE", "OUTCOME_UNKNOWN", 0.2
        case ChangeRefused():
            return "ABORTED", "CHANGE_UNDER_WAY", 1.0
        case GroupStopped() | GroupDamaged() | LogFailed() | LogDamaged():
            return "INTERNAL", "SHARD_DAMAGED", None
        case _:
            # The group is being made or removed at this moment.
            return "UNAVAILABLE", "NO_LEADER", 1.0
