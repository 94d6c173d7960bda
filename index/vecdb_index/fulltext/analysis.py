"""From text to terms: what counts as a word, and which words count as the same one.

A text is brought to NFKC and case-folded, cut at everything that is no letter, digit or mark, stemmed by the
Snowball algorithm of its language, and loses its accents. Scripts that put no spaces between words are cut
into single characters; a query looks for pairs of adjacent ones, so that a word of two is found as itself.
No word is left out for being frequent: such words weigh next to nothing, and phrases need them.

A term is known by 64 bits of the BLAKE2b digest of its stem, which makes dictionaries arrays of integers that
numpy merges. Among ten million words the chance that any two share theirs is 3 in a million, and then they
are taken for one.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import cache
from itertools import pairwise
from typing import Any, Final, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt
import Stemmer

U64: TypeAlias = npt.NDArray[np.uint64]

ENGLISH: Final = "en"

_RULES: Final = 1  # counted up when the rules above change
_KNOWN_WORDS: Final = 1 << 18  # whose terms are remembered, a language
_LONGEST: Final = 64  # characters; what is longer is no word of a language, and neither stemmed nor kept
# Han, kana, Thai, Lao, Myanmar, Khmer.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003134f"
)
_RUNS: Final = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_IS_UNSPACED: Final = re.compile(f"[{_UNSPACED}]")
_ACCENTS: Final = re.compile("[\u0300-\u036f]")


class _Characters(dict[int, str]):
    """What ``str.translate`` puts in a character's place."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if unicodedata.category(char)[0] not in "LNM":
            char = " "
        elif _IS_UNSPACED.match(char):
            char = f" {char} "
        self[code] = char
        return char


_CHARACTERS: Final = _Characters()


class _Terms(dict[str, int]):
    """The terms of words in one language, remembered."""

    def __init__(self, stemmer: Any) -> None:
        super().__init__()
        self._stemmer = stemmer

    def __missing__(self, word: str) -> int:
        if len(word) > _LONGEST:
            return _digest(word)
        stem = word if self._stemmer is None else self._stemmer.stemWord(word)
        if not stem.isascii():
            plain = _ACCENTS.sub("", unicodedata.normalize("NFD", stem))
            stem = unicodedata.normalize("NFC", plain)
        if len(self) >= _KNOWN_WORDS:
            self.clear()
        term = self[word] = _digest(stem)
        return term


def _digest(stem: str) -> int:
    data = stem.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


class Analyzer:
    """Terms of texts in one language. Any thread may use it."""

    def __init__(self, language: str) -> None:
        try:
            # Without a cache of its own: words are remembered here.
            stemmer = Stemmer.Stemmer(language, 0)
        except KeyError:
            stemmer = None
        self._terms = _Terms(stemmer)
        told = f"{_RULES} {language} {Stemmer.version()} {unicodedata.unidata_version}"
        self.identity: Final = crc32(told.encode())
        """Differs where the same text may have other terms: what was indexed so is indexed again."""

    def terms(self, text: str) -> U64:
        """The terms of a text, one for each word of it, in order."""
        words = _normal(text).translate(_CHARACTERS).split()
        return np.fromiter(map(self._terms.__getitem__, words), dtype=np.uint64, count=len(words))

    def clauses(self, text: str) -> list[tuple[int, ...]]:
        """What of a query's text must be found together: words by themselves, pairs of unspaced
        characters."""
        found: list[tuple[int, ...]] = []
        for run in _RUNS.findall(_normal(text)):
            terms = self.terms(run).tolist()
            if len(terms) > 1 and _IS_UNSPACED.match(run):
                found += pairwise(terms)
            else:
                found += [(term,) for term in terms]
        return found


def _normal(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


@cache
def analyzer(language: str) -> Analyzer:
    """The analyzer of a language by its ISO 639-1 code; one without a stemmer takes words as they are."""
    return Analyzer(language)
