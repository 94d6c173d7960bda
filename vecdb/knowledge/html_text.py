"""The text of an HTML page, block by block. Runs in the sandbox's child process."""

from __future__ import annotations

import re
from typing import Any

from selectolax.lexbor import LexborHTMLParser, SelectolaxError

from vecdb.knowledge.decoding import byte_order_mark, decode
from vecdb.knowledge.errors import ParseTooLarge, SourceError
from vecdb.knowledge.outline import sections_of
from vecdb.knowledge.source import Format, Limits, SourceText


def _tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


_DROPPED = _tags(
    """
    script style nav template noscript head svg canvas iframe object embed audio video map button select
    input textarea datalist dialog
    """
)
_BLOCKS = _tags(
    """
    address article aside body caption center dd details div dt fieldset figcaption footer form header hr
    html legend li main menu section summary tbody tfoot thead tr
    """
)
_SPACED = frozenset(
    {"p", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "dl", "blockquote", "figure"}
)
_LEVELS = {f"h{level}": level for level in range(1, 7)}
_CELL = " | "
_SPACE = re.compile(r"[ \t\n\r\f]+")
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_BACKTICKS = re.compile("`{3,}")


class _Writer:
    """Gathers text with the white space of blocks, and the offsets of headings."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._parts: list[str] = []
        self._size = 0
        self._gap = ""
        self._prefix = ""
        self._locked = False
        self._row = 0
        self._heading: tuple[int, int, int] | None = None
        self.headings: list[tuple[int, int, str]] = []

    def write(self, text: str) -> None:
        """Inline text; runs of white space become one space."""
        text = _SPACE.sub(" ", text)
        body = text.strip(" ")
        if text.startswith(" "):
            self.want(" ")
        if body:
            self.raw(body)
            if text.endswith(" "):
                self.want(" ")

    def raw(self, text: str) -> None:
        """Text as it is."""
        if not self._parts:
            self._gap = ""
        text, self._prefix = self._prefix + text, ""
        self._size += len(self._gap) + len(text)
        if self._size > self._limit:
            raise ParseTooLarge(self._name, f"more than max_chars ({self._limit}) characters of text")
        self._parts += (self._gap, text)
        self._gap = ""
        self._locked = False

    def want(self, gap: str) -> None:
        """Ask for white space (none, " ", newlines) before the next text; the strongest wish wins."""
        if not self._locked and len(gap) >= len(self._gap):
            self._gap = gap

    def open_item(self) -> None:
        """What is written next is an item of a list."""
        self.want("\n")
        self._locked = True
        self._prefix = "- "

    def close_item(self) -> None:
        """End the item; an empty one leaves nothing."""
        self._prefix = ""
        self._locked = False
        self.want("\n")

    def open_row(self) -> None:
        """What is written next is a row of a table."""
        self.want("\n")
        self._locked = True
        self._row = self._size

    def open_cell(self) -> None:
        """What is written next is a cell; a block that it begins with does not break the row."""
        self._locked = True
        if self._size > self._row:
            self._gap = _CELL

    def close_row(self) -> None:
        """End the row, whose last cells may have been empty."""
        self._locked = False
        self._gap = "\n"

    def open_heading(self, level: int) -> None:
        """What is written next, up to `close_heading`, is a heading of `level`."""
        gap = len(self._gap) if self._parts else 0
        self._heading = (self._size + gap, level, len(self._parts))

    def close_heading(self) -> None:
        """End the heading; an empty one is none."""
        if self._heading is not None:
            start, level, part = self._heading
            title = " ".join("".join(self._parts[part:]).split())
            if title:
                self.headings.append((start, level, title))
        self._heading = None

    def text(self) -> str:
        """All that was written."""
        return "".join(self._parts)


def parse_html(name: str, data: bytes, limits: Limits) -> SourceText:
    """Extract the text of an HTML page.

    Scripts, styles, navigation, forms' controls and hidden elements are dropped. Each block is on lines of
    its own, list items begin with "- ", cells of a row are separated by " | ", and `pre` is fenced like
    Markdown's code. Offsets and headings refer to this text.

    Raises:
        ParseTooLarge: for more text than `limits.max_chars`.
        SourceError: if the page has no text.

    """
    declared = None if byte_order_mark(data) else _CHARSET.search(data[:2048])
    html, notes = decode(name, data, declared[1].decode("ascii") if declared else None)
    try:
        tree = LexborHTMLParser(html)
    except SelectolaxError:
        # HTML has no syntax errors; what the parser reports is that it got no memory.
        raise MemoryError from None
    writer = _Writer(name, limits.max_chars)
    if tree.body is not None:
        _walk(tree.body, writer)
    text = writer.text()
    if not text:
        raise SourceError(name, "the page has no text")
    head = tree.css_first("title")
    title = " ".join(head.text().split()) if head is not None else ""
    if not title and writer.headings:
        title = min(writer.headings, key=lambda heading: heading[1])[2]
    sections = sections_of(writer.headings)
    return SourceText(name, text, title, Format.HTML.value, {}, sections, notes=notes)


def _walk(body: Any, writer: _Writer) -> None:
    """Visit the tree without recursion: pages nest deeper than Python's stack."""
    node = body
    while True:
        if _enter(node, writer) and node.first_child is not None:
            node = node.first_child
            continue
        while True:
            _leave(node.tag, writer)
            if node.mem_id == body.mem_id:
                return
            if node.next is not None:
                node = node.next
                break
            node = node.parent


def _enter(node: Any, writer: _Writer) -> bool:
    """Begin `node`; whether its children are to be visited."""
    tag = node.tag
    if tag == "-text":
        writer.write(node.text_content or "")
        return False
    if tag[0] in "-!" or tag in _DROPPED or "hidden" in node.attributes:
        return False
    if tag == "br":
        writer.want("\n")
    elif tag == "pre":
        code = node.text(deep=True).strip("\n")
        if code.strip():
            fence = "`" * max([3, *(len(run) + 1 for run in _BACKTICKS.findall(code))])
            writer.want("\n\n")
            writer.raw(f"{fence}\n{code}\n{fence}")
        return False
    elif tag in _SPACED:
        writer.want("\n\n")
        if tag in _LEVELS:
            writer.open_heading(_LEVELS[tag])
    elif tag == "li":
        writer.open_item()
    elif tag == "tr":
        writer.open_row()
    elif tag in {"td", "th"}:
        writer.open_cell()
    elif tag in _BLOCKS:
        writer.want("\n")
    return True


def _leave(tag: str, writer: _Writer) -> None:
    """End an element."""
    if tag in _SPACED:
        writer.want("\n\n")
        if tag in _LEVELS:
            writer.close_heading()
    elif tag == "li":
        writer.close_item()
    elif tag == "tr":
        writer.close_row()
    elif tag in _BLOCKS:
        writer.want("\n")
