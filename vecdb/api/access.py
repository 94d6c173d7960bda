"""vecdb.v1.Access."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from vecdb_proto.v1 import access_pb2 as pb
from vecdb_proto.v1 import common_pb2

from vecdb.api import checks, convert
from vecdb.api.dispatch import Call
from vecdb.catalog import CreateToken, QuarantineAuthor, Quarantined, ReleaseAuthor, RevokeToken
from vecdb.query import Database
from vecdb.security import RESERVED, Grant, Role, Token, digest, new_secret

_MAX_GRANTS: Final = 64
_MAX_RATE: Final = 1_000_000
_MAX_CONCURRENT: Final = 100_000
_MAX_AUTHOR: Final = 512
_MAX_REASON: Final = 1_024
_ROLES: Final = {role.value: role for role in Role}
# The last millisecond that calendars of four-digit years have.
_LATEST_MS: Final = 253_402_300_799_999
_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@:/+-]{0,127}\Z")


class AccessService:
    """See proto/vecdb/v1/access.proto."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def WhoAmI(self, request: pb.WhoAmIRequest, call: Call) -> pb.WhoAmIResponse:
        """Who the caller is."""
        return pb.WhoAmIResponse(principal=call.principal.name, grants=_grants(call.principal.grants))

    async def CreateToken(self, request: pb.CreateTokenRequest, call: Call) -> pb.CreateTokenResponse:
        """Make a token, and tell its secret this once."""
        call.principal.require(Role.ADMIN)
        session, sequence = checks.session(request.options.session_id, request.options.sequence)
        secret = new_secret()
        token = _token(request.token, _token_id(session, sequence), digest(secret))
        await self._db.change(CreateToken(token))
        return pb.CreateTokenResponse(token=_info(token), secret=secret, session=self._session())

    async def ListTokens(self, request: pb.ListTokensRequest, call: Call) -> pb.ListTokensResponse:
        """Every token, the oldest first."""
        call.principal.require(Role.ADMIN)
        tokens = sorted(
            self._db.state.tokens.values(), key=lambda token: (token.created_at_ms, token.token_id)
        )
        return pb.ListTokensResponse(tokens=map(_info, tokens))

    async def RevokeToken(self, request: pb.RevokeTokenRequest, call: Call) -> pb.RevokeTokenResponse:
        """Make a token worthless, and end the streams that are open under it."""
        call.principal.require(Role.ADMIN)
        if not request.token_id:
            raise checks.invalid("token_id", "must not be empty")
        await self._db.change(RevokeToken(request.token_id))
        return pb.RevokeTokenResponse(session=self._session())

    async def QuarantineAuthor(
        self, request: pb.QuarantineAuthorRequest, call: Call
    ) -> pb.QuarantineAuthorResponse:
        """Leave an author's documents out of every answer."""
        call.principal.require(Role.ADMIN)
        author = _author(request.author)
        if not _is_text(request.reason, 0, _MAX_REASON):
            raise checks.invalid("reason", f"must have at most {_MAX_REASON} bytes and no control characters")
        await self._db.change(QuarantineAuthor(Quarantined(author, request.reason, _now_ms())))
        await self._db.run(self._db.shards.look_at_authors)
        return pb.QuarantineAuthorResponse(session=self._session())

    async def ReleaseAuthor(self, request: pb.ReleaseAuthorRequest, call: Call) -> pb.ReleaseAuthorResponse:
        """Show an author's documents again."""
        call.principal.require(Role.ADMIN)
        await self._db.change(ReleaseAuthor(_author(request.author)))
        return pb.ReleaseAuthorResponse(session=self._session())

    async def ListQuarantined(
        self, request: pb.ListQuarantinedRequest, call: Call
    ) -> pb.ListQuarantinedResponse:
        """Whose documents are left out, by name."""
        call.principal.require(Role.ADMIN)
        reply = pb.ListQuarantinedResponse()
        for author, each in sorted(self._db.state.quarantined.items()):
            reply.authors.add(author=author, reason=each.reason, since_ms=each.since_ms)
        return reply

    def _session(self) -> common_pb2.SessionToken:
        return convert.session_token(self._db.positions([]))


def _token_id(session: bytes, sequence: int) -> str:
    """A new id; of a request that comes again the same one, so that the token that nobody got is replaced."""
    if not session:
        return secrets.token_hex(8)
    return blake2b(session + sequence.to_bytes(8, "little"), digest_size=8).hexdigest()


def _author(name: str) -> str:
    if not _is_text(name, 1, _MAX_AUTHOR):
        raise checks.invalid("author", f"must have 1 to {_MAX_AUTHOR} bytes and no control characters")
    return name


def _is_text(value: str, least: int, most: int) -> bool:
    return least <= len(value.encode()) <= most and not any(map(checks.is_control, value))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _token(asked: pb.TokenInfo, token_id: str, hashed: bytes) -> Token:
    """The token that is asked for. RequestError INVALID_ARGUMENT."""
    name = asked.principal
    if not _PRINCIPAL.match(name):
        raise checks.invalid(
            "token.principal",
            f"{checks.short(name)} is no name: 1 to 128 of letters, digits and _ . @ : / + -, beginning with "
            "one of the first two",
        )
    if name in RESERVED:
        raise checks.invalid("token.principal", f"{name!r} is the name of callers without a token of theirs")
    now = _now_ms()
    if asked.expires_at_ms and not now < asked.expires_at_ms <= _LATEST_MS:
        problem = f"must be after now ({now}) and at most {_LATEST_MS}, or 0 for never"
        raise checks.invalid("token.expires_at_ms", problem)
    checks.between(asked.requests_per_second, 0, _MAX_RATE, "token.requests_per_second")
    checks.between(asked.concurrent_requests, 0, _MAX_CONCURRENT, "token.concurrent_requests")
    return Token(
        token_id=token_id,
        digest=hashed,
        principal=name,
        grants=_granted(asked.grants),
        created_at_ms=now,
        expires_at_ms=asked.expires_at_ms,
        requests_per_second=asked.requests_per_second,
        concurrent_requests=asked.concurrent_requests,
    )


def _granted(grants: Iterable[pb.Grant]) -> tuple[Grant, ...]:
    found: dict[str, Grant] = {}
    for at, grant in enumerate(grants):
        where = f"token.grants[{at}]"
        if at == _MAX_GRANTS:
            raise checks.invalid("token.grants", f"a token has at most {_MAX_GRANTS}", "LIMIT_EXCEEDED")
        if grant.collection:
            checks.name(grant.collection, f"{where}.collection")
        role = _ROLES.get(grant.role)
        if role is None:
            raise checks.invalid(f"{where}.role", "must be READ, WRITE or ADMIN")
        if grant.collection in found:
            raise checks.invalid(f"{where}.collection", f"{grant.collection!r} is granted twice")
        found[grant.collection] = Grant(grant.collection, role)
    if not found:
        raise checks.invalid("token.grants", "must not be empty")
    return tuple(found.values())


def _grants(grants: Iterable[Grant]) -> list[pb.Grant]:
    return [pb.Grant(collection=grant.collection, role=f"ROLE_{grant.role.name}") for grant in grants]


def _info(token: Token) -> pb.TokenInfo:
    return pb.TokenInfo(
        token_id=token.token_id,
        principal=token.principal,
        grants=_grants(token.grants),
        created_at_ms=token.created_at_ms,
        expires_at_ms=token.expires_at_ms,
        requests_per_second=token.requests_per_second,
        concurrent_requests=token.concurrent_requests,
    )
