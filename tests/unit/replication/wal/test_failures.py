"""Failing disks: a refused write costs that write, a failed sync ends the log."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from vecdb_replication.wal import (
    Entry,
    GroupUpdate,
    HardState,
    LogDamaged,
    LogFailed,
    LogFull,
    SnapshotMark,
    Wal,
    WriteFailed,
)

from tests.support.faultfs import FaultFileSystem

PATH = Path("/log")


def open_log(fs: FaultFileSystem) -> Wal:
    return Wal.open(PATH, fs=fs, segment_bytes=3000)


def entry(index: int, size: int = 700) -> list[GroupUpdate]:
    return [GroupUpdate(1, [Entry(1, index, 0, bytes([index]) * size)], HardState(1, 1, index - 1))]


@pytest.fixture
def fs() -> FaultFileSystem:
    return FaultFileSystem(seed=3)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_refused_write_is_rolled_back_and_the_log_goes_on(fs: FaultFileSystem, error: int) -> None:
    wal = open_log(fs)
    wal.append(entry(1))
    image, state = fs.image(), wal.state(1)
    fs.fail("append", error=error)
    with pytest.raises(WriteFailed) as caught:
        wal.append(entry(2))
    assert isinstance(caught.value, LogFull) == (error != errno.EIO)
    assert fs.image() == image
    assert wal.state(1) == state
    wal.append(entry(2))
    wal.sync()
    fs.crash()
    assert open_log(fs).entries(1, 1, 3) == [entry(i)[0].entries[0] for i in (1, 2)]


def test_a_full_disk_that_is_emptied_again(fs: FaultFileSystem) -> None:
    wal = open_log(fs)
    wal.append(entry(1))
    fs.capacity = sum(map(len, fs.image().values())) + 100
    for _ in range(3):
        with pytest.raises(LogFull, match="No space left"):
            wal.append(entry(2))
    wal.sync()
    fs.capacity = None
    wal.append(entry(2))
    assert wal.state(1).last_index == 2


@pytest.mark.parametrize("op", ["open", "append", "rename"])
def test_a_segment_that_cannot_be_made_costs_the_write_only(fs: FaultFileSystem, op: str) -> None:
    wal = open_log(fs)
    for index in range(1, 4):
        wal.append(entry(index))
    fs.fail(op, error=errno.ENOSPC, name="2.log")  # type: ignore[arg-type]
    with pytest.raises(LogFull):
        wal.append(entry(4))
    assert list(fs.image()) == [PATH / "000000000001.log"]
    wal.append(entry(4))
    assert list(fs.image()) == [PATH / "000000000001.log", PATH / "000000000002.log"]
    fs.crash("torn")
    assert open_log(fs).state(1).last_index >= 3


def test_a_roll_back_that_fails_ends_the_log(fs: FaultFileSystem) -> None:
    wal = open_log(fs)
    fs.fail("append", error=errno.ENOSPC)
    fs.fail("truncate")
    with pytest.raises(LogFailed, match="rolling back"):
        wal.append(entry(1))
    assert_failed_for_good(wal)


def test_an_interrupted_write_ends_the_log(fs: FaultFileSystem) -> None:
    """What is in memory and what is in the file may differ then; opening it again tells."""
    wal = open_log(fs)
    wal.append(entry(1))

    def interrupt(op: str, path: Path) -> None:
        if op == "append":
            raise KeyboardInterrupt

    fs.on_op = interrupt
    with pytest.raises(KeyboardInterrupt):
        wal.append(entry(2))
    assert_failed_for_good(wal)
    wal.close()
    fs.on_op = None
    assert open_log(fs).state(1).last_index == 1


@pytest.mark.parametrize(
    "provoke",
    [
        lambda fs: fs.fail("fdatasync", name="1.log"),
        lambda fs: fs.fail("fdatasync", name="2.log.tmp"),
        lambda fs: fs.fail("fsync_dir"),
    ],
    ids=["the old segment", "the new one", "the directory"],
)
def test_a_failed_sync_while_rotating_ends_the_log(
    fs: FaultFileSystem, provoke: Callable[[FaultFileSystem], None]
) -> None:
    wal = open_log(fs)
    for index in range(1, 4):
        wal.append(entry(index))
    provoke(fs)
    with pytest.raises(LogFailed):
        wal.append(entry(4))
    assert_failed_for_good(wal)


def test_a_failed_sync_ends_the_log_and_is_never_retried(fs: FaultFileSystem) -> None:
    wal = open_log(fs)
    wal.append(entry(1))
    fs.fail("fdatasync")
    with pytest.raises(LogFailed, match="fdatasync"):
        wal.sync()
    ops: list[str] = []
    fs.on_op = lambda op, path: ops.append(op)
    assert_failed_for_good(wal)
    wal.close()
    assert ops == []


def assert_failed_for_good(wal: Wal) -> None:
    calls: list[Callable[[], object]] = [
        wal.sync,
        wal.groups,
        wal.pinned,
        wal.drop_segments,
        lambda: wal.append([]),
        lambda: wal.append(entry(1)),
        lambda: wal.state(1),
        lambda: wal.term(1, 0),
        lambda: wal.entries(1, 1, 1),
        lambda: wal.compact(1, 1, conf=b""),
    ]
    for call in calls:
        with pytest.raises(LogFailed):
            call()


def test_closing_syncs_or_says_that_it_could_not(fs: FaultFileSystem) -> None:
    wal = open_log(fs)
    wal.append(entry(1))
    wal.close()
    fs.crash()
    wal = open_log(fs)
    assert wal.state(1).last_index == 1
    wal.append(entry(2))
    fs.fail("fdatasync")
    with pytest.raises(LogFailed):
        wal.close()
    open_log(fs).close()


def test_closing_on_a_full_disk_loses_nothing(fs: FaultFileSystem) -> None:
    wal = open_log(fs)
    wal.append(entry(1))
    fs.capacity = 0
    wal.close()
    fs.crash()
    assert open_log(fs).state(1).last_index == 1


@pytest.mark.parametrize("op", ["append", "fdatasync", "rename", "fsync_dir"])
def test_a_log_that_cannot_be_begun_lets_go_of_its_directory(fs: FaultFileSystem, op: str) -> None:
    fs.fail(op)  # type: ignore[arg-type]
    with pytest.raises((WriteFailed, LogFailed)):
        open_log(fs)
    assert fs.handles == []
    open_log(fs).close()


def test_a_log_that_cannot_be_read_lets_go_of_its_directory(fs: FaultFileSystem) -> None:
    wal = open_log(fs)
    wal.append(entry(1))
    wal.close()
    fs.fail("pread")
    with pytest.raises(OSError, match="Input/output"):
        open_log(fs)
    fs.fail("fdatasync")
    with pytest.raises(OSError, match="Input/output"):
        open_log(fs)
    assert fs.handles == []
    assert open_log(fs).state(1).last_index == 1


def test_a_segment_that_cannot_be_unlinked_stays(fs: FaultFileSystem) -> None:
    wal = open_log(fs)
    for index in range(1, 9):
        wal.append(entry(index))
    wal.compact(1, 8, conf=b"")
    segments = len(fs.image())
    fs.fail("unlink")
    with pytest.raises(WriteFailed, match="unlink"):
        wal.drop_segments()
    assert len(fs.image()) == segments
    assert wal.drop_segments() == segments - 1


def test_a_tail_that_cannot_be_moved_keeps_its_segment(fs: FaultFileSystem) -> None:
    wal = Wal.open(PATH, fs=fs, segment_bytes=3000, cache_bytes=0)
    wal.append([GroupUpdate(2, [Entry(1, 1, 0, b"idle, and rotten soon")])])
    for index in range(1, 9):
        wal.append(entry(index))
    wal.compact(1, 8, conf=b"")
    path = PATH / "000000000001.log"
    fs.flip(path, 8 * fs.read(path).index(b"idle"))
    with pytest.raises(LogDamaged):
        wal.drop_segments()
    assert path in fs.image()


def test_marks_are_durable_before_the_entries_they_cover_go(fs: FaultFileSystem) -> None:
    wal = open_log(fs)
    for index in range(1, 9):
        wal.append(entry(index))
    wal.append([GroupUpdate(1, snapshot=SnapshotMark(8, 1, b"conf"))])
    assert wal.drop_segments() > 0
    fs.crash()
    assert open_log(fs).state(1).snapshot == SnapshotMark(8, 1, b"conf")
