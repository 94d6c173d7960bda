"""What keys mean together, and what lies at the paths they name."""

from __future__ import annotations

from pathlib import Path

from vecdb.config.errors import ConfigError
from vecdb.config.settings import Settings
from vecdb.security.tokens import TokenFileError, read_token_file


def check(settings: Settings) -> None:
    """Refuses a configuration that must not or cannot run.

    Raises ConfigError.
    """
    _check_membership(settings)
    _check_tls(settings)
    _check_token(settings)
    _check_endpoints(settings)
    _check_exposure(settings)
    _check_data_dir(settings)


def _check_membership(settings: Settings) -> None:
    if settings.join is not None:
        raise ConfigError(
            f"join = {settings.join}: this version runs a single node; it cannot join a cluster yet. "
            "Leave --join out to run a node of its own"
        )
    if settings.invite_file is not None:
        raise ConfigError(
            f"invite_file = {settings.invite_file}: goes with --join, and this version runs a single node"
        )


def _check_tls(settings: Settings) -> None:
    if (settings.tls_cert is None) != (settings.tls_key is None):
        given, missing = ("tls_cert", "tls_key") if settings.tls_cert else ("tls_key", "tls_cert")
        raise ConfigError(f"{missing}: is required with {given}; TLS takes a certificate and its key")
    for key, path in (("tls_cert", settings.tls_cert), ("tls_key", settings.tls_key)):
        if path is not None and not path.is_file():
            raise ConfigError(f"{key} = {path}: no such file")


def _check_token(settings: Settings) -> None:
    if settings.token_file is None:
        return
    try:
        read_token_file(settings.token_file)
    except TokenFileError as error:
        raise ConfigError(f"token_file = {settings.token_file}: {error}") from None


def _check_endpoints(settings: Settings) -> None:
    taken: dict[tuple[str, int], str] = {}
    for key in ("listen", "http_listen"):
        endpoint = getattr(settings, key)
        if endpoint.port and (other := taken.setdefault((endpoint.host, endpoint.port), key)) != key:
            raise ConfigError(f"{key} = {endpoint}: is {other} already; each needs a port of its own")


def _check_exposure(settings: Settings) -> None:
    """Off loopback, nobody unknown may connect and nobody may listen in."""
    if settings.insecure:
        return
    missing = []
    if settings.tls_cert is None:
        missing.append("--tls-cert and --tls-key")
    if settings.token_file is None:
        missing.append("--token-file")
    for key in ("listen", "http_listen"):
        endpoint = getattr(settings, key)
        if missing and not endpoint.is_loopback:
            raise ConfigError(
                f"{key} = {endpoint}: is reachable from other machines; add {' and '.join(missing)}, "
                f"or keep to 127.0.0.1, or pass --insecure if the network is trusted"
            )


def _check_data_dir(settings: Settings) -> None:
    path = settings.data_dir
    if path.exists() and not path.is_dir():
        raise ConfigError(f"data_dir = {path}: is not a folder")
    exposed = not (settings.listen.is_loopback and settings.http_listen.is_loopback)
    if exposed and not settings.init and _is_empty(path):
        raise ConfigError(
            f"data_dir = {path}: is empty; pass --init to begin a new cluster there "
            "(so that a lost disk or a mistyped path does not go unnoticed)"
        )


def _is_empty(path: Path) -> bool:
    try:
        return next(path.iterdir(), None) is None
    except FileNotFoundError:
        return True
    except OSError as error:
        raise ConfigError(f"data_dir = {path}: cannot be read: {error.strerror}") from None
