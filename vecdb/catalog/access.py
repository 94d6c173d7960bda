"""Commands about who may do what, and what they do to the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from vecdb.catalog.records import CatalogState, Quarantined
from vecdb.catalog.results import CatalogResult
from vecdb.security import Token

MAX_TOKENS: Final = 10_000
MAX_QUARANTINED: Final = 1_000
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


@dataclass(frozen=True, slots=True)
class QuarantineAuthor:
    """Leave an author's documents out of answers. Where they are already, the reason is replaced."""

    quarantined: Quarantined


@dataclass(frozen=True, slots=True)
class ReleaseAuthor:
    """Show an author's documents again."""

    author: str


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


def quarantine_author(state: CatalogState, command: QuarantineAuthor) -> tuple[CatalogState, CatalogResult]:
    """Add the author, or change the reason; since when stays."""
    new = command.quarantined
    held = state.quarantined.get(new.author)
    if held is not None:
        new = replace(new, since_ms=held.since_ms)
    elif len(state.quarantined) >= MAX_QUARANTINED:
        message = f"{MAX_QUARANTINED} authors are quarantined, which is the limit; delete what they wrote"
        return state, CatalogResult("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", message)
    quarantined = MappingProxyType({**state.quarantined, new.author: new})
    return replace(state, quarantined=quarantined), CatalogResult()


def release_author(state: CatalogState, command: ReleaseAuthor) -> tuple[CatalogState, CatalogResult]:
    """Remove the author, if it is there."""
    if command.author not in state.quarantined:
        message = f"author {command.author!r} is not quarantined"
        return state, CatalogResult("NOT_FOUND", "AUTHOR_NOT_FOUND", message)
    left = {author: each for author, each in state.quarantined.items() if author != command.author}
    return replace(state, quarantined=MappingProxyType(left)), CatalogResult()
