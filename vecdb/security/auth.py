"""Who calls, and what they may do.

Roles are those of `vecdb.v1.Access`: read, write (and read), admin (and
everything else), on one collection or on all. So far there is one token, the
node's root token; what it opens is every collection, as admin.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from vecdb.security.tokens import digest, read_token_file

_SCHEME = "bearer "
# Longer than the longest token with its scheme; hashing more would be a gift
# to whoever sends it.
_MAX_HEADER = 2_048


class Role(IntEnum):
    """What a caller may do; each role includes the ones below. Numbers as on the wire."""

    READ = 1
    WRITE = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Grant:
    """A role on one collection, or on all of them where `collection` is empty."""

    collection: str
    role: Role


class AuthError(Exception):
    """The call is refused.

    `code` is the name of the gRPC status, "UNAUTHENTICATED" or
    "PERMISSION_DENIED", which is also the `reason` in its ErrorInfo; `str()`
    is for people and never holds what the caller sent.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = code


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `name` is the author of what it writes.

    `role` is its role on every collection (None where it has none), `grants`
    everything it was given.
    """

    name: str
    role: Role | None
    grants: tuple[Grant, ...]

    def role_on(self, collection: str) -> Role | None:
        """The highest role on a collection; None where there is none."""
        roles = [grant.role for grant in self.grants if grant.collection in ("", collection)]
        return max(roles, default=None)

    def require(self, role: Role, collection: str = "") -> None:
        """Raises AuthError (PERMISSION_DENIED) unless the caller has the role.

        An empty collection stands for what concerns all of them.
        """
        if self.role is not None and self.role >= role:
            return
        held = self.role_on(collection)
        if held is None or held < role:
            where = f"collection {collection!r}" if collection else "the whole node"
            raise AuthError("PERMISSION_DENIED", f"{self.name} needs the role {role.name.lower()} on {where}")


def _admin(name: str) -> Principal:
    return Principal(name, Role.ADMIN, (Grant("", Role.ADMIN),))


ANONYMOUS = _admin("anonymous")
ROOT = _admin("root")


class Authenticator:
    """Turns the `authorization` header of a call into a principal.

    `root` is the SHA-256 of the root token; None leaves the node open: every
    caller is "anonymous", an admin. That is for loopback, or for operators who
    said `--insecure`. Safe to share between threads.
    """

    __slots__ = ("_root", "_seen")

    def __init__(self, root: bytes | None) -> None:
        self._root = root
        # Headers that proved right, so that a call costs a look-up instead of
        # a hash; bounded, because only the usual spelling of the scheme is
        # kept. The look-up goes by Python's keyed hash, so its time tells nothing about a token
        # that is not in it.
        self._seen: dict[str, Principal] = {}

    @classmethod
    def from_token_file(cls, path: Path | None) -> Authenticator:
        """Raises TokenFileError. No path makes an open one."""
        return cls(None if path is None else digest(read_token_file(path)))

    @property
    def is_open(self) -> bool:
        """Whether everyone is let in."""
        return self._root is None

    def authenticate(self, authorization: str | None) -> Principal:
        """The principal behind `Bearer <token>` (RFC 6750).

        Raises AuthError (UNAUTHENTICATED) where the header is missing or wrong.
        """
        if self._root is None:
            return ANONYMOUS
        if authorization is None:
            raise AuthError("UNAUTHENTICATED", "a token is required: send authorization: Bearer <token>")
        principal = self._seen.get(authorization)
        return principal if principal is not None else self._verify(authorization, self._root)

    def _verify(self, authorization: str, root: bytes) -> Principal:
        scheme, token = authorization[: len(_SCHEME)], authorization[len(_SCHEME) :]
        if scheme.lower() != _SCHEME or len(authorization) > _MAX_HEADER:
            raise AuthError("UNAUTHENTICATED", "the authorization header must be: Bearer <token>")
        if not hmac.compare_digest(digest(token), root):
            raise AuthError("UNAUTHENTICATED", "the token is not valid")
        if scheme == "Bearer ":
            self._seen[authorization] = ROOT
        return ROOT
