"""Where sentences end.

A rule-based splitter in the line of the "golden rules" of Pragmatic Segmenter (Dias; Sadvilkar and
Neumann, arXiv:2010.09657): a mark that may end a sentence is a candidate, and what stands on either side
of it decides. When in doubt it does not split: a sentence too long costs little, half a sentence loses its
meaning. One regular expression finds the candidates, each looked at once and in a bounded neighbourhood,
so the time is linear in the text whatever the text is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vecdb.knowledge._abbreviations import ENDING, MONTHS, NUMBERED, STARTERS, TITLES
from vecdb.knowledge.graphemes import joined

# Marks after which a new sentence needs no space: CJK. The others below are those of scripts that do
# write a space: Devanagari, Arabic, Urdu, Armenian, Ethiopic, Khmer, Burmese.
_WIDE = "。！？｡"
_OTHER = "।॥؟۔։።។။"
_CLOSERS = r"""["'”’»›)\]}*_」』）】》〉〕］｝]"""

_CANDIDATE = re.compile(
    rf"(?P<line>[\n\u2029\f])\s*|[.!?…‥{_WIDE}{_OTHER}]+(?P<close>(?:{_CLOSERS}|\[\d{{1,3}}\])*)\s*"
)
# A line that begins like this is an item, a heading, a quotation or a table row of its own.
_ITEM = re.compile(
    r"[ \t]*(?:(?:[-*+•‣◦▪–—]|\d{1,3}[.)]|[A-Za-z][.)]|\([0-9A-Za-z]{1,3}\)|#{1,6})[ \t]|[|>]|={3}|-{3})"
)
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]")
_OPENERS = "\"'“‘«‹([{*_¿¡「『（【《〈„‚"
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)", re.MULTILINE)
_WORD_BEFORE = re.compile(r"[^\s\"'“‘«‹(\[{*_/–—-]*\Z")
_NEXT_WORD = re.compile(r"[^\W_]+")
_ENUMERATOR = re.compile(r"(?:\d{1,3}|[A-Za-z]|[ivxlcIVXLC]{1,6})\Z")

# Lines of hard-wrapped prose are between these lengths; a newline after a shorter or longer line was meant.
_WRAP_MIN, _WRAP_MAX = 40, 160
_LOOK_BEHIND = 24
# Longer fences are all alike; the bound keeps the search for closing ones linear.
_FENCE_MAX = 16


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence, a heading, a list item or a block of code: `text[start:end]`, no space at either end.

    `opens` tells whether a paragraph begins here; `code` whether it is a fenced block.
    """

    start: int
    end: int
    opens: bool
    code: bool = False


def code_spans(text: str) -> list[tuple[int, int]]:
    """Spans of the fenced code blocks (CommonMark 4.5), fences included, in order.

    A fence that is never closed is taken as ordinary text: in files that are not Markdown a stray one
    should not turn all that follows into code.
    """
    if "```" not in text and "~~~" not in text:
        return []
    fences = [(m.start(), m.end(), m[1][0], min(len(m[1]), _FENCE_MAX), m[2]) for m in _FENCE.finditer(text)]
    spans: list[tuple[int, int]] = []
    # The shortest fence of each kind known to have no closing one after it.
    hopeless = {"`": _FENCE_MAX + 1, "~": _FENCE_MAX + 1}
    index = 0
    while index < len(fences):
        start, _, kind, length, info = fences[index]
        index += 1
        if length >= hopeless[kind] or (kind == "`" and "`" in info):
            continue
        for later in range(index, len(fences)):
            _, end, other, size, rest = fences[later]
            if other == kind and size >= length and not rest.strip():
                spans.append((start, end))
                index = later + 1
                break
        else:
            hopeless[kind] = length
    return spans


def units(text: str) -> Iterator[Unit]:
    """The sentences and blocks of `text` in order; between them is only white space."""
    at = 0
    for start, end in code_spans(text):
        yield from _prose(text, at, start)
        body = _skip_space(text, start, end)
        yield Unit(body, _before_space(text, body, end), opens=True, code=True)
        at = end
    yield from _prose(text, at, len(text))


def _prose(text: str, begin: int, end: int) -> Iterator[Unit]:
    start = _skip_space(text, begin, end)
    line = begin
    opens = True
    for match in _CANDIDATE.finditer(text, start, end):
        stop, resume = match.span()
        if resume >= end:
            break
        if match["line"]:
            ends, paragraph = _line_ends(text, line, stop, resume)
            line = text.rfind("\n", stop, resume) + 1 or resume
        else:
            stop = match.end("close")
            newline = text.rfind("\n", stop, resume)
            ends, paragraph = _mark_ends(text, match, stop, resume, max(line, start))
            if newline >= 0:
                line = newline + 1
        if ends and stop > start:
            yield Unit(start, _before_space(text, start, stop), opens)
            start, opens = resume, paragraph
    stop = _before_space(text, start, end)
    if stop > start:
        yield Unit(start, stop, opens)


def _skip_space(text: str, at: int, end: int) -> int:
    while at < end and text[at].isspace():
        at += 1
    return at


def _before_space(text: str, start: int, at: int) -> int:
    while at > start and text[at - 1].isspace():
        at -= 1
    return at


def _line_ends(text: str, line: int, stop: int, resume: int) -> tuple[bool, bool]:
    """Whether the line `text[line:stop]` ends a sentence, and whether a paragraph begins at `resume`."""
    if text[stop] in "\u2029\f" or text.count("\n", stop, resume) > 1:
        return True, True
    if _HEADING.match(text, line) or _ITEM.match(text, text.rfind("\n", stop, resume) + 1):
        return True, True
    length = stop - line
    if length > _WRAP_MAX:
        return True, True
    return length < _WRAP_MIN and not _continues(text, resume), False


def _continues(text: str, at: int) -> bool:
    """Whether what begins at `at` reads like the middle of a sentence."""
    while at < len(text) - 1 and text[at] in _OPENERS and not text[at + 1].isspace():
        at += 1
    if text[at] == '"':
        # A quotation's end after a space; its beginning has something right behind it.
        return text[at + 1 : at + 2].strip() == ""
    return text[at].islower() or text[at] in ",;:)]}%”、，；：）"


def _mark_ends(text: str, match: re.Match[str], stop: int, resume: int, line: int) -> tuple[bool, bool]:
    """Whether the mark of `match` ends a sentence, and whether a paragraph begins after it."""
    mark = text[match.start("close") - 1]
    if stop == resume:
        # No space: a decimal, a host name, a path; only the wide marks end a sentence all the same.
        return mark in _WIDE and not _quoted_on(text, stop) and not joined(text, stop), False
    newlines = text.count("\n", stop, resume)
    if newlines > 1:
        return True, True
    if newlines and _ITEM.match(text, text.rfind("\n", stop, resume) + 1):
        return not _enumerates(text, match.start(), line), True
    if text[resume] in ".…" or (_continues(text, resume) and mark not in _OTHER):
        # More dots: the leaders of a table of contents.
        return False, False
    if mark != "." or match.start("close") - match.start() > 1:
        return True, False
    return _period_ends(text, match.start(), resume, line), False


def _quoted_on(text: str, at: int) -> bool:
    """Whether the sentence goes on after a quotation that ended: Japanese 「行く？」と言った."""
    return text[at - 1] in "」』）”" and text[at] in "とっ、，,"


def _enumerates(text: str, at: int, line: int) -> bool:
    """Whether the period at `at` belongs to the number of a list item: it is the first word of its line."""
    return at - line <= _LOOK_BEHIND and _ENUMERATOR.match(text[line:at].strip()) is not None


def _period_ends(text: str, at: int, resume: int, line: int) -> bool:
    """Whether the one period at `at`, with white space and no small letter after it, ends a sentence."""
    before = _WORD_BEFORE.search(text[max(line, at - _LOOK_BEHIND) : at])
    word = before[0] if before else ""
    follows = _NEXT_WORD.match(text, resume)
    after = follows[0] if follows and follows.end() - resume <= _LOOK_BEHIND else ""
    lower = word.lower()
    if _enumerates(text, at, line) or lower in TITLES:
        return False
    if not word and text[at - 1 : at].isspace():
        # The last leader before a page number.
        return not text[resume].isdigit()
    if lower in NUMBERED:
        # "No. 5", "Fig. (a)", "Eq. A", but "I said no. Then ..."
        return not (text[resume].isdigit() or text[resume] in "([" or (len(after) == 1 and after != "I"))
    if word.isdigit():
        return not (len(word) <= 2 and after.lower() in MONTHS)
    if lower in ENDING or "." in word or (len(word) == 1 and word.isupper()):
        # "U.S. Government", "J. Smith", "et al. (2004)", but "in the U.S. The ..."
        initial = len(after) == 1 and text[resume + 1 : resume + 2] == "."
        return after.lower() in STARTERS and after[:1].isupper() and not initial
    return True
