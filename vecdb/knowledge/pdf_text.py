"""The text of a PDF, page by page. Runs in the sandbox's child process."""

from __future__ import annotations

import io
import logging

import pypdf
from pypdf.errors import LimitReachedError, PyPdfError

from vecdb.knowledge.decoding import without_surrogates
from vecdb.knowledge.errors import ParseTooLarge, SourceError
from vecdb.knowledge.source import Format, Limits, SourceText

# Fonts' ligatures, as letters: a search for "file" should find "ﬁle".
_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "\0": None}
)

# Its remarks about damaged files are not the operator's business; what matters is raised.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


def parse_pdf(name: str, data: bytes, limits: Limits) -> SourceText:
    """Extract the text of a PDF. `pages` has the offset of each page in it; images are not read.

    Raises:
        ParseTooLarge: for more pages or text than `limits` allows, or streams that unpack to too much.
        SourceError: for a damaged or encrypted file, or one without text (a scan).

    """
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise SourceError(name, "encrypted: a password is needed")
        count = len(reader.pages)
        if count > limits.max_pages:
            raise ParseTooLarge(name, f"{count} pages, more than max_pages ({limits.max_pages})")
        text, pages = _pages(name, reader, limits)
        about = reader.metadata
        title = _field(about.title) if about else ""
        author = _field(about.author) if about else ""
    except (SourceError, MemoryError):
        raise
    except LimitReachedError as error:
        raise ParseTooLarge(name, f"the PDF unpacks to too much: {error}") from None
    except PyPdfError as error:
        raise SourceError(name, f"not a readable PDF: {error}") from None
    except Exception as error:  # a damaged file can surface as nearly any exception in pypdf
        raise SourceError(name, f"not a readable PDF: {type(error).__name__}: {error}") from None
    if not text.strip():
        raise SourceError(name, "the PDF has no text (a scan?)")
    metadata = {"pages": count} | ({"pdf_author": author} if author else {})
    return SourceText(name, text, title, Format.PDF.value, metadata, pages=pages)


def _pages(name: str, reader: pypdf.PdfReader, limits: Limits) -> tuple[str, tuple[int, ...]]:
    texts: list[str] = []
    starts: list[int] = []
    size = 0
    for page in reader.pages:
        text = without_surrogates(page.extract_text().translate(_LIGATURES)).strip()
        starts.append(size)
        # One newline, so that a sentence that runs over the page is still one.
        texts.append(text + "\n")
        size += len(text) + 1
        if size > limits.max_chars:
            raise ParseTooLarge(name, f"more than max_chars ({limits.max_chars}) characters of text")
    return "".join(texts), tuple(starts)


def _field(value: str | None) -> str:
    return " ".join(without_surrogates(value or "").replace("\0", "").split())
