"""The shard against a plain model, through any history of writes, restarts, crashes and rearrangements."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import bm25
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from shards import TINY, Document, Model, crash_copy, ids_of, pack
from vecdb_index import AlterFields, Delete, FieldSpec, FieldType, Schema, Shard, Update, Upsert, encode
from vecdb_index.filters import And, Eq, Not, Range

DIM = 3
KINDS = [("flat", "f32"), *itertools.product(("hnsw", "ivf"), ("f32", "f16", "sq8", "rabitq"))]
IDS = [f"id-{number:02d}" for number in range(24)] + ["é", "zz", "Z"]

# Small whole numbers: sums and products are exact in float32, so scores are equal to the bit and ties abound.
NUMBERS = st.integers(-3, 3)
VECTORS = st.lists(NUMBERS, min_size=DIM, max_size=DIM).map(lambda row: np.array(row, dtype=np.float32))
PAYLOADS = st.fixed_dictionaries({"n": st.integers(0, 4)}, optional={"tag": st.sampled_from(["a", "b"])})
SOME_IDS = st.lists(st.sampled_from(IDS), min_size=1, max_size=12, unique=True)
TEXTS = st.none() | st.lists(st.sampled_from(bm25.WORDS), max_size=8).map(" ".join)
PARTS = st.lists(st.lists(st.sampled_from(bm25.WORDS), min_size=1, max_size=2).map(tuple), max_size=2).map(
    tuple
)
QUERIES = st.builds(bm25.Asked, should=PARTS) | st.builds(bm25.Asked, PARTS, PARTS, PARTS)
FILTERS: list[tuple[Any, Any]] = [
    (Eq("n", 2), lambda p: p.get("n") == 2),
    (Not(Eq("tag", "a")), lambda p: p.get("tag") != "a"),
    (And((Range("n", gte=1), Eq("tag", "b"))), lambda p: p.get("n", 0) >= 1 and p.get("tag") == "b"),
]


class ShardAgainstModel(RuleBasedStateMachine):
    """Every answer of the shard is the model's, whatever happened before."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="vecdb-model-"))
        self.numbers = itertools.count()
        self.log: list[tuple[int, bytes]] = []

    @initialize(metric=st.sampled_from(["l2", "dot"]), kind=st.sampled_from(KINDS))
    def begin(self, metric: Any, kind: Any) -> None:
        self.model = Model(metric)
        index, storage = kind
        self.schema = Schema(DIM, metric, index, fields=(FieldSpec("n", FieldType.INT),), storage=storage)
        self.shard = Shard.create(self._fresh(), self.schema, TINY)

    def _fresh(self) -> Path:
        return self.root / str(next(self.numbers))

    def _apply(self, mutation: Any) -> Any:
        index = (self.log[-1][0] if self.log else 0) + 1 + len(self.log) % 3  # gaps are fine
        self.log.append((index, encode(mutation)))
        (result,) = self.shard.apply([self.log[-1]])
        assert result.index == index
        return result

    def teardown(self) -> None:
        if hasattr(self, "shard"):
            self.shard.close()
        shutil.rmtree(self.root)

    # --- writes

    @rule(ids=SOME_IDS, data=st.data(), author=st.sampled_from(["ann", "bob"]))
    def upsert(self, ids: list[str], data: Any, author: str) -> None:
        vectors = np.array([data.draw(VECTORS) for _ in ids])
        payloads = [data.draw(PAYLOADS) for _ in ids]
        texts = [data.draw(TEXTS) for _ in ids]
        result = self._apply(Upsert(ids, vectors, [pack(item) for item in payloads], texts, author))
        assert result.count == len(ids)
        for id_, vector, payload, text in zip(ids, vectors, payloads, texts, strict=True):
            self.model.documents[id_] = Document(result.index, vector, payload, text, author)

    @rule(ids=SOME_IDS, vector=VECTORS, right=st.booleans())
    def upsert_on_condition(self, ids: list[str], vector: np.ndarray, right: bool) -> None:
        there = [self.model.documents[id_].version if id_ in self.model.documents else 0 for id_ in ids]
        if not right:
            there[0] += 1
        result = self._apply(Upsert(ids, np.tile(vector, (len(ids), 1)), if_versions=there))
        if not right:
            assert (result.count, [(item.position, item.code) for item in result.failures]) == (
                0,
                [(0, "aborted")],
            )
            return
        for id_ in ids:
            self.model.documents[id_] = Document(result.index, vector, {}, None, "")

    @rule(ids=SOME_IDS, change=PAYLOADS, replace=st.booleans(), remove=st.booleans())
    def update(self, ids: list[str], change: dict[str, Any], replace: bool, remove: bool) -> None:
        result = self._apply(Update(ids, pack(change), ["tag"] if remove else [], replace, "eve"))
        missing = [at for at, id_ in enumerate(ids) if id_ not in self.model.documents]
        assert [(item.position, item.code) for item in result.failures] == [
            (at, "not_found") for at in missing
        ]
        for id_ in ids:
            if id_ in self.model.documents:
                old = self.model.documents[id_]
                payload = dict(change) if replace else {**old.payload, **change}
                if remove:
                    payload.pop("tag", None)
                self.model.documents[id_] = Document(result.index, old.vector, payload, old.text, "eve")

    @rule(ids=SOME_IDS)
    def delete(self, ids: list[str]) -> None:
        result = self._apply(Delete(ids))
        assert result.count == sum(self.model.documents.pop(id_, None) is not None for id_ in ids)

    @rule()
    def alter_fields(self) -> None:
        declared = any(spec.name == "tag" for spec in self.shard.schema.fields)
        spec = FieldSpec("tag", FieldType.KEYWORD)
        result = self._apply(AlterFields(drop=("tag",)) if declared else AlterFields(add=(spec,)))
        assert not result.failures
        assert (spec in self.shard.schema.fields) is not declared

    # --- what must change nothing

    @rule()
    def restart(self) -> None:
        path = self.shard.path
        self.shard.close()
        self.shard = Shard.open(path, TINY)

    @rule()
    def crash(self) -> None:
        copied = crash_copy(self.shard, self._fresh())
        self.shard.close()
        self.shard = Shard.open(copied, TINY)
        self.shard.apply(self.log)

    @rule()
    def settle(self) -> None:
        assert self.shard.wait_indexed(30)
        stats = self.shard.stats()
        assert stats.unindexed_rows == 0
        assert len(stats.segments) <= TINY.max_segments

    @rule()
    def checkpoint(self) -> None:
        assert self.shard.checkpoint() == self.shard.applied_index

    @precondition(lambda self: self.log)
    @rule()
    def apply_again(self) -> None:
        assert self.shard.apply(self.log[-3:]) == []

    # --- answers

    @rule(query=VECTORS, k=st.integers(1, 30), exact=st.booleans())
    def search(self, query: np.ndarray, k: int, exact: bool) -> None:
        found = self.shard.search(query, k, exact=exact)
        wanted = self.model.nearest(query, k)
        assert found.counts.tolist() == [len(wanted)]
        got = list(zip(ids_of(self.shard, found.docnos), found.scores.tolist(), strict=True))
        if exact:
            assert got == wanted
        else:
            scores = self.model.scores(query)
            assert all(scores[id_] == score for id_, score in got)
            assert len(dict(got)) == len(got)

    @rule(query=VECTORS, k=st.integers(1, 8), which=st.integers(0, len(FILTERS) - 1))
    def search_filtered(self, query: np.ndarray, k: int, which: int) -> None:
        where, holds = FILTERS[which]
        ids = [id_ for id_, document in self.model.documents.items() if holds(document.payload)]
        found = self.shard.search(np.stack([query, -query]), k, filter=where, exact=True)
        wanted = [self.model.nearest(point, k, ids) for point in (query, -query)]
        assert found.counts.tolist() == [len(hits) for hits in wanted]
        got = list(zip(ids_of(self.shard, found.docnos), found.scores.tolist(), strict=True))
        assert got == wanted[0] + wanted[1]
        assert self.shard.count(where) == len(ids)
        versions = [(id_, self.model.documents[id_].version) for id_ in sorted(ids)]
        assert self.shard.matching_ids(where, 5) == versions[:5]

    @rule(asked=QUERIES, k=st.integers(1, 12), which=st.none() | st.integers(0, len(FILTERS) - 1))
    def search_words(self, asked: bm25.Asked, k: int, which: int | None) -> None:
        among = {id_: document.text for id_, document in self.model.documents.items()}
        where, holds = (None, None) if which is None else FILTERS[which]
        texts = {id_: text for id_, text in among.items() if holds is None or holds(self._payload(id_))}
        found = self.shard.search_words(asked.text, k, filter=where)
        got = list(zip(ids_of(self.shard, found.docnos), found.scores.tolist(), strict=True))
        bm25.assert_best(got, bm25.scores(texts, asked, among), k)

    def _payload(self, id_: str) -> dict[str, Any]:
        return self.model.documents[id_].payload

    @rule(after=st.none() | st.sampled_from(IDS), limit=st.integers(1, 10))
    def scroll(self, after: str | None, limit: int) -> None:
        rows = self.shard.scroll(after, limit, vector=True)
        wanted = sorted(id_ for id_ in self.model.documents if after is None or id_ > after)[:limit]
        assert [row.id for row in rows] == wanted
        self._check(rows)

    @rule(ids=SOME_IDS)
    def get(self, ids: list[str]) -> None:
        rows = self.shard.get(ids, vector=True)
        assert [row.id for row in rows] == [id_ for id_ in ids if id_ in self.model.documents]
        self._check(rows)

    def _check(self, rows: Any) -> None:
        for row in rows:
            wanted = self.model.documents[row.id]
            assert row.version == wanted.version
            assert row.vector.tobytes() == wanted.vector.tobytes()
            assert (row.payload, row.text, row.author) == (pack(wanted.payload), wanted.text, wanted.author)

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "shard"):
            assert self.shard.count() == len(self.model.documents)

    @rule()
    def same_content_elsewhere(self) -> None:
        """A shard that applied the same log in one go, and never rearranged it, has the same content hash."""
        from shards import STILL

        with Shard.create(self._fresh(), self.schema, STILL) as other:
            other.apply(self.log)
            assert other.content_hash() == self.shard.content_hash()


TestShardAgainstModel = ShardAgainstModel.TestCase
TestShardAgainstModel.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
