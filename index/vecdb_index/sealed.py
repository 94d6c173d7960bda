"""Sealed segments: immutable files, and the manifest that vouches for them.

A segment with id N has the files

    N.docnos   int64, one a row
    N.raw      float32 (rows, dim): the vectors as written
    N.unit     float32 (rows, dim): normalized, where cosine needs them to differ from the raw ones
    N.graph    of a graph: HNSW as FAISS writes it, without its vectors
    N.lists    of lists: int64, how many rows each has; rows are in the order of their lists
    N.codec    of lists, or where there are codes: what codes vectors, as FAISS writes it, without rows
    N.codes    where there are codes: bytes (rows, size)
    N.words    the inverted index of its documents' texts, see ``fulltext.postings``

named by sixteen hexadecimal digits. They are synced before the transaction that writes the manifest into
the ``segments`` table, which holds their sizes and checksums. All but vectors, codes and postings are
verified when the segment is opened, those by the scrub: of a million they are too many bytes to read first.
A segment of an older version has no words, nor one whose words are cut or stemmed otherwise now; the builder
makes a segment with words of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgpack
import numpy as np

from vecdb_index.calibrate import Efforts
from vecdb_index.codes import Codec
from vecdb_index.errors import ShardDamaged
from vecdb_index.files import Chunk, FileSystem, checksum
from vecdb_index.fulltext.analysis import Analyzer
from vecdb_index.fulltext.postings import Postings
from vecdb_index.fulltext.words import Gathered, Kept, Words
from vecdb_index.knn import F32, I64, Bits, Index, as_bytes, faiss, flat_over
from vecdb_index.near import Near, coded_graph, over_lists, plain_graph
from vecdb_index.parts import Rows, sorting
from vecdb_index.schema import Metric

NAME: Final = re.compile(r"[0-9a-f]{16}\.(docnos|raw|unit|graph|lists|codec|codes|words)")
# Files without which a segment is what it is, and searched exactly.
_INDEX: Final = frozenset({"graph", "lists", "codec", "codes"})

DIRECTORY: Final = "segments"
WORDS: Final = "words"


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
    efforts: Efforts | None = None

    @property
    def kind(self) -> str:
        """``hnsw``, ``ivf`` or ``flat``."""
        suffixes = {entry.suffix for entry in self.files}
        return "hnsw" if "graph" in suffixes else "ivf" if "lists" in suffixes else "flat"

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(entry.size for entry in self.files)

    @property
    def index_bytes(self) -> int:
        """Of these, links, lists and codes."""
        return sum(entry.size for entry in self.files if entry.suffix in _INDEX)

    @property
    def vector_bytes(self) -> int:
        """Of these, full vectors."""
        return sum(entry.size for entry in self.files if entry.suffix in ("raw", "unit"))

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
                None if self.efforts is None else self.efforts.pack(),
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
        efforts = None if levels is None else Efforts.unpack(levels)
        return cls(id_, rows, dim, pending, tuple(FileEntry(*entry) for entry in files), efforts)


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """An index of a segment's rows: a graph, or lists of ``sizes`` rows each.

    With a packed codec and the rows' codes (n, size) where there are codes; of lists with the codec alone
    where there are none.
    """

    efforts: Efforts
    graph: Index | None = None
    sizes: I64 | None = None
    codec: bytes | None = None
    codes: Bits | None = None

    def columns(self) -> dict[str, list[Chunk]]:
        """The bytes of its files."""
        columns: dict[str, list[Chunk]] = {}
        if self.graph is not None:
            columns["graph"] = [as_bytes(faiss.serialize_index(self.graph, faiss.IO_FLAG_SKIP_STORAGE))]
        if self.sizes is not None:
            columns["lists"] = [as_bytes(self.sizes.astype("<i8"))]
        if self.codec is not None:
            columns["codec"] = [self.codec]
        if self.codes is not None:
            columns["codes"] = [as_bytes(self.codes)]
        return columns


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What to write as a segment.

    Vectors come in chunks, so that they need never be whole in memory; ``index`` makes an index of what was
    written, given its vectors (n, dim) as they are searched.
    """

    docnos: I64
    raw: Iterable[F32]
    unit: Iterable[F32] | None  # None: the raw ones are searched
    words: Iterable[Chunk]
    index: Callable[[F32], Made] | None = None
    pending: bool = False


def write(root: Path, files: FileSystem, id_: int, dim: int, contents: Contents) -> Manifest:
    """Write and sync a segment's files. OSError leaves none of them behind."""
    manifest = Manifest(id_, len(contents.docnos), dim, contents.pending, ())
    columns: dict[str, Iterable[Chunk]] = {
        "docnos": [as_bytes(contents.docnos.astype("<i8"))],
        "raw": _rows_bytes(contents.raw),
    }
    if contents.unit is not None:
        columns["unit"] = _rows_bytes(contents.unit)
    columns[WORDS] = contents.words
    searched = "raw" if contents.unit is None else "unit"
    entries: list[FileEntry] = []

    def put(columns: Mapping[str, Iterable[Chunk]]) -> None:
        for suffix, chunks in columns.items():
            path = manifest.path(root, suffix)
            started.append(path)
            entries.append(FileEntry(suffix, *files.write(path, chunks)))

    started: list[Path] = []
    efforts = None
    try:
        put(columns)
        if contents.index is not None:
            made = contents.index(_map(manifest.path(root, searched), manifest))
            put(made.columns())
            efforts = made.efforts
        files.sync_directory(root / DIRECTORY)
    except BaseException:
        for path in started:
            path.unlink(missing_ok=True)
        raise
    return replace(manifest, files=tuple(entries), efforts=efforts)


def _rows_bytes(chunks: Iterable[F32]) -> Iterator[Chunk]:
    for rows in chunks:
        if len(rows):
            yield as_bytes(np.ascontiguousarray(rows, dtype="<f4"))


def write_words(
    root: Path, files: FileSystem, manifest: Manifest, id_: int, words: Iterable[Chunk]
) -> Manifest:
    """A segment with the files of another one, and words. OSError leaves none of its files behind."""
    made = replace(manifest, id=id_)
    kept = tuple(entry for entry in manifest.files if entry.suffix != WORDS)
    try:
        for entry in kept:
            _link(files, manifest.path(root, entry.suffix), made.path(root, entry.suffix))
        entry = FileEntry(WORDS, *files.write(made.path(root, WORDS), words))
        files.sync_directory(root / DIRECTORY)
    except BaseException:
        for suffix in (WORDS, *(entry.suffix for entry in kept)):
            made.path(root, suffix).unlink(missing_ok=True)
        raise
    return replace(made, files=(*kept, entry))


def _link(files: FileSystem, path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)
    except OSError:  # a file system without links
        files.write(target, [as_bytes(np.memmap(path, dtype=np.uint8, mode="r"))])


def open_rows(root: Path, manifest: Manifest, metric: Metric, analyzer: Analyzer) -> Rows:
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
    docnos = np.frombuffer(_verified(root, manifest, suffixes["docnos"]), dtype="<i8")
    raw = _map(manifest.path(root, "raw"), manifest)
    vectors = _map(manifest.path(root, "unit"), manifest) if "unit" in suffixes else raw
    flat = flat_over(vectors, metric)
    near = _open_near(root, manifest, vectors, flat)
    words = _open_words(root, manifest, analyzer) if WORDS in suffixes else Gathered(analyzer)
    order, ordered = sorting(docnos)
    return Rows(docnos, raw, vectors, flat, words, near, manifest.efforts, manifest, order, ordered)


def _open_words(root: Path, manifest: Manifest, analyzer: Analyzer) -> Words:
    path = manifest.path(root, WORDS)
    try:
        postings = Postings(np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray))
    except ValueError as error:
        raise ShardDamaged(path, str(error)) from None
    if len(postings) != manifest.rows:
        raise ShardDamaged(path, f"words of {len(postings)} rows, not {manifest.rows}")
    return Kept(postings) if postings.analyzer == analyzer.identity else Gathered(analyzer)


def _verified(root: Path, manifest: Manifest, entry: FileEntry) -> bytes:
    """The bytes of a file. ShardDamaged when they are not those that were written."""
    path = manifest.path(root, entry.suffix)
    data = path.read_bytes()
    if checksum(data) != entry.crc:
        raise ShardDamaged(path, "the checksum does not fit")
    return data


def _map(path: Path, manifest: Manifest) -> F32:
    mapped = np.memmap(path, dtype="<f4", mode="r", shape=(manifest.rows, manifest.dim))
    return mapped.view(np.ndarray)  # keeps the map alive as its base, without a subclass's costs


def _map_bytes(path: Path, rows: int) -> Bits:
    if not path.stat().st_size:
        return np.empty((rows, 0), dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray).reshape(rows, -1)


def _open_near(root: Path, manifest: Manifest, vectors: F32, flat: Index) -> Near | None:
    suffixes = {entry.suffix: entry for entry in manifest.files}
    if manifest.kind == "flat":
        return None
    coded = "codes" in suffixes
    codes = _map_bytes(manifest.path(root, "codes"), manifest.rows) if coded else None
    if manifest.kind == "hnsw":
        graph = _open_graph(root, manifest, suffixes["graph"].crc)
        if codes is None:
            return plain_graph(graph, flat)
        return _fitting(root, manifest, lambda codec: coded_graph(graph, codec, codes, flat))
    sizes = np.frombuffer(_verified(root, manifest, suffixes["lists"]), dtype="<i8")
    listed = vectors if codes is None else codes
    return _fitting(root, manifest, lambda codec: over_lists(codec, sizes, listed, flat, coded=coded))


def _fitting(root: Path, manifest: Manifest, made: Callable[[Codec], Near]) -> Near:
    """What is made with a segment's codec."""
    (entry,) = (entry for entry in manifest.files if entry.suffix == "codec")
    data = _verified(root, manifest, entry)
    try:
        return made(Codec.unpack(data))
    except (RuntimeError, ValueError) as error:
        raise ShardDamaged(manifest.path(root, "codec"), f"it does not fit: {error}") from None


def _open_graph(root: Path, manifest: Manifest, crc: int) -> Index:
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
    return graph


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
