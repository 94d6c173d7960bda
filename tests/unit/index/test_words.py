"""Searching by words: exact, through every way in which words are kept, and right for the view it is asked
in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import bm25
import numpy as np
import pytest
from bm25 import Asked
from hypothesis import given
from hypothesis import strategies as st
from shards import STILL, TINY, by_hand, ids_of
from vecdb_index import (
    DeadlineExceeded,
    FieldSpec,
    FieldType,
    Quarantine,
    Schema,
    Shard,
    ShardDamaged,
    Upsert,
    WordStatistics,
    encode,
    parse_words,
    sealed,
)
from vecdb_index.builder import Builder
from vecdb_index.filters import Eq, Range
from vecdb_index.fulltext import merge
from vecdb_index.fulltext.analysis import analyzer
from vecdb_index.fulltext.merge import Source, indexed, merged
from vecdb_index.fulltext.postings import MOST, Postings, in_memory
from vecdb_index.fulltext.query import Leaf
from vecdb_index.fulltext.ranking import Target, ranked
from vecdb_index.sealed import Manifest

DIM = 2


def put(shard: Shard, texts: dict[str, str | None], **options: Any) -> None:
    shard.upsert(list(texts), np.ones((len(texts), DIM), np.float32), texts=list(texts.values()), **options)


def hits(shard: Shard, query: str, k: int = 10, **options: Any) -> list[tuple[str, float]]:
    found = shard.search_words(query, k, **options)
    return list(zip(ids_of(shard, found.docnos), found.scores.tolist(), strict=True))


def found_by(shard: Shard, query: str) -> set[str]:
    return {id_ for id_, _ in hits(shard, query, 100)}


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    with Shard.create(tmp_path / "shard", Schema(DIM), STILL) as made:
        yield made


# --- what a word is


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("The Ponies were RUNNING", "pony"),
        ("a café", "CAFE"),
        ("e\u0301tude", "étude"),
        ("ｆｕｌｌ ｗｉｄｔｈ", "full"),
        ("Straße", "STRASSE"),
        ("snake_case-and.dots", "case"),
        ("東京の猫", "東京"),
        ("東京の猫", "猫"),
        ("ภาษาไทย", "ไทย"),
        ("हिन्दी", "हिन्दी"),
        ("version 3.14", "14"),
        ("don't", "don't"),
        ("x" * 5_000, "X" * 5_000),
    ],
)
def test_words_are_found(shard: Shard, text: str, query: str) -> None:
    """Case, width, accents and endings make no difference, nor does what words are separated by."""
    put(shard, {"a": text, "b": "京東 another"})
    assert found_by(shard, query) == {"a"}


@pytest.mark.parametrize(
    ("language", "text", "query", "there"),
    [
        ("de", "die Häuser", "Haus", True),
        ("en", "die Häuser", "Haus", False),
        ("ja", "running", "run", False),
    ],
)
def test_words_are_stemmed_by_the_language(
    tmp_path: Path, language: str, text: str, query: str, there: bool
) -> None:
    """The schema names the language; without a stemmer for it words stay as they are."""
    with Shard.create(tmp_path / "shard", Schema(DIM, language=language), STILL) as shard:
        put(shard, {"a": text})
        assert bool(hits(shard, query)) is there


def test_a_language_is_two_letters() -> None:
    """Anything else is refused by name."""
    with pytest.raises(ValueError, match="language"):
        Schema(DIM, language="english")


# --- what a query means

TEXTS = {
    "both": "the quick dog and the lazy cat",
    "dog": "dog",
    "cat": "cat naps",
    "far": "dog lazy quick",
    "none": None,
    "empty": "",
}


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("dog cat", "both dog cat far"),
        ("dog OR cat", "both dog cat far"),
        ("dog AND cat", "both"),
        ("+dog cat", "both dog far"),
        ("dog -cat", "dog far"),
        ("dog NOT cat", "dog far"),
        ("dog AND NOT cat", "dog far"),
        ("dog AND (NOT cat)", "dog far"),
        ('"quick dog"', "both"),
        ('"dog quick"', ""),
        ('+"lazy cat" dog', "both"),
        ('dog -"quick dog"', "dog far"),
        ("(dog OR naps) AND NOT lazy", "dog cat"),
        ("quick-dog", "both dog far"),
        ("+quick-dog", "both"),
        ("AND dog AND", "dog both far"),
        ("((dog", "dog both far"),
        ("dog))) cat", "dog cat both far"),
        ('dog "naps', "dog cat both far"),
        ("- dog", "dog both far"),
        ("--dog", "dog both far"),
        ("NOT dog", ""),
        ("-dog", ""),
        ("absent", ""),
        ("+absent dog", ""),
        ('"absent dog"', ""),
        ("", ""),
        ("!?", ""),
        ('"" () + -', ""),
    ],
)
def test_what_a_query_finds(shard: Shard, query: str, ids: str) -> None:
    """Words, phrases and operators; what is open or says nothing does no harm."""
    put(shard, TEXTS)
    assert found_by(shard, query) == set(ids.split())


def test_plain_words_have_no_signs() -> None:
    """A plain query takes the words of its text and nothing else from it."""
    assert parse_words('+a -"b (c" AND', plain=True) == parse_words("a b c and")
    assert parse_words("a").root.should == (Leaf(tuple(analyzer("en").terms("a").tolist())),)


@given(st.text(st.sampled_from('ab+-"() \n\t_.') | st.characters(), max_size=40) | st.text('()-+"a ANDORT'))
def test_any_text_is_a_query(text: str) -> None:
    """Nothing that can be typed is an error, but for parentheses nested too deeply; terms are each once."""
    query = parse_words(text)
    assert list(query.terms) == sorted(set(query.terms))
    assert parse_words(text, "ja", plain=True).plain or analyzer("ja").clauses(text)


def test_nesting_has_a_limit() -> None:
    """As deep as the limit is fine; deeper is an error that says so."""
    assert parse_words("(a -" * 32).terms
    with pytest.raises(ValueError, match="the limit is 32"):
        parse_words("(a -" * 33)


# --- scores


def corpus(count: int, seed: int = 0) -> dict[str, str | None]:
    """Texts whose words are about as frequent as in a language, some of them in nearly every one."""
    random = np.random.default_rng(seed)
    words = np.array([f"w{rank}" for rank in range(400)] + ["dog", "dogs"])
    shares = 1 / np.arange(2, len(words) + 2)
    lengths = random.integers(0, 60, count)
    made = (random.choice(words, length, p=shares / shares.sum()) for length in lengths)
    return {f"d{at:05}": " ".join(row) or None for at, row in enumerate(made)}


LONG = "w0 w0 w1 w2 w3 w5 w8 w13 w21 w34 w55 w89 w144 w233 dogs w377"


def test_pruning_changes_nothing(tmp_path: Path) -> None:
    """Many rows, so frequent words have columns and rows are let go early: scores are those of plain BM25."""
    texts = corpus(2500)
    options = replace(TINY, seal_rows=10**6, rest_rows=1)
    fields = (FieldSpec("even", FieldType.BOOL),)
    with Shard.create(tmp_path / "shard", Schema(DIM, fields=fields), options) as shard:
        put(shard, texts, payloads=[{"even": at % 2 == 0} for at in range(len(texts))])
        assert shard.wait_indexed(30)
        (segment,) = shard._core.view.sealed
        (run,) = segment.rows.words.runs(segment.rows.docnos, lambda docnos: {})
        place = int(run.postings.find(analyzer("en").terms("w0"))[0])
        assert run.postings.column(place) is not None
        some = {id_: text for at, (id_, text) in enumerate(texts.items()) if at % 2 == 0}
        for k in (1, 10):
            for query in (LONG, "w300 w0 w1 w2"):
                asked = Asked(should=tuple((word,) for word in query.split()))
                bm25.assert_best(hits(shard, query, k), bm25.scores(texts, asked, texts), k)
                got = hits(shard, query, k, filter=Eq("even", True))
                bm25.assert_best(got, bm25.scores(some, asked, texts), k)
        told = shard.search_words("w300 w0 w1 w2", 1, explain=True).explain
        assert told["parts"][0]["postings"] < 2500


def test_growing_and_sealed_rows_score_alike(tmp_path: Path) -> None:
    """Where a document lies does not show in its score: in one growing block or in many segments."""
    texts = corpus(300)
    many = replace(STILL, seal_rows=16)
    with (
        Shard.create(tmp_path / "a", Schema(DIM), STILL) as one,
        Shard.create(tmp_path / "b", Schema(DIM), many) as other,
    ):
        for start in range(0, 300, 30):
            some = dict(list(texts.items())[start : start + 30])
            put(one, some)
            put(other, some)
            for query in ("dog", LONG, '"w0 w1"'):
                assert hits(one, query) == hits(other, query)
        for each in (one, other):
            each.delete([f"d{at:05}" for at in range(0, 300, 3)])
        assert hits(one, LONG, 300) == hits(other, LONG, 300)


def test_shards_share_their_statistics(tmp_path: Path) -> None:
    """With the sum of what all shards tell, documents score as if they lay in one."""
    texts = corpus(200)
    halves = [dict(list(texts.items())[half::2]) for half in (0, 1)]
    query = parse_words("dog w0 w3 w50")
    with (
        Shard.create(tmp_path / "all", Schema(DIM), STILL) as whole,
        Shard.create(tmp_path / "a", Schema(DIM), STILL) as a,
        Shard.create(tmp_path / "b", Schema(DIM), STILL) as b,
    ):
        for shard, some in ((whole, texts), (a, halves[0]), (b, halves[1])):
            put(shard, some)
        known = reduce(add, [shard.word_statistics(query) for shard in (a, b)], WordStatistics())
        assert known == whole.word_statistics(query)
        found = [hit for shard in (a, b) for hit in hits(shard, "dog w0 w3 w50", 300, statistics=known)]
        assert sorted(found) == sorted(hits(whole, "dog w0 w3 w50", 300))


def test_equal_scores_come_by_id(shard: Shard) -> None:
    """Ties break by id, also at the cut."""
    put(shard, dict.fromkeys(("c", "a", "d", "b"), "same words"))
    assert [id_ for id_, _ in hits(shard, "words", 3)] == ["a", "b", "c"]


def test_a_threshold_cuts_what_is_worse(shard: Shard) -> None:
    """Hits that score below it are left out, those that score as much are not."""
    put(shard, {"a": "dog dog", "b": "dog cat", "c": "cat"})
    first, second = hits(shard, "dog")
    assert hits(shard, "dog", threshold=second[1]) == [first, second]
    assert hits(shard, "dog", threshold=first[1]) == [first]


def test_a_deadline_is_kept(shard: Shard) -> None:
    """A search past its deadline stops, before texts are read for it."""
    put(shard, {"a": "dog"})
    with pytest.raises(DeadlineExceeded):
        shard.search_words("dog", 1, deadline=0.0)


@pytest.mark.parametrize("k", [0, 100_001])
def test_k_has_limits(shard: Shard, k: int) -> None:
    """As for vectors."""
    with pytest.raises(ValueError, match="k must be"):
        shard.search_words("dog", k)


# --- how words are kept


@pytest.mark.parametrize("group", [1, 40, 10**6])
def test_indexes_merge_to_what_is_made_at_once(monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    """However many groups it has, and wherever rows go, a merged index says what one of the same texts
    says."""
    monkeypatch.setattr(merge, "_GROUP", group)
    english, texts = analyzer("en"), list(corpus(90).values())
    order = np.random.default_rng(1).permutation(90)
    left_out = set(order[80:].tolist())
    sources = []
    for first in range(0, 90, 30):
        targets = np.array(
            [
                -1 if row in left_out else int(np.flatnonzero(order == row)[0])
                for row in range(first, first + 30)
            ]
        )
        sources.append(Source(in_memory(indexed(texts[first : first + 30], english)), targets))
    made = in_memory(merged(sources, 80, english))
    wanted = in_memory(indexed([texts[row] for row in order[:80].tolist()], english))
    assert made.terms.tolist() == wanted.terms.tolist()
    assert made.lengths.tolist() == wanted.lengths.tolist()
    for place in range(len(wanted.terms)):
        for one, other in zip(made.of(place), wanted.of(place), strict=True):
            assert one.tolist() == other.tolist()
        assert made.positions(place).tolist() == wanted.positions(place).tolist()
        assert made.bound(place, 5.0) == wanted.bound(place, 5.0)


@given(average=st.floats(0.5, 500), length=st.integers(1, 60), count=st.integers(1, 60))
def test_bounds_hold_for_every_average(average: float, length: int, count: int) -> None:
    """No row gets more of a word than its bound, whatever the mean length over all shards is."""
    text = " ".join(["dog"] * count + ["cat"] * length)
    postings = in_memory(indexed([text, "dog cat", None], analyzer("en")))
    place = int(postings.find(analyzer("en").terms("dog"))[0])
    rows, counts = postings.of(place)
    most = (counts / (counts + postings.norms(average)[rows])).max()
    assert most <= postings.bound(place, average) * (1 + 1e-5)


def test_counts_stop(shard: Shard) -> None:
    """A word counts up to a limit, and the length of its text does not."""
    put(shard, {"a": "dog " * (MOST + 5), "b": "cat"})
    postings = shard._core.view.growing[0].rows.words.runs(np.arange(2), shard._core.texts)[0].postings
    place = int(postings.find(analyzer("en").terms("dog"))[0])
    assert postings.of(place)[1].tolist() == [MOST]
    assert postings.positions(place).tolist() == list(range(MOST))
    assert postings.lengths.tolist() == [MOST + 5, 1]
    assert found_by(shard, '"dog dog"') == {"a"}


def test_runs_stay_few(shard: Shard) -> None:
    """A block that is searched after every write has few indexes to search."""
    for at in range(120):
        put(shard, {f"d{at}": "dog"})
        assert len(hits(shard, "dog", 200)) == at + 1
    (part,) = shard._core.view.growing
    assert len(part.rows.words.runs(part.rows.docnos, shard._core.texts)) <= 7


def test_searches_beside_each_other(shard: Shard) -> None:
    """Many threads that find the same rows unindexed index them once, and all find what is there."""
    put(shard, corpus(2000))
    wanted = int(sum("w0" in (text or "").split() for text in corpus(2000).values()))
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(len(hits(shard, "w0", 3000)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [wanted] * 4
    (part,) = shard._core.view.growing
    assert sum(len(run.postings) for run in part.rows.words.runs(part.rows.docnos, shard._core.texts)) == 2000


# --- the view that it is asked in


def test_a_moment_finds_what_died_before_it_was_indexed(shard: Shard) -> None:
    """In a moment a text is found that was deleted before anybody looked for words; afterwards it is not."""
    put(shard, {"a": "dog", "b": "cat", "c": "dog cat"})
    with shard.moment() as moment:
        shard.delete(["a"])
        put(shard, {"b": "dog"})
        assert found_by(shard, "dog") == {"b", "c"}  # reads the texts that are there now
        found = moment.search_words("dog", 10)
        assert {row.id for row in moment.fetch(found.docnos) if row} == {"a", "c"}
        assert moment.word_statistics(parse_words("dog")).documents == 3
    assert found_by(shard, "dog") == {"b", "c"}


def test_an_older_view_does_not_see_newer_rows(shard: Shard) -> None:
    """An index that has rows beyond a view's is searched without them."""
    put(shard, {"a": "dog"})
    with shard.moment() as moment:
        put(shard, {"b": "dog"})
        assert found_by(shard, "dog") == {"a", "b"}
        assert len(moment.search_words("dog", 10).docnos) == 1
        assert moment.word_statistics(parse_words("dog")).tokens == 1


def test_a_shard_looks_again_where_a_text_is_gone(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document rewritten between taking the view and reading the texts is found as it is now."""
    put(shard, {"a": "dog"})
    view = shard._core.view
    put(shard, {"a": "dog again"})
    views = iter([view])
    monkeypatch.setattr(shard, "_view", lambda: next(views, shard._core.view))
    assert found_by(shard, "again") == {"a"}


def test_hidden_documents_have_no_words(tmp_path: Path) -> None:
    """Documents of a quarantined author are not found, and do not count in the scores of others."""
    hidden = Quarantine()
    options = replace(STILL, quarantine=hidden)
    with Shard.create(tmp_path / "shard", Schema(DIM), options) as shard:
        ones = np.ones((1, DIM), np.float32)
        for index, (author, text) in enumerate([("ann", "dog"), ("eve", "dog dog"), ("ann", "cat")], 1):
            shard.apply([(index, encode(Upsert([f"d{index}"], ones, texts=[text], author=author)))])
        assert found_by(shard, "dog") == {"d1", "d2"}
        hidden.authors = frozenset({"eve"})
        texts = {"d1": "dog", "d3": "cat"}
        wanted = bm25.scores(texts, Asked(should=(("dog",),)), texts)
        bm25.assert_best(hits(shard, "dog"), wanted, 10)


# --- files


def sealed_shard(path: Path, texts: dict[str, str | None]) -> Shard:
    shard = by_hand(path, Schema(DIM), seal_rows=10**6, flat_rows=10**6)
    put(shard, texts)
    shard._core.rotate()
    shard._builder._seal(shard._core.blocks[0])
    shard._builder._begin(list(shard._core.view.sealed))
    build = shard._builder._build
    assert build is not None
    while build.busy:
        build.step()
    shard._builder._write(build)
    shard.checkpoint()
    return shard


def words_file(shard: Shard) -> Path:
    (path,) = (shard.path / "segments").glob("*.words")
    return path


def test_damaged_tables_are_named_when_opened(tmp_path: Path) -> None:
    """A bit of the dictionary is enough."""
    shard = sealed_shard(tmp_path / "shard", corpus(50))
    path = words_file(shard)
    shard.close()
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardDamaged) as caught:
        Shard.open(tmp_path / "shard", STILL)
    assert caught.value.path == path


@pytest.mark.parametrize("change", [lambda data: b"", lambda data: data[:-1], lambda data: bytes(len(data))])
def test_what_is_no_index_is_named(tmp_path: Path, change: Any) -> None:
    """A file that is cut or empty is damage, whichever check sees it."""
    shard = sealed_shard(tmp_path / "shard", corpus(5))
    path = words_file(shard)
    shard.close()
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ShardDamaged) as caught:
        Shard.open(tmp_path / "shard", STILL)
    assert caught.value.path == path


def test_damaged_postings_are_found_by_the_scrub(tmp_path: Path) -> None:
    """Postings are too many to read first: verify names the file."""
    shard = sealed_shard(tmp_path / "shard", corpus(50))
    path = words_file(shard)
    with path.open("r+b") as file:
        file.seek(10)
        byte = file.read(1)[0]
        file.seek(10)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ShardDamaged) as caught:
        shard.verify()
    assert caught.value.path == path
    shard.close()


def test_an_index_of_other_rows_is_damage(tmp_path: Path) -> None:
    """A whole index, but not this segment's."""
    shard = sealed_shard(tmp_path / "shard", corpus(5))
    (manifest,) = (part.rows.manifest for part in shard._core.view.sealed)
    assert manifest is not None
    path = words_file(shard)
    size = path.stat().st_size
    other = b"".join(indexed(list(corpus(4).values()), analyzer("en")))
    path.write_bytes(other)
    held = tuple(replace(entry, size=len(other)) if entry.size == size else entry for entry in manifest.files)
    with pytest.raises(ShardDamaged, match="4 rows, not 5"):
        sealed.open_rows(shard.path, replace(manifest, files=held), "cosine", analyzer("en"))
    shard.close()


def test_bytes_of_another_format_are_no_index() -> None:
    """The magic number is looked at before anything else is believed."""
    data = bytearray(b"".join(indexed(["dog"], analyzer("en"))))
    data[-64] ^= 0xFF
    with pytest.raises(ValueError, match="no index of words"):
        Postings(np.frombuffer(bytes(data), dtype=np.uint8))


def without_words(path: Path) -> None:
    """Make a closed shard what an older version wrote: no words in any segment, no language."""
    import sqlite3

    import msgpack

    with sqlite3.connect(path / "shard.db") as connection:
        for id_, packed in connection.execute("SELECT id, manifest FROM segments").fetchall():
            manifest = Manifest.unpack(packed)
            manifest.path(path, "words").unlink()
            kept = tuple(entry for entry in manifest.files if entry.suffix != "words")
            packed = replace(manifest, files=kept).pack()
            connection.execute("UPDATE segments SET manifest = ? WHERE id = ?", (packed, id_))
        (schema,) = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        stored = msgpack.unpackb(schema)
        del stored["language"]
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (msgpack.packb(stored),))
    connection.close()


@pytest.mark.parametrize("links", [True, False])
def test_a_shard_without_words_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """An older shard is searched by its texts at once, and given files by the builder; no more changes."""
    texts = corpus(60)
    shard = sealed_shard(tmp_path / "shard", texts)
    wanted, content = hits(shard, LONG, 100), shard.content_hash()
    vectors = [row.vector.tobytes() for row in shard.get(list(texts), vector=True) if row.vector is not None]
    shard.close()
    without_words(tmp_path / "shard")
    monkeypatch.setattr(Builder, "start", lambda self: None)
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", lambda self, target: (_ for _ in ()).throw(OSError()))
    with Shard.open(tmp_path / "shard", STILL) as opened:
        assert hits(opened, LONG, 100) == wanted
        assert not opened._builder.settled(opened._core.view)
        opened._builder._tidy(opened._core.view)
        assert opened._builder.settled(opened._core.view)
        assert all(part.rows.words.kept for part in opened._core.view.sealed)
        assert hits(opened, LONG, 100) == wanted
        assert opened.content_hash() == content
        got = [row.vector.tobytes() for row in opened.get(list(texts), vector=True) if row.vector is not None]
        assert got == vectors
        opened.verify()
        opened.checkpoint()
        assert len({path.stem for path in (opened.path / "segments").iterdir()}) == 1
    with Shard.open(tmp_path / "shard", STILL) as again:
        assert hits(again, LONG, 100) == wanted


def test_words_cut_by_other_rules_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another analyzer is not searched: the builder writes one of today's."""
    shard = sealed_shard(tmp_path / "shard", {"a": "running"})
    shard.close()
    english = analyzer("en")
    monkeypatch.setattr(english, "identity", english.identity ^ 1)
    monkeypatch.setattr(Builder, "start", lambda self: None)
    with Shard.open(tmp_path / "shard", STILL) as opened:
        assert not opened._core.view.sealed[0].rows.words.kept
        assert found_by(opened, "run") == {"a"}


def test_words_that_cannot_be_written_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk while words are written leaves the segment as it was, and no file of a new one."""
    shard = sealed_shard(tmp_path / "shard", {"a": "dog"})
    shard.close()
    without_words(tmp_path / "shard")
    monkeypatch.setattr(Builder, "start", lambda self: None)
    with Shard.open(tmp_path / "shard", STILL) as opened:
        before = sorted(path.name for path in (opened.path / "segments").iterdir())

        def full(path: Path, chunks: Any) -> Any:
            raise OSError(28, "no space left")

        files = opened._core.options.files
        monkeypatch.setattr(files, "write", full)
        with pytest.raises(OSError, match="no space"):
            opened._builder._tidy(opened._core.view)
        assert sorted(path.name for path in (opened.path / "segments").iterdir()) == before
        assert found_by(opened, "dog") == {"a"}


def test_vectors_alone_cost_no_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents without text are sealed without being read, and have an index that finds nothing."""
    shard = by_hand(tmp_path / "shard", Schema(DIM))
    put(shard, {"a": None, "b": None})
    monkeypatch.setattr(shard._core, "texts", None)
    shard._core.rotate()
    shard._builder._seal(shard._core.blocks[0])
    assert hits(shard, "dog") == []
    shard.close()


def test_a_range_filter_and_words(tmp_path: Path) -> None:
    """A filter leaves scores as they are: statistics are those of all documents."""
    schema = Schema(DIM, fields=(FieldSpec("n", FieldType.INT),))
    with Shard.create(tmp_path / "shard", schema, STILL) as shard:
        put(
            shard,
            {f"d{at}": "dog " * (at % 3 + 1) for at in range(20)},
            payloads=[{"n": at} for at in range(20)],
        )
        every = dict(hits(shard, "dog", 20))
        some = hits(shard, "dog", 20, filter=Range("n", gte=15))
        assert len(some) == 5
        assert all(every[id_] == score for id_, score in some)


def test_ranking_nothing() -> None:
    """No documents, or none with a word: no hits, and no division by zero."""
    nothing = in_memory(indexed([None, ""], analyzer("en")))
    query = parse_words("dog")
    assert len(ranked(Target(nothing, None), query, WordStatistics(), 3).rows) == 0
    assert len(ranked(Target(nothing, None), query, WordStatistics(5, 9, {}), 3).rows) == 0
