"""The answer to a retrieval: passages with numbered citations, within a budget of tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vecdb.knowledge.graphemes import joined
from vecdb.knowledge.sentences import units
from vecdb.knowledge.tokens import TokenCounter, estimate_tokens

# Chunks leave out the white space between them: a space inside a paragraph, an empty line between two. So a
# gap this small is white space, unless someone cut chunks of a single character; a larger one may hold text.
_MAX_GAP = 2
# Passages that share this much of the shorter one's word sequences say the same.
_DUPLICATE = 0.85
_SHINGLE = 4
_WORD = re.compile(r"\w+")
# A line of a passage that looks like a citation's number could pass for the beginning of another passage.
_MARKER = re.compile(r"^(\s*)\[(?=\d+\])", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Passage:
    """A hit to cite.

    Attributes:
        id: of the document.
        source, title: what it was cut from; a document that was not ingested is its own source.
        start, end: offsets of `text` in the source text, in code points; `end - start == len(text)`.
        text: the passage.
        score: of the search.
        author: who wrote the document: the authenticated principal.
        version: of the document.

    """

    id: str
    source: str
    start: int
    end: int
    text: str
    score: float
    author: str = ""
    version: int = 0
    title: str = ""


@dataclass(frozen=True, slots=True)
class Citation:
    """What the number in the context's text stands for.

    The fields are those of `Passage`. Where several passages of a source were merged, `id`, `score` and
    `version` are those of the best ranked one and `ids` has them all, in order of their offsets; `start`
    and `end` are those of the whole. `truncated` tells that the passage was cut to fit the budget.
    """

    number: int
    id: str
    source: str
    title: str
    start: int
    end: int
    score: float
    author: str
    version: int
    text: str
    ids: tuple[str, ...] = ()
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """Cited passages: `text` as a model is to read it, what its numbers stand for, and its size in tokens."""

    text: str
    sources: tuple[Citation, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class _Block:
    """Passages of one source that touch, as one."""

    best: Passage
    start: int
    end: int
    text: str
    parts: tuple[Passage, ...]
    truncated: bool = False


def build_context(
    passages: Iterable[Passage], token_budget: int, *, count_tokens: TokenCounter | None = None
) -> Context:
    """Choose and lay out passages, the best first.

    Each is "[n] text", separated by blank lines. Passages of one source and author that overlap or touch
    become one; those that repeat another are left out; those that do not fit are passed over for ones that
    do. If not even the first fits, it is cut at the end of a sentence, or else between words. A line in a
    passage that begins like a citation ("[3]") gets a backslash in the context's text (not in the
    citation's), so that no passage can pass for several.

    Args:
        passages: ranked, the best first.
        token_budget: `Context.tokens` never exceeds it, citation marks included.
        count_tokens: the reading model's counter; by default `estimate_tokens`.

    Raises:
        ValueError: for a negative budget.

    """
    if token_budget < 0:
        raise ValueError("token_budget cannot be negative")
    count = count_tokens or estimate_tokens
    sizes: dict[str, int] = {}

    def size(block: _Block) -> int:
        """Tokens of a block with its number and the blank line after it; each text is counted once."""
        if block.text not in sizes:
            sizes[block.text] = count(_render([block]) + "\n\n")
        return sizes[block.text]

    blocks: list[_Block] = []
    shingles: list[frozenset[tuple[str, ...]]] = []
    for passage in passages:
        known = _shingles(passage.text)
        if not passage.text.strip() or any(_repeats(known, other) for other in shingles):
            continue
        merged = _merge(blocks, passage)
        if sum(map(size, merged)) <= token_budget:
            blocks = merged
            shingles.append(known)
        elif not blocks and (cut := _truncate(passage, token_budget, count)) is not None:
            blocks = [cut]
            break
    # The sizes were added up, and tokenizers are not exactly additive: the text as it is has the last word.
    while blocks and count(_render(blocks)) > token_budget:
        blocks.pop()
    text = _render(blocks)
    return Context(
        text,
        tuple(_cite(number, block) for number, block in enumerate(blocks, 1)),
        count(text) if text else 0,
    )


def _render(blocks: Sequence[_Block]) -> str:
    escaped = (_MARKER.sub(r"\1\[", block.text) for block in blocks)
    return "\n\n".join(f"[{number}] {text}" for number, text in enumerate(escaped, 1))


def _cite(number: int, block: _Block) -> Citation:
    best = block.best
    return Citation(
        number=number,
        id=best.id,
        source=best.source,
        title=best.title,
        start=block.start,
        end=block.end,
        score=best.score,
        author=best.author,
        version=best.version,
        text=block.text,
        ids=tuple(part.id for part in sorted(block.parts, key=lambda part: (part.start, part.end))),
        truncated=block.truncated,
    )


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    """Runs of words, for comparing texts (Broder, On the resemblance and containment of documents, 1997)."""
    words = _WORD.findall(text.lower())
    size = min(_SHINGLE, max(1, len(words)))
    return frozenset(tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1)))


def _repeats(new: frozenset[tuple[str, ...]], old: frozenset[tuple[str, ...]]) -> bool:
    """Whether a passage says little that an earlier, better one does not."""
    return len(new & old) >= _DUPLICATE * len(new)


def _merge(blocks: Sequence[_Block], passage: Passage) -> list[_Block]:
    """`blocks` with `passage` in the first of them that it touches, or else behind them.

    A passage may close the gap between two blocks; the better ranked one keeps its place.
    """
    result = list(blocks)
    grown = _Block(passage, passage.start, passage.end, passage.text, (passage,))
    place: int | None = None
    for at, block in enumerate(blocks):
        joined = _join(block, grown)
        if joined is None:
            continue
        if place is None:
            place, result[at] = at, joined
        else:
            result[place] = joined = replace(joined, best=grown.best)
            result[at] = replace(block, text="")
        grown = joined
    if place is None:
        result.append(grown)
    return [block for block in result if block.text]


def _join(block: _Block, other: _Block) -> _Block | None:
    """One block of two, or None if they do not touch, or do not agree where they overlap.

    Disagreement means that they were cut from different revisions of the source.
    """
    if block.best.source != other.best.source or block.best.author != other.best.author:
        return None
    left, right = (block, other) if block.start <= other.start else (other, block)
    gap = right.start - left.end
    if gap > _MAX_GAP:
        return None
    if gap > 0:
        text = left.text + (" " if gap == 1 else "\n\n") + right.text
    else:
        overlap = min(-gap, len(right.text))
        at = right.start - left.start
        if left.text[at : at + overlap] != right.text[:overlap]:
            return None
        text = left.text + right.text[overlap:]
    return _Block(block.best, left.start, max(left.end, right.end), text, left.parts + right.parts)


def _truncate(passage: Passage, budget: int, count: TokenCounter) -> _Block | None:
    """The longest beginning of a passage that fits alone: whole sentences, or else words, or characters."""
    text = passage.text
    sentences = [unit.end for unit in units(text)]
    words = [match.end() for match in re.finditer(r"\S+", text[: sentences[0]])]
    characters = [at for at in range(1, words[0]) if not joined(text, at)]
    for ends in (sentences, words, characters):
        if (block := _longest(passage, ends, budget, count)) is not None:
            return block
    return None


def _longest(passage: Passage, ends: Sequence[int], budget: int, count: TokenCounter) -> _Block | None:
    """Search the ends by halving: more text has more tokens, or so little fewer that it is no matter."""
    low, high, best = 0, len(ends) - 1, None
    while low <= high:
        middle = (low + high) // 2
        end = ends[middle]
        block = _Block(passage, passage.start, passage.start + end, passage.text[:end], (passage,), True)
        if count(_render([block])) <= budget:
            best, low = block, middle + 1
        else:
            high = middle - 1
    return best
