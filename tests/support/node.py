"""A real node for tests: `vecdb serve` in a process of its own, killed, stopped and restarted at will."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from vecdb_client import AsyncClient, Client

HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 30.0


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Node:
    """One `vecdb serve` on the loopback, with its own data directory, ports and log file.

    Its ports stay the same over restarts. `args` are further arguments of
    `vecdb serve`, `env` further environment variables; `credentials` are what
    a channel to it needs where it speaks TLS. As a context manager it starts,
    and at the end stops (SIGTERM, exit code 0), or is killed where the test
    failed already.
    """

    def __init__(
        self,
        folder: Path,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = folder / "data"
        self.log_path = folder / "node.log"
        self.port = free_port()
        self.peer_port = free_port()
        self.http_port = free_port()
        self._args = list(args)
        # A setting of the person who runs the tests must not reach the node.
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("VECDB_")} | dict(env or {})
        self._credentials = credentials
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"{HOST}:{self.port}"

    @property
    def http_url(self) -> str:
        """Where its metrics and health pages are."""
        return f"http://{HOST}:{self.http_port}"

    @property
    def pid(self) -> int:
        """The process; AssertionError where there is none."""
        assert self._process is not None, "the node is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def client(self, **settings: Any) -> Client:
        """A client of it; `settings` are the client's."""
        return Client(self.address, **settings)

    def async_client(self, **settings: Any) -> AsyncClient:
        """An asyncio client of it."""
        return AsyncClient(self.address, **settings)

    def start(self, *, wait: bool = True) -> Self:
        """Starts the process, and waits until it says that it serves."""
        assert not self.running, "the node is running already"
        command = [sys.executable, "-m", "vecdb", "serve"]
        command += ["--data-dir", str(self.data_dir), "--listen", self.address]
        command += ["--peer-listen", f"{HOST}:{self.peer_port}", "--http-listen", f"{HOST}:{self.http_port}"]
        command += self._args
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=self._env
            )
        if wait:
            self.wait_serving()
        return self

    def wait_serving(self, seconds: float = START_SECONDS) -> None:
        """Waits until the standard health service says SERVING.

        Raises AssertionError, with the end of the log, where the process ends
        first or the time runs out.
        """
        deadline = time.monotonic() + seconds
        with self._channel() as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline:
                assert self.running, f"the node ended with code {self._exit_code()}:\n{self.log_tail()}"
                try:
                    reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=2.0)
                except grpc.RpcError:
                    time.sleep(0.05)
                    continue
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                time.sleep(0.05)
        raise AssertionError(f"the node did not serve within {seconds:g} s:\n{self.log_tail()}")

    def _channel(self) -> grpc.Channel:
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
        options.append(("grpc.enable_http_proxy", 0))
        # A pool of its own: a broken connection elsewhere must not delay this one.
        options.append(("grpc.use_local_subchannel_pool", 1))
        if self._credentials is None:
            return grpc.insecure_channel(self.address, options)
        return grpc.secure_channel(self.address, self._credentials, options)

    def kill(self) -> None:
        """SIGKILL: what it had not made durable is gone."""
        assert self._process is not None, "the node is not running"
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """SIGTERM: asks it to end, and expects exit code 0."""
        assert self._process is not None, "the node is not running"
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(STOP_SECONDS)
        assert code == 0, f"the node ended with code {code}:\n{self.log_tail()}"

    def restart(self) -> None:
        """Starts it again with its data and ports, having stopped it where it was running."""
        if self.running:
            self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: it lives and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after a pause."""
        os.kill(self.pid, signal.SIGCONT)

    def log_tail(self, characters: int = 4_000) -> str:
        """The end of what it wrote."""
        return self.log_path.read_text(errors="replace")[-characters:] if self.log_path.exists() else ""

    def _exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self.running:
                self.resume()
                self.stop()
        finally:
            self._end()

    def _end(self) -> None:
        if self.running:
            self.kill()
