"""What can be wrong with a source."""

from __future__ import annotations


class SourceError(ValueError):
    """A source that cannot be read.

    Args:
        name: the source, as the user named it.
        message: what is wrong, in words for the person who has the file.
        where: the place inside the source ("line 7", "byte 1024", "row 3"), if it is known.

    """

    def __init__(self, name: str, message: str, where: str | None = None) -> None:
        super().__init__(f"{name}, {where}: {message}" if where else f"{name}: {message}")
        self.name = name
        self.message = message
        self.where = where


class ParseTimeout(SourceError):
    """The parser was stopped at its limit of processor or wall-clock time."""


class ParseTooLarge(SourceError):
    """The source, or what comes out of it, is larger than a limit allows; the message names the limit."""
