"""Sources that hold many: JSON lines (BEIR's and plain) and tables."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from vecdb.knowledge.decoding import decode, without_surrogates
from vecdb.knowledge.errors import ParseTooLarge, SourceError
from vecdb.knowledge.source import Format, Limits, SourceText

_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})\Z")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?\Z")


def record_source(name: str, identifier: str) -> str:
    """The source name of one record of a file."""
    return f"{name}#{identifier}"


def iter_jsonl(name: str, lines: Iterable[bytes], limits: Limits) -> Iterator[SourceText]:
    """Read JSON lines one by one.

    A BEIR line is `{"_id", "title", "text", "metadata"}`; a plain one `{"id"?, "title"?, "text", ...}`, the
    rest of which becomes metadata. A line without an id is named by its number, from 1. Records with an
    empty text are passed over, as BEIR's corpora have some; so are blank lines.

    Raises:
        SourceError: naming the line, for one that is no such object, or an id that occurs twice.
        ParseTooLarge: for a line or a number of records beyond `limits`.

    """
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        where = f"line {number}"
        if len(line) > limits.max_record_bytes:
            raise ParseTooLarge(name, f"longer than max_record_bytes ({limits.max_record_bytes})", where)
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        record = _json_object(name, where, line)
        identifier, text, title, metadata = _fields(name, where, record, str(number))
        if identifier in seen:
            raise SourceError(name, f"the id {identifier!r} occurs twice", where)
        seen.add(identifier)
        if len(seen) > limits.max_records:
            raise ParseTooLarge(name, f"more than max_records ({limits.max_records}) records", where)
        checked = clean_metadata(name, where, metadata, limits.max_depth)
        if text.strip():
            yield SourceText(record_source(name, identifier), text, title, Format.JSONL.value, checked)


def read_lines(stream: BinaryIO, limits: Limits) -> Iterator[bytes]:
    """The lines of a file or of standard input for `iter_jsonl`, which is not read whole.

    Of a line that is too long only so much is read that `iter_jsonl` refuses it.
    """
    while line := stream.readline(limits.max_record_bytes + 2):
        yield line.removesuffix(b"\n")


def _json_object(name: str, where: str, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise SourceError(name, f"not valid UTF-8: {error.reason}", f"{where}, byte {error.start}") from None
    except RecursionError:
        raise SourceError(name, "nested too deeply", where) from None
    except ValueError as error:
        raise SourceError(name, f"not JSON: {error}", where) from None
    if not isinstance(record, dict):
        raise SourceError(name, "not a JSON object", where)
    return record


def _no_constant(token: str) -> None:
    raise ValueError(f"{token} is not JSON")


def _fields(
    name: str, where: str, record: dict[str, Any], default: str
) -> tuple[str, str, str, dict[str, Any]]:
    """The id, text, title and metadata of one line."""
    text, title = record.pop("text", None), record.pop("title", None)
    if not isinstance(text, str):
        raise SourceError(name, 'no "text" that is a string', where)
    if title is not None and not isinstance(title, str):
        raise SourceError(name, '"title" is not a string', where)
    key = next((key for key in ("_id", "id") if key in record), None)
    identifier = default if key is None else record.pop(key)
    if isinstance(identifier, bool) or not isinstance(identifier, str | int) or identifier == "":
        raise SourceError(name, f'"{key}" is neither a string nor an integer', where)
    metadata = record
    if key == "_id" and isinstance(record.get("metadata"), dict):
        nested = record.pop("metadata")
        metadata = nested | record
    return (
        without_surrogates(str(identifier)),
        without_surrogates(text),
        without_surrogates(title or ""),
        metadata,
    )


def clean_metadata(name: str, where: str, value: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """A copy of `value` that a payload can hold: bounded depth, 64-bit integers, UTF-8 strings.

    Raises:
        SourceError: naming what it cannot.

    """

    def clean(item: Any, left: int) -> Any:
        if isinstance(item, str):
            return without_surrogates(item)
        if isinstance(item, dict | list):
            if not left:
                raise SourceError(name, f"nested deeper than {depth}", where)
            if isinstance(item, list):
                return [clean(inner, left - 1) for inner in item]
            return {without_surrogates(key): clean(inner, left - 1) for key, inner in item.items()}
        if isinstance(item, float) and not math.isfinite(item):
            raise SourceError(name, "a number too large for a float", where)
        if isinstance(item, int) and not -(2**63) <= item < 2**64:
            raise SourceError(name, f"an integer of more than 64 bits: {str(item)[:24]}", where)
        return item

    return {without_surrogates(key): clean(item, depth - 1) for key, item in value.items()}


def parse_table(name: str, data: bytes, limits: Limits, media: Format) -> list[SourceText]:
    """Read a table with a header, separated by commas (or semicolons, if its header is) or tabs.

    The text of a row is its `text` column, or else all its columns as "name: value" lines. A column `id`
    (or `_id`) names the row, which else has its number, from 1; `title` is its title. The other columns
    are metadata: a column of nothing but integers is integers, of numbers is floats, and a number written in
    another way than Python would (leading zeros, exponents) makes it text. Empty cells are left out.

    Raises:
        SourceError: naming the line, for a row of another width than the header, or an id that occurs twice.
        ParseTooLarge: for a row or a number of rows beyond `limits`.

    """
    content, notes = decode(name, data)
    header, rows = _rows(name, content, limits, media)
    numeric = {column: _column_type(row[column] for _, row in rows) for column in range(len(header))}
    names = [column.lower() for column in header]
    key = next((names.index(column) for column in ("_id", "id") if column in names), None)
    text_at = names.index("text") if "text" in names else None
    title_at = names.index("title") if "title" in names else None
    seen: set[str] = set()
    sources = []
    for number, (where, row) in enumerate(rows, 1):
        identifier = row[key] if key is not None else str(number)
        if not identifier or identifier in seen:
            raise SourceError(name, f"the id {identifier!r} is empty or occurs twice", where)
        seen.add(identifier)
        cells = [at for at in range(len(row)) if at != key and row[at].strip()]
        joined = "\n".join(f"{header[at]}: {row[at]}" for at in cells)
        text = joined if text_at is None else row[text_at]
        title = row[title_at] if title_at is not None else ""
        metadata = {header[at]: numeric[at](row[at]) for at in cells if at not in (text_at, title_at)}
        if text.strip():
            source = record_source(name, identifier)
            sources.append(SourceText(source, text, title, media.value, metadata, notes=notes))
    return sources


def _rows(
    name: str, content: str, limits: Limits, media: Format
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The header and the rows, each with where it is."""
    first = content.partition("\n")[0]
    delimiter = "\t" if media is Format.TSV else max(",;", key=first.count)
    # The module's limit is one for the process; it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), limits.max_record_bytes))
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[str, list[str]]] = []
    header: list[str] = []
    try:
        header = [column.strip() for column in next(reader, [])]
        if not any(header) or len(set(header)) < len(header) or "" in header:
            raise SourceError(name, "the header needs a name for each column, each once", "line 1")
        for row in reader:
            where = f"line {reader.line_num}"
            if not row:
                continue
            if len(row) != len(header):
                raise SourceError(name, f"{len(row)} columns where the header has {len(header)}", where)
            if sum(map(len, row)) > limits.max_record_bytes:
                raise ParseTooLarge(
                    name, f"a row longer than max_record_bytes ({limits.max_record_bytes})", where
                )
            if len(rows) == limits.max_records:
                raise ParseTooLarge(name, f"more than max_records ({limits.max_records}) rows", where)
            rows.append((where, row))
    except csv.Error as error:
        raise SourceError(name, f"not CSV: {error}", f"line {reader.line_num}") from None
    return header, rows


def _column_type(cells: Iterable[str]) -> type[int] | type[float] | type[str]:
    """What the filled cells of a column are."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    if filled and all(map(_INTEGER.match, filled)):
        return int
    if filled and all(map(_NUMBER.match, filled)):
        return float
    return str
