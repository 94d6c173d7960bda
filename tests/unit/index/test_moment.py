"""A moment of a shard: what is found in it is there to be read, whatever is written meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shards import STILL
from vecdb_index import FieldSpec, FieldType, Schema, Searcher, Shard, documents, searcher
from vecdb_index.filters import And, Eq, Exists, Filter, Not

IDS = [f"d{at:03}" for at in range(300)]
VECTORS = np.random.default_rng(7).standard_normal((len(IDS), 4)).astype(np.float32)
PAYLOADS = [{"n": at % 3, "loose": at % 3} for at in range(len(IDS))]
FILTERS: list[Filter | None] = [None, Eq("n", 1), Not(Eq("n", 1)), Eq("loose", 1), Not(Eq("loose", 1))]


@pytest.fixture
def shard(tmp_path: Path) -> Any:
    fields = (FieldSpec("n", FieldType.INT),)
    with Shard.create(tmp_path / "shard", Schema(4, "l2", fields=fields), STILL) as shard:
        shard.upsert(IDS, VECTORS, PAYLOADS)
        yield shard


def rewrite(shard: Shard) -> None:
    """Every document again, with another vector and another payload."""
    shard.upsert(IDS, VECTORS[::-1].copy(), [{"n": (at + 1) % 3, "loose": 7} for at in range(len(IDS))])


def found_by(asked: Searcher, where: Filter | None) -> list[tuple[str, dict[str, Any] | bytes, bytes]]:
    """Everything that a search finds: id, payload and vector, nearest first."""
    docnos = asked.search(VECTORS[0], len(IDS), filter=where, exact=True).docnos
    rows = asked.fetch(docnos, vector=True)
    assert None not in [row if row is None else row.id for row in rows]
    return [(row.id, row.payload, row.vector.tobytes()) for row in rows if row and row.vector is not None]


@pytest.mark.parametrize("where", FILTERS)
@pytest.mark.parametrize("asked_before", [True, False])
@pytest.mark.parametrize("change", [rewrite, lambda shard: shard.delete(IDS[50:])])
def test_a_moment_stays(
    shard: Shard, where: Filter | None, asked_before: bool, change: Callable[[Shard], Any]
) -> None:
    """Searches and fetches of a moment answer as the shard did then, whether or not it knew the filter."""
    before = found_by(shard, where)
    copy = shard.path.parent / "copy"
    shard.snapshot(copy)
    with Shard.open(copy, STILL) as again:
        if asked_before:
            again.count(Eq("n", 0))  # loads the index of the field
        with again.moment() as moment:
            change(again)
            assert found_by(moment, where) == before
            assert found_by(again, where) != before
            assert found_by(moment, where) == before


def test_a_field_index_that_forgot_the_dead(shard: Shard) -> None:
    """Documents that died since the moment are found by their field also once its index has dropped them."""
    shard._core.indexes._reap_at_least = 1
    before = {where: found_by(shard, where) for where in FILTERS}
    with shard.moment() as moment:
        for _ in range(3):
            rewrite(shard)
        assert {where: found_by(moment, where) for where in FILTERS} == before


@pytest.mark.parametrize("name", ["matches", "indexed_matches"])
def test_documents_that_die_while_a_filter_is_evaluated(
    shard: Shard, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts, scrolls and searches are of one moment, however much is written while they are made."""
    shard._core.indexes._reap_at_least = 1
    plain = getattr(documents, name)
    again: list[int] = []

    def overtaken(*given: Any) -> Any:
        while again and again.pop():
            shard.upsert(IDS, VECTORS, PAYLOADS)
        return plain(*given)

    monkeypatch.setattr(documents, name, overtaken)
    for where in (Eq("n", 1), Not(Eq("n", 1)), Not(Exists("n")), And((Eq("n", 1), Eq("loose", 1)))):
        right = shard.count(where)
        for _ in range(2):
            again[:] = [0, 1, 1, 1]
            assert shard.count(where) == right
            again[:] = [0, 1, 1, 1]
            assert len(shard.scroll(None, len(IDS), where)) == right
            again[:] = [0, 1, 1, 1]
            assert shard.search(VECTORS[0], len(IDS), filter=where).counts.tolist() == [right]


def test_a_fetch_is_overtaken_outside_of_a_moment(shard: Shard) -> None:
    """Whoever searches and fetches without one is told which documents are no longer as they were found."""
    docnos = shard.search(VECTORS[0], 5).docnos
    shard.upsert([IDS[0]], VECTORS[:1])
    rows = shard.fetch(docnos)
    assert [row is None for row in rows] == [True] + [False] * 4


def test_a_tie_is_broken_whatever_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal hits come in the order of their ids, also where one is written again before its id is read."""
    ids = [f"d{at}" for at in range(20)]
    with Shard.create(tmp_path / "shard", Schema(2, "l2"), replace(STILL, threads=1)) as shard:
        shard.upsert(ids[::-1], np.ones((20, 2), np.float32))
        plain = searcher.search.run_on
        overtaken = []

        def run_on(*given: Any) -> Any:
            if not overtaken:
                overtaken.append(shard.upsert(ids[:1], np.ones((1, 2), np.float32)))
            return plain(*given)

        monkeypatch.setattr(searcher.search, "run_on", run_on)
        with shard.moment() as moment:
            found = shard.search(np.ones(2, np.float32), 3)
            assert overtaken
            assert [row.id for row in shard.fetch(found.docnos) if row] == sorted(ids)[:3]
            assert len(moment.fetch(moment.search(np.ones(2, np.float32), 20).docnos)) == 20
