"""In-memory columns: which documents hold which value of one field.

A column only grows: a document number is never used twice and its values never change, so adding a document
cannot make an answer about older ones wrong. Readers therefore need no snapshot of the column: they intersect
what it answers with the documents of their own view. Dead documents are garbage until ``without`` drops
them; a reader with an older view then misses them here, and has to look at them itself.

Costs, for n entries, m distinct values and r results:

- ``SortedColumn`` (numbers, datetimes): O(log n) to find a range, plus O(r) for it, of which whole blocks of
  BLOCK entries are united from ready bitmaps. Adding is O(log n) amortized: sorted runs are merged when one
  is less than twice its successor (the logarithmic method: Bentley & Saxe, Decomposable Searching Problems
  I, J. Algorithms 1, 1980). Runs are immutable, so readers take no lock.
- ``HashColumn`` (strings, bools): O(1) a value; ranges and prefixes O(log m) to find and one bitmap a value
  to unite, over a list of values that is sorted on the first such question after new values appeared.
"""

from __future__ import annotations

import math
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from vecdb_index.filters.fields import INT64_MAX, INT64_MIN, STORED, FieldType
from vecdb_index.filters.values import Interval

BLOCK: Final = 8192

Pair = tuple[int, Any]  # docno, value
_Docnos = npt.NDArray[np.uint32]
assert array("I").itemsize == 4, "BitMap takes docnos as 32-bit C unsigned ints"


class Column(Protocol):
    """What a field index asks of a column. Values are as ``STORED`` gives them."""

    def add(self, pairs: Sequence[Pair]) -> None:
        """Add (docno, value) pairs, a value at most once a document. One writer at a time."""
        ...

    def without(self, dead: BitMap) -> Column:
        """A column with the entries of these documents dropped; called by the writer."""
        ...

    def equal(self, keys: Iterable[Any]) -> BitMap:
        """A new bitmap of the documents with any of these keys (of the column's kind)."""
        ...

    def between(self, interval: Interval) -> BitMap:
        """A new bitmap of the documents with a value in the interval."""
        ...

    def prefixed(self, prefix: str) -> BitMap:
        """A new bitmap of the documents with a value that starts so; empty unless values are strings."""
        ...

    def count_equal(self, keys: Iterable[Any]) -> int:
        """The number of entries with any of these keys; of documents, for one key."""
        ...

    def count_between(self, interval: Interval) -> int | None:
        """The number of entries in the interval, or None where counting is not cheap."""
        ...


def column_for(type_: FieldType) -> Column | None:
    """An empty column for a type; None for those served by the scan."""
    match type_:
        case FieldType.INT | FieldType.FLOAT | FieldType.DATETIME:
            return SortedColumn(type_)
        case FieldType.KEYWORD | FieldType.BOOL:
            return HashColumn(type_)
    return None


def bitmap_of(docnos: _Docnos) -> BitMap:
    """A bitmap of unsorted document numbers; sorting first and passing a C array is the fastest way in."""
    return BitMap(array("I", np.sort(docnos).tobytes()))


def docnos_of(bitmap: BitMap) -> _Docnos:
    """The members of a bitmap, ascending."""
    return np.frombuffer(bitmap.to_array(), dtype=np.uint32)


# --- numbers and datetimes ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Run:
    """Entries in order of value, then docno: values (n,) int64 or float64, docnos (n,) uint32."""

    values: npt.NDArray[Any]
    docnos: _Docnos
    blocks: list[BitMap] = field(default_factory=list)  # of BLOCK entries each; made on the first wide range

    def united(self, start: int, stop: int) -> list[BitMap]:
        """Bitmaps that together hold the documents of entries start to stop."""
        first, last = -(-start // BLOCK), stop // BLOCK
        if last - first < 2:
            return [bitmap_of(self.docnos[start:stop])]
        if not self.blocks:
            # Two threads may both get here: they extend by equal blocks, so whichever list is read is right.
            made = [
                bitmap_of(self.docnos[at : at + BLOCK])
                for at in range(0, len(self.docnos) - BLOCK + 1, BLOCK)
            ]
            self.blocks[:] = made
        edges = (self.docnos[start : first * BLOCK], self.docnos[last * BLOCK : stop])
        return self.blocks[first:last] + [bitmap_of(edge) for edge in edges]


class SortedColumn:
    """Numbers of one 64-bit type in sorted runs, each at least twice as long as the next."""

    def __init__(self, type_: FieldType, runs: tuple[_Run, ...] = ()) -> None:
        self._type = type_
        self._float = type_ is FieldType.FLOAT
        self._dtype = np.dtype(np.float64 if self._float else np.int64)
        self._runs = runs

    def add(self, pairs: Sequence[Pair]) -> None:
        """See ``Column``."""
        docnos = np.fromiter((docno for docno, _ in pairs), dtype=np.uint32, count=len(pairs))
        values = np.fromiter((value for _, value in pairs), dtype=self._dtype, count=len(pairs))
        self.add_arrays(docnos, values)

    def add_arrays(self, docnos: _Docnos, values: npt.NDArray[Any]) -> None:
        """``add`` for columns of numbers: docnos (n,) uint32, values (n,) of the column's dtype."""
        runs = list(self._runs)
        chunks = [(values, docnos)]
        size = len(docnos)
        while runs and len(runs[-1].docnos) < 2 * size:
            run = runs.pop()
            chunks.insert(0, (run.values, run.docnos))
            size += len(run.docnos)
        values = np.concatenate([chunk for chunk, _ in chunks])
        docnos = np.concatenate([chunk for _, chunk in chunks])
        # Stable, so equal values stay in the order of arrival, which is that of docnos: cheap to make a
        # bitmap of. On a few sorted runs numpy's stable sort (timsort) only merges.
        order = np.argsort(values, kind="stable")
        runs.append(_Run(values[order], docnos[order]))
        self._runs = tuple(runs)

    def without(self, dead: BitMap) -> Column:
        """See ``Column``."""
        gone = docnos_of(dead)
        kept = []
        for run in self._runs:
            keep = np.isin(run.docnos, gone, invert=True)
            if keep.any():
                kept.append(_Run(run.values[keep], run.docnos[keep]))
        return SortedColumn(self._type, tuple(kept))

    def equal(self, keys: Iterable[Any]) -> BitMap:
        """See ``Column``."""
        wanted = self._wanted(keys)
        found = []
        for run in self._runs:
            low = np.searchsorted(run.values, wanted, "left")
            sizes = np.searchsorted(run.values, wanted, "right") - low
            # Entry j of the answer lies j - (entries before its key) behind the start of its key.
            starts = np.repeat(low - (np.cumsum(sizes) - sizes), sizes)
            found.append(run.docnos[starts + np.arange(len(starts))])
        return bitmap_of(np.concatenate(found)) if found else BitMap()

    def between(self, interval: Interval) -> BitMap:
        """See ``Column``."""
        return BitMap().union(*(part for run, at, to in self._spans(interval) for part in run.united(at, to)))

    def prefixed(self, prefix: str) -> BitMap:
        """See ``Column``."""
        return BitMap()

    def count_equal(self, keys: Iterable[Any]) -> int:
        """See ``Column``."""
        wanted = self._wanted(keys)
        return sum(
            int(
                (
                    np.searchsorted(run.values, wanted, "right") - np.searchsorted(run.values, wanted, "left")
                ).sum()
            )
            for run in self._runs
        )

    def count_between(self, interval: Interval) -> int | None:
        """See ``Column``."""
        return sum(stop - start for _, start, stop in self._spans(interval))

    def _wanted(self, keys: Iterable[Any]) -> npt.NDArray[Any]:
        stored = [key for key in map(STORED[self._type], keys) if key is not None]
        return np.sort(np.array(stored, dtype=self._dtype))

    def _spans(self, interval: Interval) -> list[tuple[_Run, int, int]]:
        ends = (_double_ends if self._float else _int64_ends)(interval)
        if ends is None:
            return []
        low, high = np.array(ends, dtype=self._dtype)
        spans = (
            (
                run,
                int(np.searchsorted(run.values, low, "left")),
                int(np.searchsorted(run.values, high, "right")),
            )
            for run in self._runs
        )
        return [(run, start, stop) for run, start, stop in spans if start < stop]


def _int64_ends(interval: Interval) -> tuple[int, int] | None:
    """The same interval over int64, both ends included; None when empty. Exact for any int or float bound."""
    low, high = INT64_MIN, INT64_MAX
    if interval.low is not None and interval.low != -math.inf:
        if interval.low == math.inf:
            return None
        low = max(low, math.floor(interval.low) + 1 if interval.low_open else math.ceil(interval.low))
    if interval.high is not None and interval.high != math.inf:
        if interval.high == -math.inf:
            return None
        high = min(high, math.ceil(interval.high) - 1 if interval.high_open else math.floor(interval.high))
    return (low, high) if low <= high else None


def _double_ends(interval: Interval) -> tuple[float, float] | None:
    """The same interval over doubles, both ends included; None when empty.

    A bound between two doubles (a large int) moves inwards to the end of that gap, so nothing is rounded.
    """
    low, high = -math.inf, math.inf
    if interval.low is not None:
        near = _nearest_double(interval.low)
        outside = near < interval.low or (interval.low_open and near == interval.low)
        if outside and near == math.inf:
            return None
        low = math.nextafter(near, math.inf) if outside else near
    if interval.high is not None:
        near = _nearest_double(interval.high)
        outside = near > interval.high or (interval.high_open and near == interval.high)
        if outside and near == -math.inf:
            return None
        high = math.nextafter(near, -math.inf) if outside else near
    return (low, high) if low <= high else None


def _nearest_double(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


# --- strings and bools -------------------------------------------------------------------------------------


class HashColumn:
    """Values in a dict, each with a bitmap, or the bare number of its only document."""

    def __init__(self, type_: FieldType, postings: dict[Any, int | BitMap] | None = None) -> None:
        self._type = type_
        self._postings: dict[Any, int | BitMap] = {} if postings is None else postings
        self._sorted: list[Any] = []  # the oldest values of the dict, sorted
        # Bitmaps change in place, and the sorted list under a reader: both are used under the lock.
        self._lock = threading.Lock()

    def add(self, pairs: Sequence[Pair]) -> None:
        """See ``Column``."""
        groups: dict[Any, list[int]] = {}
        for docno, value in pairs:
            groups.setdefault(value, []).append(docno)
        with self._lock:
            for value, docnos in groups.items():
                held = self._postings.get(value)
                if isinstance(held, BitMap):
                    held.update(docnos)
                elif held is None and len(docnos) == 1:
                    self._postings[value] = docnos[0]
                else:
                    self._postings[value] = BitMap(docnos if held is None else [held, *docnos])

    def without(self, dead: BitMap) -> Column:
        """See ``Column``."""
        kept: dict[Any, int | BitMap] = {}
        for value, held in self._postings.items():
            if isinstance(held, int):
                if held not in dead:
                    kept[value] = held
            elif left := held - dead:
                kept[value] = left
        return HashColumn(self._type, kept)

    def equal(self, keys: Iterable[Any]) -> BitMap:
        """See ``Column``."""
        with self._lock:
            return self._union(keys)

    def between(self, interval: Interval) -> BitMap:
        """See ``Column``."""
        with self._lock:
            values = self._in_order()
            cut_low = bisect_right if interval.low_open else bisect_left
            cut_high = bisect_left if interval.high_open else bisect_right
            start = 0 if interval.low is None else cut_low(values, interval.low)
            stop = len(values) if interval.high is None else cut_high(values, interval.high)
            return self._union(values[start:stop])

    def prefixed(self, prefix: str) -> BitMap:
        """See ``Column``."""
        with self._lock:
            values = self._in_order()
            start = bisect_left(values, prefix)
            # Values with the prefix are contiguous, so "has it no longer" is sorted from there on.
            stop = bisect_left(values, True, lo=start, key=lambda value: not value.startswith(prefix))
            return self._union(values[start:stop])

    def count_equal(self, keys: Iterable[Any]) -> int:
        """See ``Column``."""
        with self._lock:
            held = (self._postings.get(key) for key in keys)
            return sum(len(item) if isinstance(item, BitMap) else item is not None for item in held)

    def count_between(self, interval: Interval) -> int | None:
        """See ``Column``."""
        return None

    def _union(self, values: Iterable[Any]) -> BitMap:
        singles: list[int] = []
        bitmaps: list[BitMap] = []
        for value in values:
            held = self._postings.get(value)
            if isinstance(held, BitMap):
                bitmaps.append(held)
            elif held is not None:
                singles.append(held)
        return BitMap(singles).union(*bitmaps)

    def _in_order(self) -> list[Any]:
        fresh = len(self._postings) - len(self._sorted)
        if fresh:
            # Dicts keep insertion order, so the values not yet sorted are the last ones.
            self._sorted.extend(islice(reversed(self._postings), fresh))
            self._sorted.sort()
        return self._sorted
