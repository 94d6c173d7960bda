"""Real files, real processes: kill -9 at any moment, and the order of system calls."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from vecdb_replication.wal import Entry, GroupUpdate, HardState, LogFull, OsFileSystem, Wal

# Appends for ever, one group after the other, and prints each index once it is acknowledged.
WRITER = """
import sys
from vecdb_replication.wal import Entry, GroupUpdate, HardState, LogWriter, Wal

wal = Wal.open(sys.argv[1], segment_bytes=200_000)
writer = LogWriter(wal)
index = wal.state(1).last_index
while index < int(sys.argv[2]):
    index += 1
    data = index.to_bytes(4, "big") * 250
    updates = [GroupUpdate(g, [Entry(1, index, 0, data)], HardState(1, g, index - 1)) for g in (1, 2)]
    if index % 100 == 0:
        wal.compact(1, index - 50, conf=b"conf")
        wal.drop_segments()
    writer.submit(updates).result()
    print(index, flush=True)
writer.close()
"""


def start(path: Path, until: int, *prefix: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", WRITER, str(path), str(until)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("after", [1, 137, 260])
def test_nothing_acknowledged_is_lost_to_kill_9(tmp_path: Path, after: int) -> None:
    acknowledged = 0
    for _ in range(2):
        process = start(tmp_path, 1 << 30)
        assert process.stdout is not None
        for _ in range(after):
            acknowledged = int(process.stdout.readline())
        process.kill()
        # Acknowledgements that were still in the pipe count as well.
        acknowledged = max([acknowledged, *map(int, re.findall(r"(\d+)\n", process.stdout.read()))])
        assert process.wait(10) == -signal.SIGKILL
        with Wal.open(tmp_path, segment_bytes=200_000) as wal:
            for group in (1, 2):
                state = wal.state(group)
                assert acknowledged <= state.last_index <= acknowledged + 1
                assert state.hard_state == HardState(1, group, state.last_index - 1)
                for entry in wal.entries(group, state.first_index, state.last_index + 1):
                    assert entry.data == entry.index.to_bytes(4, "big") * 250


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_sync_returns_before_the_acknowledgement_is_printed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = ("strace", "-f", "-e", "trace=pwritev,pwritev2,fdatasync,write", "-o", str(trace))
    process = start(tmp_path / "log", 20, *calls)
    printed, _ = process.communicate(timeout=60)
    if process.returncode and not printed:
        pytest.skip("strace is not allowed to trace here")
    assert printed.split() == [str(i) for i in range(1, 21)]
    events = "".join(
        kind
        for line in trace.read_text().splitlines()
        for kind, pattern in {
            "w": r"\bpwritev2?\(",
            "s": r"(fdatasync\(\d+\) += 0|fdatasync resumed.*= 0)",
            "a": r"\bwrite\(1, \"\d",
        }.items()
        if re.search(pattern, line)
    )
    # Each acknowledgement follows a successful sync that follows a write of its own.
    assert re.search(r"(w+sa){20}", events), events


def test_a_torn_file_is_cut_for_real(tmp_path: Path) -> None:
    with Wal.open(tmp_path) as wal:
        wal.append([GroupUpdate(1, [Entry(1, 1, 0, b"kept")])])
    (path,) = tmp_path.glob("*.log")
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"half a record")
    with Wal.open(tmp_path) as wal:
        assert wal.recovery.tear is not None
        assert wal.entries(1, 1, 2) == [Entry(1, 1, 0, b"kept")]
    assert path.stat().st_size == size


def test_a_file_takes_many_pieces_large_ones_and_empty_ones(tmp_path: Path) -> None:
    fs = OsFileSystem()
    file = fs.open(tmp_path / "file", create=True)
    pieces = [bytes([i % 256]) * (i % 200) for i in range(3000)]
    file.append(pieces)
    file.append([b"", memoryview(b"end")])
    file.append([])
    whole = b"".join(pieces) + b"end"
    assert file.size() == len(whole)
    assert file.pread(0, len(whole) + 10) == whole
    assert file.pread(len(whole), 10) == b""
    file.truncate(5)
    file.append([b"again"])
    file.fdatasync()
    file.close()
    file.close()
    assert (tmp_path / "file").read_bytes() == whole[:5] + b"again"


def test_a_write_that_the_system_cuts_short_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk or a signal ends a writev early; the rest has to follow, at the right place."""

    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, pieces, at: real(fd, [b"".join(pieces)[:70_001]], at))
    file = OsFileSystem().open(tmp_path / "file", create=True)
    pieces = [b"a" * 50_000, b"b" * 50_000, b"c" * 50_000]
    file.append(pieces)
    file.close()
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


def test_a_full_device_is_a_full_log(tmp_path: Path) -> None:
    """On a real small file system, where the machine lets us mount one."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with Wal.open(tmp_path) as wal:
            last = 0
            with suppress(LogFull):
                for last in range(20):
                    wal.append([GroupUpdate(1, [Entry(1, last + 1, 0, bytes(30_000))])])
            assert 3 < last < 10, "as many as 256 KiB hold"
            wal.append([GroupUpdate(1, [Entry(1, last + 1, 0, b"small")])])
            wal.sync()
        with Wal.open(tmp_path) as wal:
            assert wal.state(1).last_index == last + 1
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
