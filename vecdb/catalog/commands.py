"""What changes the catalogue.

An encoded command is a msgpack array: the format version, the kind, the
fields. Everything that could differ between replicas (ids apart, which are
counted) is settled by whoever proposes: names, times, the model's fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgpack

from vecdb.catalog.access import (
    CreateToken,
    QuarantineAuthor,
    ReleaseAuthor,
    RevokeToken,
    create_token,
    quarantine_author,
    release_author,
    revoke_token,
)
from vecdb.catalog.records import CatalogState, CollectionRecord, Quarantined, dump_token, load_token
from vecdb.catalog.results import CatalogResult

FORMAT_VERSION: Final = 1


class UnknownCommand(Exception):
    """A newer vecdb wrote the entry; this replica must stop rather than apply something else."""


@dataclass(frozen=True, slots=True)
class Genesis:
    """The first entry: who this cluster is. A second one is refused."""

    cluster_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class CreateCollection:
    """Make a collection; ids in `record` are ignored, and `shard_count` shards are allotted."""

    record: CollectionRecord
    shard_count: int


@dataclass(frozen=True, slots=True)
class AlterCollection:
    """Drop fields, add fields, then set what is not None."""

    name: str
    add_fields: tuple[tuple[str, str], ...] = ()
    drop_fields: tuple[str, ...] = ()
    target_recall: float | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateAliases:
    """Pairs of alias and collection; an empty collection removes the alias. All or none."""

    changes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DropCollection:
    """Drop a collection by its own name."""

    name: str


Command: TypeAlias = (
    Genesis
    | CreateCollection
    | AlterCollection
    | UpdateAliases
    | DropCollection
    | CreateToken
    | RevokeToken
    | QuarantineAuthor
    | ReleaseAuthor
)


def encode(command: Command) -> bytes:
    """The entry's bytes."""
    match command:
        case Genesis():
            parts: list[Any] = ["genesis", command.cluster_id, command.epoch]
        case CreateCollection():
            stored = {name: getattr(command.record, name) for name in CollectionRecord.__dataclass_fields__}
            parts = ["create_collection", stored, command.shard_count]
        case AlterCollection():
            parts = [
                "alter_collection",
                command.name,
                command.add_fields,
                command.drop_fields,
                command.target_recall,
                command.model,
            ]
        case UpdateAliases():
            parts = ["update_aliases", command.changes]
        case DropCollection():
            parts = ["drop_collection", command.name]
        case CreateToken():
            parts = ["create_token", dump_token(command.token)]
        case RevokeToken():
            parts = ["revoke_token", command.token_id]
        case QuarantineAuthor():
            parts = ["quarantine_author", asdict(command.quarantined)]
        case ReleaseAuthor():
            parts = ["release_author", command.author]
    packed: bytes = msgpack.packb([FORMAT_VERSION, *parts])
    return packed


def decode(data: bytes) -> Command:
    """The inverse. UnknownCommand."""
    version, kind, *parts = msgpack.unpackb(data)
    build = _DECODERS.get(kind) if version == FORMAT_VERSION else None
    if build is None:
        raise UnknownCommand(f"catalogue command {kind!r} of format version {version!r}")
    return build(*parts)


def _pairs(stored: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((first, second) for first, second in stored)


_DECODERS: Final[dict[str, Callable[..., Command]]] = {
    "genesis": Genesis,
    "create_collection": lambda stored, count: CreateCollection(CollectionRecord.load(stored), count),
    "alter_collection": lambda name, add, drop, recall, model: AlterCollection(
        name, _pairs(add), tuple(drop), recall, model
    ),
    "update_aliases": lambda changes: UpdateAliases(_pairs(changes)),
    "drop_collection": DropCollection,
    "create_token": lambda stored: CreateToken(load_token(stored)),
    "revoke_token": RevokeToken,
    "quarantine_author": lambda stored: QuarantineAuthor(Quarantined(**stored)),
    "release_author": ReleaseAuthor,
}


def perform(state: CatalogState, command: Command) -> tuple[CatalogState, CatalogResult]:
    """The state after a command: a function of the two alone."""
    match command:
        case Genesis():
            return _genesis(state, command)
        case CreateCollection():
            return _create(state, command)
        case AlterCollection():
            return _alter(state, command)
        case UpdateAliases():
            return _alias(state, command)
        case DropCollection():
            return _drop(state, command)
        case CreateToken():
            return create_token(state, command)
        case RevokeToken():
            return revoke_token(state, command)
        case QuarantineAuthor():
            return quarantine_author(state, command)
        case ReleaseAuthor():
            return release_author(state, command)


def _genesis(state: CatalogState, command: Genesis) -> tuple[CatalogState, CatalogResult]:
    if state.cluster_id:
        return state, CatalogResult("FAILED_PRECONDITION", "INTERNAL", "the cluster has begun already")
    return replace(state, cluster_id=command.cluster_id, epoch=command.epoch), CatalogResult()


def _create(state: CatalogState, command: CreateCollection) -> tuple[CatalogState, CatalogResult]:
    name = command.record.name
    if name in state.collections or name in state.aliases:
        kind = "collection" if name in state.collections else "alias"
        taken = CatalogResult("ALREADY_EXISTS", "COLLECTION_EXISTS", f"there is {_an(kind)} named {name!r}")
        return state, replace(taken, record=state.collections.get(name))
    last = state.next_shard + command.shard_count
    record = replace(
        command.record,
        collection_id=state.next_collection,
        shards=tuple(range(state.next_shard, last)),
    )
    after = replace(
        state,
        next_collection=state.next_collection + 1,
        next_shard=last,
        collections=_with(state.collections, name, record),
    )
    return after, CatalogResult(record=record)


def _alter(state: CatalogState, command: AlterCollection) -> tuple[CatalogState, CatalogResult]:
    record = state.collections.get(command.name)
    if record is None:
        return state, _missing(command.name)
    declared = dict(record.fields)
    for name in command.drop_fields:
        if declared.pop(name, None) is None:
            return state, CatalogResult("NOT_FOUND", "BAD_ARGUMENT", f"no field {name!r} is declared")
    for name, kind in command.add_fields:
        if declared.setdefault(name, kind) != kind:
            message = f"field {name!r} is declared as {declared[name]}; drop it first"
            return state, CatalogResult("ALREADY_EXISTS", "BAD_ARGUMENT", message)
    record = replace(
        record,
        fields=tuple(declared.items()),
        target_recall=record.target_recall if command.target_recall is None else command.target_recall,
        model=record.model if command.model is None else command.model,
    )
    after = replace(state, collections=_with(state.collections, record.name, record))
    return after, CatalogResult(record=record)


def _alias(state: CatalogState, command: UpdateAliases) -> tuple[CatalogState, CatalogResult]:
    aliases = dict(state.aliases)
    for alias, target in command.changes:
        if alias in state.collections:
            message = f"there is a collection named {alias!r}"
            return state, CatalogResult("ALREADY_EXISTS", "COLLECTION_EXISTS", message)
        if not target:
            if aliases.pop(alias, None) is None:
                message = f"there is no alias {alias!r}"
                return state, CatalogResult("NOT_FOUND", "COLLECTION_NOT_FOUND", message)
        elif target not in state.collections:
            return state, _missing(target)
        else:
            aliases[alias] = target
    return replace(state, aliases=MappingProxyType(aliases)), CatalogResult()


def _drop(state: CatalogState, command: DropCollection) -> tuple[CatalogState, CatalogResult]:
    record = state.collections.get(command.name)
    if record is None:
        return state, _missing(command.name)
    if aliases := state.aliases_of(command.name):
        message = f"aliases point to {command.name!r}: {', '.join(aliases)}; remove them first"
        return state, CatalogResult("FAILED_PRECONDITION", "BAD_ARGUMENT", message)
    left = {name: kept for name, kept in state.collections.items() if name != command.name}
    return replace(state, collections=MappingProxyType(left)), CatalogResult(record=record)


def _missing(name: str) -> CatalogResult:
    return CatalogResult("NOT_FOUND", "COLLECTION_NOT_FOUND", f"there is no collection {name!r}")


def _with(collections: Any, name: str, record: CollectionRecord) -> MappingProxyType[str, CollectionRecord]:
    return MappingProxyType({**collections, name: record})


def _an(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
