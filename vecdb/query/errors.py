"""A request that cannot be answered, in the terms of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


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
