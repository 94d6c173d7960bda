"""`vecdb tokens`: create, list, revoke."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vecdb.cli.connection import Json, Node, with_node
from vecdb.cli.exits import CommandError
from vecdb.cli.help import examples
from vecdb.cli.output import human_time, print_json, print_line, print_table

if TYPE_CHECKING:
    from vecdb_client import Grant, TokenInfo

ROLES = ("read", "write", "admin")

_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@with_node
def create(
    node: Node,
    principal: Annotated[
        str, typer.Argument(help="The author of what is written under the token.", show_default=False)
    ],
    grant: Annotated[
        list[str],
        typer.Option(
            "--grant",
            help="A role on all collections (read, write, admin), or on one (docs:write); may be repeated.",
            show_default=False,
        ),
    ],
    expires: Annotated[
        str | None, typer.Option("--expires", help="Good for so long: 90d, 12h, 30m. For ever if left out.")
    ] = None,
    rate: Annotated[
        int,
        typer.Option("--rate", min=0, max=1_000_000, help="Requests a second, on each node; 0: no limit."),
    ] = 0,
    concurrent: Annotated[
        int, typer.Option("--concurrent", min=0, max=100_000, help="Requests at a time, likewise.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the secret to this new file, readable by you alone.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a token. Its secret is shown this once: the node keeps only a hash of it."""
    grants = _grants(grant)
    expires_at = None if expires is None else datetime.now(UTC) + _span(expires)
    # Opened first: a secret that cannot be written would be lost, and its token stay.
    descriptor = None if out is None else os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with node.client() as client:
            made = client.create_token(
                principal,
                grants,
                expires_at=expires_at,
                requests_per_second=rate,
                concurrent_requests=concurrent,
            )
    except BaseException:
        if descriptor is not None and out is not None:
            os.close(descriptor)
            out.unlink()
        raise
    if descriptor is not None:
        with os.fdopen(descriptor, "w") as file:
            file.write(made.secret + "\n")
    if json:
        shown = {"token": made.token} if out is not None else {"token": made.token, "secret": made.secret}
        print_json(shown)
        return
    typer.echo(f"token {made.token.token_id} of {principal}: {', '.join(_told(made.token))}", err=True)
    if out is None:
        # The secret alone on stdout, so that it can go to a file or a vault as it is.
        print_line(made.secret)


@with_node
def list_(node: Node, json: Json = False) -> None:
    """List the tokens, without their secrets."""
    with node.client() as client:
        found = client.list_tokens()
    if json:
        print_json(found)
        return
    print_table(
        ("id", "principal", "grants", "created", "expires", "rate", "concurrent"),
        [
            (
                token.token_id,
                token.principal,
                [_named(grant) for grant in token.grants],
                human_time(token.created_at),
                human_time(token.expires_at),
                token.requests_per_second or "",
                token.concurrent_requests or "",
            )
            for token in found
        ],
    )


@with_node
def revoke(
    node: Node, token_id: Annotated[str, typer.Argument(help="The token's id.", show_default=False)]
) -> None:
    """Make a token worthless at once; streams that are open under it end."""
    with node.client() as client:
        client.revoke_token(token_id)
    print_line(f"revoked {token_id}")


def _grants(texts: list[str]) -> list[Grant]:
    from vecdb_client import Grant

    grants = []
    for text in texts:
        collection, _, role = text.rpartition(":")
        if role not in ROLES:
            raise CommandError(f"--grant {text!r}: the role must be one of {', '.join(ROLES)}")
        grants.append(Grant(role, collection))
    return grants


def _span(text: str) -> timedelta:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise CommandError(f"--expires {text!r}: write a number and a unit (s m h d w), such as 90d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _told(token: TokenInfo) -> list[str]:
    until = "for ever" if token.expires_at is None else f"until {human_time(token.expires_at)}"
    return [*(_named(grant) for grant in token.grants), until]


def _named(grant: Grant) -> str:
    return f"{grant.collection}:{grant.role}" if grant.collection else grant.role


def build() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="Make, list and revoke access tokens.", no_args_is_help=True)
    app.command(
        epilog=examples(
            "vecdb tokens create alice --grant docs:write --expires 90d --out alice.token",
            "vecdb tokens create reader --grant read --rate 50 > reader.token",
        )
    )(create)
    app.command("list", epilog=examples("vecdb tokens list", "vecdb tokens list --json"))(list_)
    app.command(epilog=examples("vecdb tokens revoke 5f1c2a9be0d34c77"))(revoke)
    return app
