"""What the catalogue holds: immutable, and replaced whole when an entry is applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Final

from vecdb.security import Grant, Role, Token

MAX_FIELDS: Final = 64  # declared in one collection
FIRST_SHARD: Final = 2  # 1 is the catalogue's own group


@dataclass(frozen=True, slots=True)
class CollectionRecord:
    """A collection as it was declared.

    `metric` is "cosine", "dot" or "l2"; `index` "hnsw", "flat" or "ivf";
    `storage` "f32", "f16", "sq8" or "rabitq"; `fields` are pairs of name and
    type; `fingerprint` pins the model's, and is empty where there is no model.
    `shards` are ids that are never used again.
    """

    collection_id: int
    name: str
    model: str
    fingerprint: str
    dim: int
    metric: str
    index: str
    target_recall: float
    shards: tuple[int, ...]
    replicas: int
    fields: tuple[tuple[str, str], ...]
    language: str
    created_at_ms: int
    storage: str = "f32"

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> CollectionRecord:
        """The inverse of `dataclasses.asdict`, after a trip through msgpack."""
        shaped = dict(stored)
        shaped["shards"] = tuple(stored["shards"])
        shaped["fields"] = tuple((name, kind) for name, kind in stored["fields"])
        return cls(**shaped)


def dump_token(token: Token) -> dict[str, Any]:
    """As plain values."""
    stored: dict[str, Any] = {name: getattr(token, name) for name in Token.__dataclass_fields__}
    stored["grants"] = [(grant.collection, int(grant.role)) for grant in token.grants]
    return stored


def load_token(stored: Mapping[str, Any]) -> Token:
    """The inverse of `dump_token`, after a trip through msgpack."""
    grants = tuple(Grant(collection, Role(role)) for collection, role in stored["grants"])
    return Token(**{**stored, "grants": grants})


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An author whose documents are left out of answers, why, and since when."""

    author: str
    reason: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class CatalogState:
    """The whole catalogue as of `applied`."""

    applied: int = 0
    cluster_id: str = ""
    epoch: int = 0
    next_collection: int = 1
    next_shard: int = FIRST_SHARD
    collections: Mapping[str, CollectionRecord] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    tokens: Mapping[str, Token] = field(default_factory=lambda: MappingProxyType({}))
    """By their ids."""
    quarantined: Mapping[str, Quarantined] = field(default_factory=lambda: MappingProxyType({}))
    """By their authors."""

    def resolve(self, name: str) -> CollectionRecord | None:
        """The collection of a name or an alias."""
        found = self.collections.get(name)
        if found is None and (target := self.aliases.get(name)) is not None:
            return self.collections.get(target)
        return found

    def aliases_of(self, name: str) -> list[str]:
        """The aliases that point to a collection, in order."""
        return sorted(alias for alias, target in self.aliases.items() if target == name)

    def dump(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "applied": self.applied,
            "cluster_id": self.cluster_id,
            "epoch": self.epoch,
            "next_collection": self.next_collection,
            "next_shard": self.next_shard,
            "collections": [asdict(record) for record in self.collections.values()],
            "aliases": dict(self.aliases),
            "tokens": [dump_token(token) for token in self.tokens.values()],
            "quarantined": [asdict(each) for each in self.quarantined.values()],
        }

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> CatalogState:
        """The inverse of `dump`, also of an older version's; KeyError and TypeError where it does not fit."""
        records = map(CollectionRecord.load, stored["collections"])
        shaped = dict(stored)
        shaped["collections"] = MappingProxyType({record.name: record for record in records})
        shaped["aliases"] = MappingProxyType(dict(stored["aliases"]))
        tokens = map(load_token, stored.get("tokens", ()))
        shaped["tokens"] = MappingProxyType({token.token_id: token for token in tokens})
        quarantined = (Quarantined(**each) for each in stored.get("quarantined", ()))
        shaped["quarantined"] = MappingProxyType({each.author: each for each in quarantined})
        return cls(**shaped)
