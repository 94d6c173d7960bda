"""Headings of a Markdown text, as sections with paths."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vecdb.knowledge.chunking import Section
from vecdb.knowledge.sentences import code_spans

_HEADING = re.compile(
    r"^ {0,3}(?P<marks>#{1,6})[ \t]+(?P<atx>[^\n]*)$"
    r"|^ {0,3}(?P<setext>[^\s>#|+*-][^\n]*)\n {0,3}(?P<under>=+|-{2,})[ \t]*\r?$",
    re.MULTILINE,
)
_CLOSING_MARKS = re.compile(r"(?:^|[ \t]+)#+[ \t\r]*$")
# An underscore inside a word is a part of it (CommonMark 0.31, section 6.2).
_MARKUP = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)|!?\[([^\]]*)\]\([^)]*\)")


def sections_of(headings: Iterable[tuple[int, int, str]]) -> tuple[Section, ...]:
    """Turn headings (offset, level from 1, title) into sections whose titles are paths: "Install > Linux"."""
    path: list[tuple[int, str]] = []
    sections = []
    for start, level, title in headings:
        while path and path[-1][0] >= level:
            path.pop()
        path.append((level, title))
        sections.append(Section(start, " > ".join(name for _, name in path)))
    return tuple(sections)


def markdown_outline(text: str) -> tuple[str, tuple[Section, ...]]:
    """The title (the first heading of the highest level) and the sections of a Markdown text.

    ATX and setext headings (CommonMark 4.2 and 4.3); those inside fenced code are none.
    """
    headings = list(_headings(text))
    if not headings:
        return "", ()
    highest = min(level for _, level, _ in headings)
    title = next(title for _, level, title in headings if level == highest)
    return title, sections_of(headings)


def _headings(text: str) -> Iterable[tuple[int, int, str]]:
    code = iter(code_spans(text))
    begin, end = next(code, (len(text), len(text)))
    for match in _HEADING.finditer(text):
        while end <= match.start() and begin < len(text):
            begin, end = next(code, (len(text), len(text)))
        if begin <= match.start() < end:
            continue
        if match["marks"]:
            level, title = len(match["marks"]), _CLOSING_MARKS.sub("", match["atx"])
        else:
            level, title = (1 if match["under"][0] == "=" else 2), match["setext"]
        title = _MARKUP.sub(lambda part: part[1] or "", title).strip()
        if title:
            yield match.start(), level, title
