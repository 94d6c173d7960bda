"""`vecdb ingest`: files, folders and stdin into a collection."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecdb.cli.connection import Json, Node, with_node
from vecdb.cli.exits import CommandError, warn
from vecdb.cli.help import examples
from vecdb.cli.output import print_json, print_line
from vecdb.cli.progress import Progress
from vecdb.exit_code import ExitCode

if TYPE_CHECKING:
    from vecdb_client import Client, IngestResult

    from vecdb.knowledge.walk import FoundFile

_STDIN = "-"
_MAX_SOURCE_BYTES = 256 << 20


@dataclass(slots=True)
class _Tally:
    """What became of everything that was to be ingested."""

    sources: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("added", "updated", "unchanged", "failed"), 0)
    )
    passages: int = 0
    vectors: int = 0
    pruned: int = 0

    def add(self, uri: str, outcome: str, message: str = "", **more: int) -> None:
        self.counts[outcome] += 1
        self.sources.append(
            {"uri": uri, "outcome": outcome, **more, **({"message": message} if message else {})}
        )
        if outcome == "failed":
            warn(f"{uri}: {message.removeprefix(f'{uri}: ')}")

    def add_result(self, result: IngestResult) -> None:
        self.passages += result.passages
        sums = {"passages": result.passages, "deleted": result.deleted, "records": result.sources}
        self.add(result.uri, result.outcome, result.message, **sums)

    def show(self, json: bool) -> None:
        if json:
            totals = {"passages": self.passages, "vectors": self.vectors, "pruned": self.pruned}
            print_json({**self.counts, **totals, "sources": self.sources})
            return
        parts = [f"{count} {outcome}" for outcome, count in self.counts.items() if count]
        written = [f"{self.passages} passages written"] if self.passages or not self.vectors else []
        if self.vectors:
            written.append(f"{self.vectors} vectors written")
        print_line("; ".join([", ".join(parts) or "no sources", *written]))
        if self.pruned:
            print_line(f"{self.pruned} vanished sources removed")


@with_node
def ingest(
    node: Node,
    paths: Annotated[
        list[str],
        typer.Argument(help='Files and folders; "-" for stdin.', metavar="PATH...", show_default=False),
    ],
    collection: Annotated[
        str, typer.Option("--collection", "-c", help="The collection to ingest into.", show_default=False)
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Create the collection with this model if it is missing.")
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", help="Of folders, only what matches this glob.", show_default=False),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", help="Of folders, nothing that matches this glob.", show_default=False),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Also remove sources under the given folders whose files are gone."),
    ] = False,
    name: Annotated[str, typer.Option("--name", help="What the source from stdin is called.")] = "stdin",
    format_: Annotated[
        str,
        typer.Option(
            "--format", help="An extension for all sources, such as md; by name and content if left out."
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Cut documents into passages, embed and store them.

    Reads .txt .md .html .pdf .jsonl .csv; .npy, .fvecs and .bvecs hold vectors, which are
    written as they are. What the collection has unchanged is skipped, so an interrupted run
    can simply be started again. The exit code is 1 when some sources failed.
    """
    tally = _Tally()
    texts, vectors = _find(paths, include or [], exclude or [], tally)
    with node.client() as client:
        _ensure_collection(client, collection, model)
        stdin = _read_stdin(name) if _STDIN in paths else None
        _ingest_texts(client, collection, texts, stdin, format_, tally, quiet=json)
        for found in vectors:
            _ingest_vectors(client, collection, found, tally, quiet=json)
        if prune:
            tally.pruned = _prune(client, collection, [path for path in paths if Path(path).is_dir()])
    tally.show(json)
    if tally.counts["failed"]:
        raise typer.Exit(ExitCode.PARTIAL)


def _find(
    paths: Sequence[str], include: Sequence[str], exclude: Sequence[str], tally: _Tally
) -> tuple[list[FoundFile], list[FoundFile]]:
    """Text files and vector files below the paths; what must be skipped has failed."""
    from vecdb.knowledge.errors import SourceError
    from vecdb.knowledge.formats import detect
    from vecdb.knowledge.vectors import find_rows_beside
    from vecdb.knowledge.walk import walk

    texts, vectors = [], []
    companions: set[Path | None] = set()
    try:
        for found in walk(
            [path for path in paths if path != _STDIN],
            include=include,
            exclude=exclude,
            max_bytes=sys.maxsize,
            on_skip=lambda uri, reason: tally.add(uri, "failed", reason),
        ):
            if detect(found.name, b"").is_vectors:
                vectors.append(found)
                companions.add(find_rows_beside(found.path))
            elif found.size > _MAX_SOURCE_BYTES:
                tally.add(found.name, "failed", f"{found.size} bytes, more than {_MAX_SOURCE_BYTES}")
            else:
                texts.append(found)
    except SourceError as error:
        raise CommandError(str(error)) from None
    # What lies beside vectors tells about their rows; it is no document.
    return [found for found in texts if found.path not in companions], vectors


def _ensure_collection(client: Client, collection: str, model: str | None) -> None:
    from vecdb_client import NotFoundError

    try:
        found = client.describe(collection)
    except NotFoundError:
        if model is None:
            raise CommandError(
                f"there is no collection {collection!r}; --model wordllama-256 creates it with that model, "
                f"vecdb collections create creates one for vectors"
            ) from None
        client.create_collection(collection, model=model, if_not_exists=True)
        return
    if model not in (None, found.model):
        raise CommandError(f"collection {collection!r} has the model {found.model or 'none'}, not {model}")


def _read_stdin(name: str) -> tuple[str, bytes]:
    data = sys.stdin.buffer.read(_MAX_SOURCE_BYTES + 1)
    if len(data) > _MAX_SOURCE_BYTES:
        raise CommandError(f"stdin has more than {_MAX_SOURCE_BYTES} bytes")
    return name, data


def _ingest_texts(
    client: Client,
    collection: str,
    files: Sequence[FoundFile],
    stdin: tuple[str, bytes] | None,
    source_format: str,
    tally: _Tally,
    quiet: bool,
) -> None:
    sizes = {found.name: found.size for found in files}
    if stdin is not None:
        sizes[stdin[0]] = len(stdin[1])
    if not sizes:
        return

    def sources() -> Any:
        for found in files:
            # A path, so that the client holds its bytes only while it sends them;
            # the bytes where the name cannot be had from the path.
            yield found.path if found.path.as_posix() == found.name else (found.name, found.path.read_bytes())
        if stdin is not None:
            yield stdin

    with Progress("ingesting", sum(sizes.values()), unit="bytes", quiet=quiet) as progress:

        def settled(result: IngestResult) -> None:
            tally.add_result(result)
            progress.advance(sizes.get(result.uri, 0), result.uri)

        client.ingest(collection, sources(), format=source_format, progress=settled)


def _ingest_vectors(client: Client, collection: str, found: FoundFile, tally: _Tally, quiet: bool) -> None:
    from vecdb_client import InvalidArgumentError, PartialWriteError

    from vecdb.cli.vectors import upsert_file
    from vecdb.knowledge.errors import SourceError

    try:
        rows = upsert_file(client, collection, found, quiet)
    except (SourceError, InvalidArgumentError, PartialWriteError) as error:
        tally.add(found.name, "failed", str(error))
        return
    tally.vectors += rows
    tally.add(found.name, "added", vectors=rows)


def _prune(client: Client, collection: str, folders: Sequence[str]) -> int:
    """Deletes the sources under the folders whose files do not exist any more."""
    gone: set[str] = set()
    for folder in folders:
        root = Path(folder).as_posix()
        prefix = "" if root == "." else f"{root}/"
        for source in client.list_sources(collection, prefix=prefix):
            outside = not prefix and source.uri.startswith(("/", "../"))
            if not outside and not _exists(source.uri):
                gone.add(source.uri)
    if gone:
        client.delete_sources(collection, sorted(gone))
    return len(gone)


def _exists(uri: str) -> bool:
    """Whether the file is there that the source was read from: "a.md", or "a.jsonl" for "a.jsonl#7".

    A name may hold a # of its own, so every cut counts.
    """
    if Path(uri).exists():
        return True
    return any(Path(uri[:place]).is_file() for place, letter in enumerate(uri) if letter == "#")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog=examples(
            "vecdb ingest docs/ --collection docs --model wordllama-256",
            "vecdb ingest docs/ -c docs --include '*.md' --exclude drafts --prune",
            "vecdb ingest corpus.jsonl report.pdf -c docs",
            "curl -s https://example.org | vecdb ingest - -c docs --name example.html",
            "vecdb ingest vectors.npy -c vecs",
        )
    )(ingest)
