"""`vecdb collections`: list, create, describe, alter, drop."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from vecdb.cli.connection import Json, Node, with_node
from vecdb.cli.exits import CommandError
from vecdb.cli.help import examples
from vecdb.cli.output import human_bytes, print_facts, print_json, print_line, print_table

if TYPE_CHECKING:
    from vecdb_client import CollectionInfo

FIELD_TYPES = ("keyword", "int", "float", "bool", "datetime", "geo", "text")

_Name = Annotated[str, typer.Argument(help="The collection.", show_default=False)]
_Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        help=f"A payload field to index, as name:type ({' '.join(FIELD_TYPES)}).",
        show_default=False,
    ),
]


class Metric(StrEnum):
    """How near is told."""

    COSINE = "cosine"
    DOT = "dot"
    L2 = "l2"


class Index(StrEnum):
    """The kind of index."""

    HNSW = "hnsw"
    FLAT = "flat"
    IVF = "ivf"


class Storage(StrEnum):
    """What an index finds candidates by."""

    F32 = "f32"
    F16 = "f16"
    SQ8 = "sq8"
    RABITQ = "rabitq"


@with_node
def list_(node: Node, json: Json = False) -> None:
    """List the collections."""
    with node.client() as client:
        found = client.list_collections()
    if json:
        print_json(found)
        return
    print_table(
        ("name", "documents", "model", "dim", "metric", "index", "unindexed", "disk"),
        [
            (
                info.name,
                info.documents,
                info.config.model,
                info.config.dim,
                info.config.metric,
                info.config.index,
                info.unindexed,
                human_bytes(info.disk_bytes),
            )
            for info in found
        ],
    )


@with_node
def create(
    node: Node,
    name: _Name,
    model: Annotated[str | None, typer.Option(help="The embedding model; then text goes in.")] = None,
    dim: Annotated[int | None, typer.Option(min=1, help="Dimensions, where there is no model.")] = None,
    metric: Annotated[
        Metric | None, typer.Option(help="How near is told; cosine, or the model's, if left out.")
    ] = None,
    index: Annotated[Index, typer.Option(help="The kind of index.")] = Index.HNSW,
    storage: Annotated[
        Storage, typer.Option(help="What candidates are found by; hits are always scored by full vectors.")
    ] = Storage.F32,
    target_recall: Annotated[
        float | None, typer.Option(min=0.5, max=1.0, help="The recall at k=10 to aim at; 0.95 if left out.")
    ] = None,
    shards: Annotated[int, typer.Option(min=1, max=256, help="Shards.")] = 1,
    language: Annotated[
        str | None, typer.Option(help="What words are stemmed by, as ISO 639-1 has it; en if left out.")
    ] = None,
    field: _Fields = None,
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="Accept one that is there with the same configuration.")
    ] = False,
    json: Json = False,
) -> None:
    """Create a collection, for a model's texts or for vectors of your own."""
    if (model is None) == (dim is None):
        raise CommandError("give --model for texts, or --dim for vectors of your own")
    with node.client() as client:
        info = client.create_collection(
            name,
            model=model,
            dim=dim,
            metric=metric and metric.value,
            index=index.value,
            storage=storage.value,
            target_recall=target_recall,
            shards=shards,
            language=language,
            fields=_fields(field),
            if_not_exists=if_not_exists,
        )
    _show(info, json)


@with_node
def describe(node: Node, name: _Name, json: Json = False) -> None:
    """Show a collection: configuration, documents, index, recall, shards."""
    with node.client() as client:
        _show(client.describe(name), json)


@with_node
def alter(
    node: Node,
    name: _Name,
    field: _Fields = None,
    drop_field: Annotated[
        list[str] | None, typer.Option("--drop-field", help="A field to index no more.", show_default=False)
    ] = None,
    target_recall: Annotated[
        float | None, typer.Option(min=0.5, max=1.0, help="The recall at k=10 to aim at.")
    ] = None,
    json: Json = False,
) -> None:
    """Change a collection's fields or target recall, in one step."""
    if not (field or drop_field or target_recall):
        raise CommandError("nothing to change; give --field, --drop-field or --target-recall")
    with node.client() as client:
        info = client.alter_collection(
            name, add_fields=_fields(field), drop_fields=drop_field or (), target_recall=target_recall
        )
    _show(info, json)


@with_node
def drop(
    node: Node,
    name: _Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Drop a collection and its documents for good."""
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError("dropping is for good; pass --yes to do it without being asked")
        typer.confirm(f"Drop {name} and all its documents?", abort=True, err=True)
    with node.client() as client:
        client.drop_collection(name)
    print_line(f"dropped {name}")


def _fields(texts: list[str] | None) -> dict[str, str]:
    fields = {}
    for text in texts or []:
        name, colon, kind = text.rpartition(":")
        if not colon or not name or not kind:
            raise CommandError(f"--field {text!r}: write name:type, such as year:int")
        if kind not in FIELD_TYPES:
            raise CommandError(f"--field {text!r}: the type must be one of {', '.join(FIELD_TYPES)}")
        fields[name] = kind
    return fields


def _show(info: CollectionInfo, json: bool) -> None:
    if json:
        print_json(info)
        return
    config = info.config
    print_facts(
        {
            "name": info.name,
            "aliases": info.aliases,
            "model": config.model,
            "dim": config.dim,
            "metric": config.metric,
            "index": f"{config.index} ({config.storage})" if config.storage else config.index,
            "language": config.language,
            "target recall": config.target_recall,
            "recall": _recall(info),
            "fields": [f"{name}:{kind}" for name, kind in config.fields.items()],
            "documents": info.documents,
            "index state": f"{info.index_state}, {info.unindexed} rows unindexed",
            "disk": f"{human_bytes(info.disk_bytes)}, {_bytes_a_document(info)}",
            "created": info.created_at and info.created_at.isoformat(timespec="seconds"),
        }
    )
    if info.shards:
        print_table(
            ("shard", "documents", "applied", "durable", "unindexed", "segments", "disk"),
            [
                (
                    shard.shard,
                    shard.documents,
                    shard.applied_index,
                    shard.durable_index,
                    shard.unindexed,
                    len(shard.segments),
                    human_bytes(shard.disk_bytes),
                )
                for shard in info.shards
            ],
        )


def _bytes_a_document(info: CollectionInfo) -> str:
    return (
        f"{info.bytes_per_document:.0f} bytes a document (index {info.index_bytes_per_document:.0f}, "
        f"vectors {info.vector_bytes_per_document:.0f})"
    )


def _recall(info: CollectionInfo) -> str:
    calibrated = (
        f"{info.calibrated_recall:.3f} calibrated" if info.calibrated_recall else "not calibrated yet"
    )
    return f"{calibrated}, {info.measured_recall:.3f} measured" if info.measured_recall else calibrated


def build() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="List, create, describe, alter and drop collections.", no_args_is_help=True)
    app.command("list", epilog=examples("vecdb collections list", "vecdb collections list --json"))(list_)
    app.command(
        epilog=examples(
            "vecdb collections create docs --model wordllama-256 --field year:int",
            "vecdb collections create vecs --dim 784 --metric l2 --target-recall 0.99",
        )
    )(create)
    app.command(epilog=examples("vecdb collections describe docs", "vecdb collections describe docs --json"))(
        describe
    )
    app.command(
        epilog=examples(
            "vecdb collections alter docs --field lang:keyword --drop-field year",
            "vecdb collections alter docs --target-recall 0.99",
        )
    )(alter)
    app.command(epilog=examples("vecdb collections drop docs", "vecdb collections drop docs --yes"))(drop)
    return app
