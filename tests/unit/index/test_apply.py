"""Apply: refusals are results, equal on every replica; retries apply once; the content hash follows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shards import STILL, TINY
from vecdb_index import (
    AlterFields,
    ApplyResult,
    Delete,
    FieldSpec,
    FieldType,
    Schema,
    Shard,
    ShardOptions,
    UnknownMutation,
    Update,
    Upsert,
    WriteRefused,
    encode,
)
from vecdb_index import apply as apply_module
from vecdb_index.apply import MAX_ID_BYTES, MAX_PAYLOAD_BYTES
from vecdb_index.filters import Eq
from vecdb_index.hashing import MultisetHash, document_digest
from vecdb_index.retries import EVICTED, EXPIRED, Retries, count_sessions

ONE = np.ones((1, 2), np.float32)
TWO = np.arange(4, dtype=np.float32).reshape(2, 2)


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    with Shard.create(
        tmp_path / "shard", Schema(2, "l2", fields=(FieldSpec("n", FieldType.INT),)), STILL
    ) as made:
        yield made


def apply(shard: Shard, mutation: Any) -> ApplyResult:
    (result,) = shard.apply([(shard.applied_index + 1, encode(mutation))])
    return result


def codes(result: ApplyResult) -> list[tuple[int, str]]:
    return [(failure.position, failure.code) for failure in result.failures]


@pytest.mark.parametrize(
    ("mutation", "position"),
    [
        (Upsert(["a", "a"], TWO), 1),
        (Upsert(["a", ""], TWO), 1),
        (Upsert(["x" * (MAX_ID_BYTES + 1)], ONE), 0),
        (Upsert(["nul\0"], ONE), 0),
        (Upsert(["a"], np.ones((1, 3), np.float32)), -1),
        (Upsert(["a"], b""), -1),
        (Upsert(["a", "b"], np.array([[1, 2], [np.nan, 1]], np.float32)), 1),
        (Upsert(["a"], np.array([[np.inf, -np.inf]], np.float32)), 0),
        (Upsert(["a"], ONE, [msgpack.packb([1])]), 0),
        (Upsert(["a"], ONE, [b"\xc1"]), 0),
        (Update(["a"], b"\xc1"), 0),
        (Update(["a", "a"]), 1),
        (Delete(["a", "a"]), 1),
        (AlterFields(drop=("nope",)), -1),
        (AlterFields(add=(FieldSpec("n", FieldType.KEYWORD),)), -1),
        (AlterFields(add=(FieldSpec("@author", FieldType.KEYWORD),)), -1),
    ],
)
def test_invalid_mutations_change_nothing(shard: Shard, mutation: Any, position: int) -> None:
    """What a mutation gets wrong is a failure with its position, and the rest of it is not applied either."""
    shard.upsert(["kept"], ONE)
    before = shard.content_hash()
    result = apply(shard, mutation)
    assert (result.count, codes(result)) == (0, [(position, "invalid")])
    assert (shard.count(), shard.content_hash(), shard.applied_index) == (1, before, 2)


def test_garbage_is_a_result(shard: Shard) -> None:
    """Bytes that are no mutation are passed over like any refused one: the log goes on."""
    results = shard.apply([(3, b"\x01\x01"), (7, encode(Upsert(["a"], ONE)))])
    assert [(result.index, result.count) for result in results] == [(3, 0), (7, 1)]
    assert codes(results[0]) == [(-1, "invalid")]
    assert shard.get(["a"])[0].version == 7


def test_huge_finite_vectors_are_fine(shard: Shard) -> None:
    """A row whose sum overflows is finite all the same."""
    assert apply(shard, Upsert(["a"], np.full((1, 2), 3e38, np.float32))).count == 1


def test_conditions(shard: Shard) -> None:
    """All conditions hold or nothing is applied; every one that fails is named."""
    assert apply(shard, Upsert(["a", "b"], TWO, if_versions=[0, None])).count == 2
    result = apply(shard, Upsert(["a", "b", "c"], np.ones((3, 2), np.float32), if_versions=[0, 9, 0]))
    assert codes(result) == [(0, "aborted"), (1, "aborted")]
    assert shard.get(["c"]) == []
    assert codes(apply(shard, Delete(["a"], [5]))) == [(0, "aborted")]
    assert codes(apply(shard, Delete(["gone"], [5]))) == [(0, "aborted")]
    assert codes(apply(shard, Update(["a"], if_versions=[2]))) == [(0, "aborted")]
    assert apply(shard, Update(["a"], if_versions=[1])).count == 1
    assert apply(shard, Delete(["a"], [6])).count == 1


def test_log_order(shard: Shard) -> None:
    """Indexes rise within a call; what is applied already is skipped, never evaluated again."""
    entry = encode(Upsert(["a"], ONE))
    for bad in ([(2, entry), (2, entry)], [(2, entry), (1, entry)], [(0, entry)], [(2**63, entry)]):
        with pytest.raises(ValueError, match="log indexes"):
            shard.apply(bad)
    assert len(shard.apply([(5, entry)])) == 1
    assert shard.apply([]) == shard.apply([(4, b"garbage"), (5, b"garbage")]) == []
    assert [result.index for result in shard.apply([(5, b"garbage"), (6, entry)])] == [6]


def test_what_sqlite_would_refuse_is_a_failure(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutations beyond what a row of SQLite's holds are refused by a rule of ours, and the shard goes on."""
    row = shard._core.store.writer.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
    assert row * 0.9 > apply_module.MAX_VECTOR_BYTES
    assert row * 0.9 > apply_module.MAX_DOCUMENT_BYTES + MAX_ID_BYTES
    apply(shard, Upsert(["a", "b"], TWO, texts=[None, "x" * 90]))
    before = shard.content_hash()
    monkeypatch.setattr(apply_module, "MAX_VECTOR_BYTES", 8)
    monkeypatch.setattr(apply_module, "MAX_DOCUMENT_BYTES", 100)
    payload = msgpack.packb({"n": 1})
    assert codes(apply(shard, Upsert(["c", "d"], TWO))) == [(-1, "invalid")]
    assert codes(apply(shard, Update(["a", "b"], payload))) == [(-1, "invalid")]
    for large in (
        Upsert(["c"], ONE, texts=["\u20ac" * 34]),
        Upsert(["c"], ONE, [msgpack.packb({"x": "x" * 97})]),
        Upsert(["c"], ONE, sources=[b"s" * 100]),
        Upsert(["c"], ONE, author="a" * 100),
    ):
        assert codes(apply(shard, large)) == [(0, "invalid")]
    assert codes(apply(shard, Update(["gone", "b"], payload, author="a" * 9))) == [(1, "invalid")]
    assert shard.content_hash() == before
    assert not apply(shard, Update(["b"], payload, author="a" * 6)).failures
    assert not apply(shard, Upsert(["c"], ONE, texts=["x" * 99])).failures


def test_updates_keep_what_they_do_not_name(shard: Shard) -> None:
    """Vector, text and source stay, to the bit; keys are set whole, and removed after."""
    source, text = msgpack.packb({"uri": "u"}), "text"
    vector = np.array([[0.1, -0.0]], np.float32)
    stamp = msgpack.Timestamp(5, 123456789)
    payload = msgpack.packb({"n": 1, "map": {"a": 1, "b": 2}, "when": stamp})
    apply(shard, Upsert(["a"], vector, [payload], [text], "ann", 1, [source]))
    apply(
        shard,
        Update(["a"], msgpack.packb({"map": {"c": None}, "x": 1}), ["x"], author="bob", written_at_ms=2),
    )
    (row,) = shard.get(["a"], vector=True)
    assert row.vector is not None
    assert (row.vector.tobytes(), row.text, row.source) == (vector.tobytes(), text, source)
    assert (row.version, row.author, row.written_at_ms) == (2, "bob", 2)
    assert msgpack.unpackb(row.payload, timestamp=0) == {"n": 1, "map": {"c": None}, "when": stamp}
    apply(shard, Update(["a"], msgpack.packb({"y": 2}), replace=True))
    assert msgpack.unpackb(shard.get(["a"])[0].payload) == {"y": 2}


def test_updates_do_not_grow_a_payload_without_end(shard: Shard) -> None:
    """One that would pass the format's limit is refused whole; a larger payload may still shrink."""
    half = "x" * (MAX_PAYLOAD_BYTES // 2)
    payloads = [msgpack.packb({}), msgpack.packb({"a": half}), msgpack.packb({"a": half, "b": half, "c": 1})]
    apply(shard, Upsert(["small", "half", "over"], np.ones((3, 2), np.float32), payloads))
    state = shard.content_hash
    grown = apply(shard, Update(["small", "half"], msgpack.packb({"b": half})))
    assert codes(grown) == [(1, "invalid")]
    assert str(MAX_PAYLOAD_BYTES) in grown.failures[0].message
    assert shard.content_hash == state
    assert codes(apply(shard, Update(["over"], msgpack.packb({"d": 1})))) == [(0, "invalid")]
    # The headers of the map, two keys and two long strings take 15 bytes beside the strings.
    exact = msgpack.packb({"b": half[:-15]})
    assert not apply(shard, Update(["half"], exact)).failures
    assert len(shard.get(["half"])[0].payload) == MAX_PAYLOAD_BYTES
    assert codes(apply(shard, Update(["half"], msgpack.packb({"b": half[:-14]})))) == [(0, "invalid")]
    assert not apply(shard, Update(["over"], b"\x80", ["c"])).failures


def test_an_entry_sees_those_before_it(shard: Shard) -> None:
    """Entries of one call act on each other as if applied one by one."""
    steps = [
        Upsert(["a", "b"], TWO, [msgpack.packb({"n": 1})] * 2),
        Update(["b"], msgpack.packb({"n": 2}), if_versions=[1]),
        Delete(["a"]),
        Upsert(["a"], ONE, if_versions=[0]),
    ]
    results = shard.apply([(index, encode(step)) for index, step in enumerate(steps, 1)])
    assert [(result.count, result.failures) for result in results] == [(2, ()), (1, ()), (1, ()), (1, ())]
    rows = shard.get(["a", "b"], vector=True)
    assert [row.version for row in rows] == [4, 2]
    assert np.array_equal(np.stack([row.vector for row in rows]), [ONE[0], TWO[1]])
    assert shard.search(TWO[1], 1).docnos.tolist() == [rows[1].docno]
    assert shard.count(Eq("n", 2)) == 1


def test_fields_change_online(shard: Shard) -> None:
    """A field declared later answers for the documents there are; dropped, the scan answers the same."""
    payloads = [msgpack.packb({"tag": "x"}), msgpack.packb({"tag": "y"})]
    apply(shard, Upsert(["a", "b"], TWO, payloads))
    spec = FieldSpec("tag", FieldType.KEYWORD)
    explain = {}
    for mutation, by_index in ((AlterFields(add=(spec,)), True), (AlterFields(drop=("tag",)), False)):
        assert not apply(shard, mutation).failures
        found = shard.search(TWO, 2, filter=Eq("tag", "y"), explain=True)
        assert [row.id for row in shard.fetch(found.docnos) if row] == ["b", "b"]
        explain[by_index] = found.explain["filter_by_index"]
    assert explain == {True: True, False: False}


# --- retries


def test_a_retry_gets_the_first_result(shard: Shard) -> None:
    """The same session and sequence, wherever it comes again, changes nothing and answers the same."""
    first = apply(shard, Upsert(["a"], ONE, session=b"s", sequence=1))
    apply(shard, Delete(["a"], session=b"s", sequence=2))
    assert apply(shard, Upsert(["a"], ONE, session=b"s", sequence=1)) == first
    assert shard.count() == 0
    refused = apply(shard, Delete(["a"], [9], session=b"s", sequence=3))
    assert apply(shard, Delete(["a"], [9], session=b"s", sequence=3)) == refused
    assert apply(shard, Upsert(["a"], ONE, session=b"t", sequence=1)).count == 1


def test_the_window_is_bounded_by_log_order(tmp_path: Path) -> None:
    """Past the window a retry is refused as expired, a new sequence is not; restarts change nothing."""
    path = tmp_path / "shard"
    with Shard.create(path, Schema(2, "l2"), STILL) as shard:
        apply(shard, Upsert(["a"], ONE, session=b"s", sequence=5))
        shard.apply([(100_000, encode(Delete(["x"])))])
        assert codes(apply(shard, Upsert(["a"], ONE, session=b"s", sequence=5))) == [(-1, "expired")]
    with Shard.open(path, STILL) as shard:
        assert codes(apply(shard, Upsert(["a"], ONE, session=b"s", sequence=4))) == [(-1, "expired")]
        assert apply(shard, Upsert(["a"], ONE, session=b"s", sequence=6)).count == 1


def test_a_snapshot_answers_retries_as_its_shard_would(tmp_path: Path) -> None:
    """A replica that was brought up by a snapshot applies nothing twice that came before it."""
    with Shard.create(tmp_path / "shard", Schema(2, "l2"), STILL) as shard:
        first = apply(shard, Upsert(["a"], ONE, session=b"s", sequence=1))
        apply(shard, Delete(["a"], session=b"s", sequence=2))
        shard.snapshot(tmp_path / "copy")
    with Shard.open(tmp_path / "copy", STILL) as copy:
        assert apply(copy, Upsert(["a"], ONE, session=b"s", sequence=1)) == first
        assert copy.count() == 0


def test_what_is_remembered_does_not_depend_on_batches(tmp_path: Path) -> None:
    """Replicas that group entries differently answer the same retries alike."""
    log = [
        (1, encode(Upsert(["a"], ONE, session=b"s", sequence=1))),
        (100_000, encode(Upsert(["a"], ONE, session=b"s", sequence=1))),
        (100_001, encode(Upsert(["b"], ONE, session=b"s", sequence=1))),
        (100_002, encode(Upsert(["b"], ONE, session=b"s", sequence=2))),
    ]
    answers = []
    for name, groups in (("a", [log]), ("b", [[entry] for entry in log]), ("c", [log[:3], log[3:]])):
        with Shard.create(tmp_path / name, Schema(2, "l2"), STILL) as shard:
            answers.append(
                ([result for group in groups for result in shard.apply(group)], shard.content_hash())
            )
    assert answers[0] == answers[1] == answers[2]


def test_old_sessions_are_forgotten(tmp_path: Path) -> None:
    """Floors are kept for the sessions used last; a session with remembered results is never dropped."""
    with (
        Shard.create(tmp_path / "shard", Schema(2, "l2"), STILL) as shard,
        shard._core.store.transaction() as conn,
    ):
        retries = Retries(conn, 0, window=10, sessions=3)
        for index in range(1, 31):
            retries.forget(index)
            retries.remember(b"%d" % index, 1, ApplyResult(index, 0))
        kept = {int(session) for (session,) in conn.execute("SELECT session FROM sessions")}
        assert kept == set(range(21, 31))
        assert retries.recall(b"30", 1) == ApplyResult(30, 0)
        assert retries.recall(b"3", 1) is None
        assert retries.count == count_sessions(conn) == 10


@pytest.mark.parametrize("statement", [EXPIRED, EVICTED])
def test_forgetting_does_not_read_what_is_remembered(shard: Shard, statement: str) -> None:
    """What every entry runs finds its rows by index; read to the end, the memory would slow each write."""
    with shard._core.store.reading() as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", (1,))]
    assert not [step for step in plan if "SCAN retries" in step]
    assert "SEARCH" in plan[0]


def test_sessions_are_counted_with_their_transaction(tmp_path: Path) -> None:
    """The number of sessions follows commits only, and is found again at opening."""
    path = tmp_path / "shard"
    with Shard.create(path, Schema(2, "l2"), STILL) as shard:
        shard.apply([(at, encode(Delete(["x"], session=b"%d" % at, sequence=1))) for at in range(1, 4)])
        with pytest.raises(UnknownMutation):
            shard.apply([(4, encode(Delete(["x"], session=b"new", sequence=1))), (5, b"\xff" * 8)])
        assert shard._core._sessions == 3
    with Shard.open(path, STILL) as shard:
        apply(shard, Delete(["x"], session=b"1", sequence=2))
        assert shard._core._sessions == 3


# --- the content hash


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), unique=True))
def test_hash_is_of_the_multiset(order: list[int], gone: list[int]) -> None:
    """Digests in any order, with any of them taken away again, give the hash of those that stay."""
    digests = [document_digest(b"%d" % at, at, b"v", b"p", None) for at in range(6)]
    left, right = MultisetHash(), MultisetHash()
    for at in order:
        left.add(digests[at])
    for at in gone:
        left.subtract(digests[at])
    for at in sorted(set(range(6)) - set(gone)):
        right.add(digests[at])
    assert left.digest() == right.digest() == MultisetHash(left.digest()).digest()


def test_digest_depends_on_every_part() -> None:
    """No part can change, nor bytes move from one to the next, without another digest."""
    parts = [
        (b"id", 1, b"vec", b"pay", b"text"),
        (b"ie", 1, b"vec", b"pay", b"text"),
        (b"id", 2, b"vec", b"pay", b"text"),
        (b"id", 1, b"vex", b"pay", b"text"),
        (b"id", 1, b"vec", b"pax", b"text"),
        (b"id", 1, b"vec", b"pay", b"texu"),
        (b"id", 1, b"vec", b"pay", None),
        (b"id", 1, b"vec", b"pay", b""),
        (b"idv", 1, b"ec", b"pay", b"text"),
        (b"id", 1, b"vecp", b"ay", b"text"),
        (b"id", 1, b"vec", b"payt", b"ext"),
    ]
    assert len({document_digest(*item) for item in parts}) == len(parts)


def test_hash_does_not_depend_on_layout(tmp_path: Path) -> None:
    """Shards that sealed, merged and rebuilt at different times agree; one more write, and they do not."""
    random = np.random.default_rng(3)
    log = []
    for index in range(1, 80):
        ids = [f"d{number}" for number in random.choice(50, 5, replace=False)]
        vectors = random.standard_normal((5, 2)).astype(np.float32)
        log.append((index, encode(Upsert(ids, vectors) if index % 4 else Delete(ids))))
    hashes = []
    for name, options, step in (("a", STILL, 79), ("b", TINY, 1), ("c", ShardOptions(seal_rows=20), 7)):
        with Shard.create(tmp_path / name, Schema(2, "cosine"), options) as shard:
            for start in range(0, len(log), step):
                shard.apply(log[start : start + step])
            if options is TINY:
                assert shard.wait_indexed(30)
            hashes.append(shard.content_hash())
            if name == "c":
                shard.delete([shard.scroll(None, 1)[0].id])
                assert shard.content_hash() not in hashes
    assert hashes[0] == hashes[1] == hashes[2]


# --- without a server


def test_embedded_writes(shard: Shard) -> None:
    """Writes without a log take the next index, and refusals raise with the result."""
    assert shard.upsert(["a", "b"], TWO, [{"n": 1}, {"n": 2}], ["t", None]) == 1
    assert shard.update(["a", "nope"], {"n": 2}, remove_keys=["m"]) == 1
    assert shard.delete(filter=Eq("n", 2)) == 2
    assert shard.delete(["a"]) == shard.delete([]) == shard.delete(filter=Eq("n", 2)) == 0
    with pytest.raises(WriteRefused) as caught:
        shard.upsert(["a"], ONE, if_versions=[4])
    assert codes(caught.value.result) == [(0, "aborted")]
    with pytest.raises(ValueError, match="ids or a filter"):
        shard.delete()
