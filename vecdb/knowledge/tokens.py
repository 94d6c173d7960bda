"""Counting tokens, roughly.

An exact count needs the tokenizer of the model that will read the text; pass its counter wherever a
`count_tokens` is taken. Without one, this estimate stands in.
"""

from __future__ import annotations

from collections.abc import Callable

TokenCounter = Callable[[str], int]


def estimate_tokens(text: str) -> int:
    """About how many tokens a language model makes of `text`.

    Four thirds of the words, or a quarter of the UTF-8 bytes, whichever is more: English prose comes to
    1.3 tokens a word, while code, long words and scripts without spaces are told by their bytes.

    It never grows by joining: `estimate(a + b) <= estimate(a) + estimate(b)`, so sums of parts bound
    the whole, which is what packing under a limit relies on.
    """
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return max((4 * len(text.split()) + 2) // 3, (size + 3) // 4)
