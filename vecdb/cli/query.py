"""`vecdb query`: hits for words, or a cited context."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecdb.cli.connection import Json, Node, with_node
from vecdb.cli.exits import CommandError, warn
from vecdb.cli.filters import parse_filters
from vecdb.cli.help import examples
from vecdb.cli.output import print_json, print_line

if TYPE_CHECKING:
    from vecdb_client import Client

_SNIPPET = 240


class Mode(StrEnum):
    """How hits are found."""

    VECTOR = "vector"
    BM25 = "bm25"
    HYBRID = "hybrid"


@with_node
def query(
    node: Node,
    collection: Annotated[
        str, typer.Argument(help="The collection, or an alias of one.", show_default=False)
    ],
    words: Annotated[str, typer.Argument(help='The question; "-" reads it from stdin.', show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, help="Hits wanted.")] = 10,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", "-f", help="field OP value, or JSON; given again, all must hold.", show_default=False
        ),
    ] = None,
    mode: Annotated[Mode, typer.Option("--mode", "-m", help="How hits are found.")] = Mode.VECTOR,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every document.")] = False,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by",
            metavar="FIELD",
            help="The best of each value of a field, of the k best groups; also @source, @author.",
            show_default=False,
        ),
    ] = None,
    group_size: Annotated[
        int, typer.Option("--group-size", min=1, max=100, help="With --group-by: hits of each group.")
    ] = 1,
    diversity: Annotated[
        float,
        typer.Option(
            "--diversity", min=0.0, max=1.0, help="Hits unlike each other: 0 not at all, 1 above all else."
        ),
    ] = 0.0,
    retrieve: Annotated[
        bool, typer.Option("--retrieve", "-r", help="Print one context with numbered citations.")
    ] = False,
    token_budget: Annotated[
        int, typer.Option("--token-budget", min=32, help="With --retrieve: tokens the context may take.")
    ] = 1500,
    json: Json = False,
) -> None:
    """Search a collection in words.

    A filter is an expression (year>=2020, lang=en, title^=Intro, when>@2024-05-01T00:00:00Z) or JSON
    ({"year": {"$gte": 2020}, "$or": [{"lang": "en"}, {"lang": "de"}]}); docs/cli.md has all of it.
    """
    question = sys.stdin.read().strip() if words == "-" else words
    if not question:
        raise CommandError("the question is empty")
    with node.client() as client:
        asked: dict[str, Any] = {"mode": mode.value, "filter": parse_filters(filters or [])}
        if retrieve:
            for option, given in (("--exact", exact), ("--group-by", group_by), ("--diversity", diversity)):
                if given:
                    raise CommandError(f"{option} does not go with --retrieve")
            _retrieve(client, collection, question, {**asked, "token_budget": token_budget}, json)
        else:
            asked |= {"k": k, "exact": exact, **_chosen(group_by, group_size, diversity)}
            _search(client, collection, question, asked, json)


def _chosen(group_by: str | None, group_size: int, diversity: float) -> dict[str, Any]:
    """What the client is asked to choose the hits by."""
    from vecdb_client import Diversity

    if group_by is not None and diversity:
        raise CommandError("--diversity does not go with --group-by")
    if group_by is not None:
        return {"group_by": group_by, "group_size": group_size}
    return {"diversity": Diversity(relevance=1.0 - diversity)} if diversity else {}


def _search(client: Client, collection: str, question: str, options: dict[str, Any], json: bool) -> None:
    hits = client.search(collection, text=question, **options)
    if json:
        found = [
            {
                "id": hit.id,
                "score": hit.score,
                "text": hit.text,
                "payload": hit.payload,
                "version": hit.version,
                "author": hit.author,
                "source": hit.source,
                "group": hit.group,
            }
            for hit in hits
        ]
        print_json({"hits": found, "partial": hits.partial, "missing_shards": list(hits.missing_shards)})
        return
    group = ""
    for rank, hit in enumerate(hits, 1):
        if hit.group != group:
            group = hit.group
            print_line(f"{group}:")
        print_line(f"{rank:>3}  {hit.score:.4f}  {hit.id}{_place(hit.source)}")
        if hit.text:
            print_line(f"     {_snippet(hit.text)}")
        if hit.payload:
            print_line(f"     {hit.payload}")
    if not hits:
        print_line("no hits")
    _warn_partial(hits.partial, hits.missing_shards)


def _retrieve(client: Client, collection: str, question: str, options: dict[str, Any], json: bool) -> None:
    context = client.retrieve(collection, question, **options)
    if json:
        print_json(context)
        return
    print_line(context.text or "no passages")
    if context.sources:
        print_line("")
    for citation in context.sources:
        print_line(f"[{citation.number}] {citation.score:.4f}{_place(citation.source)}")
    print_line(f"{context.tokens} tokens")
    _warn_partial(context.partial, context.missing_shards)


def _place(source: Any) -> str:
    """Where a passage stands: "  notes/a.md:120-480 (p. 3)"."""
    if source is None:
        return ""
    page = f" (p. {source.page})" if source.page else ""
    return f"  {source.uri}:{source.start}-{source.end}{page}"


def _snippet(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SNIPPET else line[:_SNIPPET].rstrip() + "..."


def _warn_partial(partial: bool, missing: tuple[int, ...]) -> None:
    if partial:
        warn(f"partial: shards {', '.join(map(str, missing))} did not answer")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog=examples(
            'vecdb query docs "how do snapshots work"',
            'vecdb query docs "consensus" -k 5 --filter "year>=2020" --filter lang=en --mode hybrid',
            'vecdb query docs "consensus" --group-by @source --group-size 2',
            'vecdb query docs "who may join?" --retrieve --token-budget 800',
            'vecdb query docs "consensus" --json | jq -r .hits[].id',
        )
    )(query)
