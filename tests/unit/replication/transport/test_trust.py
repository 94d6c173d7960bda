"""Who is let in: certificates, names, clusters, versions, and nothing without them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs
from vecdb_proto.peer.v1 import peer_pb2
from vecdb_replication.transport import FileTrust, Refused, TlsFiles, TransportOptions, TrustError
from vecdb_replication.transport.codec import encode_hello
from vecdb_replication.transport.wire import open_channel, open_stream

from tests.unit.replication.host.machines import until
from tests.unit.replication.transport.peers import (
    CLUSTER,
    PEERS,
    SECONDS,
    Certificates,
    Node,
    free_port,
    heartbeat,
    join,
    node,
    said,
)


async def problem(dialler: Node, words: str) -> None:
    """Wait until the dialler says why there is no stream, and see that there never was one."""
    await until(lambda: words in dialler.transport.status()[0].problem)
    assert dialler.transport.status()[0].connects == 0


async def refused(dialler: Node, server: Node, words: str) -> None:
    """Connect n1 with n2, and see the server refuse with these words, in its log and to the dialler."""
    with capture_logs() as logs:
        server.transport.add("n1", "127.0.0.1:1")
        dialler.transport.add("n2", f"127.0.0.1:{server.port}")
        await problem(dialler, words)
        lines = [line for line in logs if line["event"] == "peer refused"]
        assert words in lines[0]["problem"]
        assert server.transport.status()[0].connects == 0


async def test_a_certificate_of_another_authority_is_refused(certificates: Certificates) -> None:
    """Though it bears the right name. The handshake fails, and the dialler logs why, once."""
    async with node(certificates.peers["n2"], "n2") as two, node(certificates.stranger, "n1") as one:
        two.transport.add("n1", "127.0.0.1:1")
        with capture_logs() as logs:
            one.transport.add("n2", f"127.0.0.1:{two.port}")
            await problem(one, "CERTIFICATE_VERIFY_FAILED")
            assert [line["peer"] for line in logs if line["event"] == "no stream"] == ["n2"]
            assert two.transport.status()[0].connects == 0


async def test_a_server_by_the_right_authority_but_with_another_name_is_refused(
    certificates: Certificates,
) -> None:
    """The handshake looks for the name of the very peer that is dialled."""
    async with node(certificates.peers["n3"], "n2") as two, node(certificates.peers["n1"], "n1") as one:
        one.transport.add("n2", f"127.0.0.1:{two.port}")
        await problem(one, "UNAVAILABLE")


async def test_a_client_whose_certificate_is_nobodys_is_refused(certificates: Certificates) -> None:
    """Its authority is right, and its names are no peer's; nor is a common name worth anything."""
    async with node(certificates.peers["n2"], "n2") as two, node(certificates.nobody, "n1") as one:
        await refused(one, two, "no one peer's")


async def test_names_of_other_kinds_are_nobodys(certificates: Certificates) -> None:
    """A URI or an e-mail address that reads like a peer's DNS name neither makes nor unmakes that peer."""
    async with node(certificates.peers["n2"], "n2") as two:
        async with node(certificates.lookalike, "n1") as one:
            await refused(one, two, "no one peer's")
        async with node(certificates.mixed, "n1") as one:
            one.transport.add("n2", f"127.0.0.1:{two.port}")
            async with asyncio.timeout(SECONDS):
                await one.transport.connected("n2")


async def test_a_client_that_is_no_peer_here_is_refused(certificates: Certificates) -> None:
    """A good certificate is no admission."""
    async with node(certificates.peers["n2"], "n2") as two, node(certificates.peers["n1"], "n1") as one:
        one.transport.add("n2", f"127.0.0.1:{two.port}")
        await problem(one, "no peer of this node")


async def test_a_client_that_says_it_is_another_is_refused(certificates: Certificates) -> None:
    """What counts is the certificate, and a hello that differs from it is a mistake somewhere."""
    async with node(certificates.peers["n2"], "n2") as two, node(certificates.peers["n1"], "n0") as one:
        await refused(one, two, "it says that it is 'n0', but is 'n1'")


async def test_another_cluster_is_refused(certificates: Certificates) -> None:
    """Two clusters under one authority do not mix."""
    async with (
        node(certificates.peers["n2"], "n2") as two,
        node(certificates.peers["n1"], "n1", cluster="other") as one,
    ):
        await refused(one, two, "cluster 'other'")


async def test_the_one_who_should_be_dialled_does_not_dial(certificates: Certificates) -> None:
    """One stream a pair: the other way round it is refused."""
    files = certificates.peers
    async with node(files["n1"], "n1") as one, node(files["n2"], "n2") as two:
        one.transport.add("n2", f"127.0.0.1:{two.port}")
        trust = FileTrust(files["n2"], PEERS)
        async with open_channel(f"127.0.0.1:{one.port}", "n1", trust, TransportOptions()) as channel:
            call = open_stream(channel)
            with pytest.raises(grpc.aio.AioRpcError, match="'n1' who dials"):
                await call.read()


async def test_plaintext_is_refused_by_the_port(certificates: Certificates) -> None:
    """There is nothing to talk to without a handshake."""
    async with node(certificates.peers["n2"], "n2") as two:
        two.transport.add("n1", "127.0.0.1:1")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{two.port}") as channel:
            call = open_stream(channel)
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await call.read()
        assert two.transport.status()[0].connects == 0


async def test_plaintext_is_refused_by_the_dialler(certificates: Certificates) -> None:
    """A server without TLS gets no hello; the log says why."""
    plain = grpc.aio.server()
    port = plain.add_insecure_port("127.0.0.1:0")
    await plain.start()
    try:
        with capture_logs() as logs:
            async with node(certificates.peers["n1"], "n1") as one:
                one.transport.add("n2", f"127.0.0.1:{port}")
                await problem(one, "UNAVAILABLE")
            assert [line["peer"] for line in logs if line["event"] == "no stream"] == ["n2"]
    finally:
        await plain.stop(None)


async def test_a_client_without_a_certificate_is_refused(certificates: Certificates) -> None:
    """Trusting the server is not enough: TLS is mutual."""
    async with node(certificates.peers["n2"], "n2") as two:
        two.transport.add("n1", "127.0.0.1:1")
        anchors = grpc.ssl_channel_credentials(certificates.peers["n1"].ca.read_bytes())
        override = [("grpc.ssl_target_name_override", PEERS["n2"])]
        async with grpc.aio.secure_channel(f"127.0.0.1:{two.port}", anchors, options=override) as channel:
            call = open_stream(channel)
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await call.read()
        assert two.transport.status()[0].connects == 0


async def test_silence_in_place_of_a_hello_ends_the_stream(certificates: Certificates) -> None:
    """On both sides: neither waits for ever for the other to say who it is."""
    files = certificates.peers
    options = TransportOptions(hello_seconds=0.2, backoff_seconds=0.01)
    async with node(files["n2"], "n2", options=options) as two:
        two.transport.add("n1", "127.0.0.1:1")
        trust = FileTrust(files["n1"], PEERS)
        async with open_channel(f"127.0.0.1:{two.port}", "n2", trust, options) as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="no hello came"):
                await open_stream(channel).read()
    hold = asyncio.Event()
    server = await asyncio.start_server(lambda _r, _w: hold.wait(), "127.0.0.1", 0)  # type: ignore[arg-type]
    async with server, node(files["n1"], "n1", options=options) as one:
        one.transport.add("n2", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await problem(one, "no answer within 0.2 s")
        hold.set()


async def test_a_stream_that_breaks_the_protocol_ends(certificates: Certificates) -> None:
    """A frame that is no envelope costs the peer its stream, and both are told."""
    files = certificates.peers
    async with node(files["n2"], "n2") as two:
        two.transport.add("n1", "127.0.0.1:1")
        trust = FileTrust(files["n1"], PEERS)
        async with open_channel(f"127.0.0.1:{two.port}", "n2", trust, TransportOptions()) as channel:
            call = open_stream(channel)
            await call.write(encode_hello(CLUSTER, "n1"))
            await call.read()
            await call.write(peer_pb2.Envelope(group=[1], type=b"\x63").SerializeToString())
            with pytest.raises(grpc.aio.AioRpcError, match="unknown type 99"):
                await call.read()
        assert "unknown type 99" in two.transport.status()[0].problem
        assert two.recorder.lost == ["n1"]
        assert two.recorder.received == []


async def test_a_renewed_certificate_is_served_without_a_restart(
    certificates: Certificates, tmp_path: Path
) -> None:
    """The files are read for each handshake, on both sides; half-written ones do not count."""
    files = TlsFiles(*(tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem")))

    def replace(source: TlsFiles) -> None:
        for old, new in zip(
            (files.ca, files.cert, files.key), (source.ca, source.cert, source.key), strict=True
        ):
            shutil.copy(new, old)

    replace(certificates.peers["n2"])
    async with node(files, "n2") as two, node(certificates.peers["n1"], "n1") as one:
        files.key.write_text("half")
        await join(one, two)
        replace(certificates.peers["n3"])
        await one.transport.remove("n2")
        one.transport.add("n2", f"127.0.0.1:{two.port}")
        await problem(one, "UNAVAILABLE")
        replace(certificates.peers["n2"])
        async with asyncio.timeout(SECONDS):
            await one.transport.connected("n2")
        await two.transport.connected("n1")
        two.transport.send("n1", said(heartbeat()))
        await one.recorder.until(lambda: one.recorder.received)


async def test_a_peer_without_a_known_certificate_is_not_dialled(certificates: Certificates) -> None:
    """It would have to be taken at its word."""
    async with node(certificates.peers["n1"], "n1", names={"n2": "n2.peers.test"}) as one:
        one.transport.add("n3", f"127.0.0.1:{free_port()}")
        await problem(one, "nothing is known of a certificate of 'n3'")


def test_a_certificate_is_exactly_one_peers(certificates: Certificates) -> None:
    """By its DNS names, whatever their case; the common name and other kinds of names count for nothing."""
    trust = FileTrust(certificates.peers["n1"], PEERS)
    assert trust.identify({"peer_dns": [b"other", b"N2.Peers.test"]}) == "n2"
    for auth in (
        {},
        {"x509_common_name": [b"n2.peers.test"]},
        {"peer_uri": [b"n2.peers.test"], "x509_subject_alternative_name": [b"n2.peers.test"]},
        {"peer_dns": [b"*.peers.test"]},
        {"peer_dns": [b"n1.peers.test", b"n2.peers.test"]},
        {"peer_dns": [b"\xff"]},
    ):
        with pytest.raises(Refused, match="no one peer's"):
            trust.identify(auth)
    with pytest.raises(ValueError, match="two peers"):
        FileTrust(certificates.peers["n1"], {"n1": "same", "n2": "SAME"})


def test_files_that_cannot_be_used_are_named(certificates: Certificates, tmp_path: Path) -> None:
    """Before anything listens, not by every handshake failing."""
    good, other = certificates.peers["n1"], certificates.peers["n2"]
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "pkey", "-in", good.key, "-aes256", "-passout", "pass:secret", "-out", encrypted]
    subprocess.run(command, check=True)
    empty = tmp_path / "empty.pem"
    empty.touch()
    for files, words in (
        (TlsFiles(tmp_path / "none.pem", good.cert, good.key), "none.pem: cannot be read"),
        (TlsFiles(good.ca, good.cert, other.key), "not a certificate and its key"),
        (TlsFiles(good.ca, empty, good.key), "not a certificate and its key"),
        (TlsFiles(empty, good.cert, good.key), "holds no certificates"),
        (TlsFiles(good.ca, good.cert, encrypted), "the TLS key is encrypted"),
    ):
        with pytest.raises(TrustError, match=words):
            FileTrust(files, PEERS)
