"""Commands about who may do what, and what they do to the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from vecdb.catalog.records import CatalogState
from vecdb.catalog.results import CatalogResult
from vecdb.security import Token

MAX_TOKENS: Final = 10_000
# How long a token that has expired stays in lists, by the clocks of those who make others.
_EXPIRED_KEPT_MS: Final = 30 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class CreateToken:
    """Add a token. One with the same id is replaced: its secret never reached whoever asked for it."""

    token: Token


@dataclass(frozen=True, slots=True)
class RevokeToken:
    """Remove a token by its id."""

    token_id: str


def create_token(state: CatalogState, command: CreateToken) -> tuple[CatalogState, CatalogResult]:
    """Add it, and forget tokens that expired long before it was made."""
    token = command.token
    since = token.created_at_ms - _EXPIRED_KEPT_MS
    kept = {
        held.token_id: held
        for held in state.tokens.values()
        if held.token_id != token.token_id and not 0 < held.expires_at_ms < since
    }
    if len(kept) >= MAX_TOKENS:
        message = f"there are {MAX_TOKENS} tokens, which is the limit; revoke some"
        return state, CatalogResult("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", message)
    tokens = MappingProxyType({**kept, token.token_id: token})
    return replace(state, tokens=tokens), CatalogResult()


def revoke_token(state: CatalogState, command: RevokeToken) -> tuple[CatalogState, CatalogResult]:
    """Remove it, if it is there."""
    if command.token_id not in state.tokens:
        message = f"there is no token {command.token_id!r}"
        return state, CatalogResult("NOT_FOUND", "TOKEN_NOT_FOUND", message)
    left = {name: token for name, token in state.tokens.items() if name != command.token_id}
    return replace(state, tokens=MappingProxyType(left)), CatalogResult()
