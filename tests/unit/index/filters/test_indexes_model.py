"""Field indexes against the reference evaluator by brute force, over any history of a shard."""

from __future__ import annotations

import math
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pyroaring import BitMap
from vecdb_index.filters import (
    AUTHOR,
    AllOf,
    And,
    AnyOf,
    Eq,
    Exists,
    FieldIndexes,
    FieldSpec,
    FieldType,
    Filter,
    GeoBox,
    GeoRadius,
    In,
    Instant,
    IsNull,
    Ne,
    Not,
    Or,
    Prefix,
    Range,
    compile,  # noqa: A004
    create,
    decode_payload,
    validate,
)

NAMES = ("a", "b", "m.x")
AUTHORS = ("alice", "bob", "al")
# Small domains, so that values meet; and the corners where numbers of two types nearly do.
NUMBERS: list[Any] = [0, 1, 2, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1]
NUMBERS += [0.0, -0.0, 1.0, 1.5, -0.5, float(2**53), float(2**63), -float(2**63), 1e300, math.inf, -math.inf]
STRINGS = ["", "a", "ab", "abc", "b", "\uffff", "\U0001f600", "\U0010ffff", "x" * 513]
INSTANTS = [Instant(0), Instant(1), Instant(-1), Instant(2**62), Instant(2**63), Instant(-(2**63) - 1)]
MOMENTS = [datetime.fromtimestamp(0, UTC), msgpack.Timestamp(0, 1), msgpack.Timestamp(2**40, 0)]
POINTS = [{"lat": 0, "lon": 0}, {"lat": 0.5, "lon": 179.5}, {"lat": 1}]

scalars = st.sampled_from([*NUMBERS, *STRINGS, *MOMENTS, *POINTS, True, False, None, math.nan, b"a", [1]])
values = scalars | st.lists(scalars, max_size=3)
payloads = st.fixed_dictionaries(
    {},
    optional={
        "a": values,
        "b": values,
        "m": st.fixed_dictionaries({}, optional={"x": values}),
        "m.x": values,
    },
)
literals = st.sampled_from([*NUMBERS, *STRINGS, *INSTANTS, *MOMENTS, True, False, math.nan, b"a"])
bounds = st.none() | st.sampled_from([*NUMBERS, *STRINGS, *INSTANTS, *MOMENTS, math.nan])
names = st.sampled_from([*NAMES, AUTHOR, "undeclared"])
many = st.lists(literals, max_size=4).map(tuple)

leaf_filters: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Eq, names, literals),
    st.builds(Ne, names, literals),
    st.builds(In, names, many),
    st.builds(AnyOf, names, many),
    st.builds(AllOf, names, many.filter(len)),
    st.builds(Range, names, bounds, bounds, bounds, bounds).filter(
        lambda where: any(bound is not None for bound in (where.gt, where.gte, where.lt, where.lte))
    ),
    st.builds(Exists, names),
    st.builds(IsNull, names),
    st.builds(Prefix, names, st.sampled_from(STRINGS)),
    st.builds(GeoRadius, names, st.just(0), st.sampled_from([0, 179]), st.just(100_000)),
    st.builds(GeoBox, names, st.just(-1), st.just(-1), st.just(1), st.just(1)),
)
filters: st.SearchStrategy[Filter] = st.recursive(
    leaf_filters,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)
specs = st.builds(FieldSpec, st.sampled_from(NAMES), st.sampled_from(FieldType))
authors = st.none() | st.sampled_from(AUTHORS)
documents = st.lists(st.tuples(payloads, authors), max_size=8)


class Shard(RuleBasedStateMachine):
    """Documents come and go, fields are declared and dropped, the shard is reopened; answers stay right."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "shard.db"
        self.writer = self.connect()
        self.reader = self.connect()
        create(self.writer)
        self.documents: dict[int, tuple[bytes, str | None]] = {}
        self.next_docno = 0

    def connect(self) -> sqlite3.Connection:
        conn = sqlite3.connect(self.path, isolation_level=None)
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("PRAGMA synchronous=OFF")
        return conn

    def teardown(self) -> None:
        self.writer.close()
        self.reader.close()
        self.folder.cleanup()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.writer.execute("BEGIN IMMEDIATE")
        yield
        self.writer.execute("COMMIT")
        self.indexes.committed()

    @initialize(declared=st.lists(specs, unique_by=lambda spec: spec.name), author=st.booleans())
    def declare(self, declared: list[FieldSpec], author: bool) -> None:
        if author:
            declared = [*declared, FieldSpec(AUTHOR, FieldType.KEYWORD)]
        self.indexes = FieldIndexes(declared, reap_at_least=4)

    def add(self, batch: list[tuple[dict[str, Any], str | None]]) -> None:
        packed = [(msgpack.packb(payload, datetime=True), author) for payload, author in batch]
        docnos = range(self.next_docno, self.next_docno + len(batch))
        self.next_docno += len(batch)
        decoded = [decode_payload(data) for data, _ in packed]
        self.indexes.write(self.writer, docnos, decoded, [author for _, author in packed])
        self.documents.update(zip(docnos, packed, strict=True))

    def take(self, choice: int, size: int) -> list[int]:
        """Some live documents, removed from the model."""
        live = sorted(self.documents)
        chosen = [live[(choice + 3 * step) % len(live)] for step in range(min(size, len(live)))]
        for docno in set(chosen):
            del self.documents[docno]
        return sorted(set(chosen))

    @rule(batch=documents)
    def upsert(self, batch: list[tuple[dict[str, Any], str | None]]) -> None:
        with self.transaction():
            self.add(batch)

    @rule(batch=documents, choice=st.integers(0, 50), size=st.integers(1, 6))
    def rewrite(self, batch: list[tuple[dict[str, Any], str | None]], choice: int, size: int) -> None:
        with self.transaction():
            self.indexes.erase(self.writer, self.take(choice, size))
            self.add(batch)
            self.indexes.erase(self.writer, self.take(choice, 1))

    @rule(batch=documents)
    def roll_back(self, batch: list[tuple[dict[str, Any], str | None]]) -> None:
        before, next_docno = dict(self.documents), self.next_docno
        self.writer.execute("BEGIN IMMEDIATE")
        self.add(batch)
        self.indexes.erase(self.writer, self.take(0, 2))
        # In its own transaction the writer still gets the answers of before.
        self.documents, self.next_docno = before, next_docno
        self.check(Exists("a"), self.writer)
        self.writer.execute("ROLLBACK")
        self.indexes.rolled_back()

    @rule(spec=specs, batch=documents)
    def add_field(self, spec: FieldSpec, batch: list[tuple[dict[str, Any], str | None]]) -> None:
        names = {held.name for held in self.indexes.specs}
        with self.transaction():
            if spec.name in names:
                self.indexes.drop(self.writer, spec.name)
            rows = [(docno, data) for docno, (data, _) in self.documents.items()]
            self.indexes.backfill(self.writer, spec, rows)
            self.add(batch)
        assert spec in self.indexes.specs

    @precondition(lambda self: self.indexes.specs)
    @rule(choice=st.integers(0, 3))
    def drop_field(self, choice: int) -> None:
        name = self.indexes.specs[choice % len(self.indexes.specs)].name
        with self.transaction():
            self.add([({"a": 1}, None)])
            self.indexes.drop(self.writer, name)
        assert name not in {spec.name for spec in self.indexes.specs}

    @rule()
    def reopen(self) -> None:
        self.indexes = FieldIndexes(self.indexes.specs, reap_at_least=4)

    @rule(chosen=st.lists(filters, min_size=1, max_size=5))
    def query(self, chosen: list[Filter]) -> None:
        for where in chosen:
            self.check(where, self.reader)

    def check(self, where: Filter, conn: sqlite3.Connection) -> None:
        validate(where)
        holds = compile(where)
        matching = {
            docno for docno, (data, author) in self.documents.items() if holds(decode_payload(data), author)
        }
        live = BitMap(self.documents)
        estimate = self.indexes.estimate(where, len(live))
        candidates = self.indexes.evaluate(where, conn, lambda: live)
        assert set(candidates.certain) <= matching
        if candidates.bitmap is None:
            assert not candidates.exact
        else:
            assert matching <= set(candidates.bitmap) <= set(live)
            if candidates.exact:
                assert matching == set(candidates.bitmap)
        for bound in (estimate, self.indexes.estimate(where, len(live))):
            assert bound is None or 0 <= bound[0] <= len(matching) <= bound[1] <= len(live)

    @invariant()
    def only_live_documents_are_stored(self) -> None:
        """The side table holds exactly the rows of live documents in declared fields."""
        stored = self.reader.execute("SELECT field, docno, kind, value FROM field_values").fetchall()
        wanted = {
            (field, docno, kind, type(value), value)
            for docno, (data, author) in self.documents.items()
            for field, docno, kind, value in self.indexes.rows(docno, decode_payload(data), author)
        }
        # SQLite has no bool: a stored one reads back as the int that it equals.
        normal = {
            (field, docno, kind, int if kind_type is bool else kind_type, value)
            for field, docno, kind, kind_type, value in wanted
        }
        assert {(field, docno, kind, type(value), value) for field, docno, kind, value in stored} == normal


Shard.TestCase.settings = settings(max_examples=60, stateful_step_count=15, deadline=None, derandomize=True)
TestShard = Shard.TestCase
