"""Where sentences end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecdb.knowledge.sentences import code_spans, units

# Each line is a text whose sentences are separated by " ¦ ".
GOLDEN = [
    "Hello world. ¦ My name is Jonas.",
    "What is it? ¦ It is a test! ¦ Good.",
    "My name is Mr. Smith. ¦ He met Dr. Jones and Prof. Li.",
    "I work for the U.S. Government. ¦ I live in the U.S. ¦ The rest do not.",
    "It costs $3.14 or 1.000,50 EUR. ¦ See example.com for version 2.0.1 of it.",
    "Some abbreviations, e.g. this one, i.e. that one, are within. ¦ Others end it, etc. ¦ The end.",
    "J. K. Rowling and A. A. Milne wrote books. ¦ They sold.",
    "Fig. 3 shows it (see Eq. 2 and p. 55). ¦ No. 5 is alive.",
    "I said no. ¦ Then I left.",
    "Smith et al. (2004) found it. ¦ So did Jones et al. ¦ However, others did not.",
    "Well... perhaps. ¦ Wait... ¦ What?",
    "Hmm… maybe so. ¦ Yes… ¦ No.",
    '"Really?" he asked. ¦ "Yes!" ¦ She left.',
    "He said: “It works.” ¦ Then it broke.",
    "(It was late.) ¦ They slept.",
    "The claim stands.[12] ¦ Another follows.[3][4] ¦ Good.",
    "**Bold ends.** ¦ Plain follows.",
    "Vitamin C. ¦ The next one is D.",
    "It was 5 p.m. ¦ The shop closed.",
    "In 1999. ¦ The year after.",
    "Am 3. Oktober wurde gefeiert. ¦ Das war z.B. in Berlin so.",
    "Der 1. Mai ist frei, vgl. S. 12 im Buch. ¦ Gut.",
    "The company Apple Inc. Magazine staff met. ¦ Acme Ltd. ¦ The rest is history.",
    "日本語です。¦次の文です！¦本当？¦はい。",
    "「行く？」と言った。¦「はい。」¦彼は帰った。",
    "他说：“好。”¦然后他走了。",
    "यह एक वाक्य है। ¦ यह दूसरा है।",
    "هل هذا سؤال؟ ¦ نعم هذا سؤال.",
    "First line is a title\n ¦ Then a sentence follows here.",
    "A paragraph without a period\n\n ¦ and another one",
    "# A heading\n ¦ text below it",
    "Setext heading\n ¦ ==============\n\n ¦ text",
    "Shopping:\n ¦ - apples\n ¦ - pears and\n  plums\n ¦ * nuts",
    "1. First item\n ¦ 2. Second item. ¦ It goes on.\n ¦ 3. Third",
    "a) one thing\n ¦ b) other thing",
    "> quoted words\n ¦ > and more",
    "| a | b |\n ¦ | 1 | 2 |",
    "This line of prose was wrapped by hand at some\nwidth, so it goes on. ¦ Then the next one.",
    "Page one ends.\f ¦ Page two begins.",
    "one\u2029 ¦ two",
    "No space after.The dot is no end. ¦ Right.",
    "Vol. 3, pp. 4-5, and ch. 6 are missing. ¦ I know.",
    "Option A. ¦ I chose it.",
    'He called it a "zone. " That was new. ¦ "Yes," he said. ¦ (So it is.)',
    "The “focal zone. ” of it. ¦ See J. Biol. Chem. 270 and Proc. Natl. Acad. Sci. USA 85. ¦ Old.",
    "Contents . . . . . . 7 of it. ¦ Next.",
]


@pytest.mark.parametrize("marked", GOLDEN, ids=range(len(GOLDEN)))
def test_golden(marked: str) -> None:
    """Each known case is cut exactly where it is marked."""
    wanted = [part.strip() for part in marked.split("¦")]
    text = (
        marked.replace(" ¦ ", " ").replace("\n ", "\n").replace("¦", "")
        if " ¦ " in marked
        else marked.replace("¦", "")
    )
    if "\n" in marked:
        text = marked.replace("\n ¦ ", "\n").replace(" ¦ ", " ")
    assert [text[unit.start : unit.end] for unit in units(text)] == wanted


def test_a_long_line_is_a_paragraph() -> None:
    """A line too long to be wrapped by hand ends a sentence, even without a period."""
    long = "word " * 60 + "end"
    assert [unit.opens for unit in units(f"{long}\nNext paragraph")] == [True, True]


def test_paragraphs_are_told() -> None:
    """A unit knows whether a paragraph begins with it."""
    assert [unit.opens for unit in units("One. Two.\n\nThree. Four.")] == [True, False, True, False]


def test_code_is_one_unit() -> None:
    """A fenced block is kept whole, blank lines and periods included, up to its own kind of fence."""
    text = "Before.\n\n```py\nx = 1. \n\n~~~\n# no heading\n```\nAfter. ```not a fence``` here."
    found = list(units(text))
    assert [text[unit.start : unit.end] for unit in found if unit.code] == [
        "```py\nx = 1. \n\n~~~\n# no heading\n```"
    ]
    assert text[found[-2].start : found[-2].end] == "After."


def test_fences() -> None:
    """A longer fence closes a shorter one, never the reverse; one without an end is plain text."""
    assert code_spans("```\na\n`````") == [(0, 11)]
    assert code_spans("````\na\n```") == []
    assert code_spans("~~~\na\n```\n") == []
    assert code_spans("```\nx\n```\n```\ny") == [(0, 9)]
    assert code_spans("``` a`b\nx\n```\ny\n```") == [(10, 19)]
    assert code_spans("  ```\nx\n   ```  \n") == [(0, 16)]


@given(st.text(alphabet="ab A1.!?…\"')]\n\t`~#-。」\u0301\u200d\u2029", max_size=200))
def test_units_partition_the_text(text: str) -> None:
    """Units are in order, apart, not empty, without space at their ends; between them is only white space."""
    at = 0
    for unit in units(text):
        assert not text[at : unit.start].strip()
        body = text[unit.start : unit.end]
        assert body
        assert body == body.strip()
        at = unit.end
    assert not text[at:].strip()
