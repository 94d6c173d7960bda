"""Commands that run a node or say what runs here: serve, demo, version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vecdb.cli.connection import Json
from vecdb.cli.exits import CommandError
from vecdb.cli.help import examples
from vecdb.cli.output import print_facts, print_json

# Flags are handed to vecdb.config as text: it checks them, as it checks the
# environment and the file, and says what is wrong in the same words.
_Text = str | None


def _flag(name: str, text: str) -> Any:
    return typer.Option(name, help=text, show_default=False)


def serve(
    data_dir: Annotated[_Text, _flag("--data-dir", "The folder for all data; made if missing.")] = None,
    listen: Annotated[_Text, _flag("--listen", "Clients connect here (gRPC). [127.0.0.1:7700]")] = None,
    peer_listen: Annotated[
        _Text, _flag("--peer-listen", "Other nodes connect here; recorded only, so far. [127.0.0.1:7701]")
    ] = None,
    mesh_listen: Annotated[
        _Text, _flag("--mesh-listen", "libp2p listens here; recorded only, so far. [127.0.0.1:7702]")
    ] = None,
    http_listen: Annotated[_Text, _flag("--http-listen", "Metrics and health. [127.0.0.1:7703]")] = None,
    init: Annotated[bool | None, _flag("--init", "Begin a new cluster in an empty data directory.")] = None,
    join: Annotated[_Text, _flag("--join", "The multiaddr of a member to join; refused so far.")] = None,
    invite_file: Annotated[_Text, _flag("--invite-file", "The invitation to join by.")] = None,
    token_file: Annotated[_Text, _flag("--token-file", "The file with the root token.")] = None,
    tls_cert: Annotated[_Text, _flag("--tls-cert", "PEM: certificate and chain.")] = None,
    tls_key: Annotated[_Text, _flag("--tls-key", "PEM: the certificate's key.")] = None,
    zone: Annotated[_Text, _flag("--zone", "The failure domain the node stands in.")] = None,
    log_format: Annotated[_Text, _flag("--log-format", "console or json. [console]")] = None,
    log_level: Annotated[_Text, _flag("--log-level", "debug, info, warning or error. [info]")] = None,
    config: Annotated[Path | None, _flag("--config", "A TOML file with these keys. [VECDB_CONFIG]")] = None,
    insecure: Annotated[
        bool | None, _flag("--insecure", "Listen off loopback without TLS and token.")
    ] = None,
) -> None:
    """Run a node.

    Flags win over VECDB_* variables, those over the file of --config.
    docs/configuration.md has every key. SIGTERM and Ctrl-C stop the node in
    good order.
    """
    flags = {name: value for name, value in locals().items() if name != "config"}
    raise typer.Exit(_serve(flags, config))


def _serve(flags: dict[str, Any], config: Path | None) -> int:
    from vecdb.config import ConfigError, load
    from vecdb.telemetry.logs import configure

    try:
        settings = load(flags, config)
    except ConfigError as error:
        raise CommandError(str(error)) from None
    configure(settings.log_format, settings.log_level)
    _announce(settings)
    from vecdb.node import run

    return run(settings)


def _announce(settings: Any) -> None:
    """Says what an operator might otherwise learn too late."""
    import structlog

    log = structlog.get_logger("vecdb.serve")
    log.info(
        "single node: nothing listens for other nodes yet",
        peer_listen=str(settings.peer_listen),
        mesh_listen=str(settings.mesh_listen),
    )
    exposed = [key for key in ("listen", "http_listen") if not getattr(settings, key).is_loopback]
    if exposed and settings.tls_cert is None:
        log.warning("insecure: reachable from other machines without TLS", keys=exposed)
    if exposed and settings.token_file is None:
        log.warning("insecure: reachable from other machines without a token", keys=exposed)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the node running afterwards.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Where to keep its data; a temporary folder if left out."),
    ] = None,
) -> None:
    """Start a node, ingest a few documents, ask them something."""
    from vecdb.cli.demo import run

    raise typer.Exit(run(keep=keep, data_dir=data_dir))


def version(json: Json = False) -> None:
    """Show the versions of vecdb and of what it is built on."""
    from vecdb.telemetry.version import versions

    found = versions()
    print_json(found) if json else print_facts(found)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        epilog=examples(
            "vecdb serve --data-dir ./data",
            "vecdb serve --data-dir /var/lib/vecdb --listen 0.0.0.0:7700 --init \\",
            "    --token-file root.token --tls-cert node.pem --tls-key node.key",
            "VECDB_LIMITS__MAX_K=1000 vecdb serve --config /etc/vecdb.toml --log-format json",
        )
    )(serve)
    app.command(epilog=examples("vecdb demo", "vecdb demo --keep --data-dir ./demo"))(demo)
    app.command(epilog=examples("vecdb version", "vecdb version --json"))(version)
