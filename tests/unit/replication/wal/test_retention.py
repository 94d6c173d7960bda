"""Old segments go as soon as no live entry needs them, and never a vote, a mark or a tombstone with them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from vecdb_replication.wal import (
    Compacted,
    Entry,
    GroupUpdate,
    HardState,
    LogMisuse,
    SnapshotMark,
    Tombstone,
    Unavailable,
    Wal,
)

from tests.support.faultfs import FaultFileSystem

PATH = Path("/log")
SEGMENT = 4000


@pytest.fixture
def fs() -> FaultFileSystem:
    return FaultFileSystem()


def open_log(fs: FaultFileSystem, rewrite_bytes: int | None = None) -> Wal:
    return Wal.open(PATH, fs=fs, segment_bytes=SEGMENT, cache_bytes=0, rewrite_bytes=rewrite_bytes)


def entry(index: int, size: int = 300) -> Entry:
    return Entry(1, index, 0, index.to_bytes(2, "big") * (size // 2))


def fill(wal: Wal, group: int, first: int, last: int) -> None:
    for index in range(first, last + 1):
        wal.append([GroupUpdate(group, [entry(index)])])


def test_compaction_hides_entries_at_once_and_survives(fs: FaultFileSystem) -> None:
    wal = open_log(fs)
    fill(wal, 1, 1, 10)
    wal.compact(1, 4, 1, conf=b"c")
    wal.compact(1, 4, conf=b"again: nothing happens")
    wal.compact(1, 3, conf=b"older: nothing happens")
    wal.sync()
    fs.crash()
    log = open_log(fs)
    assert log.state(1).snapshot == SnapshotMark(4, 1, b"c")
    assert log.entries(1, 5, 11) == [entry(i) for i in range(5, 11)]


def test_compaction_wants_an_entry_and_its_term(fs: FaultFileSystem) -> None:
    wal = open_log(fs)
    fill(wal, 1, 1, 3)
    with pytest.raises(Unavailable):
        wal.compact(1, 4, conf=b"")
    with pytest.raises(Unavailable):
        wal.compact(2, 1, conf=b"")
    with pytest.raises(LogMisuse, match="term 1, not 2"):
        wal.compact(1, 3, 2, conf=b"")
    assert wal.state(1).snapshot is None


def test_the_last_state_of_idle_groups_outlives_their_segment(fs: FaultFileSystem) -> None:
    """The only vote of a group, its mark, its tombstone and its small live tail."""
    wal = open_log(fs)
    wal.append([GroupUpdate(2, hard_state=HardState(9, 3, 0))])
    wal.append([GroupUpdate(3, tombstone=Tombstone(5))])
    wal.append([GroupUpdate(4, [entry(8, 30), entry(9, 30)], snapshot=SnapshotMark(7, 1, b"conf"))])
    fill(wal, 1, 1, 40)
    wal.compact(1, 40, conf=b"c")
    before = [wal.state(group) for group in wal.groups()]
    assert wal.pinned() == {}
    assert wal.drop_segments() > 2
    fs.crash()
    assert PATH / "000000000001.log" not in fs.image()
    log = open_log(fs)
    assert [log.state(group) for group in log.groups()] == before
    assert log.entries(4, 8, 10) == [entry(8, 30), entry(9, 30)]


def test_a_large_live_tail_pins_its_segment_until_it_is_compacted(fs: FaultFileSystem) -> None:
    wal = open_log(fs)
    fill(wal, 2, 1, 5)
    fill(wal, 1, 1, 30)
    assert set(wal.pinned()) == {1, 2}
    assert wal.drop_segments() == 0
    wal.compact(1, 30, conf=b"")
    pinned = wal.pinned()
    assert set(pinned) == {2}
    assert pinned[2] >= 5 * 300
    assert wal.drop_segments() == 0
    wal.compact(2, 5, conf=b"")
    assert wal.pinned() == {}
    assert wal.drop_segments() > 0
    assert wal.pinned() == {}
    assert wal.drop_segments() == 0


def test_the_smallest_tails_are_moved_and_the_budget_kept(fs: FaultFileSystem) -> None:
    wal = open_log(fs, rewrite_bytes=600)
    wal.append([GroupUpdate(group, [entry(1, 100 * group)]) for group in range(2, 6)])
    fill(wal, 1, 1, 30)
    wal.compact(1, 30, conf=b"")
    assert set(wal.pinned()) == {4, 5}


def test_moving_does_not_end_what_came_later(fs: FaultFileSystem) -> None:
    """Only the old part of a group's log moves; its newer entries stay where they are."""
    wal = open_log(fs)
    wal.append([GroupUpdate(2, [entry(1, 20), entry(2, 20)])])
    fill(wal, 1, 1, 14)
    wal.append([GroupUpdate(2, [entry(3, 20)])])
    fill(wal, 1, 15, 30)
    wal.compact(1, 30, conf=b"")
    wal.append([GroupUpdate(2, [entry(4, 20)])])
    assert wal.drop_segments() > 0
    fs.crash()
    log = open_log(fs)
    assert log.entries(2, 1, 5) == [entry(i, 20) for i in range(1, 5)]
    log.append([GroupUpdate(2, [Entry(2, 2, 0, b"overwritten")])])
    assert log.entries(2, 1, 3) == [entry(1, 20), Entry(2, 2, 0, b"overwritten")]


def test_entries_moved_behind_their_successors_are_read_in_order(fs: FaultFileSystem) -> None:
    """Then a group's log no longer runs forward through the file."""
    wal = open_log(fs)
    wal.append([GroupUpdate(2, [entry(1, 20), entry(2, 20)])])
    fill(wal, 1, 1, 11)
    wal.append([GroupUpdate(2, [entry(3, 20), entry(4, 20)])])
    wal.compact(1, 11, conf=b"")
    assert len(fs.image()) == 2
    assert wal.drop_segments() == 1
    assert len(fs.image()) == 1, "all of it lies in one segment now, the last entries first"
    assert wal.entries(2, 1, 5) == [entry(i, 20) for i in range(1, 5)]


@pytest.mark.parametrize("seed", range(10))
def test_power_may_fail_at_any_step_of_dropping_segments(seed: int) -> None:
    """Whichever operation is the last, the log opens to the same content."""
    steps = 0
    while not survives_losing_power_at(steps := steps + 1, seed):
        assert steps < 100
    assert steps > 8, "fewer steps than it takes to move, sync, and unlink two segments"


def test_names_of_dropped_segments_go_one_by_one(fs: FaultFileSystem) -> None:
    """At no time are two unlinks under way: were only the second to last, there would be a gap."""
    wal = open_log(fs)
    fill(wal, 1, 1, 40)
    wal.compact(1, 40, conf=b"")
    steps: list[str] = []
    fs.on_op = lambda op, path: steps.append(op) if op in ("unlink", "fsync_dir") else None
    dropped = wal.drop_segments()
    assert dropped > 2
    assert steps == ["unlink", "fsync_dir"] * dropped


def survives_losing_power_at(step: int, seed: int) -> bool:
    """Whether dropping segments ended before this step; else the power failed there."""
    fs = FaultFileSystem(seed)
    wal = open_log(fs)
    wal.append([GroupUpdate(2, [entry(1, 20)], HardState(4, 4, 0))])
    fill(wal, 1, 1, 14)
    wal.append([GroupUpdate(2, [entry(2, 20)])])
    fill(wal, 1, 15, 30)
    wal.compact(1, 28, conf=b"c")
    wal.sync()
    before = [(wal.state(group), wal.entries(group, *bounds(wal, group))) for group in (1, 2)]
    left = step

    def crash(op: str, path: Path) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            fs.on_op = None
            fs.crash("torn")
            raise KeyboardInterrupt

    fs.on_op = crash
    try:
        wal.drop_segments()
    except KeyboardInterrupt:
        wal = open_log(fs)
    fs.on_op = None
    assert [(wal.state(group), wal.entries(group, *bounds(wal, group))) for group in (1, 2)] == before
    return left > 0


def bounds(wal: Wal, group: int) -> tuple[int, int]:
    state = wal.state(group)
    return state.first_index, state.last_index + 1


def test_a_segment_dropped_under_a_reader_is_closed_behind_it(fs: FaultFileSystem) -> None:
    wal = open_log(fs)
    fill(wal, 1, 1, 40)
    files = len(fs.handles)

    def drop(op: str, path: Path) -> None:
        if op == "pread":
            fs.on_op = None
            wal.compact(1, 40, conf=b"")
            assert wal.drop_segments() == files - 1
            assert len(fs.handles) == 2, "the active segment, and the one that is being read"

    fs.on_op = drop
    assert wal.entries(1, 1, 3) == [entry(1), entry(2)]
    assert len(fs.handles) == 1


def test_a_reader_may_finish_in_a_segment_that_is_dropped(tmp_path: Path) -> None:
    """Its file stays open until the read is over."""
    wal = Wal.open(tmp_path, segment_bytes=SEGMENT, cache_bytes=0)
    fill(wal, 1, 1, 40)
    stop = threading.Event()
    errors: list[Exception] = []

    def read() -> None:
        while not stop.is_set():
            state = wal.state(1)
            lo = max(state.first_index, state.last_index - 20)
            try:
                for got in wal.entries(1, lo, state.last_index + 1):
                    assert got == entry(got.index)
            except Compacted:
                continue
            except Exception as error:
                errors.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for last in range(80, 400, 40):
        fill(wal, 1, last - 39, last)
        wal.compact(1, last - 5, conf=b"")
        wal.drop_segments()
    stop.set()
    for reader in readers:
        reader.join()
    wal.close()
    assert errors == []
    assert len(list(tmp_path.glob("*.log"))) < 5


def test_the_size_is_that_of_the_files(fs: FaultFileSystem) -> None:
    """What is written, whether or not it is still wanted, until its segment goes; also after a restart."""

    def on_disk() -> int:
        return sum(len(data) for path, data in fs.image().items() if path.suffix == ".log")

    wal = open_log(fs)
    sizes = [wal.size()]
    assert sizes[0] == on_disk()
    fill(wal, 1, 1, 30)
    sizes.append(wal.size())
    assert sizes[1] == on_disk()
    wal.compact(1, 30, conf=b"")
    wal.drop_segments()
    sizes.append(wal.size())
    assert sizes[2] == on_disk()
    assert sizes[0] < sizes[2] < sizes[1]
    wal.close()
    assert open_log(fs).size() == on_disk()
