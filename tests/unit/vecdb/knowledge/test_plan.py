"""What a second ingest does: nothing twice, and nothing left behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vecdb.knowledge.chunking import ChunkOptions
from vecdb.knowledge.formats import parse
from vecdb.knowledge.ids import MAX_ID_BYTES, chunk_id
from vecdb.knowledge.plan import SourcePlan, StoredChunk, is_current, plan_prune, plan_source, revision_of
from vecdb.knowledge.source import SourceText

UTF8 = st.characters(exclude_categories=["Cs"])
OPTIONS = ChunkOptions(target_tokens=10, max_tokens=14, overlap_sentences=0)
OLD = SourceText("a.txt", "One sentence is here for you. Another one is there for me. " * 4)
NEW = SourceText("a.txt", OLD.text + "A last one was added to them.")


class Collection:
    """The stored chunks of one source, and the steps of a plan, which can stop anywhere."""

    def __init__(self) -> None:
        self.chunks: dict[str, StoredChunk] = {}

    def apply(self, plan: SourcePlan, steps: int = 10**6) -> None:
        for new in plan.upsert[:steps]:
            self.chunks[new.id] = StoredChunk(new.id, new.revision, new.count)
        for gone in plan.delete[: max(0, steps - len(plan.upsert))]:
            del self.chunks[gone]

    def plan(self, source: SourceText, options: ChunkOptions = OPTIONS) -> SourcePlan:
        return plan_source(source, list(self.chunks.values()), options)


def test_a_new_source_is_written_once() -> None:
    """The first ingest writes all chunks; the second has nothing to do."""
    collection = Collection()
    plan = collection.plan(OLD)
    assert [new.ordinal for new in plan.upsert] == list(range(plan.upsert[0].count))
    assert plan.delete == ()
    collection.apply(plan)
    again = collection.plan(OLD)
    assert again.unchanged
    assert again.revision == plan.revision == revision_of(OLD, OPTIONS)


def test_chunks_point_into_the_source() -> None:
    """Each chunk carries what a citation needs."""
    (source,) = parse(
        "a.md",
        b"# Title\n\nOne sentence is here. Another is not.\n\n## Sub\n\nThe end.",
    )
    for new in plan_source(source, [], OPTIONS).upsert:
        assert source.text[new.start : new.end] == new.text
        assert (new.source, new.title, new.metadata, new.page) == ("a.md", "Title", {}, None)
        assert new.section in ("Title", "Title > Sub")
    paged = SourceText("a.pdf", OLD.text, pages=(0, 100), metadata={"pages": 2})
    assert {new.page for new in plan_source(paged, [], OPTIONS).upsert} == {1, 2}


@given(st.integers(0, 30))
def test_an_ingest_that_stops_is_completed_by_the_next(steps: int) -> None:
    """Wherever a change is interrupted, the next plan brings the same state as one that is not."""
    whole, torn = Collection(), Collection()
    for collection in (whole, torn):
        collection.apply(collection.plan(OLD))
    whole.apply(whole.plan(NEW))
    torn.apply(torn.plan(NEW), steps)
    torn.apply(torn.plan(NEW))
    assert torn.chunks == whole.chunks
    assert torn.plan(NEW).unchanged


def test_old_chunks_go_after_new_ones_came() -> None:
    """A change writes every new chunk, deletes exactly the ids that are not among them, and no other."""
    collection = Collection()
    collection.apply(collection.plan(OLD))
    before = set(collection.chunks)
    plan = collection.plan(SourceText("a.txt", "All is different now."))
    assert set(plan.delete) == before
    assert before.isdisjoint(new.id for new in plan.upsert)
    empty = collection.plan(SourceText("a.txt", " "))
    assert empty.upsert == ()
    assert set(empty.delete) == before


def test_other_sizes_are_another_revision() -> None:
    """Cutting in another way, or counting with another model, is a change."""
    collection = Collection()
    collection.apply(collection.plan(OLD))
    assert not collection.plan(OLD, ChunkOptions(12, 14, 0)).unchanged
    assert not collection.plan(OLD, ChunkOptions(10, 15, 0)).unchanged
    assert not collection.plan(OLD, ChunkOptions(10, 14, 1)).unchanged
    assert not plan_source(OLD, list(collection.chunks.values()), OPTIONS, counter="model-x").unchanged
    assert not is_current([], revision_of(OLD, OPTIONS))


def test_prune() -> None:
    """What vanished from the folders and files that were ingested goes, and nothing else."""
    stored = [
        "docs/a.md",
        "docs/sub/b.md",
        "docs2/c.md",
        "x.jsonl#1",
        "x.jsonl#2",
        "bad.jsonl#1",
        "docs/bad.pdf",
        "/abs/d.md",
    ]
    seen = ["docs/a.md", "x.jsonl#2"]
    assert list(plan_prune(stored, seen, ["docs", "x.jsonl"], ["docs/bad.pdf"])) == [
        "docs/sub/b.md",
        "x.jsonl#1",
    ]
    assert list(plan_prune(stored, seen, ["bad.jsonl"], ["bad.jsonl"])) == []
    assert list(plan_prune(stored, stored, [""])) == []
    assert list(plan_prune(stored, seen, [""], ["bad.jsonl", "docs"])) == [
        "docs2/c.md",
        "x.jsonl#1",
        "/abs/d.md",
    ]
    assert list(plan_prune(stored, seen, ["/"])) == list(plan_prune(stored, seen, ["/abs"])) == ["/abs/d.md"]
    assert list(plan_prune(stored, [], [])) == []


@given(st.text(UTF8, min_size=1, max_size=600), st.integers(0, 10**9), st.text(UTF8))
def test_ids(source: str, ordinal: int, text: str) -> None:
    """An id fits a document, is the same each time, and differs with source, number and text."""
    name = chunk_id(source, ordinal, text)
    assert 1 <= len(name.encode()) <= MAX_ID_BYTES
    assert name == chunk_id(source, ordinal, text)
    others = {
        chunk_id(source + "x", ordinal, text),
        chunk_id(source, ordinal + 1, text),
        chunk_id(source, ordinal, text + "x"),
    }
    assert len(others | {name}) == 4


def test_long_sources_stay_apart() -> None:
    """Names that differ only beyond the room of an id have different ids."""
    assert chunk_id("漢" * 300 + "a", 0, "t") != chunk_id("漢" * 300 + "b", 0, "t")
    assert chunk_id("docs/a.md", 3, "t").startswith("docs/a.md#3-")
