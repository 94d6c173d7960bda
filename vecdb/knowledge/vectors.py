"""Files of vectors: NumPy's .npy, and the .fvecs and .bvecs of the TEXMEX corpora.

Read in blocks, memory-mapped, never with pickle.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecdb.knowledge.decoding import decode, without_surrogates
from vecdb.knowledge.errors import ParseTooLarge, SourceError
from vecdb.knowledge.formats import HEAD_BYTES, detect
from vecdb.knowledge.records import clean_metadata
from vecdb.knowledge.source import DEFAULT_LIMITS, Format, Limits

FloatMatrix = npt.NDArray[np.float32]

# What a file's header may claim; more is a damaged or hostile one.
MAX_DIMENSION = 65_536


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """Consecutive rows of a file.

    Attributes:
        ids: n document ids.
        vectors: float32, shape (n, dimension), finite, C-contiguous.
        texts: n texts, None where there is none.
        payloads: n payloads.

    """

    ids: tuple[str, ...]
    vectors: FloatMatrix
    texts: tuple[str | None, ...]
    payloads: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """What a file beside the vectors says about one row."""

    id: str
    text: str | None
    payload: dict[str, Any]


def open_vectors(
    source: Path | bytes,
    name: str,
    format: Format | None = None,  # noqa: A002 -- the word for it
) -> npt.NDArray[Any]:
    """The matrix of a file, its own dtype, shape (rows, dimension); mapped if given a path.

    Raises:
        SourceError: if it is no such file: damaged, cut short, pickled, not a matrix, or not of real numbers.

    """
    if isinstance(source, Path):
        with source.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    else:
        head = source[:HEAD_BYTES]
    known = format or detect(name, head)
    if known is Format.NPY:
        matrix = _open_npy(source, name)
    elif known in {Format.FVECS, Format.BVECS}:
        matrix = _open_vecs(source, name, known, head)
    else:
        raise SourceError(name, f"{known.value} holds no vectors")
    if matrix.ndim != 2:
        raise SourceError(name, f"{matrix.ndim} axes where a matrix has 2")
    if matrix.dtype.kind not in "fiu":
        raise SourceError(name, f"values of type {matrix.dtype}, not real numbers")
    if not 1 <= matrix.shape[1] <= MAX_DIMENSION:
        raise SourceError(name, f"dimension {matrix.shape[1]}, not between 1 and {MAX_DIMENSION}")
    return matrix


def _open_npy(source: Path | bytes, name: str) -> npt.NDArray[Any]:
    try:
        if isinstance(source, Path):
            matrix = np.load(source, mmap_mode="r", allow_pickle=False)
        else:
            matrix = np.load(io.BytesIO(source), allow_pickle=False)
    except (ValueError, EOFError, OSError, OverflowError, MemoryError) as error:
        raise SourceError(name, f"not a readable .npy file: {error}") from None
    if not isinstance(matrix, np.ndarray):
        matrix.close()
        raise SourceError(name, "an archive of arrays (.npz), not one array")
    return matrix


def _open_vecs(source: Path | bytes, name: str, known: Format, head: bytes) -> npt.NDArray[Any]:
    """Rows of a little-endian int32 dimension and as many values (http://corpus-texmex.irisa.fr)."""
    value = np.dtype("<f4") if known is Format.FVECS else np.dtype("u1")
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    if len(head) < 4:
        raise SourceError(name, "too short for one vector")
    dimension = int.from_bytes(head[:4], "little", signed=True)
    if not 1 <= dimension <= MAX_DIMENSION:
        raise SourceError(name, f"dimension {dimension}, not between 1 and {MAX_DIMENSION}", "byte 0")
    row = np.dtype([("dimension", "<i4"), ("values", value, (dimension,))])
    if size % row.itemsize:
        raise SourceError(name, f"{size} bytes are no whole number of vectors of dimension {dimension}")
    rows: npt.NDArray[Any] = (
        np.memmap(source, row, "r") if isinstance(source, Path) else np.frombuffer(source, row)
    )
    wrong = np.flatnonzero(rows["dimension"] != dimension)
    if wrong.size:
        found = int(rows["dimension"][wrong[0]])
        raise SourceError(name, f"dimension {found} where the first row has {dimension}", f"row {wrong[0]}")
    values: npt.NDArray[Any] = rows["values"]
    return values


def read_rows(name: str, data: bytes, limits: Limits = DEFAULT_LIMITS) -> list[Row]:
    """What a file beside the vectors says about them, one line a row.

    A .jsonl has `{"id"?, "text"?, ...payload}`; any other is a text file with an id a line.

    Raises:
        SourceError: naming the line.
        ParseTooLarge: for more lines than `limits.max_records`.

    """
    text, _ = decode(name, data)
    lines = text.removesuffix("\n").split("\n") if text else []
    if len(lines) > limits.max_records:
        raise ParseTooLarge(name, f"more than max_records ({limits.max_records}) lines")
    described = name.lower().endswith((".jsonl", ".ndjson"))
    return [
        _json_row(name, number, line, limits) if described else _plain_row(name, number, line)
        for number, line in enumerate(lines)
    ]


def _plain_row(name: str, number: int, line: str) -> Row:
    identifier = line.strip()
    if not identifier:
        raise SourceError(name, "no id", f"line {number + 1}")
    return Row(identifier, None, {})


def _json_row(name: str, number: int, line: str, limits: Limits) -> Row:
    where = f"line {number + 1}"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SourceError(name, f"not JSON: {error}", where) from None
    if not isinstance(record, dict):
        raise SourceError(name, "not a JSON object", where)
    identifier = record.pop("_id", record.pop("id", number))
    text = record.pop("text", None)
    if isinstance(identifier, bool) or not isinstance(identifier, str | int) or identifier == "":
        raise SourceError(name, "the id is neither a string nor an integer", where)
    if text is not None and not isinstance(text, str):
        raise SourceError(name, '"text" is not a string', where)
    payload = clean_metadata(name, where, record, limits.max_depth)
    return Row(
        without_surrogates(str(identifier)), None if text is None else without_surrogates(text), payload
    )


def find_rows_beside(path: Path) -> Path | None:
    """The file beside `path` that describes its rows: x.jsonl, x.ids.txt, x.txt or ids.txt for x.npy."""
    names = (f"{path.stem}.jsonl", f"{path.stem}.ids.txt", f"{path.stem}.txt", "ids.txt")
    return next((beside for name in names if (beside := path.with_name(name)).is_file()), None)


def iter_vectors(
    matrix: npt.NDArray[Any],
    name: str,
    rows: Sequence[Row] | None = None,
    *,
    block_rows: int = 4096,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[VectorBlock]:
    """The rows of a matrix in blocks. Without `rows`, a row's id is its number, from 0.

    Args:
        matrix: as `open_vectors` returned it.
        name: of the file, for errors.
        rows: what is known about each row, as many as the matrix has.
        block_rows: rows of a block; the last may have fewer.
        limits: only `max_records` matters.

    Raises:
        SourceError: for another number of rows, an id that occurs twice, or a value that is not finite.
        ParseTooLarge: for more than `limits.max_records` rows.

    """
    total = matrix.shape[0]
    if total > limits.max_records:
        raise ParseTooLarge(name, f"{total} rows, more than max_records ({limits.max_records})")
    if rows is not None:
        _check_rows(name, rows, total)
    for start in range(0, total, block_rows):
        with np.errstate(over="ignore"):
            vectors = np.ascontiguousarray(matrix[start : start + block_rows], dtype="<f4")
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise SourceError(
                name, "a value that is no finite float32", f"row {start + int(finite.argmin())}"
            )
        part = rows[start : start + block_rows] if rows is not None else _numbered(start, len(vectors))
        yield VectorBlock(
            tuple(row.id for row in part),
            vectors,
            tuple(row.text for row in part),
            tuple(row.payload for row in part),
        )


def _numbered(start: int, count: int) -> list[Row]:
    return [Row(str(number), None, {}) for number in range(start, start + count)]


def _check_rows(name: str, rows: Sequence[Row], total: int) -> None:
    if len(rows) != total:
        raise SourceError(name, f"{total} vectors, but {len(rows)} lines beside them")
    seen: set[str] = set()
    for number, row in enumerate(rows):
        if row.id in seen:
            raise SourceError(name, f"the id {row.id!r} occurs twice", f"row {number}")
        seen.add(row.id)
