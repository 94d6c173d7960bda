"""The driver as a process."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", "vecdb_replication.driver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        yield running
        running.kill()


def test_the_process_answers_line_by_line_and_nothing_else(process: subprocess.Popen[bytes]) -> None:
    """One reply a request, at once and in order, also to what is no request; it ends with its input."""
    assert process.stdin
    assert process.stdout
    requests = [
        (b'{"op": "new", "node": 1, "snapshot": {"conf_state": {"voters": [1]}}}', True),
        (b"nonsense", False),
        (b'{"op": "campaign", "node": 1}', True),
        (b'{"op": "has_ready", "node": 1}', True),
    ]
    for line, ok in requests:
        process.stdin.write(line + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["ok"] is ok
    process.stdin.close()
    assert process.stdout.read() == b""
    assert process.wait(timeout=10) == 0
    assert process.stderr
    assert process.stderr.read() == b""


def test_the_process_ends_quietly_when_nobody_listens(process: subprocess.Popen[bytes]) -> None:
    """Without a traceback."""
    assert process.stdin
    assert process.stdout
    process.stdout.close()
    process.stdin.write(b"{}\n" * 10)
    process.stdin.close()
    assert process.wait(timeout=10) == 0
    assert process.stderr
    assert process.stderr.read() == b""
