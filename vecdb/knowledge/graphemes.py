"""Where a text may be cut without tearing what a reader sees as one character.

The rules are those of UAX #29 (extended grapheme clusters) as far as the standard library's tables
reach: combining marks, variation selectors, emoji modifiers, zero-width-joiner sequences, flags,
conjoining Hangul and CR LF.
"""

from __future__ import annotations

import unicodedata

# UAX #15 (Stream-Safe Text Format) bounds a run of marks in real text by 30. Longer runs are not
# writing, and looking back through them without a bound would make cutting quadratic.
MAX_CLUSTER = 32

_ZWJ = "\u200d"
_MARKS = frozenset({"Mn", "Mc", "Me"})


def _extends(char: str) -> bool:
    """Whether `char` belongs to the character before it."""
    return (
        unicodedata.category(char) in _MARKS
        or char in {_ZWJ, "\u200c"}
        or "\U0001f3fb" <= char <= "\U0001f3ff"
    )


def _is_flag_letter(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _hangul_joins(left: str, right: str) -> bool:
    """Rules GB6 to GB8: leading consonants, vowels and trailing consonants of one syllable."""
    if not "\u1100" <= right <= "\u11ff":
        return False
    if "\u1100" <= left <= "\u115f":
        return right <= "\u11a7"
    syllable = "\uac00" <= left <= "\ud7a3"
    if "\u1160" <= left <= "\u11a7" or (syllable and (ord(left) - 0xAC00) % 28 == 0):
        return right >= "\u1160"
    return ("\u11a8" <= left <= "\u11ff" or syllable) and right >= "\u11a8"


def joined(text: str, at: int) -> bool:
    """Whether `text[at - 1]` and `text[at]` belong to one cluster, `0 < at < len(text)`."""
    left, right = text[at - 1], text[at]
    if right < "\u0300":
        return left == "\r" and right == "\n"
    if _extends(right):
        return not left.isspace()
    if left == _ZWJ:
        # GB11 asks for a pictograph before the joiner; a joiner before a letter joins nothing.
        return unicodedata.category(right) == "So"
    if _is_flag_letter(right) and _is_flag_letter(left):
        # GB12: flags are pairs, counted from the start of the run.
        start = at
        while start > max(0, at - 2 * MAX_CLUSTER) and _is_flag_letter(text[start - 1]):
            start -= 1
        return (at - start) % 2 == 1
    return _hangul_joins(left, right)


def boundary_at_or_before(text: str, at: int, floor: int) -> int:
    """The last cluster boundary in `(floor, at]`, or else the first one after `at`.

    Args:
        text: any text.
        at: where one would like to cut, `floor < at <= len(text)`.
        floor: the result is greater than this, so that a caller who cuts there makes progress.

    A cluster of more than `MAX_CLUSTER` code points is cut like anything else.
    """
    cut = at
    while cut < len(text) and cut > floor and joined(text, cut):
        if at - cut >= MAX_CLUSTER:
            return at
        cut -= 1
    if cut > floor:
        return cut
    cut = at
    while cut < len(text) and cut - floor < MAX_CLUSTER and joined(text, cut):
        cut += 1
    return cut
