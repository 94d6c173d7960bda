"""A node with a token and with TLS: who is let in, and what the others are told."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from vecdb_client import TLS, Client, UnauthenticatedError
from vecdb_proto.v1 import access_pb2, access_pb2_grpc, documents_pb2, search_pb2

from tests.support.certificates import make_certificate
from tests.support.inprocess import InProcessNode, refusal
from vecdb.node import _is_authorized
from vecdb.security import Authenticator, Grant, Role, Token, digest

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessNode]:
    folder = tmp_path_factory.mktemp("guarded")
    path = folder / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    with InProcessNode(folder, token_file=path) as node:
        yield node


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer " + TOKEN[:-1] + "0")],
        [("authorization", TOKEN)],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer " + "x" * 4_000)],
        [("x-authorization", "Bearer " + TOKEN)],
    ],
)
def test_without_the_token_nothing_is_answered(
    guarded: InProcessNode, headers: list[tuple[str, str]]
) -> None:
    """Every method is UNAUTHENTICATED for a missing or wrong token, whatever else is wrong with the call, and
    the token is never in the answer."""
    calls = (
        lambda: guarded.documents.Count(documents_pb2.CountRequest(collection="no"), metadata=headers),
        lambda: guarded.access.CreateToken(access_pb2.CreateTokenRequest(), metadata=headers),
        lambda: list(guarded.search.SearchStream(iter([search_pb2.SearchStreamRequest()]), metadata=headers)),
    )
    for call in calls:
        refused = refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert TOKEN[:8] not in refused.message


def test_the_root_token_opens_everything(guarded: InProcessNode) -> None:
    """With the token the caller is root; what it writes has root for its author."""
    with guarded.client(token=TOKEN) as db:
        db.create_collection("c", dim=2)
        db.upsert("c", ids=["a"], vectors=[[1, 0]])
        (document,) = db.get("c", ["a"])
        assert document.author == "root"
    headers = [("user-agent-ish", "x"), ("authorization", "bearer " + TOKEN)]
    assert guarded.access.WhoAmI(access_pb2.WhoAmIRequest(), metadata=headers).principal == "root"
    with guarded.client(token="wrong" * 8) as db, pytest.raises(UnauthenticatedError):
        db.list_collections()


def test_health_needs_no_token(guarded: InProcessNode) -> None:
    """Orchestrators ask for health without credentials."""
    stub = health_pb2_grpc.HealthStub(guarded.channel)
    assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


def test_tls_is_spoken_and_nothing_else(tmp_path: Path) -> None:
    """With a certificate the node answers those who trust it; plain calls and strangers' trust fail."""
    pair = make_certificate(tmp_path, "node")
    stranger = make_certificate(tmp_path, "stranger")
    with InProcessNode(tmp_path, tls_cert=pair.cert, tls_key=pair.key) as node:
        with Client(node.address, tls=TLS(ca=pair.cert)) as db:
            db.create_collection("c", dim=2)
            assert [info.name for info in db.list_collections()] == ["c"]
        for credentials in (None, grpc.ssl_channel_credentials(stranger.cert.read_bytes())):
            options = [("grpc.use_local_subchannel_pool", 1)]
            with (
                grpc.insecure_channel(node.address, options)
                if credentials is None
                else grpc.secure_channel(node.address, credentials, options)
            ) as channel:
                stub = access_pb2_grpc.AccessStub(channel)
                refused = refusal(lambda stub=stub: stub.WhoAmI(access_pb2.WhoAmIRequest(), timeout=5))  # type: ignore[misc]
                assert refused.code is grpc.StatusCode.UNAVAILABLE


def test_metrics_are_for_those_who_may_read_everything() -> None:
    """They name all collections, so a token for some of them does not open them; one for all does."""
    authenticator = Authenticator(digest(TOKEN))
    grants = {"some": (Grant("docs", Role.ADMIN),), "all": (Grant("", Role.READ),)}
    authenticator.follow({name: Token(name, digest(name), "ann", grants[name], 1) for name in grants})
    answers = {secret: _is_authorized(authenticator, f"Bearer {secret}") for secret in (TOKEN, "all", "some")}
    assert answers == {TOKEN: True, "all": True, "some": False}
    assert not _is_authorized(authenticator, "Bearer none")
    assert not _is_authorized(authenticator, None)


def test_off_loopback_metrics_need_the_token(tmp_path: Path) -> None:
    """Listening everywhere, HTTP speaks TLS and asks for the token, but for /healthz."""
    import ssl

    from vecdb.config.endpoint import Endpoint

    pair = make_certificate(tmp_path, "node")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    node = InProcessNode(tmp_path, tls_cert=pair.cert, tls_key=pair.key, token_file=token, init=True)
    node._given["http_listen"] = Endpoint("0.0.0.0", node.http_port)
    trust = ssl.create_default_context(cafile=str(pair.cert))
    url = node.http_url.replace("http:", "https:")

    def status(path: str, **headers: str) -> int:
        request = urllib.request.Request(url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10, context=trust) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code

    with node:
        assert status("/healthz") == 200
        assert status("/metrics") == 401
        assert status("/metrics", Authorization="Bearer wrong") == 401
        assert status("/metrics", Authorization=f"Bearer {TOKEN}") == 200
