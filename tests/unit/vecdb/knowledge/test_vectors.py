"""Files of vectors."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecdb.knowledge.errors import ParseTooLarge, SourceError
from vecdb.knowledge.source import Limits
from vecdb.knowledge.vectors import find_rows_beside, iter_vectors, open_vectors, read_rows

MATRIX = np.arange(30, dtype=np.float32).reshape(10, 3)


def npy(array: np.ndarray, **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def vecs(array: np.ndarray, kind: str) -> bytes:
    size = np.full(1, array.shape[1], "<i4").tobytes()
    return b"".join(size + row.astype(kind).tobytes() for row in array)


@pytest.mark.parametrize(
    ("name", "data"),
    [("x.npy", npy(MATRIX)), ("x.fvecs", vecs(MATRIX, "<f4")), ("x.bvecs", vecs(MATRIX, "u1"))],
)
def test_rows_come_in_blocks(tmp_path: Path, name: str, data: bytes) -> None:
    """The same rows come from a mapped file and from bytes, as float32, numbered from 0."""
    path = tmp_path / name
    path.write_bytes(data)
    for source in (path, data):
        matrix = open_vectors(source, name)
        blocks = list(iter_vectors(matrix, name, block_rows=4))
        assert [len(block.ids) for block in blocks] == [4, 4, 2]
        assert [id_ for block in blocks for id_ in block.ids] == [str(row) for row in range(10)]
        assert all(block.vectors.dtype == np.float32 and block.vectors.flags.c_contiguous for block in blocks)
        assert np.array_equal(np.concatenate([block.vectors for block in blocks]), MATRIX)
        assert blocks[2].texts == (None, None)
        assert blocks[2].payloads == ({}, {})


def test_other_types_become_float32() -> None:
    """Doubles, halves, integers and other byte and axis orders are converted."""
    for dtype in ("<f8", ">f4", "f2", "i8", "u1"):
        (block,) = iter_vectors(open_vectors(npy(np.asfortranarray(MATRIX.astype(dtype))), "x.npy"), "x")
        assert np.array_equal(block.vectors, MATRIX)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.npy", npy(np.array([[{}]], dtype=object), allow_pickle=True), "pickle|Python objects"),
        ("x.npy", npy(MATRIX)[:-5], "not a readable"),
        ("x.npy", b"\x93NUMPY\x01\0", "not a readable"),
        ("x.npy", b"nonsense", "not a readable"),
        ("x.npy", npy(MATRIX[0]), "1 axes"),
        ("x.npy", npy(MATRIX.astype(complex)), "complex64|complex128"),
        ("x.npy", npy(np.zeros((2, 0))), "dimension 0"),
        ("x.npy", npy(np.zeros((0, 70_000))), "dimension 70000"),
        ("x.fvecs", b"\x01\0", "too short"),
        ("x.fvecs", b"\xff\xff\xff\xff", "dimension -1"),
        ("x.fvecs", vecs(MATRIX, "<f4")[:-1], "no whole number"),
        ("x.fvecs", vecs(MATRIX[:1], "<f4") + b"\x02" + vecs(MATRIX[:1], "<f4")[1:], "row 1: dimension 2"),
        ("x.txt", b"hello", "holds no vectors"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    """Damaged, pickled and odd files are refused with the reason, from disk and from memory."""
    path = tmp_path / name
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(SourceError, match=message):
            open_vectors(source, name)


def test_archives_are_refused(tmp_path: Path) -> None:
    """An .npz is not one array, whatever it is called."""
    path = tmp_path / "x.npy"
    with path.open("wb") as stream:
        np.savez(stream, a=MATRIX)
    with pytest.raises(SourceError, match="archive"):
        open_vectors(path, "x.npy")


@given(st.binary(max_size=200), st.sampled_from(["x.npy", "x.fvecs", "x.bvecs"]), st.booleans())
def test_any_bytes_are_vectors_or_refused(data: bytes, name: str, magic: bool) -> None:
    """Bytes are a matrix, or a SourceError, never anything else."""
    try:
        matrix = open_vectors(b"\x93NUMPY\x01\0" * magic + data, name)
        list(iter_vectors(matrix, name))
    except SourceError:
        return
    assert matrix.ndim == 2


def test_values_must_be_finite() -> None:
    """NaN, infinity, and doubles that overflow float32 are refused with their row."""
    for value in (np.nan, np.inf, 1e300):
        bad = MATRIX.astype(float)
        bad[7, 1] = value
        with pytest.raises(SourceError, match="row 7: a value that is no finite"):
            list(iter_vectors(bad, "x.npy", block_rows=4))


def test_ids_beside(tmp_path: Path) -> None:
    """Ids, texts and payloads come from the file beside, one line a row."""
    path = tmp_path / "x.npy"
    path.write_bytes(npy(MATRIX[:2]))
    assert find_rows_beside(path) is None
    for name, lines, wanted in (
        ("ids.txt", "a\n b \n", (("a", "b"), (None, None), ({}, {}))),
        ("x.txt", "c\r\nd", (("c", "d"), (None, None), ({}, {}))),
        (
            "x.jsonl",
            '{"id": 7, "text": "t", "n": [1]}\n{"k": 1}\n',
            (("7", "1"), ("t", None), ({"n": [1]}, {"k": 1})),
        ),
    ):
        (tmp_path / name).write_text(lines)
        assert find_rows_beside(path) == tmp_path / name
        rows = read_rows(name, (tmp_path / name).read_bytes())
        (block,) = iter_vectors(open_vectors(path, "x.npy"), "x.npy", rows)
        assert (block.ids, block.texts, block.payloads) == wanted


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("ids.txt", b"a\n\nb\n", "line 2: no id"),
        ("x.jsonl", b"{", "line 1: not JSON"),
        ("x.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("x.jsonl", b"{}\n[]", "line 2: not a JSON object"),
        ("x.jsonl", b'{"id": true}', "neither"),
        ("x.jsonl", b'{"_id": ""}', "neither"),
        ("x.jsonl", b'{"text": 1}', '"text"'),
    ],
)
def test_bad_rows_are_named(name: str, data: bytes, message: str) -> None:
    """A line beside the vectors that is wrong is refused with its number."""
    with pytest.raises(SourceError, match=message):
        read_rows(name, data)


def test_rows_must_match() -> None:
    """As many lines as vectors, each id once, no more than the limit."""
    rows = read_rows("ids.txt", b"a\nb\n")
    with pytest.raises(SourceError, match="10 vectors, but 2 lines"):
        list(iter_vectors(MATRIX, "x.npy", rows))
    with pytest.raises(SourceError, match="row 1: the id 'a' occurs twice"):
        list(iter_vectors(MATRIX[:2], "x.npy", [rows[0], rows[0]]))
    with pytest.raises(ParseTooLarge, match="max_records"):
        list(iter_vectors(MATRIX, "x.npy", limits=Limits(max_records=9)))
    with pytest.raises(ParseTooLarge, match="max_records"):
        read_rows("ids.txt", b"a\nb\n", Limits(max_records=1))
    assert read_rows("ids.txt", b"") == []
