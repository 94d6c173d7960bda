"""Parsing what strangers wrote, in child processes with limits.

PDF and HTML parsers are large, and documents come from anyone who may write. Each is parsed in a child
process with a limit of memory (RLIMIT_AS), of processor time (RLIMIT_CPU) and of wall-clock time, and
without the right to write a file. Starting one costs 150 ms, a document on one that runs half a millisecond
beside its parsing, so a small pool of them is kept; each is replaced after some documents, or at once when
a document ran it into a limit.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from vecdb.knowledge import wire
from vecdb.knowledge.errors import ParseTimeout, ParseTooLarge, SourceError
from vecdb.knowledge.formats import HEAD_BYTES, detect, parse
from vecdb.knowledge.source import DEFAULT_LIMITS, Format, Limits, SourceText

_READ_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class SandboxOptions:
    """Limits of the child processes.

    Attributes:
        workers: how many there are at most, that is how many documents are parsed at a time.
        memory_bytes: address space of one, the interpreter's own (about 60 MiB) included.
        cpu_seconds: processor time for one document.
        wall_seconds: time for one document, counted from when a process begins with it.
        answer_bytes: size of what one may answer.
        documents: how many one parses before it is replaced; bounds what leaks and lingers.

    """

    workers: int = 2
    memory_bytes: int = 768 << 20
    cpu_seconds: float = 20.0
    wall_seconds: float = 40.0
    answer_bytes: int = 192 << 20
    documents: int = 200

    def __post_init__(self) -> None:
        if min(dataclasses.astuple(self)) <= 0:
            raise ValueError("the limits of a sandbox are positive")


class _DiedError(Exception):
    """The child ended before it answered."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Worker:
    """One child process; used by one thread at a time, killed by any."""

    def __init__(self, options: SandboxOptions) -> None:
        self._options = options
        self.served = 0
        # -P keeps the working directory off the path, which is ours: the child finds the same code.
        command = [sys.executable, "-P", "-m", "vecdb.knowledge.worker"]
        command += [str(options.memory_bytes), str(options.cpu_seconds)]
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(  # noqa: S603 -- no shell, and no word of it is a user's
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
            # An interrupt from the terminal is for the parent, which then ends its children.
            start_new_session=True,
        )
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def call(self, frame: bytes) -> bytes:
        """Send a frame and return the body of the answer.

        Raises:
            TimeoutError: after the wall-clock limit.
            OverflowError: if the answer is too large.
            _DiedError: if the process ended.

        """
        self.served += 1
        deadline = time.monotonic() + self._options.wall_seconds
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        unsent, answer = memoryview(frame), bytearray()
        needed = wire.HEADER.size
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stdin, selectors.EVENT_WRITE)
            while len(answer) < needed:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise TimeoutError
                for key, _ in ready:
                    if key.fileobj is stdin:
                        unsent = unsent[self._send(unsent) :]
                        if not unsent:
                            selector.unregister(stdin)
                    else:
                        answer += self._receive()
                if needed == wire.HEADER.size and len(answer) >= needed:
                    needed += wire.HEADER.unpack_from(answer)[0]
                    if needed > self._options.answer_bytes:
                        raise OverflowError
        if len(answer) > needed:
            raise wire.FrameError("bytes after the answer")
        return bytes(answer[wire.HEADER.size :])

    def _send(self, data: memoryview) -> int:
        assert self._process.stdin is not None
        try:
            return os.write(self._process.stdin.fileno(), data[:_READ_BYTES])
        except BrokenPipeError:
            raise _DiedError(self._process.wait()) from None

    def _receive(self) -> bytes:
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), _READ_BYTES)
        if not data:
            raise _DiedError(self._process.wait())
        return data

    def kill(self) -> None:
        """End the process now, and a call that waits for it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def close(self) -> None:
        """End the process and release what it held."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class _Job:
    """One document on its way, and the means to call it off from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self.cancelled = False

    def attach(self, worker: _Worker) -> None:
        """`worker` begins with it."""
        with self._lock:
            self._worker = worker
            if self.cancelled:
                worker.kill()

    def detach(self) -> None:
        """The worker is done: it must not be killed any more for this document."""
        with self._lock:
            self._worker = None

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            self.cancelled = True
            if self._worker is not None:
                self._worker.kill()


class Sandbox:
    """A pool of child processes that parse HTML and PDF, for any thread or loop. Close it after use."""

    def __init__(self, options: SandboxOptions | None = None) -> None:
        self.options = options or SandboxOptions()
        self._slots = threading.BoundedSemaphore(self.options.workers)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._closed = False
        self._threads = ThreadPoolExecutor(self.options.workers, thread_name_prefix="vecdb-parse")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes. Documents in progress are finished first; later ones are refused."""
        with self._lock:
            self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()

    def parse(
        self,
        name: str,
        data: bytes,
        format: Format | None = None,  # noqa: A002 -- the word for it
        limits: Limits = DEFAULT_LIMITS,
    ) -> list[SourceText]:
        """`vecdb.knowledge.formats.parse`, with HTML and PDF parsed in a child process. Blocks.

        Raises:
            ParseTimeout: if it took too long.
            ParseTooLarge: if it took too much memory, or came out larger than a limit.
            SourceError: if it cannot be read, which a crash of the parser means too.
            RuntimeError: if the sandbox is closed.

        """
        return self._parse(name, data, format, limits, _Job())

    async def aparse(
        self,
        name: str,
        data: bytes,
        format: Format | None = None,  # noqa: A002 -- the word for it
        limits: Limits = DEFAULT_LIMITS,
    ) -> list[SourceText]:
        """`parse` without blocking the loop. Cancelling it ends the child process that is at work on it."""
        job = _Job()
        work: Callable[[], list[SourceText]] = lambda: self._parse(name, data, format, limits, job)  # noqa: E731
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except asyncio.CancelledError:
            job.cancel()
            raise

    def _parse(
        self, name: str, data: bytes, known: Format | None, limits: Limits, job: _Job
    ) -> list[SourceText]:
        known = known or (detect(name, data[:HEAD_BYTES]) if data else Format.TEXT)
        if not data or not known.needs_sandbox or len(data) > limits.max_bytes:
            return parse(name, data, known, limits)
        request = {
            "name": name,
            "data": data,
            "format": known.value,
            "limits": list(dataclasses.astuple(limits)),
        }
        frame = wire.pack(request)
        with self._slots:
            message = self._call(name, frame, job)
        return _texts(name, message)

    def _call(self, name: str, frame: bytes, job: _Job) -> dict[str, Any]:
        worker = self._take()
        healthy = False
        try:
            job.attach(worker)
            message = wire.unpack(worker.call(frame))
            # One that ran out of memory may have lost more than the document.
            healthy = message.get("error") != "memory"
        except TimeoutError:
            raise ParseTimeout(
                name, f"not parsed within wall_seconds ({self.options.wall_seconds:g})"
            ) from None
        except OverflowError:
            raise ParseTooLarge(
                name, f"comes out larger than answer_bytes ({self.options.answer_bytes})"
            ) from None
        except wire.FrameError as error:
            raise SourceError(name, f"the parser's answer is damaged: {error}") from None
        except _DiedError as error:
            raise self._obituary(name, error.status) from None
        finally:
            job.detach()
            if healthy and not job.cancelled:
                self._give(worker)
            else:
                worker.close()
        return message

    def _obituary(self, name: str, status: int) -> SourceError:
        if status == -signal.SIGXCPU:
            return ParseTimeout(name, f"took more than cpu_seconds ({self.options.cpu_seconds:g}) to parse")
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return SourceError(name, f"the parser crashed on it ({how})")

    def _take(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise RuntimeError("the sandbox is closed")
            while self._idle:
                worker = self._idle.pop()
                if worker.alive():
                    return worker
                # Ended while it was idle (out of memory, an operator): no document is to blame.
                worker.close()
        return _Worker(self.options)

    def _give(self, worker: _Worker) -> None:
        with self._lock:
            if worker.served < self.options.documents and not self._closed:
                self._idle.append(worker)
                return
        worker.close()


def _texts(name: str, message: dict[str, Any]) -> list[SourceText]:
    """What a child answered, as a result or an exception."""
    error, where = message.get("error"), message.get("where")
    try:
        if error is None:
            return [wire.rebuild(name, text) for text in message["texts"]]
    except (wire.FrameError, KeyError, TypeError) as bad:
        raise SourceError(name, f"the parser's answer is damaged: {bad}") from None
    said = str(message.get("message", ""))[:1000]
    place = where[:100] if isinstance(where, str) else None
    if error == "memory":
        raise ParseTooLarge(name, "takes more than memory_bytes to parse")
    if error == "large":
        raise ParseTooLarge(name, said, place)
    raise SourceError(name, said, place)


_shared: list[Sandbox] = []
_shared_lock = threading.Lock()


def shared_sandbox() -> Sandbox:
    """The sandbox of this process, made when first asked for and closed at exit."""
    with _shared_lock:
        if not _shared:
            _shared.append(Sandbox())
            atexit.register(_shared[0].close)
        return _shared[0]


def parse_untrusted(
    name: str,
    data: bytes,
    format: Format | None = None,  # noqa: A002 -- the word for it
    limits: Limits = DEFAULT_LIMITS,
) -> list[SourceText]:
    """`Sandbox.parse` in the sandbox of this process."""
    return shared_sandbox().parse(name, data, format, limits)


async def aparse_untrusted(
    name: str,
    data: bytes,
    format: Format | None = None,  # noqa: A002 -- the word for it
    limits: Limits = DEFAULT_LIMITS,
) -> list[SourceText]:
    """`Sandbox.aparse` in the sandbox of this process."""
    return await shared_sandbox().aparse(name, data, format, limits)
