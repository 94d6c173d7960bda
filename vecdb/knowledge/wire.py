"""What the sandbox and its child processes say to each other.

A frame is four bytes of length, big-endian, and a msgpack map. The parent trusts nothing in it: a document
that took its parser over could answer anything, so answers are bounded in size and rebuilt field by field.
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from vecdb.knowledge.chunking import Section
from vecdb.knowledge.source import SourceText

HEADER = struct.Struct(">I")


class FrameError(ValueError):
    """An answer that is none."""


def pack(message: dict[str, Any]) -> bytes:
    """One frame."""
    body: bytes = msgpack.packb(message, use_bin_type=True)
    return HEADER.pack(len(body)) + body


def unpack(body: bytes) -> dict[str, Any]:
    """The message of a frame, its header left out.

    Raises:
        FrameError: if it is not a map.

    """
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=True)
    except Exception as error:  # msgpack raises a ValueError, a UnicodeDecodeError or its own kinds
        raise FrameError(f"not msgpack: {error}") from None
    if not isinstance(message, dict):
        raise FrameError("not a map")
    return message


def describe(text: SourceText) -> dict[str, Any]:
    """A source text as a message. Its hash is left out: who receives it computes its own."""
    return {
        "text": text.text,
        "title": text.title,
        "media_type": text.media_type,
        "metadata": dict(text.metadata),
        "sections": [[section.start, section.title] for section in text.sections],
        "pages": list(text.pages),
        "notes": list(text.notes),
    }


def rebuild(name: str, message: Any) -> SourceText:
    """The source text that `describe` described.

    Raises:
        FrameError: if it describes none.

    """
    try:
        text = SourceText(
            source=name,
            text=_string(message["text"]),
            title=_string(message["title"]),
            media_type=_string(message["media_type"]),
            metadata={_string(key): _scalar(value) for key, value in message["metadata"].items()},
            sections=tuple(Section(_offset(start), _string(title)) for start, title in message["sections"]),
            pages=tuple(_offset(page) for page in message["pages"]),
            notes=tuple(_string(note) for note in message["notes"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FrameError(f"not a source text: {error!r}") from None
    starts = [section.start for section in text.sections]
    if starts != sorted(starts) or list(text.pages) != sorted(text.pages):
        raise FrameError("offsets out of order")
    return text


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _scalar(value: Any) -> str | int:
    if not isinstance(value, str | int):
        raise TypeError("neither string nor integer")
    return value


def _offset(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError("not an offset")
    return value
