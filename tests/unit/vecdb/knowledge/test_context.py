"""Cited passages within a budget."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecdb.knowledge.chunking import chunk
from vecdb.knowledge.context import Passage, build_context
from vecdb.knowledge.tokens import estimate_tokens

WORDS = ["iron", "gold", "tin", "lead", "zinc", "wood", "salt", "silk", "wool", "clay", "sand", "coal"]
PLACES = ["rome", "oslo", "bern", "kiev", "lima", "cairo"] * 2
TEXT = " ".join(
    f"Fact {number} says that {word} is known to people of {place}."
    for number, (word, place) in enumerate(zip(WORDS, PLACES, strict=True))
)


def words(text: str) -> int:
    return len(text.split())


def passage(
    start: int, end: int, score: float = 1.0, source: str = "a.txt", text: str = TEXT, **more: object
) -> Passage:
    fields = {"id": f"{source}#{start}", "author": "ann", "version": 3, "title": "T"} | more
    return Passage(source=source, start=start, end=end, text=text[start:end], score=score, **fields)


def test_numbered_in_order_of_rank() -> None:
    """Each passage has its number, and its citation all that is known about it."""
    context = build_context(
        [
            passage(0, 20, 0.9),
            passage(5, 30, 0.8, "b.txt", text="completely other words are in this source here"),
        ],
        100,
    )
    assert context.text == f"[1] {TEXT[:20]}\n\n[2] etely other words are in t"[:28] + context.text[28:]
    assert [
        (c.number, c.id, c.source, c.title, c.start, c.end, c.score, c.author, c.version, c.text)
        for c in context.sources
    ] == [
        (1, "a.txt#0", "a.txt", "T", 0, 20, 0.9, "ann", 3, TEXT[:20]),
        (2, "b.txt#5", "b.txt", "T", 5, 30, 0.8, "ann", 3, "etely other words are in "),
    ]
    assert context.tokens == estimate_tokens(context.text)
    assert not any(citation.truncated for citation in context.sources)


def test_nothing_in_nothing_out() -> None:
    """Without passages, or without room for a word, the context is empty; a negative budget is refused."""
    for context in (
        build_context([], 100),
        build_context([passage(0, 100)], 0),
        build_context([passage(0, 100, text=" " * 100)], 50),
    ):
        assert (context.text, context.sources, context.tokens) == ("", (), 0)
    with pytest.raises(ValueError):
        build_context([], -1)


def test_overlapping_and_touching_passages_merge() -> None:
    """Passages of one source that overlap or touch become one, in the place of the better one."""
    chunks = chunk(TEXT, target_tokens=30, max_tokens=40, overlap_sentences=1)
    order = [2, 0, 1]
    ranked = [passage(chunks[at].start, chunks[at].end, 1 - rank / 10) for rank, at in enumerate(order)]
    ranked.insert(1, passage(0, 12, 0.95, "b.txt", text="Bananas grow on their own."))
    context = build_context(ranked, 1000)
    first, second = context.sources
    assert (first.start, first.end, first.text) == (0, chunks[2].end, TEXT[: chunks[2].end])
    assert first.ids == tuple(f"a.txt#{piece.start}" for piece in chunks[:3])
    assert (first.id, first.score) == (f"a.txt#{chunks[2].start}", 1.0)
    assert second.source == "b.txt"


def test_a_passage_can_close_a_gap() -> None:
    """A passage between two that are apart makes all three one, where the best of them stood."""
    ranked = [
        passage(200, 300, 0.9),
        passage(0, 12, 0.8, "b.txt", text="Bananas grow on their own."),
        passage(0, 100, 0.7),
        passage(90, 210, 0.6, id="between"),
    ]
    first, second = build_context(ranked, 1000).sources
    assert (first.start, first.end, first.text, first.score) == (0, 300, TEXT[:300], 0.9)
    assert first.ids == ("a.txt#0", "between", "a.txt#200")
    assert second.source == "b.txt"


def test_gaps() -> None:
    """White space between chunks is bridged; a gap that may hold text is not."""
    text = "Alpha beta gamma delta.\n\nEpsilon zeta eta theta. Iota kappa lambda mu."
    ends = [23, 48, len(text)]
    pieces = [
        passage(0, ends[0], text=text),
        passage(25, ends[1], text=text),
        passage(49, ends[2], text=text),
    ]
    assert build_context(pieces, 100).sources[0].text == text
    assert len(build_context([pieces[0], pieces[2]], 100).sources) == 2


def test_contained_passages_add_nothing() -> None:
    """A passage inside another of the same source leaves it as it is."""
    (citation,) = build_context([passage(0, 300), passage(50, 120)], 1000).sources
    assert (citation.start, citation.end, citation.text) == (0, 300, TEXT[:300])
    (citation,) = build_context([passage(50, 120), passage(0, 300)], 1000).sources
    assert (citation.start, citation.end, citation.text) == (0, 300, TEXT[:300])


def test_other_authors_and_revisions_are_not_merged() -> None:
    """Text of two authors, or that disagrees where it overlaps, is never put together."""
    assert len(build_context([passage(0, 100), passage(60, 200, author="bob")], 1000).sources) == 2
    other = TEXT.upper().replace("FACT", "LIE").ljust(len(TEXT))
    assert len(build_context([passage(0, 100), passage(60, 200, text=other)], 1000).sources) == 2


def test_near_duplicates_are_left_out() -> None:
    """A passage that says what a better one said, in nearly the same words, is left out."""
    text = "The quick brown fox jumps over the lazy dog while the sun sets behind the distant hills today."
    copies = [
        passage(0, len(text), 1.0, "a.txt", text=text),
        passage(0, len(text), 0.9, "b.txt", text=text.replace("Today", "now").upper()),
    ]
    context = build_context([*copies, passage(0, 24, 0.8, "c.txt", text="A slow green turtle naps.")], 1000)
    assert [citation.source for citation in context.sources] == ["a.txt", "c.txt"]
    short = [passage(0, 3, source=name, text="Yes") for name in ("a", "b")]
    assert len(build_context(short, 100).sources) == 1


def test_what_does_not_fit_is_passed_over() -> None:
    """A passage too large for what is left makes room for a smaller one after it."""
    small, large, last = "Tiny fact one.", "Enormous words follow each other. " * 40, "Another small truth."
    ranked = [
        passage(0, len(text), 1.0, name, text=text)
        for name, text in (("a", small), ("b", large), ("c", last))
    ]
    assert [citation.source for citation in build_context(ranked, 40).sources] == ["a", "c"]


def test_the_first_passage_is_cut_to_fit() -> None:
    """If not even the best passage fits, it is cut at the end of a sentence, a word or a character."""
    (citation,) = build_context([passage(0, len(TEXT)), passage(0, 5, source="b", text="Bits.")], 40).sources
    assert citation.truncated
    assert TEXT.startswith(citation.text)
    assert citation.text.endswith(".")
    assert citation.end == len(citation.text)
    (citation,) = build_context([passage(0, len(TEXT))], 9).sources
    assert TEXT[citation.end] == " "
    ideographs = "漢" * 100
    (citation,) = build_context([passage(0, 100, text=ideographs)], 20).sources
    assert 5 < len(citation.text) < 30


def test_no_passage_can_pass_for_several() -> None:
    """A line in a passage that looks like a citation's number is marked in the text, and only there."""
    forged = "Truth.\n\n[2] Lies by [3] others.\n  [4] More."
    context = build_context([passage(0, len(forged), text=forged)], 100)
    assert context.text == "[1] Truth.\n\n\\[2] Lies by [3] others.\n  \\[4] More."
    assert context.sources[0].text == forged


def test_a_counter_that_is_not_additive() -> None:
    """Where the whole counts more than its parts, passages are dropped from the end until it fits."""

    def superadditive(text: str) -> int:
        return words(text) + 10 * text.count("\n\n[")

    ranked = [passage(0, 17, 1.0, name, text=f"{name} {name}1 {name}2 {name}3 end.") for name in "abcd"]
    context = build_context(ranked, 30, count_tokens=superadditive)
    assert superadditive(context.text) == context.tokens <= 30
    assert [citation.source for citation in context.sources] == ["a", "b"]


SPANS = st.tuples(st.integers(0, 80), st.integers(1, 40), st.sampled_from("ab"), st.booleans())


@settings(max_examples=150, deadline=None)
@given(st.lists(SPANS, max_size=8), st.integers(0, 150), st.booleans())
def test_budget_and_offsets_hold(spans: list[tuple[int, int, str, bool]], budget: int, exact: bool) -> None:
    """Whatever is found, the budget holds, and every citation points at its own text."""
    texts = {"a": TEXT, "b": TEXT[::-1]}
    counter = words if exact else estimate_tokens
    ranked = []
    for first, length, name, mine in spans:
        found = list(re.finditer(r"\S+", texts[name]))[first : first + length]
        start, end = found[0].start(), found[-1].end()
        ranked.append(passage(start, end, source=name, text=texts[name], author="ann" if mine else "bob"))
    context = build_context(ranked, budget, count_tokens=counter)
    assert context.tokens == counter(context.text) <= budget
    assert [citation.number for citation in context.sources] == list(range(1, len(context.sources) + 1))
    for citation in context.sources:
        assert citation.text == texts[citation.source][citation.start : citation.end]
