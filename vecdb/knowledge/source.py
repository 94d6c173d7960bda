"""A source: the text that chunks are cut from, and what a citation needs to point into it."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from vecdb.knowledge.chunking import CHUNKER_VERSION, Section

# Raise it when a parser extracts another text from the same bytes: it is part of every content hash.
PARSER_VERSION = 1


class Format(StrEnum):
    """What a source is written in; the value is its media type."""

    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    PDF = "application/pdf"
    JSONL = "application/jsonl"
    CSV = "text/csv"
    TSV = "text/tab-separated-values"
    NPY = "application/x-npy"
    FVECS = "application/x-fvecs"
    BVECS = "application/x-bvecs"

    @property
    def is_vectors(self) -> bool:
        """Whether it holds vectors, which `vecdb.knowledge.vectors` reads, rather than text."""
        return self in {Format.NPY, Format.FVECS, Format.BVECS}

    @property
    def needs_sandbox(self) -> bool:
        """Whether its parser is large and native enough to be kept in a child process."""
        return self in {Format.HTML, Format.PDF}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a source may cost.

    Attributes:
        max_bytes: size of the file.
        max_chars: code points of text out of one source.
        max_records: lines of a JSONL file, rows of a CSV file, rows of vectors.
        max_record_bytes: length of one line of JSONL, or one row of CSV.
        max_depth: nesting of the metadata.
        max_pages: pages of a PDF.

    """

    max_bytes: int = 64 << 20
    max_chars: int = 32 << 20
    max_records: int = 1_000_000
    max_record_bytes: int = 4 << 20
    max_depth: int = 16
    max_pages: int = 10_000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class SourceText:
    """The text of one source.

    Attributes:
        source: its stable name: a relative path, or "file.jsonl#id" for a record.
        title: for people; empty if it has none.
        text: what offsets point into, in code points. For text and Markdown it is the file itself (after
            its byte order mark); for HTML and PDF it is the extracted text.
        media_type: of the file it came from.
        metadata: becomes part of the payload of each chunk; JSON types only.
        sections: headings, in order of their offsets.
        pages: offset at which each page of a PDF begins; empty for other formats.
        notes: what was odd about the file but could be read all the same. Not part of the hash.
        content_hash: SHA-256, in hexadecimal, over all the above but `source` and `notes`, and over
            the versions of parser and chunker. The same hash means the same chunks.

    """

    source: str
    text: str
    title: str = ""
    media_type: str = Format.TEXT.value
    metadata: Mapping[str, Any] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    pages: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    content_hash: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "content_hash", _content_hash(self))

    def page_at(self, offset: int) -> int | None:
        """The page (from 1) that the character at `offset` is on, or None if there are no pages."""
        return bisect_right(self.pages, offset) or None


def _content_hash(source: SourceText) -> str:
    described = [
        PARSER_VERSION,
        CHUNKER_VERSION,
        source.title,
        source.media_type,
        source.metadata,
        [[section.start, section.title] for section in source.sections],
        source.pages,
    ]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, separators=(",", ":")).encode())
    # The description is JSON, which has no zero byte: the text cannot be mistaken for a part of it.
    digest.update(b"\0")
    digest.update(source.text.encode())
    return digest.hexdigest()
