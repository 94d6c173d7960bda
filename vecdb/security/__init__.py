"""TLS, tokens, and who may do what."""

from vecdb.security.auth import Authenticator, Bearer
from vecdb.security.limits import LimitReached, Throttle
from vecdb.security.principals import ANONYMOUS, RESERVED, ROOT, AuthError, Grant, Principal, Role
from vecdb.security.tokens import Token, TokenFileError, digest, new_secret, read_token_file

__all__ = [
    "ANONYMOUS",
    "RESERVED",
    "ROOT",
    "AuthError",
    "Authenticator",
    "Bearer",
    "Grant",
    "LimitReached",
    "Principal",
    "Role",
    "Throttle",
    "Token",
    "TokenFileError",
    "digest",
    "new_secret",
    "read_token_file",
]
