"""A local OpenAI-compatible embeddings endpoint that can be told to misbehave."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

DIM = 8


def embedding(text: str) -> list[float]:
    """What the server's model makes of a text: deterministic, not of unit length."""
    values: list[float] = (np.random.default_rng(list(text.encode())).standard_normal(DIM) * 3).tolist()
    return values


@dataclass
class Reply:
    """One answer. `gate` holds it back; `drip` is a pause in seconds after each byte."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    gate: threading.Event | None = None
    drip: float = 0.0


@dataclass
class EmbeddingServer:
    """A running server: `script` holds the next replies, after them it answers properly."""

    url: str
    script: list[Reply] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def answer(self, texts: list[str]) -> Reply:
        """The scripted reply, or one with the entries in reverse, as the protocol allows."""
        if self.script:
            return self.script.pop(0)
        entries = [
            {"object": "embedding", "index": i, "embedding": embedding(t)} for i, t in enumerate(texts)
        ]
        return Reply(body=json.dumps({"data": entries[::-1]}).encode())


def _handler(server: EmbeddingServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append({"path": self.path, **body})
            server.headers.append(dict(self.headers))
            reply = server.answer(body["input"])
            server.arrived.release()
            if reply.gate is not None:
                reply.gate.wait(timeout=30)
            self.send_response(reply.status)
            for key, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(key, value)
            self.end_headers()
            try:
                self.send_body(reply)
            except OSError:
                self.close_connection = True  # the client had enough

        def send_body(self, reply: Reply) -> None:
            if not reply.drip:
                self.wfile.write(reply.body)
                return
            for byte in reply.body:
                self.wfile.write(bytes([byte]))
                time.sleep(reply.drip)

        def log_message(self, *args: object) -> None:
            """Keeps the output of tests clean."""

    return Handler


@contextmanager
def serve_embeddings() -> Iterator[EmbeddingServer]:
    """Serves on a free port of the loopback until the block ends."""
    made = EmbeddingServer("")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))
    httpd.daemon_threads = True
    made.url = f"http://127.0.0.1:{httpd.server_address[1]}/v1"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
