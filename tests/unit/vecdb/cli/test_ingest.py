"""`vecdb ingest` against a real server that keeps what it is sent."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from vecdb_proto.v1 import collections_pb2, documents_pb2, knowledge_pb2

from tests.clients.scripted import Fail, ScriptedServer

Reply = knowledge_pb2.IngestResponse


class Shelf:
    """The sources of a collection; a source is unchanged when its bytes are."""

    def __init__(self, server: ScriptedServer, model: str = "wordllama-256") -> None:
        self.sources: dict[str, bytes] = {}
        self.formats: dict[str, str] = {}
        info = collections_pb2.CollectionInfo(
            config=collections_pb2.CollectionConfig(name="docs", model=model)
        )
        server.script("Collections/Describe", collections_pb2.DescribeCollectionResponse(collection=info))
        server.script("Collections/Create", collections_pb2.CreateCollectionResponse(collection=info))
        server.script("Knowledge/Ingest", self._ingest)
        server.script("Knowledge/ListSources", self._list)
        server.script("Knowledge/DeleteSources", self._delete)

    def _ingest(self, requests: Iterator[knowledge_pb2.IngestRequest], _context: Any) -> Iterator[Reply]:
        assert next(requests).header.collection == "docs"
        uri, data, size = "", b"", -1
        for request in requests:
            if request.WhichOneof("part") == "source":
                uri, data, size = request.source.uri, b"", request.source.size
                self.formats[uri] = request.source.format
            else:
                data += request.data
            if len(data) == size:
                yield self._take(uri, data)

    def _take(self, uri: str, data: bytes) -> Reply:
        if b"\0" in data:
            return Reply(
                uri=uri, outcome=knowledge_pb2.INGEST_OUTCOME_FAILED, code=3, message=f"{uri}: binary data"
            )
        if self.sources.get(uri) == data:
            return Reply(uri=uri, outcome=knowledge_pb2.INGEST_OUTCOME_UNCHANGED)
        known = uri in self.sources
        self.sources[uri] = data
        outcome = knowledge_pb2.INGEST_OUTCOME_UPDATED if known else knowledge_pb2.INGEST_OUTCOME_ADDED
        return Reply(uri=uri, outcome=outcome, passages=2)

    def _list(self, request: Any, _context: Any) -> Any:
        found = [uri for uri in sorted(self.sources) if uri.startswith(request.prefix)]
        return knowledge_pb2.ListSourcesResponse(sources=[knowledge_pb2.SourceInfo(uri=uri) for uri in found])

    def _delete(self, request: Any, _context: Any) -> Any:
        for uri in request.uris:
            del self.sources[uri]
        return knowledge_pb2.DeleteSourcesResponse(count=len(request.uris))


@pytest.fixture
def shelf(server: ScriptedServer) -> Shelf:
    return Shelf(server)


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder "docs" in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.md").write_text("# A\nRain.")
    (folder / "deep" / "b.txt").write_text("Sun.")
    (folder / ".hidden").write_text("no")
    return folder


def test_a_folder(cli: Any, shelf: Shelf, docs: Path) -> None:
    """Files arrive under their paths; a second run finds them unchanged, a changed one is replaced."""
    outcome = cli("ingest", "docs", "-c", "docs")
    assert (outcome.code, outcome.out, outcome.err) == (0, "2 added; 4 passages written\n", "")
    assert shelf.sources == {"docs/a.md": b"# A\nRain.", "docs/deep/b.txt": b"Sun."}
    assert cli("ingest", "docs", "-c", "docs").out == "2 unchanged; 0 passages written\n"
    (docs / "a.md").write_text("Snow.")
    outcome = cli("ingest", "docs", "-c", "docs", "--json")
    report = json.loads(outcome.out)
    assert (report["added"], report["updated"], report["unchanged"], report["failed"]) == (0, 1, 1, 0)
    assert [source["outcome"] for source in report["sources"]] == ["updated", "unchanged"]


def test_globs(cli: Any, shelf: Shelf, docs: Path) -> None:
    """Include and exclude choose among a folder's files."""
    (docs / "c.md").write_text("C")
    assert cli("ingest", "docs", "-c", "docs", "--include", "*.md", "--exclude", "c*").code == 0
    assert set(shelf.sources) == {"docs/a.md"}
    assert (
        cli("ingest", "docs", "-c", "docs", "--include", "*.none").out == "no sources; 0 passages written\n"
    )


def test_a_name_that_is_no_utf8(cli: Any, shelf: Shelf, docs: Path) -> None:
    """A file whose name cannot be sent as it is gets one that can, and is taken like the others."""
    Path(os.fsdecode(os.fsencode(docs) + b"/caf\xe9.txt")).write_text("Coffee.")
    assert cli("ingest", "docs", "-c", "docs").code == 0
    (name,) = set(shelf.sources) - {"docs/a.md", "docs/deep/b.txt"}
    assert name.startswith("docs/caf")
    assert shelf.sources[name] == b"Coffee."


def test_stdin(cli: Any, shelf: Shelf, docs: Path) -> None:
    """ "-" reads stdin under a name and in a format of one's choice, beside files."""
    outcome = cli(
        "ingest", "-", "docs/a.md", "-c", "docs", "--name", "page", "--format", "html", stdin=b"<p>Hi"
    )
    assert outcome.code == 0
    assert shelf.sources["page"] == b"<p>Hi"
    assert shelf.formats == {"docs/a.md": "html", "page": "html"}


def test_some_fail(cli: Any, shelf: Shelf, docs: Path) -> None:
    """What fails is named on stderr, the others are taken, and the exit code is 1."""
    (docs / "bad.txt").write_bytes(b"\0\0")
    outcome = cli("ingest", "docs", "-c", "docs")
    assert outcome.code == 1
    assert outcome.out == "2 added, 1 failed; 4 passages written\n"
    assert outcome.err == "vecdb: warning: docs/bad.txt: binary data\n"


def test_too_large(cli: Any, shelf: Shelf, docs: Path) -> None:
    """A file beyond what a server may take is not read, and has failed."""
    with (docs / "huge.txt").open("wb") as file:
        file.truncate((256 << 20) + 1)
    outcome = cli("ingest", "docs", "-c", "docs")
    assert outcome.code == 1
    assert "docs/huge.txt: 268435457 bytes, more than 268435456" in outcome.err
    assert len(shelf.sources) == 2


def test_prune(cli: Any, shelf: Shelf, docs: Path) -> None:
    """Only what was read from the folder, and is gone from it, is removed."""
    records = docs / "r.jsonl"
    records.write_text("{}")
    assert cli("ingest", "docs", "-c", "docs").code == 0
    kept = {"docs/a.md", "docs/r.jsonl", "docs/r.jsonl#7", "docs/r.jsonl#a#b", "elsewhere/x.md", "docs2/y.md"}
    shelf.sources |= dict.fromkeys(kept | {"docs/gone.jsonl#1", "docs/gone.md"}, b"old")
    (docs / "deep" / "b.txt").unlink()
    outcome = cli("ingest", "docs", "-c", "docs", "--prune", "--exclude", "a.md")
    assert outcome.code == 0
    assert "3 vanished sources removed" in outcome.out
    assert set(shelf.sources) == kept


def test_prune_of_the_working_directory(cli: Any, shelf: Shelf, docs: Path) -> None:
    """Under "." names have no prefix: sources from elsewhere are told by theirs, and stay."""
    shelf.sources |= dict.fromkeys(("/abs/x.md", "../up.md", "gone.md"), b"old")
    assert cli("ingest", ".", "-c", "docs", "--prune", "--json").code == 0
    assert set(shelf.sources) == {"/abs/x.md", "../up.md", "docs/a.md", "docs/deep/b.txt"}


def test_a_missing_collection(cli: Any, server: ScriptedServer, shelf: Shelf, docs: Path) -> None:
    """It is made for a model that was named, and nothing is guessed otherwise."""
    server.script("Collections/Describe", Fail(grpc.StatusCode.NOT_FOUND, "none", "COLLECTION_NOT_FOUND"))
    outcome = cli("ingest", "docs", "-c", "docs")
    assert outcome.code == 2
    assert "--model wordllama-256 creates it" in outcome.error
    assert not shelf.sources
    assert cli("ingest", "docs", "-c", "docs", "--model", "m").code == 0
    (request,) = server.requests["Collections/Create"]
    assert (request.config.model, request.if_not_exists) == ("m", True)


def test_another_model(cli: Any, shelf: Shelf, docs: Path) -> None:
    """Naming another model than the collection's is a mistake that is told."""
    outcome = cli("ingest", "docs", "-c", "docs", "--model", "other")
    assert outcome.code == 2
    assert "has the model wordllama-256, not other" in outcome.error
    assert not shelf.sources


def test_a_missing_path(cli: Any, shelf: Shelf, docs: Path) -> None:
    """A path that is not there ends the command before anything is sent."""
    outcome = cli("ingest", "docs", "nowhere", "-c", "docs")
    assert outcome.code == 2
    assert "nowhere" in outcome.error
    assert not shelf.sources


@pytest.fixture
def upserts(server: ScriptedServer, shelf: Shelf) -> list[documents_pb2.UpsertRequest]:
    """Upserts are acknowledged; this is the list of them."""
    server.script("Documents/Upsert", lambda request, _: documents_pb2.WriteResponse(count=len(request.ids)))
    return server.requests["Documents/Upsert"]


def test_vectors(cli: Any, shelf: Shelf, docs: Path, upserts: list[Any]) -> None:
    """Vectors are written as they are, numbered where nothing lies beside them; texts go the usual way."""
    matrix = np.arange(12, dtype=np.float64).reshape(4, 3)
    np.save(docs / "v.npy", matrix)
    outcome = cli("ingest", "docs", "-c", "docs")
    assert outcome.out == "3 added; 4 passages written; 4 vectors written\n"
    (request,) = upserts
    assert list(request.ids) == ["0", "1", "2", "3"]
    assert np.array_equal(np.frombuffer(request.vectors, "<f4").reshape(4, 3), matrix)
    assert set(shelf.sources) == {"docs/a.md", "docs/deep/b.txt"}


def test_vectors_with_what_lies_beside_them(cli: Any, shelf: Shelf, docs: Path, upserts: list[Any]) -> None:
    """Ids, texts and payloads come from the file beside, which is no document itself."""
    np.save(docs / "v.npy", np.eye(2, dtype=np.float32))
    (docs / "v.jsonl").write_text('{"id": "x", "text": "Rain", "year": 1}\n{"id": "y"}\n')
    assert cli("ingest", "docs", "-c", "docs", "--json").code == 0
    (request,) = upserts
    assert (list(request.ids), list(request.texts)) == (["x", "y"], ["Rain", ""])
    assert len(request.payloads) == 2
    assert "docs/v.jsonl" not in shelf.sources


@pytest.mark.parametrize("break_it", ["file", "server"])
def test_vectors_that_do_not_fit(
    cli: Any, server: ScriptedServer, shelf: Shelf, docs: Path, upserts: list[Any], break_it: str
) -> None:
    """A file that cannot be read, or that the server refuses, has failed; the rest is done."""
    if break_it == "file":
        (docs / "v.npy").write_bytes(b"\x93NUMPY junk")
    else:
        np.save(docs / "v.npy", np.eye(2, dtype=np.float32))
        server.script(
            "Documents/Upsert", Fail(grpc.StatusCode.INVALID_ARGUMENT, "dim is 256", "WRONG_DIMENSION")
        )
    outcome = cli("ingest", "docs", "-c", "docs")
    assert outcome.code == 1
    assert outcome.err.startswith("vecdb: warning: docs/v.npy: ")
    assert len(shelf.sources) == 2


def test_progress_on_a_terminal(server: ScriptedServer, shelf: Shelf, docs: Path, upserts: list[Any]) -> None:
    """Where a person watches, a bar with rate and time left is drawn on stderr, and none elsewhere."""
    np.save(docs / "v.npy", np.eye(4, dtype=np.float32))
    master, slave = os.openpty()
    arguments = [sys.executable, "-m", "vecdb", "ingest", "docs", "-c", "docs"]
    environment = os.environ | {"VECDB_ADDR": server.address, "TERM": "xterm", "COLUMNS": "160"}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=slave, env=environment) as process:
        os.close(slave)
        drawn = _drain(master)
        assert process.stdout is not None
        assert process.stdout.read() == b"3 added; 4 passages written; 4 vectors written\n"
    assert process.returncode == 0
    for part in ("ingesting", "bytes", "docs/v.npy", "4/4", "/s", "0:00:00"):
        assert part in drawn


def _drain(terminal: int) -> str:
    """All that is written to a terminal until its other end is closed."""
    parts = []
    try:
        while part := os.read(terminal, 65_536):
            parts.append(part)
    except OSError:
        pass  # Linux ends a terminal's output with EIO
    finally:
        os.close(terminal)
    return b"".join(parts).decode()
