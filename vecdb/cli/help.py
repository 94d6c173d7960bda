"""Help texts."""

from __future__ import annotations


def examples(*lines: str) -> str:
    """Examples for the end of a command's help, kept as they are (that is what \\b says)."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
