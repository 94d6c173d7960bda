"""Field indexes beside a writer: loading under every interleaving, bulk, and readers on other threads."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest
from pyroaring import BitMap
from vecdb_index.filters import (
    And,
    Eq,
    Exists,
    FieldIndexes,
    FieldSpec,
    FieldType,
    Filter,
    In,
    Ne,
    Not,
    Or,
    Prefix,
    Range,
    compile,  # noqa: A004
    create,
)

YEAR, LANG = FieldSpec("year", FieldType.INT), FieldSpec("lang", FieldType.KEYWORD)
Connect = Callable[[], sqlite3.Connection]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """Connections to one database in WAL mode, the tables made."""
    opened: list[sqlite3.Connection] = []

    def connect() -> sqlite3.Connection:
        conn = sqlite3.connect(tmp_path / "shard.db", isolation_level=None, check_same_thread=False)
        conn.execute("PRAGMA journal_mode=WAL")
        opened.append(conn)
        return conn

    create(connect())
    yield connect
    for conn in opened:
        conn.close()


def commit(
    indexes: FieldIndexes,
    conn: sqlite3.Connection,
    payloads: Sequence[dict[str, Any]] = (),
    *,
    first: int = 0,
    erase: Sequence[int] = (),
    publish: bool = True,
) -> None:
    """One transaction of new documents, numbered from ``first``, and erased ones."""
    conn.execute("BEGIN IMMEDIATE")
    indexes.write(conn, range(first, first + len(payloads)), payloads, [None] * len(payloads))
    if erase:
        indexes.erase(conn, erase)
    conn.execute("COMMIT")
    if publish:
        indexes.committed()


def never() -> BitMap:
    raise AssertionError("the universe was asked for")


def test_unknown_filters_do_not_ask_for_the_universe(connect: Connect) -> None:
    """A filter that no declared field can help with gives no bitmap and never asks for the live documents."""
    indexes = FieldIndexes([YEAR])
    candidates = indexes.evaluate(And((Eq("lang", "en"), Not(Exists("x")))), connect(), never)
    assert candidates.bitmap is None
    assert not candidates.exact
    assert not candidates.certain
    assert indexes.estimate(Eq("lang", "en"), 5) is None
    assert indexes.estimate(Eq("year", 1), 5) is None  # declared, not loaded


def test_universe_is_asked_once(connect: Connect) -> None:
    """However many complements a filter has, the live documents are asked for once."""
    conn, indexes, asked = connect(), FieldIndexes([YEAR, LANG]), []
    commit(indexes, conn, [{"year": 1}, {"lang": "en"}, {}])

    def universe() -> BitMap:
        asked.append(1)
        return BitMap(range(3))

    where = And((Ne("year", 2), Not(Eq("lang", "en")), Not(Not(Ne("year", 1)))))
    assert list(indexes.evaluate(where, conn, universe).certain) == [2]
    assert len(asked) == 1


def test_declared_clauses_narrow_undeclared_ones(connect: Connect) -> None:
    """Under And a declared clause limits what is scanned; under Or it makes sure of what need not be."""
    conn, indexes = connect(), FieldIndexes([YEAR])
    commit(indexes, conn, [{"year": number, "x": 1} for number in range(10)])
    universe = BitMap(range(10))
    both = indexes.evaluate(And((Eq("x", 1), Range("year", gte=7))), conn, lambda: universe)
    assert (list(both.bitmap or ()), both.exact, len(both.certain)) == ([7, 8, 9], False, 0)
    either = indexes.evaluate(Or((Eq("x", 1), Range("year", gte=7))), conn, lambda: universe)
    assert (either.bitmap, either.exact, list(either.certain)) == (universe, False, [7, 8, 9])
    unmatched = indexes.evaluate(And((Eq("x", 1), Eq("year", 99))), conn, lambda: universe)
    assert (unmatched.bitmap, unmatched.exact) == (BitMap(), True)


def test_mistyped_values_cost_only_their_documents(connect: Connect) -> None:
    """A string in an int field is found by a filter for strings, and does not blur one for numbers."""
    conn, indexes = connect(), FieldIndexes([YEAR])
    commit(
        indexes, conn, [{"year": 1}, {"year": "1"}, {"year": None}, {"year": 1.5}, {"year": 2**64 - 1}, {}]
    )
    universe = BitMap(range(6))

    def ask(where: Filter) -> tuple[list[int], bool]:
        candidates = indexes.evaluate(where, conn, lambda: universe)
        return list(candidates.bitmap or ()), candidates.exact

    assert ask(Eq("year", "1")) == ([1], False)
    assert ask(Eq("year", True)) == ([], True)
    assert ask(Prefix("year", "x")) == ([1], False)
    assert ask(Range("year", gte=1)) == ([0, 3, 4], False)  # what int64 cannot hold is looked at
    assert ask(Exists("year")) == ([0, 1, 2, 3, 4], True)


def test_rows_name_their_storage() -> None:
    """The rows of a document carry field, docno, kind and value; duplicates in an array are one row."""
    indexes = FieldIndexes([YEAR, LANG, FieldSpec("@author", FieldType.KEYWORD)])
    rows = indexes.rows(7, {"year": [3, 3.0, None], "lang": "x" * 513}, "bob")
    assert sorted(rows) == [
        ("int:year", 7, 0, 3),
        ("int:year", 7, 2, 0),
        ("keyword:@author", 7, 0, "bob"),
        ("keyword:lang", 7, 4, 0),
    ]


def test_side_table_orders_values(connect: Connect) -> None:
    """SQLite orders a field's values as filters do: numbers by value, strings by code point."""
    conn = connect()
    price = FieldSpec("price", FieldType.FLOAT)
    indexes = FieldIndexes([YEAR, LANG, price])
    years, langs = [5, -(2**63), 2**63 - 1, -1], ["\U0001f600", "\uff5e", "a", "Z"]
    prices = [2.5, float("inf"), -1e300, 3]
    keys = zip(years, langs, prices, strict=True)
    commit(indexes, conn, [{"year": year, "lang": lang, "price": price} for year, lang, price in keys])
    for spec, values in ((YEAR, years), (LANG, langs), (price, prices)):
        query = "SELECT value FROM field_values WHERE field = ? ORDER BY value"
        assert [value for (value,) in conn.execute(query, (spec.storage,))] == sorted(values)


def test_stale_snapshot_does_not_load(connect: Connect) -> None:
    """A reader inside an older snapshot answers by scan, and leaves no index behind that lacks documents."""
    writer, reader = connect(), connect()
    indexes = FieldIndexes([YEAR])
    commit(indexes, writer, [{"year": 1}])
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM field_values").fetchall()
    commit(indexes, writer, [{"year": 1}], first=1)
    assert indexes.evaluate(Eq("year", 1), reader, never).bitmap is None
    reader.execute("COMMIT")
    assert list(indexes.evaluate(Eq("year", 1), reader, lambda: BitMap([0, 1])).certain) == [0, 1]


def test_writer_does_not_load_its_own_transaction(connect: Connect) -> None:
    """What the writer loads before it commits may be rolled back, so it does not load."""
    conn, indexes = connect(), FieldIndexes([YEAR])
    conn.execute("BEGIN")
    indexes.write(conn, [0], [{"year": 1}], [None])
    assert indexes.evaluate(Eq("year", 1), conn, never).bitmap is None
    conn.execute("ROLLBACK")
    indexes.rolled_back()
    commit(indexes, conn, [{"year": 2}])  # the number was free again
    assert not indexes.evaluate(Eq("year", 1), conn, lambda: BitMap([0])).bitmap


def test_load_between_commit_and_publication(connect: Connect) -> None:
    """Rows that a load saw before their publication are not counted twice."""
    writer, reader = connect(), connect()
    indexes = FieldIndexes([YEAR])
    commit(indexes, writer, [{"year": 1}], publish=False)
    assert list(indexes.evaluate(Eq("year", 1), reader, lambda: BitMap([0])).certain) == [0]
    indexes.committed()
    assert list(indexes.evaluate(Eq("year", 1), reader, lambda: BitMap([0])).certain) == [0]


def test_commit_during_load(connect: Connect) -> None:
    """Commits that a load's snapshot has not seen are in the index that it makes, each once."""
    writer, reader = connect(), connect()
    indexes = FieldIndexes([YEAR, LANG])
    commit(indexes, writer, [{"year": 1}] * 100 + [{"year": 2}] * 100, publish=False)
    seen: list[int] = []

    def meanwhile() -> int:
        if len(seen) < 3:  # the load's statement is running: its snapshot is taken
            if not seen:
                indexes.committed()
            first = 200 + len(seen)
            seen.append(first)
            commit(indexes, writer, [{"year": 1}], first=first, erase=[len(seen)])
        return 0

    reader.set_progress_handler(meanwhile, 150)
    live = BitMap(range(203)) - BitMap([1, 2, 3])
    found = indexes.evaluate(Eq("year", 1), reader, lambda: live)
    reader.set_progress_handler(None, 0)
    assert len(seen) == 3
    assert found.certain == live - BitMap(range(100, 200))
    assert indexes.estimate(Eq("year", 1), len(live)) == (100, 103)


def test_dropped_while_loading(connect: Connect) -> None:
    """A field dropped and declared with another type while it loads: the new one is not confused by it."""
    writer, reader = connect(), connect()
    indexes = FieldIndexes([YEAR])
    payloads = [{"year": 1}] * 100
    commit(indexes, writer, payloads)
    done: list[int] = []

    def meanwhile() -> int:
        if not done:
            done.append(1)
            writer.execute("BEGIN")
            indexes.drop(writer, "year")
            rows = ((docno, msgpack.packb(payload)) for docno, payload in enumerate(payloads))
            indexes.backfill(writer, FieldSpec("year", FieldType.KEYWORD), rows)
            writer.execute("COMMIT")
            indexes.committed()
        return 0

    reader.set_progress_handler(meanwhile, 150)
    universe = BitMap(range(100))
    assert indexes.evaluate(Eq("year", 1), reader, lambda: universe).certain == universe
    reader.set_progress_handler(None, 0)
    assert done
    again = indexes.evaluate(Eq("year", 1), reader, lambda: universe)
    assert (again.bitmap, again.exact) == (universe, False)


def test_nothing_staged(connect: Connect) -> None:
    """Settling without a transaction, or one that touched nothing, changes nothing."""
    conn, indexes = connect(), FieldIndexes([YEAR])
    indexes.committed()
    indexes.rolled_back()
    commit(indexes, conn)
    commit(indexes, conn, [{}])
    found = indexes.evaluate(Exists("year"), conn, lambda: BitMap([0]))
    assert (found.bitmap, found.exact) == (BitMap(), True)


def test_backfill_beside_a_write(connect: Connect) -> None:
    """One transaction that writes, declares a field and writes again indexes all of it, once settled."""
    conn, indexes = connect(), FieldIndexes([YEAR])
    payloads = [{"year": number, "lang": "en"} for number in range(4)]
    conn.execute("BEGIN")
    indexes.write(conn, [0, 1], payloads[:2], [None] * 2)
    indexes.backfill(conn, LANG, ((docno, msgpack.packb(payloads[docno])) for docno in (0, 1)))
    indexes.write(conn, [2, 3], payloads[2:], [None] * 2)
    conn.execute("COMMIT")
    assert LANG not in indexes.specs
    indexes.committed()
    assert LANG in indexes.specs
    found = indexes.evaluate(And((Eq("lang", "en"), Range("year", gte=1))), conn, lambda: BitMap(range(4)))
    assert (list(found.bitmap or ()), found.exact) == ([1, 2, 3], True)


def test_backfill_refusals(connect: Connect) -> None:
    """A field is declared once; the author cannot be backfilled; dropping an unknown field is a KeyError."""
    conn, indexes = connect(), FieldIndexes([YEAR])
    conn.execute("BEGIN")
    with pytest.raises(ValueError, match="'year' is declared already"):
        indexes.backfill(conn, YEAR, [])
    with pytest.raises(ValueError, match="@author"):
        indexes.backfill(conn, FieldSpec("@author", FieldType.KEYWORD), [])
    with pytest.raises(KeyError):
        indexes.drop(conn, "nothing")
    conn.execute("ROLLBACK")
    indexes.rolled_back()
    assert indexes.specs == (YEAR,)


@pytest.mark.parametrize("docno", [-1, 2**32])
def test_docnos_have_32_bits(connect: Connect, docno: int) -> None:
    """A document number that a bitmap cannot hold is refused before anything is written."""
    conn, indexes = connect(), FieldIndexes([YEAR])
    with pytest.raises(AssertionError, match="32-bit"):
        indexes.write(conn, [docno], [{"year": 1}], [None])
    assert not conn.execute("SELECT * FROM field_values").fetchall()


def test_largest_docno(connect: Connect) -> None:
    """The last number that fits is found again."""
    conn, indexes = connect(), FieldIndexes([YEAR, LANG])
    commit(indexes, conn, [{"year": 1, "lang": "en"}], first=2**32 - 1)
    live = BitMap([2**32 - 1])
    for where in (Eq("year", 1), Range("year", gte=1), Eq("lang", "en"), Ne("lang", "fr")):
        assert indexes.evaluate(where, conn, lambda: live).certain == live


LARGE: list[Filter] = [
    Range("price", gte=0.2, lt=0.9),
    Range("price", gt=0.5),
    Range("year", gte=1900, lte=1999),
    Range("year", gt=1950, lt=1952),
    In("year", tuple(range(1900, 2000, 3))),
    In("sku", tuple(f"sku-{number:05d}" for number in range(0, 18_000, 2))),
    Eq("lang", "de"),
    Range("lang", gt="de", lte="fr"),
    Range("lang", lt="en"),
    Prefix("sku", "sku-012"),
    Not(Prefix("sku", "sku-0")),
]


def large_payloads(count: int) -> list[dict[str, Any]]:
    rng = random.Random(5)
    return [
        {
            "price": rng.random(),
            "year": rng.randrange(1900, 2000),
            "lang": rng.choice(["de", "en", "fr"]),
            "sku": f"sku-{number:05d}",
        }
        for number in range(count)
    ]


@pytest.mark.parametrize("loaded_first", [True, False])
def test_large(connect: Connect, loaded_first: bool) -> None:
    """Blocks, merged runs and reaping agree with the evaluator, whether the index grew or was loaded."""
    conn = connect()
    types = {"price": "float", "year": "int", "lang": "keyword", "sku": "keyword"}
    specs = [FieldSpec(name, FieldType(type_)) for name, type_ in types.items()]
    indexes = FieldIndexes(specs, reap_at_least=3_500)
    payloads = large_payloads(30_000)
    if loaded_first:
        for spec in specs:
            indexes.evaluate(Exists(spec.name), conn, BitMap)
    first = 0
    for size in (22_000, 1, 5_000, 1_000, 1_999):
        commit(indexes, conn, payloads[first : first + size], first=first)
        first += size
    for start in range(0, 30_000, 3_000):
        commit(indexes, conn, erase=range(start, start + 3_000, 3))
    live = BitMap(docno for docno in range(30_000) if docno % 3)
    for where in LARGE:
        holds = compile(where)
        expected = BitMap(docno for docno in live if holds(payloads[docno]))
        found = indexes.evaluate(where, conn, lambda: live)
        assert (found.bitmap, found.exact) == (expected, True), where
        low, high = indexes.estimate(where, len(live)) or (0, 0)
        assert low <= len(expected) <= high, where


def test_estimates_of_plain_fields_are_tight(connect: Connect) -> None:
    """Where every document has one value, equality and numeric ranges are counted exactly."""
    conn, indexes = connect(), FieldIndexes([YEAR, LANG])
    commit(indexes, conn, [{"year": number % 10, "lang": "en"} for number in range(100)])
    for where, count in (
        (Eq("year", 3), 10),
        (Range("year", lt=3), 30),
        (In("year", (1, 2, 77)), 20),
        (Ne("lang", "en"), 0),
        (Not(Range("year", lt=3)), 70),
        (Or((Eq("year", 3), Eq("lang", "fr"))), 10),
        (And((Eq("year", 3), Eq("lang", "en"))), 10),
    ):
        indexes.evaluate(where, conn, lambda: BitMap(range(100)))
        assert indexes.estimate(where, 100) == (count, count), where


def in_threads(count: int, work: Callable[[], None]) -> tuple[list[threading.Thread], list[BaseException]]:
    """Start threads; what they raise is collected."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as failure:  # reported by the test, in the main thread
            failures.append(failure)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, failures


def test_readers_beside_a_writer(connect: Connect) -> None:
    """Readers that take a view and then evaluate get exactly its matches, while documents come and go.

    Half of the fields are loaded while the writer is at work.
    """
    names = [f"f{number}" for number in range(12)]
    indexes = FieldIndexes(
        [FieldSpec(name, FieldType(("int", "keyword")[n % 2])) for n, name in enumerate(names)]
    )
    writer = connect()
    documents: dict[int, int] = {}  # docno -> the value of all its fields; never changed once written
    views = [BitMap()]
    stop = threading.Event()

    def read() -> None:
        conn = connect()
        for turn in range(400):
            if stop.is_set():
                return
            name, value = names[turn % len(names)], turn % 5
            view = views[-1]
            where = Or((Eq(name, value), Eq(name, str(value))))
            found = indexes.evaluate(And((where, Ne("other", 1))), conn, lambda view=view: view)  # type: ignore[misc]
            expected = BitMap(docno for docno in view if documents[docno] == value)
            if found.bitmap is not None:
                assert found.bitmap == expected

    threads, failures = in_threads(2, read)
    first = 0
    for turn in range(60):
        size = 1 + turn % 7
        values = [(first + number) % 5 for number in range(size)]
        payloads = [
            {name: str(value) if n % 2 else value for n, name in enumerate(names)} for value in values
        ]
        documents.update(zip(range(first, first + size), values, strict=True))
        commit(indexes, writer, payloads, first=first)
        first += size
        views.append(views[-1] | BitMap(range(first - size, first)))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    found = indexes.evaluate(Exists("f0"), writer, lambda: views[-1])
    assert (found.bitmap, found.exact) == (views[-1], True)


def test_one_of_many_readers_loads(connect: Connect) -> None:
    """Readers that ask for the same field at once all get the whole answer."""
    writer, indexes = connect(), FieldIndexes([YEAR])
    commit(indexes, writer, [{"year": number % 3} for number in range(3_000)])
    universe = BitMap(range(3_000))
    barrier = threading.Barrier(4)

    def read() -> None:
        conn = connect()
        barrier.wait()
        found = indexes.evaluate(Eq("year", 1), conn, lambda: universe)
        assert found.certain == BitMap(range(1, 3_000, 3))

    threads, failures = in_threads(4, read)
    for thread in threads:
        thread.join()
    assert not failures
    assert indexes.estimate(Eq("year", 1), 3_000) == (1_000, 1_000)
