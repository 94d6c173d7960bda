"""What is looked for in words.

    words           any of them; the more of them a text has, the rarer and the oftener, the better
    "some words"    one after the other
    +this -that     the first must be there, the second must not; so too before quotes and parentheses
    a AND b, a OR b, NOT a, (...)

AND binds tighter than OR, and OR is what is meant where nothing is said. Every string is a query: what is
open at the end ends there, and a sign that stands where it says nothing is not heard. One without a word to
look for finds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from vecdb_index.fulltext.analysis import ENGLISH, Analyzer, analyzer

MAX_DEPTH: Final = 32

_TOKEN: Final = re.compile(
    r'(?P<sign>[+-](?=["(]|[^\W_]))?(?:"(?P<phrase>[^"]*)"?|(?P<paren>[()])|(?P<word>[^\s()"]+))'
)
# Without any of these a query is words alone.
_SIGNS: Final = re.compile(r"""["(+-]|AND|OR|NOT""")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A term, or terms that must stand one after the other."""

    terms: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Clause:
    """All of ``must``, none of ``must_not``, and where nothing must be there one of ``should``."""

    must: tuple[Node, ...] = ()
    should: tuple[Node, ...] = ()
    must_not: tuple[Node, ...] = ()


Node: TypeAlias = Leaf | Clause


@dataclass(frozen=True, slots=True)
class WordQuery:
    """A query, understood. ``terms`` are those that score, each once, ascending."""

    root: Clause
    terms: tuple[int, ...]

    @property
    def plain(self) -> bool:
        """Whether it is words alone, any of which will do."""
        root = self.root
        alone = all(isinstance(node, Leaf) and len(node.terms) == 1 for node in root.should)
        return alone and not root.must and not root.must_not


def parse_words(text: str, language: str = ENGLISH, *, plain: bool = False) -> WordQuery:
    """Understand a query, in the language of the texts.

    A ``plain`` one has no signs: its words are looked for, whatever stands between them. ValueError where
    parentheses are nested too deeply.
    """
    words = analyzer(language)
    if plain or not _SIGNS.search(text):
        root = Clause(should=_leaves(words, text))
    else:
        root = _Parser(text, words).parsed()
    return WordQuery(root, tuple(sorted(set(_terms(root)))))


def _leaves(words: Analyzer, text: str) -> tuple[Leaf, ...]:
    return tuple(map(Leaf, words.clauses(text)))


def _terms(node: Node) -> Iterator[int]:
    if isinstance(node, Leaf):
        yield from node.terms
    else:
        for inner in (*node.must, *node.should):
            yield from _terms(inner)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "word", "phrase", "(", ")", "and", "or", "not"
    text: str = ""
    sign: str = ""


_OPERATORS: Final = {"AND": "and", "OR": "or", "NOT": "not"}


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        sign = match["sign"] or ""
        before = text[match.start() - 1] if match.start() else " "
        if not (before.isspace() or before == "("):
            sign = ""
        if match["phrase"] is not None:
            yield _Token("phrase", match["phrase"], sign)
        elif match["paren"] is not None:
            yield _Token(match["paren"], "", sign)
        else:
            word = match["word"]
            yield _Token(_OPERATORS.get(word, "word") if not sign else "word", word, sign)


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, text: str, words: Analyzer) -> None:
        self._tokens = list(_tokens(text))
        self._words = words
        self._at = 0

    def parsed(self) -> Clause:
        """The whole query. A parenthesis that closes nothing is passed over."""
        parts: dict[str, list[Node]] = {"": [], "+": [], "-": []}
        while self._at < len(self._tokens):
            self._sequence(parts, 0)
            self._at += 1
        return _clause(parts)

    def _sequence(self, parts: dict[str, list[Node]], depth: int) -> None:
        """Up to the parenthesis that closes it, or the end."""
        while (token := self._peek()) is not None and token.kind != ")":
            if token.kind in ("and", "or"):
                self._at += 1
                continue
            chain = [self._signed(depth)]
            while (token := self._peek()) is not None and token.kind == "and":
                self._at += 1
                if (token := self._peek()) is None or token.kind in (")", "or"):
                    break
                chain.append(self._signed(depth))
            if len(chain) > 1:
                chain = [("", [_all_of(chain)])]
            ((sign, nodes),) = chain
            _put(parts, sign, nodes)

    def _signed(self, depth: int) -> tuple[str, list[Node]]:
        """One thing to look for, and its sign: what of it stands alone."""
        sign = ""
        while (token := self._peek()) is not None and token.kind in ("not", "and"):
            sign = "-" if token.kind == "not" else sign
            self._at += 1
        if token is None or token.kind in (")", "or"):
            return "", []
        self._at += 1
        sign = sign or token.sign
        if token.kind == "(":
            if depth == MAX_DEPTH:
                raise ValueError(f"parentheses are nested too deeply; the limit is {MAX_DEPTH}")
            parts: dict[str, list[Node]] = {"": [], "+": [], "-": []}
            self._sequence(parts, depth + 1)
            self._at += 1
            inner = _clause(parts)
            if inner.must_not and not inner.must and not inner.should and sign != "-":
                return "-", list(inner.must_not)
            return sign, [inner] if inner != Clause() else []
        if token.kind == "phrase":
            terms = tuple(self._words.terms(token.text).tolist())
            return sign, [Leaf(terms)] if terms else []
        leaves: list[Node] = list(_leaves(self._words, token.text))
        if len(leaves) > 1 and (sign or self._in_chain()):
            # Of a word that is cut, here all must be there.
            return sign, [Leaf(tuple(self._words.terms(token.text).tolist()))]
        return sign, leaves

    def _in_chain(self) -> bool:
        """Whether the token just read is what AND is about."""
        beside = (self._at - 2, self._at)
        return any(0 <= at < len(self._tokens) and self._tokens[at].kind == "and" for at in beside)

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None


def _all_of(chain: Sequence[tuple[str, list[Node]]]) -> Clause:
    must = [node for sign, nodes in chain if sign != "-" for node in nodes]
    return Clause(tuple(must), (), tuple(node for sign, nodes in chain if sign == "-" for node in nodes))


def _put(parts: dict[str, list[Node]], sign: str, nodes: Sequence[Node]) -> None:
    for node in nodes:
        if not sign and isinstance(node, Clause) and not node.must and not node.must_not:
            parts[sign] += node.should  # any of any is any
        else:
            parts[sign].append(node)


def _clause(parts: dict[str, list[Node]]) -> Clause:
    return Clause(tuple(parts["+"]), tuple(parts[""]), tuple(parts["-"]))
