"""The node's certificate: read, tried, and handed to gRPC or HTTP."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import structlog

_log = structlog.get_logger(__name__)

# A certificate that is about to expire is worth a warning while there is
# still time to replace it.
_SOON = timedelta(days=7)
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_NOT_YET_VALID = 9  # X509_V_ERR_CERT_NOT_YET_VALID


class TlsError(Exception):
    """A certificate or its key cannot be used; `str()` names the file."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its chain and its key, as PEM, found to fit together.

    `warning` says what clients will dislike about it; empty for nothing.
    """

    chain: bytes
    key: bytes
    warning: str


def load_certificate(cert: Path, key: Path) -> Certificate:
    """Reads a PEM certificate (chain) and its unencrypted PEM key.

    Raises TlsError where a file is missing or not PEM, or where the key is
    encrypted or another certificate's. Expiry is a warning, not an error: a
    node that refuses to restart would turn a nuisance into an outage.
    """
    chain, secret = _read(cert), _read(key)
    return Certificate(chain, secret, _dislike(server_context(cert, key), cert))


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer for a server that asks its clients for no certificate.

    Raises TlsError, as `load_certificate` does.
    """
    for path in (cert, key):
        _read(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password=_refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(f"{key}: is not the key of {cert}") from None
        raise TlsError(f"{cert}, {key}: not a PEM certificate and its PEM key") from None
    return context


def server_credentials(cert: Path, key: Path) -> grpc.ServerCredentials:
    """Credentials for the public port: TLS, no client certificates.

    Raises TlsError; logs a warning about a certificate that clients will
    refuse, or soon will.
    """
    certificate = load_certificate(cert, key)
    if certificate.warning:
        _log.warning("certificate", file=str(cert), warning=certificate.warning)
    return grpc.ssl_server_credentials([(certificate.key, certificate.chain)])


def _refuse_password() -> str:
    raise TlsError("the TLS key is encrypted; a node starts without anyone to ask: decrypt it first")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path}: cannot be read: {error.strerror}") from None


def _dislike(server: ssl.SSLContext, cert: Path) -> str:
    """What a client that trusts exactly this certificate would say to it.

    The standard library decodes a certificate only at the end of a handshake,
    so we hold one, in memory, with ourselves.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cert)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(down, up)
    there = server.wrap_bio(up, down, server_side=True)
    try:
        while not _handshake(here) or not _handshake(there):
            _handshake(there)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            return "has expired; clients refuse it"
        if error.verify_code == _NOT_YET_VALID:
            return "is not valid yet; check this machine's clock"
        return f"clients may refuse it: {error.verify_message}"
    return _soon(here.getpeercert() or {})


def _handshake(side: ssl.SSLObject) -> bool:
    """One step; whether that side is done."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _soon(decoded: object) -> str:
    expires = ssl.cert_time_to_seconds(str(decoded["notAfter"])) if isinstance(decoded, dict) else 0
    end = datetime.fromtimestamp(expires, UTC)
    return f"expires soon, on {end:%Y-%m-%d %H:%M} UTC" if end - datetime.now(UTC) < _SOON else ""
