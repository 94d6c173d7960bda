"""Callers, and what they may do.

Roles are those of `vecdb.v1.Access`: read, write (and read), admin (and
everything else), on one collection or on all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum


class Role(IntEnum):
    """What a caller may do; each role includes the ones below. Numbers as on the wire."""

    READ = 1
    WRITE = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Grant:
    """A role on one collection, by its name or an alias, or on all of them where `collection` is empty."""

    collection: str
    role: Role


class AuthError(Exception):
    """The call is refused.

    `code` is the name of the gRPC status, "UNAUTHENTICATED" or
    "PERMISSION_DENIED", which is also the `reason` in its ErrorInfo; `str()`
    is for people and never holds what the caller sent as a token. `metadata`
    is for programs.
    """

    def __init__(self, code: str, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = code
        self.metadata = metadata


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `name` is the author of what it writes, `grants` what it was given.

    `role` is its role on every collection; None where it has none.
    """

    name: str
    grants: tuple[Grant, ...]
    role: Role | None = field(init=False)
    _roles: dict[str, Role] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        roles: dict[str, Role] = {}
        for grant in self.grants:
            roles[grant.collection] = max(grant.role, roles.get(grant.collection, grant.role))
        object.__setattr__(self, "_roles", roles)
        object.__setattr__(self, "role", roles.get(""))

    def may(self, role: Role, names: Iterable[str]) -> bool:
        """Whether the caller has the role on everything, or by one of these names of a collection."""
        if self.role is not None and self.role >= role:
            return True
        return any(self._roles.get(name, 0) >= role for name in names if name)

    def require(self, role: Role, collection: str = "") -> None:
        """Raises AuthError (PERMISSION_DENIED) unless the caller has the role.

        An empty collection stands for what concerns all of them.
        """
        if not self.may(role, (collection,)):
            raise self.refusal(role, collection)

    def refusal(self, role: Role, collection: str) -> AuthError:
        """What a caller without the role is told: what was needed, and nothing of what there is."""
        where = f"collection {collection!r}" if collection else "all collections"
        message = f"{self.name} needs the role {role.name.lower()} on {where}"
        return AuthError("PERMISSION_DENIED", message, role=role.name.lower(), collection=collection)


def _admin(name: str) -> Principal:
    return Principal(name, (Grant("", Role.ADMIN),))


ANONYMOUS = _admin("anonymous")
ROOT = _admin("root")

#: Names that a token cannot be given: the callers who need none of the catalogue's.
RESERVED = frozenset({ANONYMOUS.name, ROOT.name})
