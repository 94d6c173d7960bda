"""Parsing in child processes: results, limits, and what a bad document may not do."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import signal
import threading
import zlib
from pathlib import Path

import pypdf
import pytest
from pypdf.generic import DecodedStreamObject, NameObject

from vecdb.knowledge import sandbox, wire, worker
from vecdb.knowledge.errors import ParseTimeout, ParseTooLarge, SourceError
from vecdb.knowledge.formats import parse
from vecdb.knowledge.sandbox import Sandbox, SandboxOptions, aparse_untrusted, parse_untrusted
from vecdb.knowledge.source import Format, Limits, SourceText

# Each nested element makes the HTML parser look through all open ones: minutes of work in a megabyte.
SLOW_PAGE = b"<div>" * 200_000 + b"x"


def make_pdf(*pages: bytes, title: str = "", password: str = "") -> bytes:
    """A PDF with one stream of page content each."""
    writer = pypdf.PdfWriter()
    font = pypdf.generic.DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for content in pages:
        page = writer.add_blank_page(600, 800)
        stream = DecodedStreamObject()
        stream.set_data(content)
        page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
        fonts = pypdf.generic.DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = pypdf.generic.DictionaryObject({NameObject("/Font"): fonts})
    if title:
        writer.add_metadata({"/Title": title, "/Author": "A. Author"})
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def line(text: str) -> bytes:
    return b"BT /F1 12 Tf 50 700 Td (" + text.encode() + b") Tj ET"


def bomb(megabytes: int) -> bytes:
    """A PDF, written by hand, whose only stream unpacks a thousandfold."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(megabytes)) + packer.flush()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R "
        b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream" % (len(packed), packed),
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return (
        body
        + b"xref\n0 5\n0000000000 65535 f \n%btrailer << /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF"
        % (
            table,
            len(body),
        )
    )


@pytest.fixture(scope="module")
def box():
    with Sandbox(SandboxOptions(workers=1)) as own:
        yield own


@pytest.fixture(scope="module")
def strict():
    """A sandbox whose limits are soon reached."""
    with Sandbox(SandboxOptions(workers=1, memory_bytes=200 << 20, cpu_seconds=1, wall_seconds=20)) as own:
        yield own


def worker_pid(box: Sandbox) -> int:
    (child,) = box._idle
    return child.pid


def test_a_pdf_comes_page_by_page(box: Sandbox) -> None:
    """The text of a PDF has its pages' offsets, and the document's title and author."""
    data = make_pdf(line("First page."), b"", line("A third \\(last\\) page."), title="The  title")
    (source,) = box.parse("a.pdf", data)
    assert source.text == "First page.\n\nA third (last) page.\n"
    assert source.pages == (0, 12, 13)
    assert [source.page_at(at) for at in (0, 11, 12, 13, 30)] == [1, 1, 2, 3, 3]
    assert (source.title, source.metadata) == ("The title", {"pages": 3, "pdf_author": "A. Author"})
    assert source == parse("a.pdf", data)[0]


def test_html_is_the_same_inside_and_outside(box: Sandbox) -> None:
    """A child's answer is what the parser says in process, its hash included."""
    page = "<title>T</title><h1>Ä</h1><p>text</p><h2>b</h2><pre>x</pre>".encode("latin-1")
    assert box.parse("a.html", page) == parse("a.html", page)
    assert box.parse("a.html", page)[0].content_hash == parse("a.html", page)[0].content_hash


def test_other_formats_need_no_child() -> None:
    """Text and records are read in this process."""
    with Sandbox() as own:
        assert own.parse("a.txt", b"text")[0].text == "text"
        assert own.parse("a.html", b"") == []
        with pytest.raises(ParseTooLarge, match="max_bytes"):
            own.parse("a.html", b"<p>12345", limits=Limits(max_bytes=3))
        assert own._idle == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"%PDF-1.7\ngarbage", "not a readable PDF"),
        (make_pdf(line("secret"), password="x"), "encrypted"),
        (make_pdf(b""), "no text"),
        (make_pdf(line("a"))[:-300], "PDF"),
    ],
)
def test_bad_pdfs_are_refused(box: Sandbox, data: bytes, message: str) -> None:
    """Damaged, encrypted and scanned PDFs are refused with the reason, and the child goes on."""
    box.parse("a.html", b"<p>x")
    pid = worker_pid(box)
    with pytest.raises(SourceError, match=message) as caught:
        box.parse("bad.pdf", data)
    assert caught.value.name == "bad.pdf"
    assert worker_pid(box) == pid
    with pytest.raises(SourceError, match=message):
        parse("bad.pdf", data)


def test_pdf_limits(box: Sandbox) -> None:
    """Too many pages and too much text are refused by the limit's name."""
    data = make_pdf(line("one page"), line("two pages"))
    for read in (box.parse, parse):
        with pytest.raises(ParseTooLarge, match="max_pages"):
            read("a.pdf", data, limits=Limits(max_pages=1))
        with pytest.raises(ParseTooLarge, match="max_chars"):
            read("a.pdf", data, limits=Limits(max_chars=10))


def test_a_bomb_is_refused(box: Sandbox) -> None:
    """A stream that unpacks to more than it may is refused, and harms nobody."""
    with pytest.raises(ParseTooLarge, match="unpacks to too much"):
        box.parse("bomb.pdf", bomb(90))
    assert box.parse("a.html", b"<p>x")[0].text == "x"


def test_memory_is_limited(strict: Sandbox) -> None:
    """A page that needs more memory than there is fails alone, and its child is replaced."""
    for page in (b"<p>x</p>" * 1_000_000, b"x" * 60_000_000):
        strict.parse("a.html", b"<p>x")
        pid = worker_pid(strict)
        with pytest.raises(ParseTooLarge, match="memory_bytes"):
            strict.parse("wide.html", page)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_processor_time_is_limited(strict: Sandbox) -> None:
    """A page that keeps the parser busy is given up, its child ended; the next document gets a new one."""
    strict.parse("a.html", b"<p>x")
    pid = worker_pid(strict)
    with pytest.raises(ParseTimeout, match="cpu_seconds"):
        strict.parse("slow.html", SLOW_PAGE)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert strict.parse("a.html", b"<p>x")[0].text == "x"
    assert worker_pid(strict) != pid


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_processor_time_is_counted_for_each_document(strict: Sandbox) -> None:
    """A child that has used more than a document's time, on many documents, goes on to the next."""
    page = b"<p>word <b>bold</b> and more</p>" * 12_000
    strict.parse("a.html", page)
    pid = worker_pid(strict)
    while cpu_seconds(pid) < strict.options.cpu_seconds + 0.5:
        strict.parse("a.html", page)
        assert worker_pid(strict) == pid


def test_a_crash_is_told(strict: Sandbox) -> None:
    """A child that is killed while it works costs its document, by name, and nothing else."""
    strict.parse("a.html", b"<p>x")
    pid = worker_pid(strict)
    timer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    timer.start()
    with pytest.raises(SourceError, match=r"slow\.html: the parser crashed on it \(signal 9\)"):
        strict.parse("slow.html", SLOW_PAGE)
    timer.join()
    assert strict.parse("a.html", b"<p>x")[0].text == "x"


def test_wall_time_is_limited() -> None:
    """A child that is stuck without using the processor is ended after the time a document has."""
    with Sandbox(SandboxOptions(workers=1, wall_seconds=1.5)) as own:
        own.parse("a.html", b"<p>x")
        pid = worker_pid(own)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ParseTimeout, match="wall_seconds"):
            own.parse("b.html", b"<p>x" * 100_000)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert own.parse("a.html", b"<p>x")[0].text == "x"


def test_a_child_that_died_idle_is_replaced() -> None:
    """A child that something else killed while it was idle costs no document."""
    with Sandbox(SandboxOptions(workers=1)) as own:
        own.parse("a.html", b"<p>x")
        pid = worker_pid(own)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert own.parse("a.html", b"<p>y")[0].text == "y"


def test_answers_are_limited() -> None:
    """What comes out of a document may not be larger than the node can hold."""
    with Sandbox(SandboxOptions(workers=1, answer_bytes=10_000)) as own:
        with pytest.raises(ParseTooLarge, match="answer_bytes"):
            own.parse("a.html", b"<p>" + b"x" * 20_000)
        assert own.parse("a.html", b"<p>x")[0].text == "x"


def test_children_are_replaced_after_some_documents() -> None:
    """A child serves so many documents and no more."""
    with Sandbox(SandboxOptions(workers=1, documents=2)) as own:
        own.parse("a.html", b"<p>x")
        assert len(own._idle) == 1
        own.parse("a.html", b"<p>x")
        assert own._idle == []


async def test_the_loop_goes_on(box: Sandbox) -> None:
    """Parsing does not block the loop."""
    work = asyncio.create_task(box.aparse("a.html", b"<p>word <b>bold</b>" * 20_000))
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert (await work)[0].source == "a.html"


async def test_cancelling_ends_the_work() -> None:
    """Nobody waits, so nobody parses: the child at work on a cancelled document is ended."""
    with Sandbox(SandboxOptions(workers=1, cpu_seconds=30, wall_seconds=30)) as own:
        await own.aparse("a.html", b"<p>x")
        pid = worker_pid(own)
        work = asyncio.create_task(own.aparse("slow.html", SLOW_PAGE))
        while own._idle:  # noqa: ASYNC110 -- until the document has reached the child
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert (await own.aparse("a.html", b"<p>x"))[0].text == "x"
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_closing() -> None:
    """A closed sandbox has no children and takes no documents."""
    own = Sandbox(SandboxOptions(workers=1))
    own.parse("a.html", b"<p>x")
    pid = worker_pid(own)
    own.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(RuntimeError, match="closed"):
        own.parse("a.html", b"<p>x")
    with pytest.raises(ValueError):
        SandboxOptions(workers=0)


async def test_the_shared_sandbox() -> None:
    """The functions use one sandbox of the process."""
    assert parse_untrusted("a.html", b"<p>x") == await aparse_untrusted("a.html", b"<p>x", Format.HTML)


def test_children_write_no_files(box: Sandbox) -> None:
    """The limits that the kernel enforces are set in the child."""
    box.parse("a.html", b"<p>x")
    with Path(f"/proc/{worker_pid(box)}/limits").open() as file:
        limits = {row[:25].strip(): row[25:].split()[0] for row in file}
    assert limits["Max file size"] == "0"
    assert limits["Max core file size"] == "0"
    assert limits["Max address space"] == str(box.options.memory_bytes)
    assert int(limits["Max open files"]) <= 64


def test_frames() -> None:
    """A source text survives the wire."""
    source = parse("a.html", b"<title>t</title><h1>a</h1>b")[0]
    frame = wire.pack(wire.describe(source))
    assert wire.rebuild("a.html", wire.unpack(frame[wire.HEADER.size :])) == source


@pytest.mark.parametrize(
    "change",
    [
        {"text": b"bytes"},
        {"title": None},
        {"metadata": {"a": [1]}},
        {"metadata": []},
        {"sections": [[5, "b"], [0, "a"]]},
        {"sections": [[0]]},
        {"sections": [[-1, "a"]]},
        {"pages": [3, 1]},
        {"pages": "x"},
        {"notes": [1]},
    ],
)
def test_lies_are_refused(change: dict[str, object]) -> None:
    """An answer that is no source text is refused, whatever took the child over."""
    message = wire.describe(SourceText("a", "text")) | change
    with pytest.raises(wire.FrameError):
        wire.rebuild("a", message)
    with pytest.raises(wire.FrameError):
        wire.rebuild("a", {"text": "x"})


def test_nonsense_answers_are_errors() -> None:
    """Whatever a child answers, the caller gets texts or a SourceError."""
    for message in (
        {},
        {"texts": 1},
        {"texts": [{}]},
        {"error": 7, "message": 8, "where": 9},
        {"error": "x"},
    ):
        with pytest.raises(SourceError, match=r"a\.html"):
            sandbox._texts("a.html", message)


def test_the_child_answers_with_a_reason() -> None:
    """Each way to fail has its own answer, so that the parent can tell them apart."""

    def ask(data: bytes, **limits: int) -> dict[str, object]:
        values = list(dataclasses.astuple(Limits(**limits)))
        return worker.answer({"name": "a", "data": data, "format": "text/html", "limits": values})

    assert ask(b"<p>x")["texts"][0]["text"] == "x"
    assert ask(b"<p>")["error"] == "source"
    assert ask(b"<p>xyz", max_chars=1)["error"] == "large"


def test_noise_is_no_frame() -> None:
    """Bytes that are no map are refused."""
    for noise in (b"", b"\xc1", b"\x01", b"\x81\x01\x02", b"\xdb\xff\xff\xff\xff"):
        with pytest.raises(wire.FrameError):
            wire.unpack(noise)
