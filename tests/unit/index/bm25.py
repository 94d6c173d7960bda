"""BM25 in plain Python, to hold the engine's against: documents are texts by id, looked at one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

K1, B = 1.2, 0.75

# What the stemmer of English makes of the words that tests use; others stay as they are.
STEMS = {"dogs": "dog", "running": "run", "runs": "run", "ponies": "poni", "pony": "poni"}
WORDS = ["dog", "dogs", "cat", "run", "running", "the", "of", "π", "pony"]


@dataclass(frozen=True)
class Asked:
    """Parts are words, more than one for a phrase; ``text`` says the same to the engine."""

    must: tuple[tuple[str, ...], ...] = ()
    should: tuple[tuple[str, ...], ...] = ()
    must_not: tuple[tuple[str, ...], ...] = ()

    @property
    def text(self) -> str:
        signed = [("+", self.must), ("", self.should), ("-", self.must_not)]
        return " ".join(sign + _quoted(part) for sign, parts in signed for part in parts)


def _quoted(part: Sequence[str]) -> str:
    return part[0] if len(part) == 1 else '"' + " ".join(part) + '"'


def terms(text: str | None) -> list[str]:
    return [STEMS.get(word, word) for word in (text or "").split()]


def scores(
    texts: Mapping[str, str | None], asked: Asked, among: Mapping[str, str | None]
) -> dict[str, float]:
    """The score of each document that matches; statistics are those of ``among``."""
    every = [words for text in among.values() if (words := terms(text))]
    if not every:
        return {}
    average = sum(map(len, every)) / len(every)
    weights = {part: _weight(terms(" ".join(part)), every) for part in (*asked.must, *asked.should)}
    found = {}
    for id_, text in texts.items():
        words = terms(text)
        counts = {part: _count(words, terms(" ".join(part))) for part in (*weights, *asked.must_not)}
        if any(counts[part] for part in asked.must_not):
            continue
        needed = [counts[part] > 0 for part in asked.must or asked.should]
        if all(needed) if asked.must else any(needed):
            norm = K1 * (1 - B + B * len(words) / average)
            parts = (*asked.must, *asked.should)
            found[id_] = sum(
                weights[part] * counts[part] * (K1 + 1) / (counts[part] + norm) for part in parts
            )
    return found


def _count(words: Sequence[str], part: Sequence[str]) -> int:
    if len(part) == 1:
        return words.count(part[0])
    return sum(list(words[at : at + len(part)]) == list(part) for at in range(len(words) - len(part) + 1))


def _weight(part: Sequence[str], every: Sequence[Sequence[str]]) -> float:
    total = 0.0
    for term in part:
        having = sum(term in words for words in every)
        total += math.log(1 + (len(every) - having + 0.5) / (having + 0.5))
    return total


def assert_best(got: Sequence[tuple[str, float]], wanted: Mapping[str, float], k: int) -> None:
    """``got`` are the k best: by score, those that are equal by id; rounding may swap near neighbours."""
    assert len(got) == min(k, len(wanted))
    assert len(dict(got)) == len(got)
    for id_, score in got:
        assert math.isclose(score, wanted[id_], rel_tol=1e-4), (id_, score, wanted[id_])
    assert list(got) == sorted(got, key=lambda hit: (-hit[1], hit[0]))
    if got:
        left = max((score for id_, score in wanted.items() if id_ not in dict(got)), default=0.0)
        assert got[-1][1] >= left * (1 - 1e-4)
