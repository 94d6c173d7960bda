"""Tokens, and the files that hold them. Standard library only: the command line reads them too."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from vecdb.security.principals import Grant

MIN_TOKEN_CHARACTERS = 16
MAX_TOKEN_CHARACTERS = 1_024


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the catalogue: everything but its secret, of which the SHA-256 is kept.

    `principal` is the author of what is written under it. Times are in
    milliseconds since the Unix epoch; 0 is never, and no limit.
    """

    token_id: str
    digest: bytes
    principal: str
    grants: tuple[Grant, ...]
    created_at_ms: int
    expires_at_ms: int = 0
    requests_per_second: int = 0
    concurrent_requests: int = 0


class TokenFileError(Exception):
    """A token file cannot be used; `str()` says why and what to do."""


def read_token_file(path: Path) -> str:
    """The token in a file, without the white space around it.

    Raises TokenFileError where the file is missing, readable by others (then
    it is no secret), or does not hold 16 to 1,024 printable ASCII characters
    without spaces (what an HTTP/2 header can carry).
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            raw = file.read(MAX_TOKEN_CHARACTERS * 2)
    except OSError as error:
        raise TokenFileError(f"cannot be read: {error.strerror}") from None
    if mode & stat.S_IRWXO:
        raise TokenFileError(f"is open to every user (mode {mode:04o}); run: chmod 600 {path}")
    token = raw.decode("ascii", errors="replace").strip()
    if len(token) < MIN_TOKEN_CHARACTERS:
        raise TokenFileError(
            f"holds {len(token)} characters; a token has at least {MIN_TOKEN_CHARACTERS}. "
            f"Make one with: openssl rand -base64 32 > {path}"
        )
    if len(token) > MAX_TOKEN_CHARACTERS or not all(33 <= ord(character) <= 126 for character in token):
        raise TokenFileError(
            f"must hold one token of at most {MAX_TOKEN_CHARACTERS} printable ASCII characters, no spaces"
        )
    return token


def new_secret() -> str:
    """256 random bits, base64url without padding (43 characters)."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """The SHA-256 of a token: all that a node keeps of it (32 bytes)."""
    return hashlib.sha256(token.encode()).digest()
