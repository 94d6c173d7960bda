"""The shard engine: documents, their vectors, and search over both, in one directory.

It knows no network and no consensus: whoever holds the log applies it. See docs/engine.md.
"""

from vecdb_index.errors import (
    DeadlineExceeded,
    FormatTooNew,
    MutationError,
    Overtaken,
    ShardBroken,
    ShardClosed,
    ShardDamaged,
    ShardError,
    ShardInUse,
    SnapshotStopped,
    StorageFailed,
    UnknownMutation,
)
from vecdb_index.files import FileSystem, LocalFileSystem
from vecdb_index.filters import FieldSpec, FieldType
from vecdb_index.fulltext import WordQuery, WordStatistics, parse_words
from vecdb_index.moment import Moment
from vecdb_index.mutations import AlterFields, Delete, Mutation, Update, Upsert, decode, encode
from vecdb_index.quarantine import Quarantine
from vecdb_index.results import ApplyResult, Failure, Row, SearchResult, SegmentStats, ShardStats
from vecdb_index.row_cache import RowCache
from vecdb_index.schema import IndexKind, Metric, Schema, ShardOptions
from vecdb_index.searcher import Searcher
from vecdb_index.shard import Shard, WriteRefused
from vecdb_index.snapshot import Snapshot, SnapshotFile, verify_snapshot

__all__ = [
    "AlterFields",
    "ApplyResult",
    "DeadlineExceeded",
    "Delete",
    "Failure",
    "FieldSpec",
    "FieldType",
    "FileSystem",
    "FormatTooNew",
    "IndexKind",
    "LocalFileSystem",
    "Metric",
    "Moment",
    "Mutation",
    "MutationError",
    "Overtaken",
    "Quarantine",
    "Row",
    "RowCache",
    "Schema",
    "SearchResult",
    "Searcher",
    "SegmentStats",
    "Shard",
    "ShardBroken",
    "ShardClosed",
    "ShardDamaged",
    "ShardError",
    "ShardInUse",
    "ShardOptions",
    "ShardStats",
    "Snapshot",
    "SnapshotFile",
    "SnapshotStopped",
    "StorageFailed",
    "UnknownMutation",
    "Update",
    "Upsert",
    "WordQuery",
    "WordStatistics",
    "WriteRefused",
    "decode",
    "encode",
    "parse_words",
    "verify_snapshot",
]
