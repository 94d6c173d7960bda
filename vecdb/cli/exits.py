"""Exit codes, and the one line on stderr that goes with them."""

from __future__ import annotations

import os
import sys

from vecdb.exit_code import ExitCode

_BY_STATUS = {
    "UNAUTHENTICATED": ExitCode.PERMISSION,
    "PERMISSION_DENIED": ExitCode.PERMISSION,
    "UNAVAILABLE": ExitCode.UNAVAILABLE,
    "UNIMPLEMENTED": ExitCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": ExitCode.UNAVAILABLE,
    "RESOURCE_EXHAUSTED": ExitCode.UNAVAILABLE,
    "CANCELLED": ExitCode.UNAVAILABLE,
    "INTERNAL": ExitCode.INTERNAL,
    "DATA_LOSS": ExitCode.INTERNAL,
    "UNKNOWN": ExitCode.INTERNAL,
}


class CommandError(Exception):
    """A command cannot go on: `str()` is the line to show, `code` how to exit."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


def complain(message: str) -> None:
    """One line on stderr, whatever line breaks the message holds."""
    sys.stderr.write(f"vecdb: error: {' '.join(message.split())}\n")


def warn(message: str) -> None:
    """The same for what does not stop the command."""
    sys.stderr.write(f"vecdb: warning: {' '.join(message.split())}\n")


def report(error: Exception) -> ExitCode:
    """Says what went wrong in one line; returns the exit code for it.

    With VECDB_DEBUG set, the traceback comes first.
    """
    if os.environ.get("VECDB_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, CommandError):
        complain(str(error))
        return error.code
    if (code := _client_code(error)) is not None:
        complain(str(error))
        return code
    if (status := _status_of(error)) is not None:
        complain(f"{status[1]} ({status[0]})")
        return _BY_STATUS.get(status[0], ExitCode.USAGE)
    if isinstance(error, OSError):
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return ExitCode.USAGE
    complain(f"internal: {type(error).__name__}: {error} (VECDB_DEBUG=1 shows where)")
    return ExitCode.INTERNAL


def _client_code(error: Exception) -> ExitCode | None:
    """The exit code for an error of the client; None for any other error."""
    if "vecdb_client" not in sys.modules:
        return None
    from vecdb_client import VecdbError

    if isinstance(error, VecdbError):
        # What is left are requests that cannot be met as they stand.
        return _BY_STATUS.get(error.code.name, ExitCode.USAGE)
    return None


def _status_of(error: Exception) -> tuple[str, str] | None:
    """Name and message of a bare gRPC status; None for any other error."""
    if "grpc" not in sys.modules:
        return None
    import grpc

    if not isinstance(error, grpc.RpcError) or not isinstance(error, grpc.Call):
        return None
    return error.code().name, error.details() or ""
