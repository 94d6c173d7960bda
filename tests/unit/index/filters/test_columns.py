"""Columns against plain Python: exact at the edges where int64 and double part, before and after dropping."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap
from vecdb_index.filters import FieldType
from vecdb_index.filters.columns import BLOCK, Column, SortedColumn, column_for
from vecdb_index.filters.fields import STORED
from vecdb_index.filters.values import Interval, Kind

EDGES = [0, 1, 2**53, 2**53 + 1, 2**53 + 2, 2**62, 2**63 - 1025, 2**63 - 1, 2**63, 2**64, 10**309]
INTS = sorted({sign * edge + step for edge in EDGES for sign in (1, -1) for step in (-1, 0, 1)})
FLOATS = [0.0, -0.0, 0.5, -1.5, 5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308]
FLOATS += [math.inf, -math.inf, 2.0**53, 2.0**63, -(2.0**63), math.nextafter(2.0**63, 0)]
numbers = st.sampled_from([*INTS, *FLOATS])
words = st.text(alphabet="ab\uffff\U0010ffff", max_size=3)
KINDS = {FieldType.INT: Kind.NUMBER, FieldType.FLOAT: Kind.NUMBER, FieldType.KEYWORD: Kind.STRING}


def filled(type_: FieldType, keys: list[Any], sizes: list[int]) -> tuple[Column, dict[int, Any]]:
    """A column with the keys that it can store, added in batches; and docno -> key."""
    stored = [(docno, STORED[type_](key)) for docno, key in enumerate(keys)]
    pairs = [(docno, key) for docno, key in stored if key is not None]
    column = column_for(type_)
    assert column is not None
    rest = pairs
    for size in [*sizes, len(pairs)]:
        if rest:
            column.add(rest[:size])
        rest = rest[size:]
    return column, dict(pairs)


def check(column: Column, held: dict[int, Any], interval: Interval, wanted: frozenset[Any]) -> None:
    inside = BitMap(docno for docno, key in held.items() if key in interval)
    assert column.between(interval) == inside
    assert column.count_between(interval) in (None, len(inside))
    equal = BitMap(docno for docno, key in held.items() if key in wanted)
    assert column.equal(wanted) == equal
    assert column.count_equal(wanted) == len(equal)


@pytest.mark.parametrize("type_", KINDS)
@settings(max_examples=250, deadline=None, derandomize=True)
@given(data=st.data())
def test_columns_agree_with_comparison(type_: FieldType, data: st.DataObject) -> None:
    """Ranges and equality are those of Python's exact comparison, whatever the bounds' type and size."""
    key = words if type_ is FieldType.KEYWORD else numbers
    bound = st.none() | key
    sizes = data.draw(st.lists(st.integers(1, 4), max_size=6))
    column, held = filled(type_, data.draw(st.lists(key, max_size=20)), sizes)
    low, low_open, high, high_open = data.draw(st.tuples(bound, st.booleans(), bound, st.booleans()))
    interval = Interval(KINDS[type_], low, low_open, high, high_open)
    wanted = data.draw(st.frozensets(key, max_size=4))
    check(column, held, interval, wanted)
    dead = BitMap(data.draw(st.lists(st.integers(0, 20), max_size=10)))
    left = {docno: key for docno, key in held.items() if docno not in dead}
    check(column.without(dead), left, interval, wanted)


@given(words=st.lists(words, max_size=20), prefix=words, later=st.lists(words, max_size=5))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_prefixes(words: list[str], prefix: str, later: list[str]) -> None:
    """Prefixes are found also among words added after the list was sorted, up to the last code point."""
    column, held = filled(FieldType.KEYWORD, words, [])
    assert column.prefixed(prefix) == BitMap(docno for docno, word in held.items() if word.startswith(prefix))
    more = dict(enumerate(later, len(words)))
    if more:
        column.add(list(more.items()))
    held |= more
    assert column.prefixed(prefix) == BitMap(docno for docno, word in held.items() if word.startswith(prefix))


def test_wide_ranges_use_blocks_and_stay_exact() -> None:
    """A range over many blocks, its ends on and beside their edges, holds exactly its documents."""
    count = 4 * BLOCK + 100
    docnos = [(value * 7919) % count for value in range(count)]  # 7919 is prime to count: a permutation
    column = column_for(FieldType.INT)
    assert column is not None
    column.add([(docno, value) for value, docno in enumerate(docnos)])
    for low in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1):
        for high in (3 * BLOCK - 1, 3 * BLOCK, 3 * BLOCK + 1, 4 * BLOCK, count):
            interval = Interval(Kind.NUMBER, low, False, high, True)
            assert column.between(interval) == BitMap(docnos[low:high])
            assert column.count_between(interval) == high - low


@pytest.mark.parametrize("type_", [FieldType.INT, FieldType.FLOAT])
@pytest.mark.parametrize(
    ("low", "low_open", "high", "high_open"),
    [
        (math.inf, False, None, False),
        (math.inf, True, None, False),
        (None, False, -math.inf, False),
        (None, False, -math.inf, True),
        (-math.inf, True, math.inf, True),
        (-math.inf, False, math.inf, False),
        (10**309, True, None, False),
        (None, False, -(10**309), True),
        (2, True, 2, False),
        (0.5, True, None, False),
        (0.5, False, None, False),
        (-1.5, True, 0.5, True),
        (-1.5, False, 0.5, False),
    ],
)
def test_bounds_beside_the_values(
    type_: FieldType, low: Any, low_open: bool, high: Any, high_open: bool
) -> None:
    """Nothing lies beyond an infinity, which is a value of its own; a fraction lies between two ints."""
    column, held = filled(type_, [*INTS, *FLOATS], [])
    check(column, held, Interval(Kind.NUMBER, low, low_open, high, high_open), frozenset())


def test_small_batches_leave_few_runs() -> None:
    """A thousand single additions leave a logarithmic number of runs to search."""
    column = SortedColumn(FieldType.INT)
    for docno in range(1_000):
        column.add([(docno, docno % 7)])
    assert len(column._runs) <= 10
    assert column.equal([3]) == BitMap(range(3, 1_000, 7))


def test_numbers_have_no_prefix() -> None:
    """A prefix finds nothing among numbers; text and geo have no column."""
    column, _ = filled(FieldType.FLOAT, [1.5], [])
    assert not column.prefixed("")
    assert column_for(FieldType.TEXT) is column_for(FieldType.GEO) is None
