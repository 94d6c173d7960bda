"""Token files. Standard library only: the command line reads them too."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

MIN_TOKEN_CHARACTERS = 16
MAX_TOKEN_CHARACTERS = 1_024


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


def digest(token: str) -> bytes:
    """The SHA-256 of a token: all that a node keeps of it (32 bytes)."""
    return hashlib.sha256(token.encode()).digest()
