"""The audit log: administrative acts, each with who, what, from where and how it ended.

Lines of the node's log, under the logger `vecdb.audit`, whatever the level of the others. Calls without a
good token are not among them: nobody is known to have made them, and strangers could fill the log.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from vecdb_proto.v1.access_pb2 import CreateTokenResponse

from vecdb.api.calls import Call
from vecdb.api.errors import as_request_error, shortened
from vecdb.telemetry import audit_logger

_log = audit_logger()

ACTS: Final = frozenset(
    {
        "Access.CreateToken",
        "Access.QuarantineAuthor",
        "Access.ReleaseAuthor",
        "Access.RevokeToken",
        "Cluster.DrainMember",
        "Cluster.Invite",
        "Cluster.MoveReplica",
        "Cluster.RemoveMember",
        "Collections.Alter",
        "Collections.Create",
        "Collections.Drop",
        "Collections.UpdateAliases",
    }
)
"""What is an administrative act: services and methods."""

# What tells nothing of the act.
_LEFT_OUT: Final = ("options", "read")
_MAX_WORDS: Final = 2_000

Answer = Callable[[Any, Call], Awaitable[Any]]


def recorded(act: str, answer: Answer) -> Answer:
    """The handler of an act, which leaves a line for each call of it."""

    async def serve(request: Any, call: Call) -> Any:
        try:
            reply = await answer(request, call)
        except asyncio.CancelledError:
            # Whoever asked has gone away; what was begun may be done all the same.
            _record(act, request, call, outcome="CANCELLED")
            raise
        except Exception as error:
            told = as_request_error(error)
            if told is None:
                _record(act, request, call, outcome="INTERNAL", problem=type(error).__name__)
            else:
                _record(act, request, call, outcome=told.code, problem=shortened(told.message))
            raise
        made = {"made": reply.token.token_id} if isinstance(reply, CreateTokenResponse) else {}
        _record(act, request, call, outcome="OK", **made)
        return reply

    return serve


def _record(act: str, request: Any, call: Call, **how: str) -> None:
    token = call.bearer.token
    _log.info(
        "audit",
        act=act,
        principal=call.principal.name,
        token_id=token.token_id if token is not None else "",
        peer=call.peer,
        request=_told(request),
        **how,
    )


def _told(request: Any) -> str:
    """The request as JSON: a value that the log takes as it is, whatever a caller put into it."""
    fields = MessageToDict(request, preserving_proto_field_name=True)
    for name in _LEFT_OUT:
        fields.pop(name, None)
    text = json.dumps(fields, ensure_ascii=False)
    return text if len(text) <= _MAX_WORDS else text[:_MAX_WORDS] + "..."
