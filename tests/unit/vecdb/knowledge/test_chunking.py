"""Passages: whole, in bounds, and pointing into the source."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecdb.knowledge.chunking import CHUNKER_VERSION, Chunk, Section, chunk
from vecdb.knowledge.graphemes import boundary_at_or_before, joined
from vecdb.knowledge.sentences import units
from vecdb.knowledge.tokens import estimate_tokens

SPACES = ["\n", "\n\n", "  ", " " * 40, "\r\n", "\t", "\u00a0"]
CLUSTERS = ["e\u0301", "\u0301", "👩\u200d👩\u200d👧", "🇫🇷", "한국", "\u1100\u1161", "👍🏽"]
PROSE = [
    "Hello there. ",
    "a ",
    "word",
    "Mr. ",
    "漢字。",
    "3.14 ",
    '"Yes!" ',
    "# T\n",
    "- x\n",
    "```\n",
    "x" * 30,
]
PIECES = st.sampled_from(SPACES + CLUSTERS + PROSE)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=60).map("".join)


def words(text: str) -> int:
    """A counter that is additive over words, as an exact tokenizer nearly is."""
    return len(text.split())


def covered(text: str, chunks: list[Chunk]) -> bool:
    inside = bytearray(len(text))
    for piece in chunks:
        inside[piece.start : piece.end] = b"\1" * (piece.end - piece.start)
    return all(inside[at] or text[at].isspace() for at in range(len(text)))


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(1, 40), st.integers(0, 30), st.integers(0, 3), st.booleans())
def test_invariants(text: str, target: int, more: int, overlap: int, exact: bool) -> None:
    """Offsets point at the text, all but space is covered, sizes hold, order is that of the source."""
    counter = words if exact else None
    chunks = chunk(
        text, target_tokens=target, max_tokens=target + more, overlap_sentences=overlap, count_tokens=counter
    )
    assert all(text[piece.start : piece.end] == piece.text for piece in chunks)
    assert all(piece.text == piece.text.strip() != "" for piece in chunks)
    assert covered(text, chunks)
    for piece in chunks:
        count = (counter or estimate_tokens)(piece.text)
        assert count <= target + more or boundary_at_or_before(
            piece.text, len(piece.text) - 1 or 1, 0
        ) == len(piece.text)
    for left, right in itertools.pairwise(chunks):
        assert left.start < right.start
        assert left.end < right.end
    assert chunks == chunk(
        text, target_tokens=target, max_tokens=target + more, overlap_sentences=overlap, count_tokens=counter
    )


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(3, 40))
def test_cuts_are_between_sentences_or_else_characters(text: str, limit: int) -> None:
    """A chunk begins where a sentence does, unless that is too long; no cut is inside a cluster."""
    spans = [(unit.start, unit.end) for unit in units(text)]
    for piece in chunk(text, target_tokens=limit, max_tokens=limit):
        for at in (piece.start, piece.end):
            assert at in (0, len(text)) or not joined(text, at) or text[at - 1].isspace()
            inside = next((span for span in spans if span[0] < at < span[1]), None)
            if inside is not None:
                assert estimate_tokens(text[inside[0] : inside[1]]) > limit


def test_marks_stay_with_their_letter() -> None:
    """In a word too long for a chunk, cuts fall between clusters: marks, joiners, flags, syllables."""
    for cluster in ("e\u0301\u0323", "👩\u200d👩\u200d👧", "🇫🇷", "\u1112\u1161\u11ab", "👍🏽", "각"):
        pieces = chunk(cluster * 200, target_tokens=10, max_tokens=10)
        assert len(pieces) > 10
        assert all(len(piece.text) % len(cluster) == 0 for piece in pieces)


def test_a_flood_of_marks_is_cut() -> None:
    """A letter with more marks than writing has is no cluster, so that limits hold."""
    pieces = chunk("e" + "\u0301" * 5000, target_tokens=50, max_tokens=50)
    assert max(estimate_tokens(piece.text) for piece in pieces) <= 50


def test_clusters() -> None:
    """The boundary before an offset, or after it where progress needs one."""
    assert boundary_at_or_before("ae\u0301x", 2, 0) == 1
    assert boundary_at_or_before("e\u0301x", 1, 0) == 2
    assert boundary_at_or_before("\r\n\r\n", 3, 0) == 2
    assert boundary_at_or_before("🇫🇷🇩🇪", 3, 0) == 2
    assert boundary_at_or_before("가\u11a8x", 1, 0) == 2
    assert not joined("a\u200db", 2)
    assert not joined("각\u1161", 1)
    assert joined("각\u11a8", 1)


def test_overlap() -> None:
    """A chunk repeats as many sentences as asked of the one before, while they fit in half a target."""
    text = " ".join(f"Sentence number {number} has six words." for number in range(30))
    for overlap in (0, 1, 2):
        chunks = chunk(text, target_tokens=40, max_tokens=50, overlap_sentences=overlap, count_tokens=words)
        for left, right in itertools.pairwise(chunks):
            shared = text[right.start : left.end].count(".") if right.start < left.end else 0
            assert shared == overlap


def test_size_is_near_the_target() -> None:
    """Prose comes in chunks near the target, not near the limit."""
    text = " ".join(f"Sentence number {number} has six words." for number in range(300))
    sizes = [words(piece.text) for piece in chunk(text, target_tokens=60, max_tokens=100, count_tokens=words)]
    assert all(abs(size - 60) <= 6 for size in sizes[:-1])


def test_sections_begin_chunks() -> None:
    """A heading begins a chunk once the one before it is worth having, and names the chunks below it."""
    body = "Some words in a sentence that fill it. " * 4
    text = f"# One\n{body}\n# Two\n{body}\n# Three\nshort.\n# Four\n{body}"
    sections = [Section(text.index(f"# {name}"), name) for name in ("One", "Two", "Three", "Four")]
    chunks = chunk(text, target_tokens=60, max_tokens=80, sections=sections)
    assert [(piece.section, piece.text[:6]) for piece in chunks][:3] == [
        ("One", "# One\n"),
        ("Two", "# Two\n"),
        ("Three", "# Thre"),
    ]
    assert chunk("Before.\n\n# H\n\nx", sections=[Section(9, "H")])[0].section == ""


def test_code_is_cut_between_lines() -> None:
    """A block of code stays whole while it fits, and else is cut at line ends, lines too long within."""
    lines = [f"value_{number} = compute(value_{number - 1})" for number in range(60)]
    code = "```\n" + "\n".join(lines) + "\n```"
    assert [piece.text for piece in chunk(code, target_tokens=2000, max_tokens=2000)] == [code]
    pieces = chunk(code, target_tokens=60, max_tokens=80, overlap_sentences=0)
    assert all(line in "\n".join(piece.text for piece in pieces).split("\n") for line in lines)
    wide = "```\n" + "x " * 500 + "\n\n" + "\n" * 50 + "y\n```"
    pieces = chunk(wide, target_tokens=60, max_tokens=60)
    assert covered(wide, pieces)
    assert max(estimate_tokens(piece.text) for piece in pieces) <= 60


def test_a_counter_that_is_not_additive() -> None:
    """Where a whole counts more than its parts, the limit still holds."""

    def superadditive(text: str) -> int:
        return len(text.split()) + text.count(". ") * 3

    text = "One two three. " * 100
    chunks = chunk(text, target_tokens=20, max_tokens=20, count_tokens=superadditive)
    assert max(superadditive(piece.text) for piece in chunks) <= 20
    assert covered(text, chunks)


def test_senseless_sizes_are_refused() -> None:
    """Sizes that cannot be met raise."""
    for sizes in ({"target_tokens": 0}, {"target_tokens": 9, "max_tokens": 8}, {"overlap_sentences": -1}):
        with pytest.raises(ValueError):
            chunk("x", **sizes)


@given(st.text(), st.text())
def test_the_estimate_never_grows_by_joining(left: str, right: str) -> None:
    """The estimate of a whole is at most the sum of those of its parts."""
    assert estimate_tokens(left + right) <= estimate_tokens(left) + estimate_tokens(right)
    assert estimate_tokens(left) <= estimate_tokens(left + right)


RUNS = {
    "one word": "a",
    "periods without spaces": ".",
    "newlines": "\n",
    "spaced newlines": "\n ",
    "spaces": " ",
    "quotes": '"',
    "marks": "\u0301",
    "flags": "\U0001f1e6",
    "joiners": "👩\u200d",
    "ideographs": "漢",
    "brackets": "([{",
    "numbers": "1.",
    "footnotes": ".[1",
}
SENTENCES = {
    "periods": ". ",
    "open fences": "```py\n",
    "mixed fences": "```x\n~~~~y\n",
    "closed periods": '."',
    "initials": "A. ",
    "short lines": "A b\n",
    "headings": "# x\n",
    "wide periods": "漢。",
}
HOSTILE = [pytest.param(unit, 400_000, id=name) for name, unit in RUNS.items()]
HOSTILE += [pytest.param(unit, 60_000, id=name) for name, unit in SENTENCES.items()]


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("unit", "size"), HOSTILE)
def test_hostile_text_takes_linear_time(unit: str, size: int) -> None:
    """Much of anything is cut in time, which one quadratic step would take many times over."""
    text = unit * (size // len(unit))
    counted = 0

    def counter(part: str) -> int:
        nonlocal counted
        counted += len(part)
        return estimate_tokens(part)

    chunks = chunk(text, count_tokens=counter)
    assert counted <= 12 * len(text)
    assert sum(len(piece.text) for piece in chunks) <= 3 * len(text)


def test_the_version_stands_for_these_cuts() -> None:
    """If this fails, texts are cut differently than before: raise CHUNKER_VERSION, and put the hash here."""
    text = "".join(
        f"# Part {n}\n\nMr. Smith said no. Then he left, e.g. at 3.14 p.m. It rained...\n\n- a\n- b\n\n"
        for n in range(40)
    )
    cuts = [(piece.start, piece.end) for piece in chunk(text, target_tokens=50, max_tokens=70)]
    assert (CHUNKER_VERSION, hashlib.sha256(repr(cuts).encode()).hexdigest()[:16]) == (1, "050c5c8e41c14bf2")
