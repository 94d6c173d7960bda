from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import vecdb_client as vc
from vecdb_proto.v1 import documents_pb2

from tests.clients.scripted import ScriptedServer
from tests.support.certificates import KeyPair, make_certificate


@pytest.fixture
def pair(tmp_path: Path) -> KeyPair:
    return make_certificate(tmp_path)


@pytest.fixture
def secure(pair: KeyPair) -> Iterator[ScriptedServer]:
    """A server that speaks TLS and asks clients for the same certificate's proof."""
    pem, key = pair.cert.read_bytes(), pair.key.read_bytes()
    server = ScriptedServer(
        credentials=grpc.ssl_server_credentials([(key, pem)], root_certificates=pem, require_client_auth=True)
    )
    server.script("Documents/Count", documents_pb2.CountResponse(count=7))
    yield server
    server.stop()


def test_both_sides_prove_who_they_are(
    secure: ScriptedServer, pair: KeyPair, connect: Callable[..., Any]
) -> None:
    """CA, certificate and key, as paths or bytes, reach a node that wants both; a token goes along."""
    paths = vc.TLS(ca=pair.cert, cert=str(pair.cert), key=pair.key)
    assert connect(secure.address, tls=paths, token="t").count("c") == 7
    given = vc.TLS(pair.cert.read_bytes(), pair.cert.read_bytes(), pair.key.read_bytes())
    assert connect(secure.address, tls=given).count("c") == 7
    assert secure.metadata["Documents/Count"][0]["authorization"] == "Bearer t"


def test_a_name_may_differ_from_the_address(pair: KeyPair, connect: Callable[..., Any]) -> None:
    """`server_name` is what is expected in the certificate; a path alone is the CA; strangers are refused."""
    credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
    server = ScriptedServer(credentials=credentials)
    try:
        server.script("Documents/Count", documents_pb2.CountResponse(count=7))
        assert connect(server.address, tls=pair.cert).count("c") == 7
        named = vc.TLS(ca=pair.cert, server_name="localhost")
        assert connect(server.address, tls=named).count("c") == 7
        for wrong in (True, vc.TLS(ca=pair.cert, server_name="elsewhere")):
            with pytest.raises(vc.UnavailableError):
                connect(server.address, tls=wrong).count("c")
    finally:
        server.stop()
