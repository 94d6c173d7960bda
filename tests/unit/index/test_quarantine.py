"""Documents of quarantined authors: in no answer, and there as ever once their author is released."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from vecdb_index import Delete, FieldSpec, FieldType, Quarantine, Schema, Shard, ShardOptions, Upsert, encode
from vecdb_index.filters import Eq, In, Not

DIM = 8
AUTHORS = ("ann", "bob", "eve")
SCHEMA = Schema(dim=DIM, metric="l2", fields=(FieldSpec("n", FieldType.INT),))


def options(quarantine: Quarantine, seal_rows: int = 64) -> ShardOptions:
    """Small segments, indexed at once."""
    return ShardOptions(
        seal_rows=seal_rows,
        rest_rows=8,
        rest_seconds=0.01,
        flat_rows=32,
        threads=1,
        scrub=False,
        quarantine=quarantine,
    )


def vector(n: int) -> np.ndarray:
    return np.full(DIM, float(n), dtype=np.float32)


class Writer:
    """Writes to a shard, and knows who wrote what."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.authors: dict[int, str] = {}

    def upsert(self, numbers: list[int], author: str) -> None:
        packed = [b"\x81\xa1n" + n.to_bytes(1, "big") for n in numbers]
        vectors = np.stack([vector(n) for n in numbers])
        ids = [f"{n:03}" for n in numbers]
        self._apply(encode(Upsert(ids, vectors, packed, ["text"] * len(ids), author, 1)))
        self.authors.update(dict.fromkeys(numbers, author))

    def delete(self, numbers: list[int]) -> None:
        self._apply(encode(Delete([f"{n:03}" for n in numbers])))
        for n in numbers:
            self.authors.pop(n, None)

    def _apply(self, data: bytes) -> None:
        (result,) = self.shard.apply([(self.shard.applied_index + 1, data)])
        assert not result.failures

    def shown(self, hidden: frozenset[str]) -> list[str]:
        return [f"{n:03}" for n, author in sorted(self.authors.items()) if author not in hidden]


def check(shard: Shard, writer: Writer, hidden: frozenset[str]) -> None:
    """Every way to read tells the same: the documents of the others."""
    shown = writer.shown(hidden)
    everything = writer.shown(frozenset())
    assert [row.id for row in shard.scroll(None, 1000)] == shown
    assert [row.id for row in shard.scroll(None, 1000, vector=True)] == shown
    assert [row.id for row in shard.scroll(None, 1000, hidden=True)] == everything
    assert shard.count() == len(shown)
    assert [row.id for row in shard.get(everything)] == shown
    assert [row.id for row in shard.get(everything, vector=True)] == shown
    assert [row.id for row in shard.get(everything, hidden=True)] == everything
    for exact in (True, False):
        answer = shard.search(vector(0), 200, exact=exact)
        found = [row.id for row in shard.fetch(answer.docnos) if row is not None]
        assert found == shown, "the nearest to zero are in the order of their numbers"
    with shard.moment() as moment:
        answer = moment.search(vector(0), 200)
        assert [row.id for row in moment.fetch(answer.docnos) if row is not None] == shown
    for where in (Eq("n", 7), Not(Eq("n", 7)), In("@author", ("eve", "bob"))):
        matches = shard.matching_ids(where, 1000)
        assert {id_ for id_, _ in matches} <= set(shown)
        assert len(matches) == shard.count(where) == len(shard.search(vector(0), 200, filter=where).docnos)
        assert len(shard.matching_ids(where, 1000, hidden=True)) >= len(matches)
    assert shard.stats().documents == len(everything), "what is stored is no secret to operators"


@pytest.mark.parametrize("seed", range(2))
def test_no_answer_has_documents_of_the_quarantined(tmp_path: Path, seed: int) -> None:
    """Whatever is written, sealed, merged, deleted or reopened meanwhile, by whom ever, each read shows
    exactly the documents of those who are not quarantined at that moment."""
    draw = random.Random(seed)
    quarantine = Quarantine()
    shard = Shard.create(tmp_path / "s", SCHEMA, options(quarantine))
    writer = Writer(shard)
    for _ in range(25):
        match draw.randrange(6):
            case 0:
                some = [name for name in AUTHORS if draw.random() < 0.4]
                quarantine.authors = frozenset(some)
            case 1:
                writer.delete(draw.sample(range(120), 8))
            case 2 if draw.random() < 0.3:
                shard.close()
                shard = writer.shard = Shard.open(tmp_path / "s", options(quarantine))
            case 3 if draw.random() < 0.3:
                assert shard.wait_indexed(20)
            case _:
                writer.upsert(draw.sample(range(120), draw.randrange(1, 24)), draw.choice(AUTHORS))
        check(shard, writer, quarantine.authors)
    held = shard.content_hash()
    quarantine.authors = frozenset(AUTHORS)
    check(shard, writer, quarantine.authors)
    assert shard.content_hash() == held
    quarantine.authors = frozenset()
    check(shard, writer, quarantine.authors)
    shard.close()


def test_merging_keeps_what_is_hidden(tmp_path: Path) -> None:
    """Segments that are sealed and merged while an author is quarantined have all of its documents
    afterwards, and its hidden documents are no tombstones to the builder."""
    quarantine = Quarantine(["eve"])
    with Shard.create(tmp_path / "s", SCHEMA, options(quarantine, seal_rows=16)) as shard:
        writer = Writer(shard)
        for n in range(0, 120, 4):
            writer.upsert([n, n + 1], "eve")
            writer.upsert([n + 2, n + 3], "ann")
        assert shard.wait_indexed(30)
        assert sum(segment.tombstones for segment in shard.stats().segments) == 0
        check(shard, writer, frozenset({"eve"}))
        quarantine.authors = frozenset()
        check(shard, writer, frozenset())
        shard.verify()


def test_a_moment_shows_what_it_showed(tmp_path: Path) -> None:
    """What is quarantined or released while a moment is held changes nothing in it: its searches and fetches
    go on to agree."""
    quarantine = Quarantine(["eve"])
    with Shard.create(tmp_path / "s", SCHEMA, options(quarantine)) as shard:
        writer = Writer(shard)
        writer.upsert([0, 1], "eve")
        writer.upsert([2, 3], "ann")
        with shard.moment() as moment:
            before = moment.search(vector(0), 10).docnos.tolist()
            quarantine.authors = frozenset({"ann"})
            writer.upsert([4], "eve")
            assert shard.count() == 3
            assert moment.search(vector(0), 10).docnos.tolist() == before
            assert [row.id for row in moment.fetch(before) if row] == ["002", "003"]


def test_a_shard_made_before_there_was_an_index_of_authors(tmp_path: Path) -> None:
    """It opens, and hides as well."""
    with Shard.create(tmp_path / "s", SCHEMA, options(Quarantine())) as shard:
        Writer(shard).upsert([0, 1], "eve")
        Writer(shard).upsert([2], "ann")
    with sqlite3.connect(tmp_path / "s" / "shard.db") as connection:
        connection.execute("DROP INDEX docs_author")
    connection.close()
    with Shard.open(tmp_path / "s", options(Quarantine(["eve"]))) as shard:
        assert [row.id for row in shard.scroll(None, 10)] == ["002"]
