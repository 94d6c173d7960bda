"""`vecdb cluster`: status, invite, remove, move."""

from __future__ import annotations

from typing import Annotated

import typer

from vecdb.cli.connection import Json, Node, with_node
from vecdb.cli.help import examples
from vecdb.cli.output import human_bytes, print_facts, print_json, print_line, print_table

_Peer = Annotated[str, typer.Argument(help="The member's PeerID.", show_default=False)]


@with_node
def status(node: Node, json: Json = False) -> None:
    """Show members, shards and their health, as the node sees them."""
    with node.client() as client:
        found = client.cluster_status()
    if json:
        print_json(found)
        return
    print_facts(
        {
            "cluster": found.cluster_id,
            "node": found.node,
            "catalogue": f"index {found.catalogue_index}, leader {found.catalogue_leader or '-'}",
        }
    )
    print_table(
        ("member", "address", "zone", "state", "version", "shards", "disk free", "detail"),
        [
            (
                member.peer_id,
                member.address,
                member.zone,
                member.state,
                member.version,
                member.shards,
                human_bytes(member.disk_free_bytes),
                member.detail,
            )
            for member in found.members
        ],
    )
    print_table(
        ("shard", "collection", "documents", "applied", "unindexed", "disk", "leader"),
        [
            (
                shard.info.shard,
                shard.collection,
                shard.info.documents,
                shard.info.applied_index,
                shard.info.unindexed,
                human_bytes(shard.info.disk_bytes),
                shard.info.leader,
            )
            for shard in found.shards
        ],
    )


@with_node
def invite(
    node: Node,
    ttl: Annotated[int, typer.Option(min=60, max=604_800, help="Seconds the invitation is good for.")] = 3600,
    json: Json = False,
) -> None:
    """Make a single-use invitation for a new member."""
    with node.client() as client:
        made = client.invite(ttl_seconds=ttl)
    if json:
        print_json(made)
        return
    # The invitation alone on stdout, so that it can go to a file as it is.
    print_line(made.invitation)
    for address in made.addresses:
        typer.echo(f"join by: {address}", err=True)


@with_node
def remove(
    node: Node,
    peer: _Peer,
    now: Annotated[
        bool, typer.Option("--now", help="Do not move its replicas first: for a member that is lost.")
    ] = False,
) -> None:
    """Take a member out of the cluster, its replicas moved elsewhere first."""
    with node.client() as client:
        if now:
            client.remove_member(peer)
        else:
            client.drain_member(peer)
    print_line(f"removed {peer}" if now else f"draining {peer}")


@with_node
def move(
    node: Node,
    shard: Annotated[int, typer.Argument(min=0, help="The shard.", show_default=False)],
    source: Annotated[str, typer.Option("--from", help="PeerID that holds the replica.", show_default=False)],
    target: Annotated[str, typer.Option("--to", help="PeerID that shall hold it.", show_default=False)],
    configuration_index: Annotated[
        int, typer.Option(min=0, help="Refuse if the group has changed since this configuration.")
    ] = 0,
) -> None:
    """Move one replica of a shard to another member."""
    with node.client() as client:
        client.move_replica(shard, source, target, configuration_index=configuration_index)
    print_line(f"moving shard {shard} from {source} to {target}")


def build() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="See and change the members of a cluster.", no_args_is_help=True)
    app.command(epilog=examples("vecdb cluster status", "vecdb cluster status --json"))(status)
    app.command(epilog=examples("vecdb cluster invite --ttl 600 > invitation"))(invite)
    app.command(epilog=examples("vecdb cluster remove 12D3Koo...", "vecdb cluster remove 12D3Koo... --now"))(
        remove
    )
    app.command(epilog=examples("vecdb cluster move 7 --from 12D3Koo... --to 12D3Koo..."))(move)
    return app
