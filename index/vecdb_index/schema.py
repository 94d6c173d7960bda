"""What a shard holds (Schema) and how this node treats it (ShardOptions)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, get_args

import msgpack

from vecdb_index.files import FileSystem, LocalFileSystem
from vecdb_index.filters import FieldSpec
from vecdb_index.fulltext.analysis import ENGLISH
from vecdb_index.quarantine import Quarantine
from vecdb_index.row_cache import RowCache

Metric: TypeAlias = Literal["cosine", "dot", "l2"]
IndexKind: TypeAlias = Literal["hnsw", "flat", "ivf"]
Storage: TypeAlias = Literal["f32", "f16", "sq8", "rabitq"]

MAX_DIM: Final = 65_536
MAX_FIELDS: Final = 256

_LANGUAGE: Final = re.compile("[a-z]{2}")


@dataclass(frozen=True, slots=True)
class Schema:
    """The content's shape, equal on every replica. ValueError names the field and its limit.

    ``dim`` is 1 to 65,536. Scores are higher for better with ``cosine`` and ``dot``; with ``l2`` they are the
    squared distance, lower for better. ``target_recall`` (at k=10) is from 0.5 to 1; 1 means exact search.
    ``storage`` is how the index of a segment holds vectors to find candidates by; ``flat`` compares the full
    ones, so it takes "f32" alone. ``language`` is that of the texts, by its two letters of ISO 639-1: their
    words are stemmed by it.
    """

    dim: int
    metric: Metric = "cosine"
    index: IndexKind = "hnsw"
    target_recall: float = 0.95
    fields: tuple[FieldSpec, ...] = ()
    storage: Storage = "f32"
    language: str = ENGLISH

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or not 1 <= self.dim <= MAX_DIM:
            raise ValueError(f"dim must be an integer from 1 to {MAX_DIM:,}, not {self.dim!r}")
        if self.metric not in get_args(Metric):
            raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, not {self.metric!r}")
        if self.index not in get_args(IndexKind):
            raise ValueError(f"index must be one of {', '.join(get_args(IndexKind))}, not {self.index!r}")
        if self.storage not in get_args(Storage):
            raise ValueError(f"storage must be one of {', '.join(get_args(Storage))}, not {self.storage!r}")
        if self.index == "flat" and self.storage != "f32":
            raise ValueError(f"storage must be f32 where the index is flat, not {self.storage!r}")
        if not 0.5 <= self.target_recall <= 1.0:
            raise ValueError(f"target_recall must be from 0.5 to 1, not {self.target_recall!r}")
        names = [spec.name for spec in self.fields]
        if len(set(names)) != len(names):
            raise ValueError("fields must have different names")
        if len(names) > MAX_FIELDS:
            raise ValueError(f"fields must be at most {MAX_FIELDS}, not {len(names)}")
        if not _LANGUAGE.fullmatch(self.language):
            raise ValueError(f"language must be two letters of ISO 639-1, not {self.language!r}")

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger score means nearer."""
        return self.metric != "l2"

    def altered(self, add: tuple[FieldSpec, ...], drop: tuple[str, ...]) -> Schema:
        """The schema after fields were dropped and others added."""
        kept = tuple(spec for spec in self.fields if spec.name not in drop)
        return replace(self, fields=kept + add)

    def pack(self) -> bytes:
        """The stored form."""
        packed: bytes = msgpack.packb(
            {
                "dim": self.dim,
                "metric": self.metric,
                "index": self.index,
                "target_recall": self.target_recall,
                "fields": pack_fields(self.fields),
                "storage": self.storage,
                "language": self.language,
            }
        )
        return packed

    @classmethod
    def unpack(cls, data: bytes) -> Schema:
        """The inverse of ``pack``; ValueError when malformed. Older shards name no language: English."""
        stored: dict[str, Any] = msgpack.unpackb(data)
        return cls(**{**stored, "fields": unpack_fields(stored["fields"])})


def pack_fields(specs: tuple[FieldSpec, ...]) -> list[tuple[str, str]]:
    """Field declarations as plain values."""
    return [(spec.name, spec.type.value) for spec in specs]


def unpack_fields(stored: Any) -> tuple[FieldSpec, ...]:
    """The inverse of ``pack_fields``; ValueError when malformed."""
    if not isinstance(stored, list | tuple):
        raise ValueError("fields must be a list")
    specs = []
    for item in stored:
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise ValueError("a field is a pair of name and type")
        specs.append(FieldSpec(*item))
    return tuple(specs)


@dataclass(frozen=True, slots=True)
class ShardOptions:
    """How this node stores and indexes a shard. Nothing here changes what the shard contains or answers.

    Attributes:
        seal_rows: rows after which the growing segment is sealed (also after ``seal_bytes`` of vectors).
        rest_rows: fewer rows than this stay in the growing segment of a shard at rest.
        rest_seconds: how long without a write makes a shard be at rest.
        flat_rows: segments of fewer rows have no index; they are searched exactly.
        max_segments: sealed segments that a shard at rest may have.
        max_dead: the share of tombstones at which a segment is built anew.
        base_ratio: a segment is extended rather than left alone once what waits is at least this share of it.
        threads: OpenMP threads of the index builder and of batched searches; None for one a core.
        synchronous: "normal" (power loss may take the last writes, which a replicated log replays) or "full"
            (every write is on disk when it returns: for use without a log).
        checkpoint_bytes: size of SQLite's write-ahead log at which a checkpoint is begun.
        cache_bytes: SQLite's page cache, a connection.
        row_cache: rows that searches found, kept in memory; shared by the shards opened with it.
        quarantine: authors whose documents are in no answer; shared by the shards opened with it.
        scrub: verify the files' and documents' checksums in the background after opening.
        files: the file system, for tests that make it fail.
    """

    seal_rows: int = 8192
    seal_bytes: int = 64 << 20
    rest_rows: int = 256
    rest_seconds: float = 1.0
    flat_rows: int = 1024
    max_segments: int = 4
    max_dead: float = 0.2
    base_ratio: float = 0.25
    threads: int | None = None
    synchronous: Literal["normal", "full"] = "normal"
    checkpoint_bytes: int = 64 << 20
    cache_bytes: int = 8 << 20
    row_cache: RowCache = field(default_factory=lambda: RowCache(32 << 20))
    quarantine: Quarantine = field(default_factory=Quarantine)
    scrub: bool = True
    files: FileSystem = field(default_factory=LocalFileSystem)

    def __post_init__(self) -> None:
        for name in ("seal_rows", "seal_bytes", "rest_rows", "flat_rows", "max_segments", "checkpoint_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)!r}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {self.threads!r}")
        if self.synchronous not in ("normal", "full"):
            raise ValueError(f"synchronous must be normal or full, not {self.synchronous!r}")

    def block_rows(self, dim: int) -> int:
        """Rows of a growing block before it is sealed."""
        return max(1, min(self.seal_rows, self.seal_bytes // (4 * dim)))
