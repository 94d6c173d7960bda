"""TLS, tokens, and who may do what."""

from vecdb.security.auth import ANONYMOUS, ROOT, Authenticator, AuthError, Grant, Principal, Role
from vecdb.security.tokens import TokenFileError, read_token_file

__all__ = [
    "ANONYMOUS",
    "ROOT",
    "AuthError",
    "Authenticator",
    "Grant",
    "Principal",
    "Role",
    "TokenFileError",
    "read_token_file",
]
