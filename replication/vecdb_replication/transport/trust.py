"""Who a peer is: certificates from files, and the names in them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import grpc

from vecdb_replication.transport.errors import Refused, TrustError

AuthContext = Mapping[str, Iterable[bytes]]
"""What gRPC tells a server of a client's certificate."""


class Trust(Protocol):
    """Certificates, and whose they are. Every connection is mutual TLS.

    gRPC for Python has no hook in the handshake. So a dialler relies on the
    handshake itself, which finds `target` in the certificate of whoever
    answers, under anchors that may be the peer's own; and a server asks
    `identify` on each stream, since its handshake proves only that *some* peer
    is there.
    """

    def server(self) -> grpc.ServerCredentials:
        """Credentials for the port, which asks for a client's certificate. TrustError."""
        ...

    def channel(self, peer: str) -> grpc.ChannelCredentials:
        """Credentials for a connection to a peer. TrustError."""
        ...

    def target(self, peer: str) -> str:
        """The name that the certificate of a peer must bear: a DNS name. Refused for an unknown peer."""
        ...

    def identify(self, auth: AuthContext) -> str:
        """The peer whose certificate this is. Refused where it is nobody's."""
        ...


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate (chain), its unencrypted key and the anchors (`ca`) of the peers', all PEM."""

    ca: Path
    cert: Path
    key: Path


class FileTrust:
    """Certificates that an authority of the cluster's own has signed.

    `names` gives the DNS name in each peer's certificate: a subject alternative
    name of that kind. A server takes nothing else for it. A dialler takes the
    common name of a certificate without alternative names, for that is what
    gRPC's handshake does: the authority must sign none. The files are read again for
    each connection, so that a renewed certificate needs no restart. Raises
    TrustError where they cannot be used.
    """

    def __init__(self, files: TlsFiles, names: Mapping[str, str]) -> None:
        self._files = files
        self._names = {peer: name.lower() for peer, name in names.items()}
        self._peers = {name: peer for peer, name in self._names.items()}
        if len(self._peers) != len(self._names):
            raise ValueError("two peers with the same name in their certificates")
        _check(files)

    def server(self) -> grpc.ServerCredentials:
        """See `Trust.server`."""
        self._served = _read(self._files)
        # gRPC takes None for "as before", which its stubs do not know.
        again = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._renewed)
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._served), again, require_client_authentication=True
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """For the next handshake; None for what there was before, also while the files are being replaced.

        gRPC swaps the configuration without looking whether another handshake uses the old one, and
        crashes when one does (1.85: with a new one for each of eight at a time, within a second). So
        there is a new one only where the files have changed, which is once a month.
        """
        try:
            found = _read(self._files)
            if found == self._served:
                return None
            _check(self._files)
        except TrustError:
            return None
        self._served = found
        return _configuration(found)

    def channel(self, peer: str) -> grpc.ChannelCredentials:
        """See `Trust.channel`."""
        ca, cert, key = _read(self._files)
        return grpc.ssl_channel_credentials(ca, key, cert)

    def target(self, peer: str) -> str:
        """See `Trust.target`."""
        try:
            return self._names[peer]
        except KeyError:
            raise Refused(f"nothing is known of a certificate of {peer!r}") from None

    def identify(self, auth: AuthContext) -> str:
        """See `Trust.identify`."""
        # Not all alternative names, among which gRPC mixes URIs and e-mail addresses.
        names = [name.decode(errors="replace").lower() for name in auth.get("peer_dns", ())]
        found = {self._peers[name] for name in names if name in self._peers}
        if len(found) != 1:
            raise Refused(f"a certificate for {', '.join(names) or 'nobody'}, which is no one peer's")
        return found.pop()


def _configuration(pem: tuple[bytes, bytes, bytes]) -> grpc.ServerCertificateConfiguration:
    ca, cert, key = pem
    return grpc.ssl_server_certificate_configuration([(key, cert)], ca)


def _read(files: TlsFiles) -> tuple[bytes, bytes, bytes]:
    try:
        return files.ca.read_bytes(), files.cert.read_bytes(), files.key.read_bytes()
    except OSError as error:
        raise TrustError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _check(files: TlsFiles) -> None:
    """gRPC says nothing of what it cannot use, and then fails each handshake."""
    _read(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.cert, files.key, password=_refuse_password)
    except ssl.SSLError as error:
        raise TrustError(
            f"{files.cert}, {files.key}: not a certificate and its key ({error.reason})"
        ) from None
    try:
        context.load_verify_locations(files.ca)
    except ssl.SSLError as error:
        raise TrustError(f"{files.ca}: holds no certificates ({error.reason})") from None


def _refuse_password() -> str:
    raise TrustError("the TLS key is encrypted; a node starts without anyone to ask: decrypt it first")
