"""The catalogue: collections, aliases and shards of the cluster, as a replicated table.

`records` is what it holds, `commands` what changes it, `machine` the state
machine behind its Raft group.
"""

from vecdb.catalog.access import CreateToken, QuarantineAuthor, ReleaseAuthor, RevokeToken
from vecdb.catalog.commands import (
    AlterCollection,
    Command,
    CreateCollection,
    DropCollection,
    Genesis,
    UnknownCommand,
    UpdateAliases,
    decode,
    encode,
)
from vecdb.catalog.machine import CATALOG_GROUP, CatalogDamaged, CatalogMachine, CatalogTooNew
from vecdb.catalog.records import MAX_FIELDS, CatalogState, CollectionRecord, Quarantined
from vecdb.catalog.results import CatalogResult

__all__ = [
    "CATALOG_GROUP",
    "MAX_FIELDS",
    "AlterCollection",
    "CatalogDamaged",
    "CatalogMachine",
    "CatalogResult",
    "CatalogState",
    "CatalogTooNew",
    "CollectionRecord",
    "Command",
    "CreateCollection",
    "CreateToken",
    "DropCollection",
    "Genesis",
    "QuarantineAuthor",
    "Quarantined",
    "ReleaseAuthor",
    "RevokeToken",
    "UnknownCommand",
    "UpdateAliases",
    "decode",
    "encode",
]
