"""Certificates are tried before they are used."""

import socket
import ssl
import threading
from concurrent import futures
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
import structlog

from tests.support.certificates import KeyPair, make_certificate
from vecdb.security.tls import TlsError, load_certificate, server_context, server_credentials


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_a_good_certificate(pair: KeyPair) -> None:
    """It comes back as it is on disk, with nothing to say against it."""
    certificate = load_certificate(pair.cert, pair.key)
    assert certificate.chain == pair.cert.read_bytes()
    assert certificate.key == pair.key.read_bytes()
    assert certificate.warning == ""


def test_grpc_serves_with_it(pair: KeyPair) -> None:
    """A channel that trusts the certificate connects; a plaintext one does not."""
    with futures.ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        port = server.add_secure_port("127.0.0.1:0", server_credentials(pair.cert, pair.key))
        server.start()
        credentials = grpc.ssl_channel_credentials(pair.cert.read_bytes())
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            grpc.channel_ready_future(channel).result(timeout=20)
        with grpc.insecure_channel(f"localhost:{port}") as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/x/y")(b"", timeout=20)
        server.stop(None).wait()


def test_old_tls_is_refused(pair: KeyPair) -> None:
    """Nothing older than TLS 1.2 is spoken."""
    assert server_context(pair.cert, pair.key).minimum_version is ssl.TLSVersion.TLSv1_2


def test_another_certificates_key(pair: KeyPair, tmp_path: Path) -> None:
    """A key that does not fit is named, with the certificate it should fit."""
    other = make_certificate(tmp_path, "other")
    with pytest.raises(TlsError, match=r"other\.key: is not the key of .*node\.pem"):
        load_certificate(pair.cert, other.key)


def test_an_encrypted_key(tmp_path: Path) -> None:
    """There is nobody to ask for a passphrase when a node starts."""
    locked = make_certificate(tmp_path, "locked", passphrase="long enough")
    with pytest.raises(TlsError, match="encrypted"):
        load_certificate(locked.cert, locked.key)


def test_files_that_are_none(pair: KeyPair, tmp_path: Path) -> None:
    """A missing file, and one that is no PEM, are named."""
    with pytest.raises(TlsError, match=r"gone\.pem: cannot be read: No such file"):
        load_certificate(tmp_path / "gone.pem", pair.key)
    with pytest.raises(TlsError, match=r"gone\.key: cannot be read: No such file"):
        load_certificate(pair.cert, tmp_path / "gone.key")
    junk = tmp_path / "junk.pem"
    junk.write_text("hello")
    with pytest.raises(TlsError, match=r"junk\.pem.*not a PEM"):
        load_certificate(junk, pair.key)


@pytest.mark.parametrize(
    ("begins", "ends", "words"),
    [
        (-9, -2, "has expired"),
        (-9, 3, "expires soon, on "),
        (2, 9, "not valid yet"),
    ],
)
def test_validity_is_a_warning(tmp_path: Path, begins: int, ends: int, words: str) -> None:
    """A node starts with a certificate that clients refuse, or soon will, and says so in its log."""
    old = make_certificate(tmp_path, "old", begins=timedelta(days=begins), ends=timedelta(days=ends))
    with structlog.testing.capture_logs() as lines:
        assert server_credentials(old.cert, old.key) is not None
    (line,) = lines
    assert words in line["warning"]
    assert line["file"] == str(old.cert)


def test_what_else_clients_dislike_is_a_warning(tmp_path: Path) -> None:
    """A certificate for another purpose works for nobody who checks: its operator is told."""
    odd = make_certificate(tmp_path, "odd", extension="extendedKeyUsage = clientAuth")
    assert "clients may refuse it: " in load_certificate(odd.cert, odd.key).warning


def test_an_encrypted_connection_end_to_end(pair: KeyPair) -> None:
    """The context serves a client that checks name and chain."""
    here, there = socket.socketpair()
    server = server_context(pair.cert, pair.key)

    def serve() -> None:
        with server.wrap_socket(there, server_side=True) as stream:
            stream.sendall(stream.recv(5)[::-1])

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile=pair.cert)
    with client.wrap_socket(here, server_hostname="localhost") as stream:
        stream.sendall(b"hello")
        assert stream.recv(5) == b"olleh"
    thread.join()
