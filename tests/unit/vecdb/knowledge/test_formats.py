"""From bytes to sources, format by format."""

from __future__ import annotations

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecdb.knowledge.chunking import Section
from vecdb.knowledge.decoding import decode, looks_binary, without_surrogates
from vecdb.knowledge.errors import ParseTooLarge, SourceError
from vecdb.knowledge.formats import detect, parse
from vecdb.knowledge.html_text import parse_html
from vecdb.knowledge.outline import markdown_outline
from vecdb.knowledge.source import Format, Limits, SourceText


@pytest.mark.parametrize(
    ("name", "head", "wanted"),
    [
        ("a.txt", b"hello", Format.TEXT),
        ("A.MD", b"# hello", Format.MARKDOWN),
        ("a.htm", b"hello", Format.HTML),
        ("a.jsonl", b"{}", Format.JSONL),
        ("dir.csv/a.tsv", b"a\tb", Format.TSV),
        ("a.csv", b"a,b", Format.CSV),
        ("a.fvecs", b"\x01\0\0\0", Format.FVECS),
        ("a.bvecs", b"\x01\0\0\0", Format.BVECS),
        ("a.txt", b"%PDF-1.7 ...", Format.PDF),
        ("a", b"\x93NUMPY\x01", Format.NPY),
        ("page", b" <!DOCTYPE HTML><p>", Format.HTML),
        ("page", b"\xef\xbb\xbf<html lang=en>", Format.HTML),
        ("rows", b'{"text": "x"}\n{"te', Format.JSONL),
        ("code.rs", b"{ not json }\n", Format.TEXT),
        ("notes", "naïve".encode(), Format.TEXT),
        ("notes", codecs.BOM_UTF16_LE + "hi".encode("utf-16-le"), Format.TEXT),
        ("deep", b'{"a":' * 3000, Format.TEXT),
    ],
)
def test_detect(name: str, head: bytes, wanted: Format) -> None:
    """Plain first bytes decide, then the suffix, then a guess."""
    assert detect(name, head) is wanted


def test_binary_is_refused() -> None:
    """Binary data has no format, whatever it is called by."""
    for junk in (b"\x7fELF\x02\x01\x01\0\0\0", bytes(range(1, 32)) * 4, b"PK\x03\x04\x14\0\x06\0"):
        with pytest.raises(SourceError, match="binary"):
            detect("blob", junk)
        with pytest.raises(SourceError, match=r"binary|neither"):
            parse("blob.txt", junk)
    assert not looks_binary(b"")


def test_plain_text_is_kept_as_it_is() -> None:
    """Offsets of text and Markdown point into the file: nothing but the byte order mark is taken off."""
    body = "  Two\r\n\r\n lines\twith é and 漢 \n"
    for name in ("a.txt", "a.md"):
        (source,) = parse(name, codecs.BOM_UTF8 + body.encode())
        assert (source.source, source.text, source.notes) == (name, body, ())
    assert parse("a.txt", b"") == parse("a.txt", b" \n\t") == []


def test_encodings() -> None:
    """A byte order mark decides; without one UTF-8, else Windows-1252 or Latin-1 with a note."""
    for mark, encoding in (
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ):
        assert decode("x", mark + "größer 漢".encode(encoding)) == ("größer 漢", ())
    text, notes = decode("x", "größer – “ja”".encode("cp1252"))
    assert text == "größer – “ja”"
    assert notes == ("not UTF-8 at byte 2: read as Windows-1252",)
    assert decode("x", b"caf\xe9 \x81") == ("café \x81", ("not UTF-8 at byte 3: read as Latin-1",))
    assert decode("x", b"\xe9", "latin-1") == ("é", ())
    assert decode("x", "é".encode(), "no-such-encoding")[0] == "é"
    with pytest.raises(SourceError, match="byte 1"):
        decode("x", codecs.BOM_UTF8 + b"a\xff")
    with pytest.raises(SourceError, match="neither"):
        decode("x", b"\xff\xfe\xfd\x00"[::-1])
    with pytest.raises(SourceError, match="character 1"):
        decode("x", b"a\0b")


@given(st.binary(max_size=300))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    """Decoding gives text that UTF-8 can carry, or a SourceError, never anything else."""
    try:
        text, _ = decode("x", data)
    except SourceError:
        return
    assert text.encode().decode() == text


@given(
    st.binary(max_size=200), st.sampled_from([".jsonl", ".csv", ".tsv", ".md", ".html", ".txt", ".pdf", ""])
)
def test_any_file_is_read_or_refused(data: bytes, suffix: str) -> None:
    """A parser gives sources with valid offsets, or a SourceError, never anything else."""
    try:
        sources = parse(f"x{suffix}", data)
    except SourceError:
        return
    for source in sources:
        assert source.text.strip()
        assert all(0 <= section.start < len(source.text) for section in source.sections)


def test_surrogates() -> None:
    """Lone surrogates, which no UTF-8 can carry, are replaced."""
    assert without_surrogates("a\ud800b") == "a\ufffdb"


def test_limits_are_named() -> None:
    """What is larger than a limit is refused by its name, before it is parsed."""
    with pytest.raises(ParseTooLarge, match="max_bytes"):
        parse("x.txt", b"12345", limits=Limits(max_bytes=4))
    with pytest.raises(ParseTooLarge, match="max_chars"):
        parse("x.txt", b"12345", limits=Limits(max_chars=4))
    with pytest.raises(ParseTooLarge, match="max_chars"):
        parse("x.html", b"<p>12345", limits=Limits(max_chars=4))
    with pytest.raises(SourceError, match="vectors"):
        parse("x.npy", b"\x93NUMPY")


def test_markdown_headings() -> None:
    """ATX and setext headings give the title and nested sections; those in code give none."""
    text = (
        "intro\n\n# Guide **to** it #\n\n## Install\n```\n# comment\n```\n### Linux [apt](http://x)\n\nUse\n---\n"
        "* * *\n\nTop\n===\n#not one\n"
    )
    title, sections = markdown_outline(text)
    assert title == "Guide to it"
    assert [section.title for section in sections] == [
        "Guide to it",
        "Guide to it > Install",
        "Guide to it > Install > Linux apt",
        "Guide to it > Use",
        "Top",
    ]
    assert all(
        text[section.start :].startswith(("# G", "## I", "### L", "Use", "Top")) for section in sections
    )
    assert markdown_outline("plain") == ("", ())
    assert markdown_outline("# \n#  #\n") == ("", ())


def test_html_blocks() -> None:
    """Text comes block by block; what is not for readers is dropped."""
    page = """<!doctype html><html><head><title> My
      page </title><style>x{}</style></head><body><nav>menu</nav><script>alert(1)</script>
      <h1>Top <i>level</i></h1><p>One <b>bo</b>ld   word.<br>New line.</p><!-- no -->
      <ul><li>one</li><li><p>two</p></li><li></li></ul>
      <table><tr><th>a</th><th>b</th></tr><tr><td></td><td><p>2</p></td></tr><tr><td>3</td><td></td></tr></table>
      <p hidden>secret</p><div><div><h2></h2><h2>Sub</h2>caf&eacute;&nbsp;x</div></div><pre>
  if x:
    y</pre><pre> </pre><pre>a ``` b</pre><select><option>z</option></select></body></html>"""
    (source,) = parse("p.html", page.encode())
    assert source.title == "My page"
    assert source.text == (
        "Top level\n\nOne bold word.\nNew line.\n\n- one\n- two\n\na | b\n2\n3\n\nSub\n\ncafé\xa0x\n\n"
        "```\n  if x:\n    y\n```\n\n````\na ``` b\n````"
    )
    assert source.sections == (Section(0, "Top level"), Section(source.text.index("Sub"), "Top level > Sub"))


def test_html_without_title_or_text() -> None:
    """The title falls back to the first heading of the highest level; a page without text is refused."""
    assert parse("p.html", b"<h2>b</h2><h1>a</h1><h1>c</h1>")[0].title == "a"
    assert parse("p.html", b"<p>x")[0].title == ""
    for page in (b"<p>  </p>", b"<script>1</script>", b"<frameset></frameset>"):
        with pytest.raises(SourceError, match="no text"):
            parse("p.html", page)


def test_html_charset() -> None:
    """A declared encoding is used if it fits."""
    assert (
        parse_html("p", '<meta charset="windows-1251"><p>Привет'.encode("cp1251"), Limits()).text == "Привет"
    )
    page = '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-1"><p>é'.encode("latin-1")
    assert parse_html("p", page, Limits()).text == "é"
    assert parse_html("p", codecs.BOM_UTF8 + '<meta charset="latin-1"><p>é'.encode(), Limits()).text == "é"


def test_deep_html() -> None:
    """Nesting deeper than Python's stack is no trouble."""
    assert parse("p.html", b"<div>" * 3000 + b"x")[0].text == "x"


def test_content_hash() -> None:
    """The hash changes with all that chunks and payloads are made of, and with nothing else."""
    base = SourceText("a", "text", "title", "text/plain", {"x": 1, "y": 2})
    assert (
        SourceText("b", "text", "title", "text/plain", {"y": 2, "x": 1}, notes=("n",)).content_hash
        == base.content_hash
    )
    others = [
        SourceText("a", "text2", "title", "text/plain", {"x": 1, "y": 2}),
        SourceText("a", "text", "title2", "text/plain", {"x": 1, "y": 2}),
        SourceText("a", "text", "title", "text/html", {"x": 1, "y": 2}),
        SourceText("a", "text", "title", "text/plain", {"x": 1, "y": "2"}),
        SourceText("a", "text", "title", "text/plain", {"x": 1, "y": 2}, (Section(0, "s"),)),
        SourceText("a", "text", "title", "text/plain", {"x": 1, "y": 2}, pages=(0,)),
    ]
    assert len({base.content_hash, *(other.content_hash for other in others)}) == len(others) + 1
    assert len(base.content_hash) == 64


def test_beir_lines() -> None:
    """BEIR's lines: the id names the source, the metadata is kept, empty texts are passed over."""
    lines = [
        {"_id": "4983", "title": "Microstructure", "text": "Alterations of it.", "metadata": {"year": 2000}},
        {"_id": "empty", "title": "x", "text": " "},
        {"_id": 7, "text": "seven", "metadata": {}, "url": "http://x"},
    ]
    sources = parse("corpus.jsonl", "\n".join(map(json.dumps, lines)).encode())
    assert [(s.source, s.title, s.text, s.metadata) for s in sources] == [
        ("corpus.jsonl#4983", "Microstructure", "Alterations of it.", {"year": 2000}),
        ("corpus.jsonl#7", "", "seven", {"url": "http://x"}),
    ]


def test_plain_lines() -> None:
    """Plain lines: the rest of the object is metadata, a line without an id has its number, surrogates go."""
    data = (
        b'\xef\xbb\xbf{"text": "a", "lang": "en", "metadata": 1}\n\n'
        b'{"id": "q", "text": "b\\ud800", "n": [1.5, {"k": null}]}\n'
    )
    sources = parse("x.jsonl", data)
    assert [(s.source, s.text, s.metadata) for s in sources] == [
        ("x.jsonl#1", "a", {"lang": "en", "metadata": 1}),
        ("x.jsonl#q", "b\ufffd", {"n": [1.5, {"k": None}]}),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: not a JSON object"),
        ("{}", 'line 2: no "text"'),
        ('{"text": 1}', 'no "text" that is a string'),
        ('{"text": "x", "title": 3}', '"title"'),
        ('{"text": "x", "id": null}', '"id" is neither'),
        ('{"text": "x", "_id": true}', '"_id" is neither'),
        ('{"text": "x", "id": ""}', "neither"),
        ('{"text": "x", "id": "first"}', "occurs twice"),
        ('{"text": "x", "n": NaN}', "NaN"),
        ('{"text": "x", "n": 1e999}', "too large for a float"),
        ('{"text": "x", "n": 18446744073709551616}', "64 bits"),
        ('{"text": "x", "n": ' + "[" * 20 + "]" * 20 + "}", "nested deeper than 16"),
        ('{"text": "x", "n": ' + "[" * 90_000 + "]" * 90_000 + "}", "line 2"),
    ],
)
def test_bad_lines_are_named(line: str, message: str) -> None:
    """A line that is wrong is refused with its number and the reason."""
    with pytest.raises(SourceError, match=r"x\.jsonl, ") as caught:
        parse("x.jsonl", ('{"id": "first", "text": "ok"}\n' + line).encode())
    assert message in str(caught.value)


def test_line_limits() -> None:
    """Lines too long, too many, or not UTF-8 are refused."""
    with pytest.raises(ParseTooLarge, match="max_record_bytes"):
        parse("x.jsonl", b'{"text": "' + b"x" * 2000 + b'"}', limits=Limits(max_record_bytes=1000))
    with pytest.raises(ParseTooLarge, match="line 2: more than max_records"):
        parse("x.jsonl", b'{"text": "x"}\n{"text": "y"}', limits=Limits(max_records=1))
    with pytest.raises(SourceError, match="line 1, byte 10: not valid UTF-8"):
        parse("x.jsonl", b'{"text": "\xff"}')


def test_tables() -> None:
    """A `text` column is the text, `id` names the row, the rest is metadata with the type of its column."""
    data = (
        "id,Text,title,year,zip,score,note\r\n"
        'a,"Hello, ""you""\nthere",T,2020,01234,1.5,\r\n'
        "b,World,,2021,90210,2,x\r\n"
        "c,,empty,2022,1,2,x\r\n\r\n"
    )
    sources = parse("t.csv", data.encode())
    assert [(s.source, s.text, s.title, s.metadata) for s in sources] == [
        ("t.csv#a", 'Hello, "you"\nthere', "T", {"year": 2020, "zip": "01234", "score": 1.5}),
        ("t.csv#b", "World", "", {"year": 2021, "zip": "90210", "score": 2.0, "note": "x"}),
    ]


def test_tables_without_a_text_column() -> None:
    """All columns make up the text; semicolons and tabs separate too."""
    for name, data in (("t.csv", b"name;age\nAnn;30\nBob;\n"), ("t.tsv", b"name\tage\nAnn\t30\nBob\t\n")):
        sources = parse(name, data)
        assert [(s.source, s.text, s.metadata) for s in sources] == [
            (f"{name}#1", "name: Ann\nage: 30", {"name": "Ann", "age": 30}),
            (f"{name}#2", "name: Bob", {"name": "Bob"}),
        ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1\n", "line 2: 1 columns where the header has 2"),
        (b"a,a\n1,2\n", "line 1: the header"),
        (b"\n1,2\n", "line 1: the header"),
        (b"id,text\nx,1\nx,2\n", "line 3: the id 'x' is empty or occurs twice"),
        (b'a,b\n"1,2\n', "not CSV"),
        (b"a,b\n" + b"x" * 200 + b",1\n", "max_record_bytes"),
        (b"a,b\n1,2\n3,4\n5,6\n", "max_records"),
    ],
)
def test_bad_tables_are_named(data: bytes, message: str) -> None:
    """A row that is wrong is refused with its line and the reason."""
    with pytest.raises(SourceError, match=r"t\.csv") as caught:
        parse("t.csv", data, limits=Limits(max_record_bytes=100, max_records=2))
    assert message in str(caught.value)
