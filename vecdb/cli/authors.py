"""`vecdb authors`: quarantine, release, list."""

from __future__ import annotations

from typing import Annotated

import typer

from vecdb.cli.connection import Json, Node, with_node
from vecdb.cli.help import examples
from vecdb.cli.output import human_time, print_json, print_line, print_table

_Author = Annotated[str, typer.Argument(help="The author, as hits name it.", show_default=False)]


@with_node
def quarantine(
    node: Node,
    author: _Author,
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who look at the list.")] = "",
) -> None:
    """Leave an author's documents out of every answer, at once. Nothing is deleted."""
    with node.client() as client:
        client.quarantine_author(author, reason)
    print_line(f"quarantined {author}")


@with_node
def release(node: Node, author: _Author) -> None:
    """Show an author's documents again."""
    with node.client() as client:
        client.release_author(author)
    print_line(f"released {author}")


@with_node
def list_(node: Node, json: Json = False) -> None:
    """List the quarantined authors."""
    with node.client() as client:
        found = client.list_quarantined()
    if json:
        print_json(found)
        return
    print_table(
        ("author", "since", "reason"),
        [(each.author, human_time(each.since), each.reason) for each in found],
    )


def build() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="Leave authors' documents out of answers.", no_args_is_help=True)
    app.command(epilog=examples('vecdb authors quarantine alice --reason "token leaked"'))(quarantine)
    app.command(epilog=examples("vecdb authors release alice"))(release)
    app.command("list", epilog=examples("vecdb authors list", "vecdb authors list --json"))(list_)
    return app
