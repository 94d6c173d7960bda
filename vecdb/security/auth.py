"""Who calls: the `authorization` header of a call turned into the bearer of a token.

There is the node's own root token, from a file, and there are the tokens of
the catalogue. A node without a root token is open: whoever sends no token is
"anonymous", an admin. A token that is sent must be good there too, so that
what is written under it has its author.
"""

from __future__ import annotations

import hmac
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vecdb.security.limits import Throttle
from vecdb.security.principals import ANONYMOUS, ROOT, AuthError, Principal
from vecdb.security.tokens import Token, digest, read_token_file

_SCHEME = "bearer "
# Longer than the longest token with its scheme; hashing more would be a gift
# to whoever sends it.
_MAX_HEADER = 2_048
# Headers that proved right are kept so that a call costs a look-up instead of
# a hash; only the usual spelling of the scheme is, so a token is kept once.
_KEPT_SCHEME = "Bearer "


class Bearer:
    """A caller as its token makes it: the same object for as long as the token is good.

    `expires_at` is in seconds since the Unix epoch, infinite for never.
    Safe to share between threads, its `throttle` (None for no limits) apart.
    """

    __slots__ = ("_lock", "_on_revoked", "_revoked", "expires_at", "principal", "throttle", "token")

    def __init__(self, principal: Principal, token: Token | None = None) -> None:
        self.principal = principal
        self.token = token
        self.expires_at = token.expires_at_ms / 1000 if token and token.expires_at_ms else math.inf
        self.throttle = _throttle_of(token)
        self._revoked = False
        self._lock = threading.Lock()
        self._on_revoked: list[Callable[[], object]] = []

    def check(self) -> None:
        """AuthError (UNAUTHENTICATED) once the token is revoked or has expired."""
        if self._revoked or self.expires_at <= time.time():
            raise self.refusal()

    def refusal(self) -> AuthError:
        """What a caller is told whose token is not good any more."""
        what = "was revoked" if self._revoked else "has expired"
        return AuthError("UNAUTHENTICATED", f"the token {what}")

    def seconds_left(self) -> float | None:
        """Until the token expires; None for never."""
        return None if self.expires_at == math.inf else max(0.0, self.expires_at - time.time())

    @contextmanager
    def watched(self, on_revoked: Callable[[], object]) -> Iterator[None]:
        """Have `on_revoked` called, in any thread, if the token is revoked meanwhile."""
        with self._lock:
            self._on_revoked.append(on_revoked)
        try:
            yield
        finally:
            with self._lock:
                self._on_revoked.remove(on_revoked)

    def revoke(self) -> None:
        """The token is good no longer; tells whoever watches."""
        self._revoked = True
        with self._lock:
            watching = list(self._on_revoked)
        for tell in watching:
            tell()


@dataclass(frozen=True, slots=True)
class _Table:
    """The tokens at one moment, and the headers that were found to carry them."""

    by_id: Mapping[str, Bearer] = field(default_factory=dict)
    by_digest: Mapping[bytes, Bearer] = field(default_factory=dict)
    seen: dict[str, Bearer] = field(default_factory=dict)


class Authenticator:
    """Turns the `authorization` header of a call into a bearer.

    `root` is the SHA-256 of the root token; None leaves the node open. That is
    for loopback, or for operators who said `--insecure`. Safe to share between
    threads; `follow` is for one at a time.
    """

    __slots__ = ("_anonymous", "_followed", "_root", "_root_digest", "_table")

    def __init__(self, root: bytes | None) -> None:
        self._root_digest = root
        self._root = Bearer(ROOT)
        self._anonymous = None if root is not None else Bearer(ANONYMOUS)
        self._table = _Table()
        self._followed: Mapping[str, Token] = {}

    @classmethod
    def from_token_file(cls, path: Path | None) -> Authenticator:
        """Raises TokenFileError. No path makes an open one."""
        return cls(None if path is None else digest(read_token_file(path)))

    def follow(self, tokens: Mapping[str, Token]) -> None:
        """From now on these, by their ids, are the tokens of the catalogue; bearers of others are revoked."""
        if tokens is self._followed:
            return
        held = self._table.by_id
        by_id = {}
        for token_id, token in tokens.items():
            bearer = held.get(token_id)
            by_id[token_id] = bearer if bearer is not None and bearer.token == token else _bearer_of(token)
        by_digest = {bearer.token.digest: bearer for bearer in by_id.values() if bearer.token is not None}
        # Headers that were seen go with the table that knew them.
        self._table = _Table(by_id, by_digest)
        self._followed = tokens
        for token_id, bearer in held.items():
            if by_id.get(token_id) is not bearer:
                bearer.revoke()

    def authenticate(self, authorization: str | None) -> Bearer:
        """The bearer behind `Bearer <token>` (RFC 6750).

        Raises AuthError (UNAUTHENTICATED) where the header is wrong, or missing
        although the node is not open, or where the token has expired.
        """
        if authorization is None:
            if self._anonymous is not None:
                return self._anonymous
            raise AuthError("UNAUTHENTICATED", "a token is required: send authorization: Bearer <token>")
        table = self._table
        # By Python's keyed hash, so the time of a look-up tells nothing about
        # a token that is not in it.
        bearer = table.seen.get(authorization)
        if bearer is None:
            bearer = self._verify(authorization, table)
        bearer.check()
        return bearer

    def _verify(self, authorization: str, table: _Table) -> Bearer:
        scheme, token = authorization[: len(_SCHEME)], authorization[len(_SCHEME) :]
        if scheme.lower() != _SCHEME or len(authorization) > _MAX_HEADER:
            raise AuthError("UNAUTHENTICATED", "the authorization header must be: Bearer <token>")
        sent = digest(token)
        if self._root_digest is not None and hmac.compare_digest(sent, self._root_digest):
            bearer: Bearer | None = self._root
        else:
            # What is looked up is a hash, which nobody can steer byte by byte.
            bearer = table.by_digest.get(sent)
        if bearer is None:
            raise AuthError("UNAUTHENTICATED", "the token is not valid")
        if scheme == _KEPT_SCHEME:
            table.seen[authorization] = bearer
        return bearer


def _bearer_of(token: Token) -> Bearer:
    return Bearer(Principal(token.principal, token.grants), token)


def _throttle_of(token: Token | None) -> Throttle | None:
    if token is None or not (token.requests_per_second or token.concurrent_requests):
        return None
    return Throttle(token.requests_per_second, token.concurrent_requests)
