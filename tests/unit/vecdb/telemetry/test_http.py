"""The HTTP server, over real sockets, with and without TLS and token."""

import json
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.support.certificates import KeyPair, make_certificate
from vecdb.config import Endpoint
from vecdb.security.tls import server_context
from vecdb.telemetry import HttpServer, NodeMetrics, Response, http, standard_routes

LOOPBACK = Endpoint("127.0.0.1", 0)
# Loopback in truth, but not by its own word: what a public address would be.
PUBLIC = replace(LOOPBACK, host="0.0.0.0")


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: dict[str, str]


def _get(
    server: HttpServer,
    path: str,
    *,
    ca: Path | None = None,
    method: str = "GET",
    **headers: str,
) -> Reply:
    scheme, context = ("http", None) if ca is None else ("https", ssl.create_default_context(cafile=ca))
    request = urllib.request.Request(
        f"{scheme}://127.0.0.1:{server.port}{path}", headers=headers, method=method
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=20) as reply:
            return Reply(reply.status, reply.read(), dict(reply.headers))
    except urllib.error.HTTPError as error:
        return Reply(error.code, error.read(), dict(error.headers))


@contextmanager
def _serving(
    endpoint: Endpoint = LOOPBACK,
    *,
    unready: Callable[[], str] = lambda: "",
    extra: dict[str, http.Route] | None = None,
    **options: Any,
) -> Iterator[HttpServer]:
    routes = standard_routes(NodeMetrics().registry, unready) | (extra or {})
    server = HttpServer(endpoint, routes, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_certificate(tmp_path_factory.mktemp("http"))


def test_the_paths() -> None:
    """Metrics, health, readiness and version are there; other paths say what there is."""
    with _serving() as server:
        assert _get(server, "/healthz").body == b"ok\n"
        assert _get(server, "/readyz").body == b"ready\n"
        metrics = _get(server, "/metrics?x=1")
        assert b"vecdb_build_info" in metrics.body
        assert metrics.headers["Content-Type"].startswith("text/plain")
        assert json.loads(_get(server, "/version").body)["vecdb"]
        missing = _get(server, "/metricz")
        assert (missing.status, missing.body) == (
            404,
            b"not found; there are /healthz /metrics /readyz /version\n",
        )


def test_openmetrics_for_those_who_ask() -> None:
    """The format follows the Accept header."""
    with _serving() as server:
        reply = _get(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
        assert reply.body.endswith(b"# EOF\n")


def test_readiness_follows_the_node() -> None:
    """/readyz answers 503 with the reason as long as there is one; /healthz does not care."""
    reasons = ["replaying the log"]
    with _serving(unready=lambda: reasons[-1]) as server:
        reply = _get(server, "/readyz")
        assert (reply.status, reply.body) == (503, b"replaying the log\n")
        assert _get(server, "/healthz").status == 200
        reasons.append("")
        assert _get(server, "/readyz").status == 200


def test_only_reading() -> None:
    """HEAD is GET without a body; other methods are refused."""
    with _serving() as server:
        head = _get(server, "/healthz", method="HEAD")
        assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "3")
        assert _get(server, "/metrics", method="POST").status == 501


def test_a_failing_route_is_a_500() -> None:
    """A scrape that fails shows as failed, tells nothing of the inside, and the next one is served."""

    def broken(_accept: str) -> Response:
        raise RuntimeError("inner secret")

    with _serving(extra={"/broken": broken}) as server:
        reply = _get(server, "/broken")
        assert reply.status == 500
        assert b"secret" not in reply.body
        assert _get(server, "/healthz").status == 200


def test_off_loopback_without_protection_is_refused(pair: KeyPair) -> None:
    """No server comes up off loopback unless it has TLS and a token, or was told that it need not."""
    routes = standard_routes(CollectorRegistry(), lambda: "")
    context = server_context(pair.cert, pair.key)
    for options in ({}, {"tls": context}, {"authorize": lambda _: True}):
        with pytest.raises(ValueError, match="TLS and a token"):
            HttpServer(PUBLIC, routes, **options)  # type: ignore[arg-type]
    with _serving(PUBLIC, insecure=True) as server:
        assert _get(server, "/metrics").status == 200


def test_off_loopback_with_tls_and_token(pair: KeyPair) -> None:
    """Every path but /healthz wants the token, those that do not exist too."""
    context = server_context(pair.cert, pair.key)
    with _serving(PUBLIC, tls=context, authorize=lambda header: header == "Bearer good") as server:
        assert _get(server, "/healthz", ca=pair.cert).status == 200
        for path in ("/metrics", "/readyz", "/version", "/nothing", "/healthz/", "/healthz/../metrics"):
            reply = _get(server, path, ca=pair.cert)
            assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert _get(server, path, ca=pair.cert, Authorization="Bearer bad").status == 401
        assert _get(server, "/metrics", ca=pair.cert, Authorization="Bearer good").status == 200
        assert _get(server, "/nothing", ca=pair.cert, Authorization="Bearer good").status == 404
        with pytest.raises((urllib.error.URLError, OSError)):
            _get(server, "/healthz")  # plaintext to a TLS port


def test_no_token_is_asked_for_on_loopback() -> None:
    """A token guards the node's data; local scrapers need none."""
    with _serving(authorize=lambda _: False) as server:
        assert _get(server, "/metrics").status == 200


def test_over_ipv6() -> None:
    """An IPv6 endpoint is served."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with _serving(Endpoint("::1", 0)) as server, socket.create_connection(("::1", server.port), 10) as stream:
        stream.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b"200" in stream.recv(100)


def test_an_endpoint_in_use() -> None:
    """A taken port is an error at once: a node must not start without its metrics unnoticed."""
    with _serving() as server, pytest.raises(OSError, match="in use"):
        HttpServer(Endpoint("127.0.0.1", server.port), {})


def test_silent_clients_hold_up_nobody(pair: KeyPair) -> None:
    """While a thread is free, those who say nothing or never finish their handshake delay no one."""
    for context, ca in ((None, None), (server_context(pair.cert, pair.key), pair.cert)):
        with ExitStack() as stack:
            server = stack.enter_context(_serving(tls=context))
            for _ in range(http.THREADS - 1):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            assert _get(server, "/healthz", ca=ca).status == 200


def test_connections_beyond_the_bound_are_closed() -> None:
    """More connections than may wait are closed at once, and room comes back when others end."""
    with ExitStack() as stack:
        server = stack.enter_context(_serving())
        address = ("127.0.0.1", server.port)
        held = [stack.enter_context(socket.create_connection(address)) for _ in range(http.MAX_CONNECTIONS)]
        beyond = stack.enter_context(socket.create_connection(address, timeout=20))
        assert beyond.recv(1) == b""
        for stream in held:
            stream.close()
        deadline = time.monotonic() + 20
        while not _answers(server):
            assert time.monotonic() < deadline


def _answers(server: HttpServer) -> bool:
    try:
        return _get(server, "/healthz").status == 200
    except OSError:
        return False


def test_a_slow_request_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends a byte now and then keeps its thread only until the request's time is up."""
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.5)
    with _serving() as server, socket.create_connection(("127.0.0.1", server.port), timeout=20) as stream:
        ended = threading.Event()

        def drip() -> None:
            try:
                while not ended.wait(0.05):
                    stream.sendall(b"G")
            except OSError:
                pass  # the server has cut it

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        try:
            received = stream.recv(100)
        except ConnectionError:
            received = b""
        assert b"200" not in received
        assert time.monotonic() - began < 10
        ended.set()
        thread.join()


def test_stopping() -> None:
    """Stopping frees the port, cuts open connections, and may be done twice, or without having started."""
    with _serving() as server:
        port = server.port
        stream = socket.create_connection(("127.0.0.1", port), timeout=20)
        _get(server, "/healthz")
        server.stop()
        with suppress(ConnectionError):
            assert stream.recv(1) == b""
        stream.close()
        server.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=20)
    HttpServer(LOOPBACK, {}).stop()
