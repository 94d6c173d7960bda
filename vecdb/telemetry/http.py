"""Metrics and health over HTTP, in a thread of its own.

Small on purpose: GET only, one request a connection, a few threads. It must
answer while the node's loop is busy, and must not become a way to exhaust the
node: connections beyond what the threads can take are closed at once, and one
that is not done within `REQUEST_SECONDS` is cut.
"""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from threading import BoundedSemaphore, Lock, Thread
from typing import Any, Protocol
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from vecdb.telemetry.version import versions

_log = structlog.get_logger(__name__)

THREADS = 4
MAX_CONNECTIONS = 16
REQUEST_SECONDS = 10.0

#: Paths that need no token anywhere: a load balancer asks them.
_PUBLIC = frozenset({"/healthz"})


@dataclass(frozen=True, slots=True)
class Response:
    """What a route answers. `body` is sent as it is."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


#: Takes the request's Accept header.
Route = Callable[[str], Response]


class ListenAt(Protocol):
    """Where to listen: `vecdb.config.Endpoint` is one."""

    @property
    def host(self) -> str:
        """An address or a name."""
        ...

    @property
    def port(self) -> int:
        """0 for any free one."""
        ...

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        ...


def standard_routes(registry: CollectorRegistry, unready: Callable[[], str]) -> dict[str, Route]:
    """/metrics, /healthz, /readyz and /version.

    `unready` says why the node should get no requests now; "" when it should.
    It is called in this server's threads.
    """

    def metrics(accept: str) -> Response:
        encode, content_type = choose_encoder(accept)
        return Response(encode(registry), content_type)

    def healthz(_accept: str) -> Response:
        return Response(b"ok\n")

    def readyz(_accept: str) -> Response:
        reason = unready()
        return Response(f"{reason}\n".encode(), status=503) if reason else Response(b"ready\n")

    def version(_accept: str) -> Response:
        return Response(json.dumps(versions()).encode() + b"\n", "application/json")

    return {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz, "/version": version}


class HttpServer:
    """Serves routes at an endpoint, from `start` to `stop`.

    `tls` is a server-side context. `authorize` takes the authorization header
    and says whether it is good. On loopback neither is needed, and a token is
    not asked for; elsewhere every path but /healthz asks for it. Off loopback
    without both, the constructor raises ValueError unless `insecure` is set.
    OSError where the endpoint cannot be bound.
    """

    def __init__(
        self,
        endpoint: ListenAt,
        routes: Mapping[str, Route],
        *,
        tls: ssl.SSLContext | None = None,
        authorize: Callable[[str | None], bool] | None = None,
        insecure: bool = False,
    ) -> None:
        if not (endpoint.is_loopback or insecure) and (tls is None or authorize is None):
            raise ValueError("HTTP off loopback needs TLS and a token")
        guard = None if endpoint.is_loopback else authorize
        self._server = _Server(endpoint, _Site(dict(routes), guard), tls)
        self._thread = Thread(target=self._server.serve_forever, args=(0.2,), name="vecdb-http", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stops listening and cuts what is in progress. Safe to call twice, or without `start`."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class _Site:
    routes: dict[str, Route]
    authorize: Callable[[str | None], bool] | None

    def answer(self, path: str, accept: str, authorization: str | None) -> Response:
        path = urlsplit(path).path
        if self.authorize is not None and path not in _PUBLIC and not self.authorize(authorization):
            return Response(b"a token is required: authorization: Bearer <token>\n", status=401)
        route = self.routes.get(path)
        if route is None:
            known = " ".join(sorted(self.routes))
            return Response(f"not found; there are {known}\n".encode(), status=404)
        try:
            return route(accept)
        except Exception:
            _log.exception("http route failed", path=path)
            return Response(b"failed; the node's log says why\n", status=500)


class _Server(socketserver.TCPServer):
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, endpoint: ListenAt, site: _Site, tls: ssl.SSLContext | None) -> None:
        family, *_, address = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        self.site = site
        self._tls = tls
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="vecdb-http")
        self._room = BoundedSemaphore(MAX_CONNECTIONS)
        self._open: dict[socket.socket, float] = {}
        self._lock = Lock()
        super().__init__((str(address[0]), int(address[1])), _Handler)

    def get_request(self) -> tuple[Any, Any]:
        request, address = super().get_request()
        request.settimeout(REQUEST_SECONDS)
        if self._tls is None:
            return request, address
        # The handshake waits for a thread: a client that never finishes it
        # must hold up nobody else.
        return self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False), address

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        with self._lock:
            self._open[request] = time.monotonic() + REQUEST_SECONDS
        self._pool.submit(self._serve, request, client_address)

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            if isinstance(request, ssl.SSLSocket):
                request.do_handshake()
            self.finish_request(request, client_address)
        except OSError as error:
            _log.debug("http connection failed", peer=str(client_address[0]), error=str(error))
        finally:
            with self._lock:
                del self._open[request]
            self.shutdown_request(request)
            self._room.release()

    def service_actions(self) -> None:
        """Cuts connections that take too long: a socket's timeout starts anew with every byte."""
        now = time.monotonic()
        with self._lock:
            late = [request for request, end in self._open.items() if end < now]
        for request in late:
            _cut(request)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            left = list(self._open)
        for request in left:
            _cut(request)
        self._pool.shutdown()


def _cut(request: socket.socket) -> None:
    try:
        # Not SSLSocket's own shutdown: that takes the TLS state away from
        # under the thread which is using it.
        socket.socket.shutdown(request, socket.SHUT_RDWR)
    except OSError:
        return  # it ended by itself


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.0"
    server_version = "vecdb"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        headers = self.headers
        response = self.server.site.answer(self.path, headers.get("Accept", ""), headers.get("Authorization"))
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if response.status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        if with_body:
            self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        _log.debug("http", peer=self.address_string(), line=format % args)
