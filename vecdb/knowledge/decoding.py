"""From bytes to text, refusing what is none."""

from __future__ import annotations

import codecs
import re

from vecdb.knowledge.errors import SourceError

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# No text has these; tab, line ends, form feed, backspace and escape (logs, manual pages) occur.
_BINARY = re.compile("[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f]")
_BINARY_BYTES = re.compile(rb"[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f]")
_SURROGATES = re.compile("[\ud800-\udfff]")
# A stray control character is damage that a reader skips; this many in a thousand is no text.
_TOLERATED = 0.001


def byte_order_mark(data: bytes) -> tuple[bytes, str] | None:
    """The byte order mark that `data` begins with, and the encoding it stands for."""
    return next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), None)


def looks_binary(head: bytes) -> bool:
    """Whether the first bytes of a file are no text in any encoding that is read here."""
    if byte_order_mark(head) is not None:
        return False
    return b"\0" in head or len(_BINARY_BYTES.findall(head)) > len(head) * 0.02


def decode(name: str, data: bytes, declared: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Decode a text file.

    A byte order mark decides; else the declared encoding (of an HTML page) if it fits; else UTF-8; else
    Windows-1252, the superset of Latin-1 that files without a declaration are in, with a note.

    Returns:
        The text, without its byte order mark, and notes.

    Raises:
        SourceError: if the bytes are no text.

    """
    mark = byte_order_mark(data)
    if mark is not None:
        text = _strict(name, data[len(mark[0]) :], mark[1])
        notes: tuple[str, ...] = ()
    else:
        text, notes = _guess(name, data, declared)
    found = _BINARY.findall(text)
    if "\0" in found or len(found) > len(text) * _TOLERATED:
        where = _BINARY.search(text)
        raise SourceError(name, "binary data, not text", f"character {where.start() if where else 0}")
    return text, notes


def _strict(name: str, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise SourceError(name, f"not valid {encoding}: {error.reason}", f"byte {error.start}") from None


def _guess(name: str, data: bytes, declared: str | None) -> tuple[str, tuple[str, ...]]:
    if declared is not None:
        try:
            return data.decode(declared), ()
        except (UnicodeDecodeError, LookupError):
            pass
    try:
        return data.decode(), ()
    except UnicodeDecodeError as error:
        if _BINARY_BYTES.search(data[:65536]):
            raise SourceError(
                name, "neither UTF-8 nor text of one byte a character", f"byte {error.start}"
            ) from None
        note = f"not UTF-8 at byte {error.start}: read as Windows-1252"
    try:
        return data.decode("cp1252"), (note,)
    except UnicodeDecodeError:
        return data.decode("latin-1"), (note.replace("Windows-1252", "Latin-1"),)


def without_surrogates(text: str) -> str:
    """`text` with lone surrogates, which JSON can spell and UTF-8 cannot, as U+FFFD."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)
