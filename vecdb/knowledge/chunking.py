"""Cutting a text into passages at the ends of sentences."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vecdb.knowledge.graphemes import boundary_at_or_before
from vecdb.knowledge.sentences import Unit, units
from vecdb.knowledge.tokens import TokenCounter, estimate_tokens

# Part of every content hash: raise it when the same text would be cut differently, and a second ingest
# then cuts every source again.
CHUNKER_VERSION = 1


@dataclass(frozen=True, slots=True)
class Section:
    """A heading: `start` is the offset where it stands, `title` its path ("Install > Linux")."""

    start: int
    title: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: `text` is the source text's `[start:end]`, in code points; `section` the heading above."""

    text: str
    start: int
    end: int
    section: str = ""


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """How large passages are.

    Attributes:
        target_tokens: a chunk is closed where it comes nearest to this.
        max_tokens: no chunk has more, unless a single character does.
        overlap_sentences: how many sentences of a chunk the next one repeats, within half a target.

    """

    target_tokens: int = 200
    max_tokens: int = 256
    overlap_sentences: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.target_tokens <= self.max_tokens:
            raise ValueError("chunking needs 1 <= target_tokens <= max_tokens")
        if self.overlap_sentences < 0:
            raise ValueError("overlap_sentences cannot be negative")


@dataclass(frozen=True, slots=True)
class _Part:
    """A unit with its size in tokens, white space after it included."""

    start: int
    end: int
    tokens: int
    opens: bool
    section: int


def chunk(
    text: str,
    *,
    target_tokens: int = 200,
    max_tokens: int = 256,
    overlap_sentences: int = 1,
    count_tokens: TokenCounter | None = None,
    sections: Sequence[Section] = (),
) -> list[Chunk]:
    """Cut `text` into passages of about `target_tokens`.

    `text[c.start:c.end] == c.text` for each chunk, in order of their offsets; every character that is not
    white space is in at least one. A sentence is cut only if it alone exceeds `max_tokens`: then between
    words, and inside a word only where a word alone exceeds it. The same arguments give the same chunks.

    Args:
        text: the source text.
        target_tokens: see `ChunkOptions`.
        max_tokens: see `ChunkOptions`.
        overlap_sentences: see `ChunkOptions`.
        count_tokens: an exact counter (a model's tokenizer); by default `estimate_tokens`.
        sections: headings in order of their offsets; a chunk prefers to begin at one.

    Raises:
        ValueError: for sizes that make no sense.

    """
    options = ChunkOptions(target_tokens, max_tokens, overlap_sentences)
    count = count_tokens or estimate_tokens
    parts = list(_parts(text, options, count, [section.start for section in sections]))
    chunks: list[Chunk] = []
    for first, last in _pack(parts, options):
        # Counters of real tokenizers are not exactly additive: the whole is counted once more, and what
        # does not fit after all is cut like a long sentence.
        start, end = parts[first].start, parts[last].end
        whole = count_tokens is None or first == last or count_tokens(text[start:end]) <= max_tokens
        spans = [(start, end)] if whole else _split(text, start, end, options, count)
        heading = parts[first].section
        title = sections[heading].title if heading >= 0 else ""
        chunks.extend(Chunk(text[a:b], a, b, title) for a, b in spans)
    return chunks


def _parts(text: str, options: ChunkOptions, count: TokenCounter, starts: list[int]) -> Iterator[_Part]:
    """The units of `text`, cut where they exceed `max_tokens`, with their sizes.

    A size includes the white space up to the next part: then the sizes of the parts of a chunk bound its own.
    """
    limit = options.max_tokens
    found = list(units(text))
    for index, unit in enumerate(found):
        section = bisect_right(starts, unit.start) - 1 if starts else -1
        until = found[index + 1].start if index + 1 < len(found) else unit.end
        tokens = count(text[unit.start : until])
        if tokens <= limit or (until > unit.end and count(text[unit.start : unit.end]) <= limit):
            yield _Part(unit.start, unit.end, tokens, unit.opens, section)
            continue
        spans = list(_split_unit(text, unit, options, count))
        for (start, end), after in zip(spans, [*(start for start, _ in spans[1:]), until], strict=True):
            yield _Part(start, end, count(text[start:after]), start == unit.start and unit.opens, section)


def _split_unit(
    text: str, unit: Unit, options: ChunkOptions, count: TokenCounter
) -> Iterator[tuple[int, int]]:
    """Spans of a unit that is too long; code is cut between lines where they fit."""
    if not unit.code:
        yield from _split(text, unit.start, unit.end, options, count)
        return
    at = start = unit.start
    tokens = 0
    for line in text[unit.start : unit.end].splitlines(keepends=True):
        size = count(line)
        if tokens and tokens + size > options.target_tokens:
            yield from _trimmed(text, start, at, options, count)
            start, tokens = at, 0
        at += len(line)
        tokens += size
    yield from _trimmed(text, start, at, options, count)


def _trimmed(
    text: str, start: int, end: int, options: ChunkOptions, count: TokenCounter
) -> list[tuple[int, int]]:
    body = text[start:end]
    start, end = start + len(body) - len(body.lstrip()), end - (len(body) - len(body.rstrip()))
    if start >= end:
        return []
    if count(text[start:end]) <= options.max_tokens:
        return [(start, end)]
    return list(_split(text, start, end, options, count))


def _split(
    text: str, start: int, end: int, options: ChunkOptions, count: TokenCounter
) -> Iterator[tuple[int, int]]:
    """Cut `text[start:end]` between words, or else between characters, into spans of at most `max_tokens`.

    Only a window of bounded length is ever counted, a few times at most, so the whole is linear.
    """
    limit = options.max_tokens
    at = start
    while at < end:
        window = 4 * limit
        while True:
            cut = _cut(text, at, min(at + window, end), end)
            tokens = count(text[at:cut])
            if tokens <= limit or window == 1:
                break
            window = max(1, min(window - 1, cut - at - 1, window * limit // tokens))
        yield at, at + len(text[at:cut].rstrip())
        at = cut
        while at < end and text[at].isspace():
            at += 1


def _cut(text: str, start: int, at: int, end: int) -> int:
    """The best place at or before `at` to cut a run that begins at `start`."""
    if at >= end or text[at].isspace():
        return at
    if text[at - 1].isspace():
        return start + len(text[start:at].rstrip())
    words = text[start:at].rsplit(None, 1)
    if len(words) == 2:
        return start + len(words[0])
    return boundary_at_or_before(text, at, start)


def _pack(parts: Sequence[_Part], options: ChunkOptions) -> Iterator[tuple[int, int]]:
    """Index ranges (first, last) of the parts of each chunk."""
    first = 0
    tokens = 0
    for index, part in enumerate(parts):
        if index > first and _closes(parts[index - 1], part, tokens, options):
            yield first, index - 1
            first, tokens = _overlap(parts, first, index, options)
        tokens += part.tokens
    if parts:
        yield first, len(parts) - 1


def _closes(last: _Part, part: _Part, tokens: int, options: ChunkOptions) -> bool:
    """Whether a chunk of `tokens` that ends with `last` is closed before `part`."""
    target = options.target_tokens
    after = tokens + part.tokens
    if after > options.max_tokens:
        return True
    if part.section != last.section:
        return tokens * 4 >= target
    if part.opens and tokens * 4 >= target * 3:
        return True
    return after - target > target - tokens


def _overlap(parts: Sequence[_Part], first: int, index: int, options: ChunkOptions) -> tuple[int, int]:
    """Where the chunk that begins with `parts[index]` starts once it repeats the end of the last one."""
    part = parts[index]
    room = min(options.target_tokens // 2, options.max_tokens - part.tokens)
    start, tokens = index, 0
    while (
        index - start < options.overlap_sentences
        and start - 1 > first
        and parts[start - 1].section == part.section
        and tokens + parts[start - 1].tokens <= room
    ):
        start -= 1
        tokens += parts[start].tokens
    return start, tokens
