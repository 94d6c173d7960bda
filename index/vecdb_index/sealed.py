"""Sealed segments: immutable files, and the manifest that vouches for them.

A segment with id N has the files

    N.docnos   int64, one a row
    N.raw      float32 (rows, dim): the vectors as written
    N.unit     float32 (rows, dim): normalized, where cosine needs them to differ from the raw ones
    N.graph    the HNSW graph as FAISS writes it, without its vectors

named by sixteen hexadecimal digits. They are synced before the transaction that writes the manifest into
the ``segments`` table, which holds their sizes and checksums. Docnos and graph are verified when the segment
is opened, vectors by the scrub: a million of those are too many bytes to read first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgpack
import numpy as np

from vecdb_index.calibrate import EfTable
from vecdb_index.errors import ShardDamaged
from vecdb_index.files import Chunk, FileSystem, checksum
from vecdb_index.knn import F32, I64, Index, as_bytes, faiss, flat_over, keep
from vecdb_index.parts import Rows, sorting
from vecdb_index.schema import Metric

NAME: Final = re.compile(r"[0-9a-f]{16}\.(docnos|raw|unit|graph)")

DIRECTORY: Final = "segments"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file's suffix, size in bytes and CRC32C."""

    suffix: str
    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the database knows of a sealed segment."""

    id: int
    rows: int
    dim: int
    pending: bool  # waits to be indexed
    files: tuple[FileEntry, ...]
    efs: EfTable | None = None

    @property
    def kind(self) -> str:
        """``hnsw`` or ``flat``."""
        return "hnsw" if any(entry.suffix == "graph" for entry in self.files) else "flat"

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(entry.size for entry in self.files)

    def path(self, root: Path, suffix: str) -> Path:
        """Where one of its files is, under the shard's directory."""
        return root / DIRECTORY / f"{self.id:016x}.{suffix}"

    def paths(self, root: Path) -> list[Path]:
        """Where its files are."""
        return [self.path(root, entry.suffix) for entry in self.files]

    def pack(self) -> bytes:
        """The stored form; its own checksum comes first."""
        body: bytes = msgpack.packb(
            [
                self.id,
                self.rows,
                self.dim,
                self.pending,
                [(entry.suffix, entry.size, entry.crc) for entry in self.files],
                None if self.efs is None else self.efs.levels,
            ]
        )
        return checksum(body).to_bytes(4, "little") + body

    @classmethod
    def unpack(cls, data: bytes) -> Manifest:
        """The inverse of ``pack``; ValueError when it is not what was packed."""
        body = data[4:]
        if checksum(body) != int.from_bytes(data[:4], "little"):
            raise ValueError("the checksum of a segment's manifest does not fit")
        id_, rows, dim, pending, files, levels = msgpack.unpackb(body, use_list=False)
        efs = None if levels is None else EfTable(levels)
        return cls(id_, rows, dim, pending, tuple(FileEntry(*entry) for entry in files), efs)


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What to write as a segment. Vectors come in chunks, so that they need never be whole in memory."""

    docnos: I64
    raw: Iterable[F32]
    unit: Iterable[F32] | None  # None: the raw ones are searched
    graph: Index | None = None
    efs: EfTable | None = None
    pending: bool = False


def write(root: Path, files: FileSystem, id_: int, dim: int, contents: Contents) -> Manifest:
    """Write and sync a segment's files. OSError leaves none of them behind."""
    manifest = Manifest(id_, len(contents.docnos), dim, contents.pending, (), contents.efs)
    columns: dict[str, Iterable[Chunk]] = {
        "docnos": [as_bytes(contents.docnos.astype("<i8"))],
        "raw": _rows_bytes(contents.raw),
    }
    if contents.unit is not None:
        columns["unit"] = _rows_bytes(contents.unit)
    if contents.graph is not None:
        columns["graph"] = [as_bytes(faiss.serialize_index(contents.graph, faiss.IO_FLAG_SKIP_STORAGE))]
    entries: list[FileEntry] = []
    try:
        for suffix, chunks in columns.items():
            entries.append(FileEntry(suffix, *files.write(manifest.path(root, suffix), chunks)))
        files.sync_directory(root / DIRECTORY)
    except BaseException:
        for suffix in columns:
            manifest.path(root, suffix).unlink(missing_ok=True)
        raise
    return replace(manifest, files=tuple(entries))


def _rows_bytes(chunks: Iterable[F32]) -> Iterator[Chunk]:
    for rows in chunks:
        if len(rows):
            yield as_bytes(np.ascontiguousarray(rows, dtype="<f4"))


def open_rows(root: Path, manifest: Manifest, metric: Metric) -> Rows:
    """Map a segment's files. Raises ShardDamaged, naming the file, when one is not what the manifest says."""
    suffixes = {entry.suffix: entry for entry in manifest.files}
    for entry in manifest.files:
        path = manifest.path(root, entry.suffix)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise ShardDamaged(path, "the file is missing") from None
        if size != entry.size:
            raise ShardDamaged(path, f"{size} bytes, not {entry.size}")
    docnos_path = manifest.path(root, "docnos")
    packed = docnos_path.read_bytes()
    if checksum(packed) != suffixes["docnos"].crc:
        raise ShardDamaged(docnos_path, "the checksum does not fit")
    docnos = np.frombuffer(packed, dtype="<i8")
    raw = _map(manifest.path(root, "raw"), manifest)
    vectors = _map(manifest.path(root, "unit"), manifest) if "unit" in suffixes else raw
    flat = flat_over(vectors, metric)
    graph = _open_graph(root, manifest, flat, suffixes["graph"].crc) if "graph" in suffixes else None
    order, ordered = sorting(docnos)
    return Rows(docnos, raw, vectors, flat, graph, manifest.efs, manifest, order, ordered)


def _map(path: Path, manifest: Manifest) -> F32:
    mapped = np.memmap(path, dtype="<f4", mode="r", shape=(manifest.rows, manifest.dim))
    return mapped.view(np.ndarray)  # keeps the map alive as its base, without a subclass's costs


def _open_graph(root: Path, manifest: Manifest, flat: Index, crc: int) -> Index:
    path = manifest.path(root, "graph")
    if checksum(as_bytes(np.memmap(path, dtype=np.uint8, mode="r"))) != crc:
        raise ShardDamaged(path, "the checksum does not fit")
    try:
        graph = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_SKIP_STORAGE)
    except RuntimeError as error:
        raise ShardDamaged(path, f"FAISS cannot read it: {error}") from None
    if graph.ntotal != manifest.rows or graph.d != manifest.dim:
        raise ShardDamaged(
            path, f"a graph of {graph.ntotal} x {graph.d}, not {manifest.rows} x {manifest.dim}"
        )
    attach(graph, flat)
    return graph


def attach(graph: Index, flat: Index) -> None:
    """Let a graph that was read without vectors use those of a flat index, which stays somebody else's."""
    graph.storage = flat
    graph.own_fields = False
    keep(graph, flat)  # FAISS holds a bare pointer


def load_graph(root: Path, manifest: Manifest) -> Index:
    """A segment's graph in memory of its own, without vectors: one that may be added to once it has some."""
    return faiss.read_index(str(manifest.path(root, "graph")), faiss.IO_FLAG_SKIP_STORAGE)


def verify_vectors(root: Path, manifest: Manifest) -> None:
    """Read every file of a segment and compare checksums; ShardDamaged names one that does not fit."""
    for entry in manifest.files:
        path = manifest.path(root, entry.suffix)
        if entry.size and checksum(as_bytes(np.memmap(path, dtype=np.uint8, mode="r"))) != entry.crc:
            raise ShardDamaged(path, "the checksum does not fit")


def remove_orphans(root: Path, files: FileSystem, known: Iterable[Manifest], next_id: int) -> list[Path]:
    """Unlink segment files that no manifest ever named: what a crash left between writing and committing.

    Returns those below ``next_id`` that no manifest names now. One may have, and a power loss can still take
    back the transaction that dropped it, so they must stay until a checkpoint.
    """
    named = {path.name for manifest in known for path in manifest.paths(root)}
    dropped = []
    for path in (root / DIRECTORY).iterdir():
        if path.name in named or not NAME.fullmatch(path.name):
            continue
        if int(path.stem, 16) < next_id:
            dropped.append(path)
        else:
            files.remove(path)
    return dropped
