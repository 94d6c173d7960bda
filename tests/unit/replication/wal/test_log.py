"""What is appended can be read, in every combination the core hands over; what may not be is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from vecdb_replication.wal import (
    Compacted,
    Entry,
    GroupState,
    GroupUpdate,
    HardState,
    LogClosed,
    LogDamaged,
    LogLocked,
    LogMisuse,
    SnapshotMark,
    Tombstone,
    Unavailable,
    Wal,
)

from tests.support.faultfs import FaultFileSystem

PATH = Path("/log")


def run(first: int, last: int, term: int = 1, size: int = 10) -> list[Entry]:
    return [Entry(term, i, i % 5, f"{term}/{i}/".encode() * size) for i in range(first, last + 1)]


@pytest.fixture
def fs() -> FaultFileSystem:
    return FaultFileSystem()


@pytest.fixture(params=[16 << 20, 0], ids=["cached", "from the file"])
def wal(fs: FaultFileSystem, request: pytest.FixtureRequest) -> Wal:
    return Wal.open(PATH, fs=fs, segment_bytes=2000, cache_bytes=request.param)


def live_and_reopened(fs: FaultFileSystem, wal: Wal) -> Iterator[Wal]:
    """The log as it is, then as it comes back after its process died."""
    yield wal
    yield reopened(fs)


def reopened(fs: FaultFileSystem) -> Wal:
    fs.restart()
    return Wal.open(PATH, fs=fs, segment_bytes=2000)


def test_a_group_never_logged_has_the_empty_state(wal: Wal) -> None:
    assert wal.groups() == []
    assert wal.state(7) == GroupState(HardState(0, 0, 0), 1, 0, None, None, 0)
    assert wal.term(7, 0) == 0
    assert wal.entries(7, 1, 1) == []
    with pytest.raises(Unavailable):
        wal.term(7, 1)


def test_entries_and_hard_state_come_back(fs: FaultFileSystem, wal: Wal) -> None:
    wal.append([GroupUpdate(1, run(1, 9), HardState(3, 2, 1)), GroupUpdate(2, run(1, 2, term=5))])
    wal.append([GroupUpdate(1, run(10, 40, term=2), HardState(4, 0, 9))])
    wal.sync()
    for log in live_and_reopened(fs, wal):
        assert log.groups() == [1, 2]
        assert log.entries(1, 1, 41) == run(1, 9) + run(10, 40, term=2)
        assert log.entries(2, 2, 3) == run(2, 2, term=5)
        assert [log.term(1, i) for i in (0, 9, 10)] == [0, 1, 2]
        state = log.state(1)
        assert (state.hard_state, state.first_index, state.last_index) == (HardState(4, 0, 9), 1, 40)
        assert state.log_bytes == sum(len(entry.data) for entry in run(1, 9) + run(10, 40, term=2))


def test_one_append_is_one_record(fs: FaultFileSystem, wal: Wal) -> None:
    """So that hard state and entries can only be lost together."""
    wal.append([GroupUpdate(1, run(1, 3), HardState(1, 1, 0)), GroupUpdate(2, run(1, 1))])
    wal.sync()
    log = reopened(fs)
    assert log.recovery.records == 2, "the checkpoint that opens the segment, and one for the append"


def test_appending_overwrites_from_the_first_index_on(fs: FaultFileSystem, wal: Wal) -> None:
    wal.append([GroupUpdate(1, run(1, 20))])
    wal.append([GroupUpdate(1, run(8, 9, term=2))])
    for log in live_and_reopened(fs, wal):
        assert log.entries(1, 1, 10) == run(1, 7) + run(8, 9, term=2)
        with pytest.raises(Unavailable):
            log.entries(1, 9, 11)


def test_updates_of_one_group_in_one_append_build_on_each_other(fs: FaultFileSystem, wal: Wal) -> None:
    updates = [
        GroupUpdate(1, run(1, 6)),
        GroupUpdate(1, run(4, 5, term=2), HardState(2, 1, 0)),
        GroupUpdate(1, snapshot=SnapshotMark(4, 2, b"conf")),
        GroupUpdate(1, run(6, 6, term=3)),
    ]
    wal.append(updates)
    for log in live_and_reopened(fs, wal):
        assert log.entries(1, 5, 7) == run(5, 5, term=2) + run(6, 6, term=3)
        assert log.state(1).snapshot == SnapshotMark(4, 2, b"conf")
        assert log.state(1).hard_state == HardState(2, 1, 0)


def test_a_matching_mark_keeps_the_entries_behind_it(fs: FaultFileSystem, wal: Wal) -> None:
    wal.append([GroupUpdate(1, run(1, 10))])
    wal.append([GroupUpdate(1, snapshot=SnapshotMark(6, 1, b"c"))])
    for log in live_and_reopened(fs, wal):
        assert log.entries(1, 7, 11) == run(7, 10)
        assert log.term(1, 6) == 1
        with pytest.raises(Compacted):
            log.entries(1, 6, 8)
        with pytest.raises(Compacted):
            log.term(1, 5)


@pytest.mark.parametrize(
    "mark", [SnapshotMark(12, 1, b"c"), SnapshotMark(6, 2, b"c")], ids=["beyond", "conflict"]
)
def test_a_mark_beyond_the_log_or_against_it_resets_it(
    fs: FaultFileSystem, wal: Wal, mark: SnapshotMark
) -> None:
    wal.append([GroupUpdate(1, run(1, 10))])
    wal.append(
        [GroupUpdate(1, run(mark.index + 1, mark.index + 2, term=3), HardState(3, 0, mark.index), mark)]
    )
    for log in live_and_reopened(fs, wal):
        assert log.state(1).first_index == mark.index + 1
        assert log.entries(1, mark.index + 1, mark.index + 3) == run(mark.index + 1, mark.index + 2, term=3)
        assert log.term(1, mark.index) == mark.term
        assert log.state(1).snapshot == mark


def test_the_same_mark_again_may_bring_another_configuration(fs: FaultFileSystem, wal: Wal) -> None:
    """Installing a snapshot is redone at recovery."""
    wal.append([GroupUpdate(1, snapshot=SnapshotMark(5, 1, b"a"))])
    wal.append([GroupUpdate(1, run(6, 7), snapshot=SnapshotMark(5, 1, b"b"))])
    for log in live_and_reopened(fs, wal):
        assert log.state(1).snapshot == SnapshotMark(5, 1, b"b")
        assert log.entries(1, 6, 8) == run(6, 7)


def test_a_tombstone_empties_the_group_and_stays(fs: FaultFileSystem, wal: Wal) -> None:
    wal.append([GroupUpdate(1, run(1, 10), HardState(5, 3, 9))])
    wal.append(
        [GroupUpdate(1, tombstone=Tombstone(3)), GroupUpdate(1, run(1, 2, term=7), HardState(7, 4, 0))]
    )
    for log in live_and_reopened(fs, wal):
        assert log.state(1).tombstone == Tombstone(3)
        assert log.state(1).hard_state == HardState(7, 4, 0)
        assert log.entries(1, 1, 3) == run(1, 2, term=7)
        assert log.state(1).last_index == 2


def test_burying_again_spares_the_next_replica(wal: Wal) -> None:
    wal.append([GroupUpdate(1, tombstone=Tombstone(3)), GroupUpdate(1, run(1, 2))])
    wal.append([GroupUpdate(1, tombstone=Tombstone(3))])
    assert wal.entries(1, 1, 3) == run(1, 2)
    with pytest.raises(LogMisuse, match="replica 2 was buried before 3"):
        wal.append([GroupUpdate(1, tombstone=Tombstone(2))])
    wal.append([GroupUpdate(1, tombstone=Tombstone(4)), GroupUpdate(1, tombstone=Tombstone(4))])
    assert wal.state(1) == GroupState(tombstone=Tombstone(4))


def test_entries_stop_at_max_bytes_but_never_before_the_first(wal: Wal) -> None:
    wal.append([GroupUpdate(1, run(1, 9))])
    size = len(run(1, 1)[0].data)
    assert wal.entries(1, 1, 10, max_bytes=0) == run(1, 1)
    assert wal.entries(1, 1, 10, max_bytes=3 * size) == run(1, 3)
    assert wal.entries(1, 1, 10, max_bytes=3 * size + 1) == run(1, 3)
    assert wal.entries(1, 1, 10, max_bytes=100 * size) == run(1, 9)


def test_empty_data_and_data_beyond_a_segment_fit(fs: FaultFileSystem, wal: Wal) -> None:
    entries = [Entry(1, 1, 255, b""), Entry(1, 2, 0, b"x" * 9000), Entry(1, 3, 0, b"")]
    wal.append([GroupUpdate(1, entries)])
    wal.append([GroupUpdate(1, [Entry(1, 4, 0, b"y" * 9000)])])
    for log in live_and_reopened(fs, wal):
        assert log.entries(1, 1, 5) == [*entries, Entry(1, 4, 0, b"y" * 9000)]
    assert len(fs.image()) == 2, "a segment with but its checkpoint takes a record of any size"


MISUSES = {
    "gap": [GroupUpdate(1, run(12, 13))],
    "gap within one append": [GroupUpdate(1, run(11, 12)), GroupUpdate(1, run(14, 14))],
    "gap in a new group": [GroupUpdate(2, run(2, 3))],
    "gap between entries": [GroupUpdate(1, [*run(11, 11), *run(13, 13)])],
    "rewriting what a snapshot holds": [GroupUpdate(1, run(4, 6))],
    "mark behind the mark": [GroupUpdate(1, snapshot=SnapshotMark(4, 1))],
    "other term at the mark": [GroupUpdate(1, snapshot=SnapshotMark(5, 2))],
    "mark at zero": [GroupUpdate(2, snapshot=SnapshotMark(0, 0))],
    "kind": [GroupUpdate(1, [Entry(1, 11, 256, b"")])],
    "negative term": [GroupUpdate(1, [Entry(-1, 11, 0, b"")])],
    "vote too large": [GroupUpdate(1, hard_state=HardState(1, 2**64, 0))],
    "negative group": [GroupUpdate(-1, run(1, 1))],
    "negative replica": [GroupUpdate(1, tombstone=Tombstone(-1))],
    "mark too large": [GroupUpdate(1, snapshot=SnapshotMark(2**64, 1))],
    "tombstone with company": [GroupUpdate(1, run(11, 11), tombstone=Tombstone(1))],
}


@pytest.mark.parametrize("updates", MISUSES.values(), ids=MISUSES)
def test_misuse_is_refused_before_a_byte_is_written(
    fs: FaultFileSystem, wal: Wal, updates: list[GroupUpdate]
) -> None:
    wal.append([GroupUpdate(1, run(1, 10), HardState(1, 1, 5))])
    wal.compact(1, 5, conf=b"c")
    image, state = fs.image(), wal.state(1)
    with pytest.raises(LogMisuse, match=f"group {updates[0].group}"):
        wal.append([GroupUpdate(3, run(1, 1)), *updates])
    assert fs.image() == image
    assert wal.state(1) == state
    assert wal.groups() == [1]


def test_reading_backwards_is_misuse(wal: Wal) -> None:
    with pytest.raises(LogMisuse):
        wal.entries(1, 2, 1)


def test_nothing_to_append_writes_nothing(fs: FaultFileSystem, wal: Wal) -> None:
    image = fs.image()
    wal.append([])
    assert fs.image() == image


def test_a_second_process_is_kept_out(fs: FaultFileSystem, wal: Wal) -> None:
    with pytest.raises(LogLocked, match=str(PATH)):
        Wal.open(PATH, fs=fs)


def test_a_second_process_is_kept_out_of_a_real_directory(tmp_path: Path) -> None:
    with Wal.open(tmp_path / "a" / "log"), pytest.raises(LogLocked, match="another process"):
        Wal.open(str(tmp_path / "a" / "log"))
    Wal.open(tmp_path / "a" / "log").close()


def test_a_closed_log_says_so(fs: FaultFileSystem, wal: Wal) -> None:
    wal.close()
    wal.close()
    for call in (wal.sync, wal.groups, wal.pinned, wal.drop_segments, lambda: wal.append([])):
        with pytest.raises(LogClosed):
            call()
    reopened(fs).close()


def test_closing_often_does_not_grow_the_log(fs: FaultFileSystem, wal: Wal) -> None:
    wal.append([GroupUpdate(1, run(1, 1))])
    wal.close()
    image = fs.image()
    for _ in range(3):
        Wal.open(PATH, fs=fs).close()
    assert fs.image() == image


def test_a_node_that_had_a_log_does_not_begin_another(fs: FaultFileSystem) -> None:
    with pytest.raises(LogDamaged, match="no segment"):
        Wal.open(PATH, fs=fs, must_exist=True)
    Wal.open(PATH, fs=fs).close()
    Wal.open(PATH, fs=fs, must_exist=True).close()


def test_entries_that_rotted_on_disk_are_not_returned(fs: FaultFileSystem) -> None:
    with Wal.open(PATH, fs=fs, cache_bytes=0) as wal:
        wal.append([GroupUpdate(1, run(1, 3))])
        wal.sync()
        (path,) = fs.image()
        fs.flip(path, 8 * fs.read(path).index(run(2, 2)[0].data))
        assert wal.entries(1, 1, 2) == run(1, 1)
        with pytest.raises(LogDamaged, match="entry 2") as caught:
            wal.entries(1, 1, 4)
        assert caught.value.path == path
        assert caught.value.offset == fs.read(path).index(run(2, 2)[0].data[1:]) - 1


def test_an_unreadable_sector_is_damage(fs: FaultFileSystem) -> None:
    with Wal.open(PATH, fs=fs, cache_bytes=0) as wal:
        wal.append([GroupUpdate(1, run(1, 3))])
        fs.fail("pread")
        with pytest.raises(LogDamaged, match="cannot be read"):
            wal.entries(1, 1, 4)
        assert wal.entries(1, 1, 4) == run(1, 3)


@pytest.mark.parametrize("after", [(2, 2), (4, 1), (4, 0), (0, 1)])
def test_entries_are_refused_where_what_they_follow_is_not_there(wal: Wal, after: tuple[int, int]) -> None:
    """Entry 3 is to follow an entry that the log has of another term, or not at all: nothing is written."""
    wal.append([GroupUpdate(1, run(1, 3))])
    with pytest.raises(LogMisuse, match="was to come before"):
        wal.append([GroupUpdate(1, run(3, 3, term=3), HardState(3, 1, 2), after=after)])
    assert wal.state(1) == GroupState(last_index=3, log_bytes=wal.state(1).log_bytes)
    wal.append([GroupUpdate(1, run(3, 4, term=3), after=(2, 1))])
    assert wal.term(1, 3) == 3


def test_a_hard_state_is_refused_where_the_log_does_not_end_as_expected(wal: Wal) -> None:
    """Without entries an update builds on the last one, also behind a snapshot and in an empty log."""
    wal.append([GroupUpdate(1, hard_state=HardState(1, 1, 0), after=(0, 0))])
    wal.append([GroupUpdate(1, run(1, 3))])
    for after in ((2, 1), (3, 2), (0, 0)):
        with pytest.raises(LogMisuse, match="was to come before"):
            wal.append([GroupUpdate(1, hard_state=HardState(2), after=after)])
    wal.append([GroupUpdate(1, hard_state=HardState(2), after=(3, 1))])
    wal.compact(1, 3, conf=b"")
    wal.append([GroupUpdate(1, hard_state=HardState(3), after=(3, 1))])
    assert wal.state(1).hard_state.term == 3
