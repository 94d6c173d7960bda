"""An inverted index over some rows, as the bytes of a file: mapped, or in memory where they are few.

    groups     for terms one after the other: rows (uint32), positions (uint32), counts (uint16); and for each
               of them that an eighth of the rows have, its column: counts (uint8) of all rows
    lengths    uint32 (rows,): terms of each row's text
    terms      uint64, ascending
    starts     uint64 (terms + 1,): where a term's postings begin, counted over all groups
    spots      uint64 (terms + 1,): the same of its positions
    bounds     float32 (terms,): what a term is to BM25 in the row that it is most to, see ``Postings.bound``
    wide       uint64 (columns,): the terms that have a column, by their places
    columns    uint64 (columns,): where it begins
    firsts     uint64 (groups + 1,): the first term of each group, and the number of terms
    offsets    uint64 (groups + 1,): where each group begins, and where the last one ends
    footer     see _FOOTER; the checksum in it is of everything from lengths on

All little-endian, each array at a multiple of 8. The postings of a term are the rows whose text has it,
ascending, and how often; its positions are those of the first posting's row, ascending, then those of the
next. A group is written at once, so an index may be larger than what is held in memory to make it. A count
stops at 65,535, and so do the positions kept of it.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from vecdb_index.files import Chunk, checksum
from vecdb_index.fulltext.analysis import U64
from vecdb_index.knn import F32, I64, as_bytes

U8: TypeAlias = npt.NDArray[np.uint8]
U16: TypeAlias = npt.NDArray[np.uint16]
U32: TypeAlias = npt.NDArray[np.uint32]
Flags: TypeAlias = npt.NDArray[np.bool_]

MOST: Final = 65_535  # of a term in a row

_MAGIC: Final = b"vecdbwrd"
# magic, format, analyzer, rows, terms, columns, groups, where lengths begin, the CRC32C from there on, zero
_FOOTER: Final = struct.Struct("<8sIIQQQQQII")
_FORMAT: Final = 1
# A column takes no more bytes than the rows and counts of a term that so many have, and is read in place.
_WIDE_SHARE: Final = 8
_WIDE_ROWS: Final = 1024  # fewer are not worth it
_WIDEST: Final = 255

K1: Final = 1.2
B: Final = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Some terms, ascending, with their postings.

    ``sizes`` (terms,) is how many postings each has; ``rows`` and ``counts`` are of all of them, one after
    the other, and ``positions`` of all counts.
    """

    terms: U64
    sizes: I64
    rows: U32
    counts: U16
    positions: U32


class Postings:
    """Reads an index. ValueError where the bytes are not one, or its tables are damaged."""

    def __init__(self, data: U8) -> None:
        self._data = data
        if len(data) < _FOOTER.size:
            raise ValueError(f"{len(data)} bytes are no index of words")
        magic, form, self.analyzer, rows, terms, columns, groups, tables, crc, _ = _FOOTER.unpack(
            data[-_FOOTER.size :].tobytes()
        )
        if magic != _MAGIC or form != _FORMAT or tables > len(data) - _FOOTER.size:
            raise ValueError("no index of words, or one of another format")
        if checksum(as_bytes(data[tables : -_FOOTER.size])) != crc:
            raise ValueError("the checksum of its tables does not fit")
        self._at = tables
        self.lengths: U32 = self._array("<u4", rows)
        self.terms: U64 = self._array("<u8", terms)
        self.starts: U64 = self._array("<u8", terms + 1)
        self.spots: U64 = self._array("<u8", terms + 1)
        self._bounds: F32 = self._array("<f4", terms)
        wide: list[int] = self._array("<u8", columns).tolist()
        self._columns = dict(zip(wide, self._array("<u8", columns).tolist(), strict=True))
        self._firsts: list[int] = self._array("<u8", groups + 1).tolist()
        self._offsets: list[int] = self._array("<u8", groups + 1).tolist()
        self.documents = int(np.count_nonzero(self.lengths))
        self.tokens = int(self.lengths.sum(dtype=np.int64))
        self._norms: tuple[float, F32] | None = None

    def _array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        size = count * np.dtype(dtype).itemsize
        made = self._data[self._at : self._at + size].view(dtype)
        self._at += _padded(size)
        return made

    def __len__(self) -> int:
        return len(self.lengths)

    def find(self, terms: U64) -> I64:
        """The place of each term in the dictionary; -1 for those that no row has."""
        if not len(self.terms):
            return np.full(len(terms), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.terms, terms), len(self.terms) - 1)
        return np.where(self.terms[at] == terms, at, -1)

    def size(self, place: int) -> int:
        """How many rows have a term."""
        return int(self.starts[place + 1]) - int(self.starts[place])

    def of(self, place: int) -> tuple[U32, U16]:
        """The rows that have a term, ascending, and how often each has it."""
        at = bisect_right(self._firsts, place) - 1
        begin, end = self._firsts[at], self._firsts[at + 1]
        base, spot = int(self.starts[begin]), int(self.spots[begin])
        low, high = int(self.starts[place]) - base, int(self.starts[place + 1]) - base
        rows = self._offsets[at]
        counts = rows + 4 * (int(self.starts[end]) - base + int(self.spots[end]) - spot)
        return (
            self._data[rows + 4 * low : rows + 4 * high].view("<u4"),
            self._data[counts + 2 * low : counts + 2 * high].view("<u2"),
        )

    def column(self, place: int) -> U8 | None:
        """How often each row has a term, (rows,), where many have it."""
        offset = self._columns.get(place)
        return None if offset is None else self._data[offset : offset + len(self.lengths)]

    def bound(self, place: int, average: float) -> float:
        """What count / (count + norm) is at most in a row, for that average length.

        Kept is the greatest f for the average length of these rows. For one that is r times as great, with r
        above 1, no norm shrinks to less than 1 / r of what it was.
        """
        greatest = float(self._bounds[place])
        ratio = average * self.documents / self.tokens
        return greatest if ratio <= 1.0 else greatest / (greatest + (1.0 - greatest) / ratio)

    def positions(self, place: int) -> U32:
        """Where in the texts of those rows the term stands."""
        (part,) = self.groups(place, place + 1)
        return part.positions

    def groups(self, first: int, last: int) -> Iterator[Group]:
        """The postings of the terms at places ``first`` to ``last`` - 1, as they are stored."""
        at = int(np.searchsorted(self._firsts, first, side="right")) - 1
        while first < last:
            end = min(last, self._firsts[at + 1])
            yield self._group(at, first, end)
            first, at = end, at + 1

    def _group(self, at: int, first: int, last: int) -> Group:
        begin, end = self._firsts[at], self._firsts[at + 1]
        starts, spots, offset = self.starts, self.spots, self._offsets[at]
        rows = int(starts[end]) - int(starts[begin])
        positions = int(spots[end]) - int(spots[begin])
        low, high = int(starts[first]) - int(starts[begin]), int(starts[last]) - int(starts[begin])
        from_, to = int(spots[first]) - int(spots[begin]), int(spots[last]) - int(spots[begin])
        second = offset + 4 * rows
        third = second + 4 * positions
        data = self._data
        return Group(
            self.terms[first:last],
            sizes(starts[first : last + 1]),
            data[offset + 4 * low : offset + 4 * high].view("<u4"),
            data[third + 2 * low : third + 2 * high].view("<u2"),
            data[second + 4 * from_ : second + 4 * to].view("<u4"),
        )

    def norms(self, average: float) -> F32:
        """What BM25 adds to a count in each row's denominator, (rows,), for that average length.

        Those made last are kept.
        """
        held = self._norms
        if held is None or held[0] != average:
            held = self._norms = (average, _norms(self.lengths, average))
        return held[1]


def encode(analyzer: int, lengths: U32, groups: Iterable[Group]) -> Iterator[Chunk]:
    """The bytes of an index, a group at a time. Terms ascend from group to group."""
    offset, firsts, offsets = 0, [0], [0]
    terms: list[U64] = []
    held: list[I64] = []
    widths: list[I64] = []
    bounds: list[F32] = []
    wide: list[int] = []
    columns: list[int] = []
    norms = _norms(lengths, _average(lengths))
    for group in groups:
        starts, counts = _starts(group.sizes)[:-1], group.counts
        for array in (group.rows.astype("<u4"), group.positions.astype("<u4"), counts.astype("<u2")):
            yield as_bytes(array)
            offset += array.nbytes
        for place, column in _wide(group, starts, len(lengths)):
            yield as_bytes(column)
            wide.append(firsts[-1] + place)
            columns.append(offset)
            offset += len(column)
        yield bytes(-offset % 8)
        offset += -offset % 8
        terms.append(group.terms)
        held.append(group.sizes)
        widths.append(np.add.reduceat(counts, starts, dtype=np.int64))
        impacts = counts.astype(np.float32)
        impacts /= impacts + norms[group.rows]
        bounds.append(np.maximum.reduceat(impacts, starts))
        firsts.append(firsts[-1] + len(group.terms))
        offsets.append(offset)
    tables = b"".join(
        _aligned(array)
        for array in (
            lengths.astype("<u4"),
            _joined(terms, np.dtype("<u8")),
            _starts(_joined(held, np.dtype("<i8"))).astype("<u8"),
            _starts(_joined(widths, np.dtype("<i8"))).astype("<u8"),
            _joined(bounds, np.dtype("<f4")),
            np.array(wide, dtype="<u8"),
            np.array(columns, dtype="<u8"),
            np.array(firsts, dtype="<u8"),
            np.array(offsets, dtype="<u8"),
        )
    )
    yield tables
    yield _FOOTER.pack(
        _MAGIC,
        _FORMAT,
        analyzer,
        len(lengths),
        firsts[-1],
        len(wide),
        len(terms),
        offset,
        checksum(tables),
        0,
    )


def _wide(group: Group, starts: I64, rows: int) -> Iterator[tuple[int, U8]]:
    """The terms of a group that get a column, by their places in it, and the column."""
    if rows < _WIDE_ROWS:
        return
    for place in np.flatnonzero(group.sizes * _WIDE_SHARE >= rows).tolist():
        held = slice(int(starts[place]), int(starts[place] + group.sizes[place]))
        if group.counts[held].max() <= _WIDEST:
            column = np.zeros(rows, dtype=np.uint8)
            column[group.rows[held]] = group.counts[held]
            yield place, column


def _average(lengths: U32) -> float:
    """The mean length of those rows that have any, as ``Postings.bound`` has it."""
    documents = int(np.count_nonzero(lengths))
    return int(lengths.sum(dtype=np.int64)) / documents if documents else 1.0


def _norms(lengths: U32, average: float) -> F32:
    norms = lengths.astype(np.float32)
    norms *= K1 * B / average
    norms += K1 * (1.0 - B)
    return norms


def in_memory(chunks: Iterable[Chunk]) -> Postings:
    """An index that is in no file."""
    return Postings(np.frombuffer(b"".join(chunks), dtype=np.uint8))


def sizes(starts: U64) -> I64:
    """The inverse of ``_starts``."""
    return (starts[1:] - starts[:-1]).astype(np.int64)


def _starts(sizes: I64) -> I64:
    """Where each begins, and where the last one ends."""
    made = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=made[1:])
    return made


def _joined(arrays: list[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.concatenate(arrays).astype(dtype) if arrays else np.empty(0, dtype=dtype)


def _aligned(array: npt.NDArray[Any]) -> bytes:
    data = array.tobytes()
    return data + bytes(_padded(len(data)) - len(data))


def _padded(size: int) -> int:
    return size + -size % 8
