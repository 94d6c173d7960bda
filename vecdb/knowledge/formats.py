"""What a file is, and its parser."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from vecdb.knowledge.decoding import decode, looks_binary
from vecdb.knowledge.errors import ParseTooLarge, SourceError
from vecdb.knowledge.outline import markdown_outline
from vecdb.knowledge.records import iter_jsonl, parse_table
from vecdb.knowledge.source import DEFAULT_LIMITS, Format, Limits, SourceText

_SUFFIXES = {
    ".txt": Format.TEXT,
    ".text": Format.TEXT,
    ".md": Format.MARKDOWN,
    ".markdown": Format.MARKDOWN,
    ".html": Format.HTML,
    ".htm": Format.HTML,
    ".xhtml": Format.HTML,
    ".pdf": Format.PDF,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".npy": Format.NPY,
    ".fvecs": Format.FVECS,
    ".bvecs": Format.BVECS,
}
# Bytes of a file that are enough to tell its format.
HEAD_BYTES = 4096


def detect(name: str, head: bytes) -> Format:
    """Tell the format of a file by its first bytes where they are plain, else by its name, else by a guess.

    Args:
        name: its name; only the suffix matters.
        head: its first bytes, `HEAD_BYTES` or fewer.

    Raises:
        SourceError: for binary data of no format that is read here.

    """
    if head.startswith(b"%PDF-"):
        return Format.PDF
    if head.startswith(b"\x93NUMPY"):
        return Format.NPY
    known = _SUFFIXES.get(PurePosixPath(name).suffix.lower())
    if known is not None:
        return known
    if looks_binary(head):
        raise SourceError(name, "binary data of no format that can be read")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:15].lower().startswith((b"<!doctype html", b"<html")):
        return Format.HTML
    if start.startswith(b"{") and _is_json(start.partition(b"\n")[0]):
        return Format.JSONL
    return Format.TEXT


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def parse(
    name: str,
    data: bytes,
    format: Format | None = None,  # noqa: A002 -- the word for it
    limits: Limits = DEFAULT_LIMITS,
) -> list[SourceText]:
    """Read the texts of a file, in this process.

    HTML and PDF that others wrote belong in `vecdb.knowledge.sandbox`, which calls this in a child process.

    Args:
        name: becomes the name of the source, or "name#id" those of its records.
        data: the content of the file.
        format: what it is; by default `detect` tells.
        limits: what it may cost.

    Returns:
        One text for a document, one a record for JSONL and tables; none for an empty file.

    Raises:
        ParseTooLarge: naming the limit.
        SourceError: for a file that cannot be read, or one of vectors.

    """
    if len(data) > limits.max_bytes:
        raise ParseTooLarge(name, f"{len(data)} bytes, more than max_bytes ({limits.max_bytes})")
    if not data:
        return []
    known = format or detect(name, data[:HEAD_BYTES])
    if known.is_vectors:
        raise SourceError(name, "holds vectors, not text")
    if known is Format.JSONL:
        return list(iter_jsonl(name, data.split(b"\n"), limits))
    if known in {Format.CSV, Format.TSV}:
        return parse_table(name, data, limits, known)
    if known is Format.HTML:
        # Imported where they run: the node's own process needs neither parser.
        from vecdb.knowledge.html_text import parse_html

        return [parse_html(name, data, limits)]
    if known is Format.PDF:
        from vecdb.knowledge.pdf_text import parse_pdf

        return [parse_pdf(name, data, limits)]
    return _plain(name, data, known, limits)


def _plain(name: str, data: bytes, known: Format, limits: Limits) -> list[SourceText]:
    text, notes = decode(name, data)
    if len(text) > limits.max_chars:
        raise ParseTooLarge(name, f"more than max_chars ({limits.max_chars}) characters of text")
    if not text.strip():
        return []
    title, sections = markdown_outline(text) if known is Format.MARKDOWN else ("", ())
    return [SourceText(name, text, title, known.value, {}, sections, notes=notes)]
