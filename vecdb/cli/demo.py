"""The main job, on what every machine with Python has: its own documentation.

A node is started, the documentation strings of the standard library go in,
questions in words come out as cited passages, a write is read back at once;
then the node is killed without warning, started again, and has lost nothing.
"""

from __future__ import annotations

import ast
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from vecdb_client import Client

COLLECTION: Final = "python-docs"
MODEL: Final = "wordllama-256"
QUESTIONS: Final = (
    "How do I read a zip archive without extracting it?",
    "run a function later in another thread",
    "split a string the way a shell would",
    "What is the difference between shallow and deep copy?",
)
# Parts of the library that speak of its tests and tools, or that few would ask about.
_LEFT_OUT: Final = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "site-packages", "__pycache__", "turtledemo"}
)
_SMALLEST: Final = 60
_START_SECONDS: Final = 60.0


def run(*, keep: bool, data_dir: Path | None) -> int:
    """Run the demo; returns the exit code. `keep` leaves the node running, and its data."""
    folder = data_dir or Path(tempfile.mkdtemp(prefix="vecdb-demo-"))
    node = _Node(folder)
    try:
        return _show(node, keep)
    finally:
        if not keep:
            node.stop()
            if data_dir is None:
                shutil.rmtree(folder, ignore_errors=True)
                node.log.unlink(missing_ok=True)


def _show(node: _Node, keep: bool) -> int:
    _head("1. A node")
    _say(f"vecdb serve --data-dir {node.folder} --listen {node.address}")
    _say(f"answers after {node.start():.1f} s; its log is {node.log}")
    with node.client() as db:
        _ingest(db)
        _ask(db)
        version = _write_and_read(db)
        before = _state(db)
        _head("4. kill -9, in the middle of things")
        node.kill()
        _say("killed: no warning, no time to tidy up")
    _say(f"started again; answers after {node.start():.1f} s")
    with node.client() as db:
        after = _state(db)
        if after != before:
            _say(f"LOST: {before} before, {after} after")
            return 1
        short = after["content_hash"][:16]
        _say(f"{after['documents']:,} passages, content hash {short}...: the same as before")
        note = db.get(COLLECTION, ["note-to-self"])[0]
        _say(f"the note is there, at version {note.version} (written as {version})")
    _next_steps(node, keep)
    return 0


# --- the steps ------------------------------------------------------------------


def _ingest(db: Client) -> None:
    _head("2. Documents in")
    db.create_collection(COLLECTION, model=MODEL, if_not_exists=True)
    sources = list(_sources())
    size = sum(len(data) for _, data in sources)
    _say(f"{len(sources):,} modules of the standard library, {size / 1e6:.1f} MB of documentation strings")
    from vecdb.cli.progress import Progress

    begun = time.perf_counter()
    sizes = {uri: len(data) for uri, data in sources}
    with Progress("ingesting", size, unit="bytes") as bar:
        report = db.ingest(
            COLLECTION, sources, progress=lambda result: bar.advance(sizes[result.uri], result.uri)
        )
    seconds = time.perf_counter() - begun
    passages = sum(result.passages for result in report)
    _say(
        f"cut into {passages:,} passages, embedded by {MODEL} and written, each on disk before it was "
        f"acknowledged: {seconds:.1f} s ({passages / seconds:,.0f} passages/s)"
    )
    if failed := [result for result in report if result.failed]:
        _say(f"{len(failed)} could not be read; the first: {failed[0].uri}: {failed[0].message}")


def _ask(db: Client) -> None:
    _head("3. Cited passages out")
    for question in QUESTIONS:
        begun = time.perf_counter()
        context = db.retrieve(COLLECTION, question, token_budget=300)
        milliseconds = (time.perf_counter() - begun) * 1e3
        _say(f"? {question}   ({milliseconds:.1f} ms)")
        for citation in context.sources[:2]:
            source = citation.source
            where = f"{source.uri}, characters {source.start}-{source.end}, score {citation.score:.2f}"
            _say(f"    [{citation.number}] {_first_line(citation.text)}")
            _say(f"        {source.section or source.title} ({where})")


def _write_and_read(db: Client) -> int:
    from vecdb_client import Document

    _say("")
    secret = f"The demo's magic word is {secrets.token_hex(4)}."
    begun = time.perf_counter()
    db.upsert(COLLECTION, [Document(id="note-to-self", text=secret, payload={"kind": "note"})])
    hits = db.search(COLLECTION, text="what is the magic word of the demo?", k=1)
    milliseconds = (time.perf_counter() - begun) * 1e3
    found = "found at once" if hits[0].id == "note-to-self" else f"NOT found first: {hits[0].id}"
    _say(f"a write, then a search that must see it: {found} ({milliseconds:.1f} ms for both)")
    return hits[0].version


def _state(db: Client) -> dict[str, Any]:
    info = db.describe(COLLECTION)
    return {"documents": info.documents, "content_hash": info.shards[0].content_hash}


def _next_steps(node: _Node, keep: bool) -> None:
    _head("What to try next")
    if keep:
        _say(f"the node goes on at {node.address} (process {node.pid}); its data is in {node.folder}")
        address = node.address
    else:
        address = "127.0.0.1:7700"
        _say("vecdb serve --data-dir ./data          # your own node")
    addr = "" if address == "127.0.0.1:7700" else f" --addr {address}"
    _say(f"vecdb ingest README.md docs --collection notes --model {MODEL}{addr}")
    _say(f'vecdb query notes "what survives a power loss?" --retrieve{addr}')
    _say("docs/client.md for Python, docs/ for the rest")


# --- what is ingested -----------------------------------------------------------


def _sources() -> Iterator[tuple[str, bytes]]:
    """One Markdown text a module: its documentation strings, each under its dotted name."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _LEFT_OUT.isdisjoint(relative.parts) and (text := _documented(path, relative)):
            yield f"python/{relative.with_suffix('.md')}", text.encode()


def _documented(path: Path, relative: Path) -> str:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return ""
    parts = [part for part in relative.with_suffix("").parts if part != "__init__"]
    sections = list(_sections(tree, ".".join(parts)))
    text = "\n\n".join(sections)
    return text if len(text) >= _SMALLEST else ""


def _sections(tree: ast.AST, name: str) -> Iterator[str]:
    if isinstance(tree, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        if documented := ast.get_docstring(tree):
            yield f"# {name}\n\n{documented}"
        for child in tree.body:
            if (
                isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and child.name[:1] != "_"
            ):
                yield from _sections(child, f"{name}.{child.name}")


# --- the node -------------------------------------------------------------------


class _Node:
    """A `vecdb serve` process on free ports of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Beside the folder: a data directory takes no strangers.
        self.log = folder.with_name(folder.name + ".log")
        self._port, self._http = _free_ports()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def client(self) -> Client:
        from vecdb_client import Client

        return Client(self.address, timeout=60)

    def start(self) -> float:
        """Start it; returns the seconds until it answers. RuntimeError where it does not."""
        begun = time.perf_counter()
        command = [sys.executable, "-m", "vecdb", "serve", "--data-dir", str(self.folder)]
        command += ["--listen", self.address, "--http-listen", f"127.0.0.1:{self._http}"]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # Its own session, so that Ctrl-C reaches the demo alone, which then stops it in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own program, and nobody else's words
                command, start_new_session=True, stderr=log
            )
        while not self._answers():
            if self._process.poll() is not None or time.perf_counter() - begun > _START_SECONDS:
                last = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the node did not start: {' '.join(command)}\n{last}")
            time.sleep(0.02)
        return time.perf_counter() - begun

    def _answers(self) -> bool:
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        with grpc.insecure_channel(self.address) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None, "a node that was started"
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])


# --- words ----------------------------------------------------------------------


def _head(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def _say(text: str) -> None:
    print(text, flush=True)


def _first_line(text: str) -> str:
    """The passage in one line, without the heading it stands under."""
    body = " ".join(line.strip() for line in text.splitlines() if not line.startswith("#"))
    width = min(110, int(os.environ.get("COLUMNS", "110")) - 8)
    body = " ".join(body.split())
    return body if len(body) <= width else body[: width - 3] + "..."
