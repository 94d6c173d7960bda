"""An acknowledgement leaves the process only after the log's fdatasync has returned."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.crash.load import wait_until
from tests.support.node import Node

MARKS = [f"sync-order-{number}" for number in range(8)]
# pid, call and arguments; a call that another thread interrupted is told in two lines.
CALL = re.compile(r"^(?P<pid>\d+) +(?:<\.\.\. )?(?P<name>\w+)(?P<rest>.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the trace."""

    pid: int
    name: str
    text: str
    begins: bool
    ends: bool


def parse(trace: str) -> list[Call]:
    """The lines of strace that are calls, in the order in which they began or ended."""
    calls = []
    for line in trace.splitlines():
        found = CALL.match(line)
        if found is None:
            continue
        rest = found["rest"]
        resumed = "resumed>" in rest
        calls.append(
            Call(
                int(found["pid"]),
                found["name"],
                rest.rstrip(),
                begins=not resumed,
                ends="<unfinished" not in rest,
            )
        )
    return calls


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_reply_after_fdatasync(tmp_path: Path) -> None:
    """For each write: pwrite of the log, fdatasync begins, fdatasync returns 0, and only then the reply."""
    trace = tmp_path / "trace"
    with Node(tmp_path / "node") as node, node.client() as db:
        db.create_collection("docs", dim=4)
        command = ["strace", "-f", "-y", "-s", "4096", "-o", str(trace), "-p", str(node.pid)]
        command += ["-e", "trace=pwritev,pwritev2,fdatasync,sendmsg"]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        try:
            if "attached" not in tracer.stderr.readline():
                pytest.skip("strace may not attach to a process here")
            wait_until(lambda: _traced(node.pid), "strace to attach to every thread")
            for mark in MARKS:
                db.upsert("docs", ids=[mark], vectors=np.ones((1, 4)))
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(30)
            tracer.stderr.close()
    calls = parse(trace.read_text(errors="replace"))
    for mark in MARKS:
        _check_order(calls, mark)


def _traced(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0\n" not in (thread / "status").read_text() for thread in threads)


def _check_order(calls: list[Call], mark: str) -> None:
    written = _after(calls, 0, lambda call: call.name.startswith("pwritev") and mark in call.text, "record")
    assert "/log/" in calls[written].text
    begun = _after(
        calls,
        written,
        lambda call: call.name == "fdatasync" and call.begins and "/log/" in call.text,
        "fdatasync of the log",
    )
    syncer = calls[begun].pid
    done = _after(
        calls,
        begun,
        lambda call: call.name == "fdatasync" and call.ends and call.pid == syncer,
        "end of the fdatasync",
    )
    assert calls[done].text.endswith("= 0")
    # The node's one client waits for its answer: whatever it is sent before that is the answer.
    early = [call for call in calls[written:done] if call.begins and _is_reply(call)]
    assert not early, f"a reply left before the fdatasync returned: {early[0].text}"
    _after(calls, done, lambda call: call.begins and _is_reply(call), "reply")


def _is_reply(call: Call) -> bool:
    """Whether it sends HTTP/2 headers or data, rather than pings or window updates (RFC 9113, 4.1)."""
    if call.name != "sendmsg":
        return False
    buffers = re.findall(r'iov_base="((?:[^"\\]|\\.)*)"', call.text)
    sent = b"".join(buffer.encode("latin-1").decode("unicode_escape").encode("latin-1") for buffer in buffers)
    at = 0
    while at + 9 <= len(sent):
        if sent[at + 3] in {0, 1}:
            return True
        at += 9 + int.from_bytes(sent[at : at + 3], "big")
    return False


def _after(calls: list[Call], start: int, wanted: Callable[[Call], bool], what: str) -> int:
    for number in range(start, len(calls)):
        if wanted(calls[number]):
            return number
    raise AssertionError(f"the trace has no {what} after call {start}")
