"""Opening a log: a torn last write is cut to exactly a prefix, damage is named, nothing else is altered."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from vecdb_replication.wal import (
    Entry,
    GroupUpdate,
    HardState,
    LogDamaged,
    LogFailed,
    LogVersion,
    SnapshotMark,
    Tear,
    Wal,
)
from vecdb_replication.wal.codec import (
    HEADER_BYTES,
    Checkpoint,
    Head,
    Item,
    Relocation,
    Run,
    SegmentHeader,
    Update,
    encode_items,
)

from tests.support.faultfs import FaultFileSystem

PATH = Path("/log")
Image = dict[Path, bytes]


def segment(number: int) -> Path:
    return PATH / f"{number:012d}.log"


def open_log(fs: FaultFileSystem, segment_bytes: int = 700) -> Wal:
    return Wal.open(PATH, fs=fs, segment_bytes=segment_bytes)


def content(wal: Wal) -> object:
    """Everything a reader can learn from a log."""
    return [
        (group, state := wal.state(group), wal.entries(group, state.first_index, state.last_index + 1))
        for group in wal.groups()
    ]


def updates(number: int) -> list[GroupUpdate]:
    """The number-th append of a history with overwrites, compaction and two groups."""
    data = bytes([number]) * (number * 7 % 60)
    batch = [GroupUpdate(1, [Entry(number, number, 1, data), Entry(number, number + 1, 0, data)])]
    if number % 3 == 0:
        batch.append(GroupUpdate(2, hard_state=HardState(number, 1, 0)))
    if number % 5 == 0:
        batch.append(GroupUpdate(1, snapshot=SnapshotMark(number - 2, number - 2, b"conf")))
    return batch


def history(appends: int, segment_bytes: int = 700) -> tuple[FaultFileSystem, list[tuple[int, object]]]:
    """A log with every append synced, and after each: the last segment's size, and the content."""
    fs = FaultFileSystem()
    wal = open_log(fs, segment_bytes)
    marks = [(len(fs.read(segment(1))), content(wal))]
    for number in range(1, appends + 1):
        wal.append(updates(number))
        wal.sync()
        marks.append((len(list(fs.image().values())[-1]), content(wal)))
    return fs, marks


def test_every_cut_of_the_last_segment_gives_exactly_a_prefix() -> None:
    fs, marks = history(6, segment_bytes=1 << 20)
    whole = fs.read(segment(1))
    for cut in range(marks[0][0], len(whole) + 1):
        torn = FaultFileSystem.of({segment(1): whole[:cut]})
        wal = open_log(torn)
        end, expected = max(mark for mark in marks if mark[0] <= cut)
        assert content(wal) == expected, f"cut at {cut}"
        tear = Tear(segment(1), end, cut - end) if cut > end else None
        assert wal.recovery.tear == tear
        assert torn.read(segment(1)) == whole[:end]


@settings(deadline=None)
@given(st.data())
def test_a_torn_write_is_cut_whatever_its_bytes_are(data: st.DataObject) -> None:
    """Sectors that were never written, old bytes of the device, anything but a whole record."""
    fs, marks = history(3, segment_bytes=1 << 20)
    whole = fs.read(segment(1))
    rest = data.draw(st.one_of(st.binary(max_size=300), st.integers(0, 300).map(bytes)))
    head = whole[marks[-2][0] :][: data.draw(st.integers(0, 39))]
    torn = FaultFileSystem.of({segment(1): whole + head + rest})
    wal = open_log(torn)
    assert content(wal) == marks[-1][1]
    assert torn.read(segment(1)) == whole


def test_a_cut_log_goes_on() -> None:
    fs, marks = history(5, segment_bytes=1 << 20)
    torn = FaultFileSystem.of({segment(1): fs.read(segment(1))[:-1]})
    wal = open_log(torn)
    assert content(wal) == marks[4][1]
    wal.append(updates(5))
    wal.sync()
    torn.crash()
    assert content(open_log(torn)) == marks[5][1]


def test_a_segment_cut_before_its_first_record_is_damage_not_a_tear() -> None:
    """Header and checkpoint were durable before the segment got its name."""
    fs, marks = history(0)
    whole = fs.read(segment(1))
    assert len(whole) == marks[0][0]
    for cut in range(len(whole)):
        assert_damaged({segment(1): whole[:cut]}, segment(1))


def test_every_cut_of_an_earlier_segment_is_damage() -> None:
    fs, _ = history(30)
    image = fs.image()
    assert len(image) > 3
    whole = image[segment(2)]
    for cut in range(len(whole)):
        assert_damaged({**image, segment(2): whole[:cut]}, segment(2))


def test_every_flipped_byte_of_what_was_synced_before_the_last_record_is_found() -> None:
    fs, marks = history(13)
    image = fs.image()
    last = max(image)
    assert len(image) > 2
    assert marks[-2][0] < marks[-1][0], "the last two records share a segment"
    dice = random.Random(1)
    for path, raw in image.items():
        for at in range(len(raw)):
            flipped = bytearray(raw)
            flipped[at] ^= 1 << dice.randrange(8)
            damaged = {**image, path: bytes(flipped)}
            if path != last or at < marks[-2][0]:
                assert_damaged(damaged, path)
            else:
                # The documented limit: in the very last record damage looks like a tear.
                assert content(open_log(FaultFileSystem.of(damaged))) == marks[-2][1]


def test_a_log_closed_in_good_order_has_no_such_limit() -> None:
    fs, marks = history(8)
    fs.restart()
    open_log(fs).close()
    image = fs.image()
    last = max(image)
    dice = random.Random(1)
    for at in range(len(image[last])):
        flipped = bytearray(image[last])
        flipped[at] ^= 1 << dice.randrange(8)
        damaged = FaultFileSystem.of({**image, last: bytes(flipped)})
        try:
            wal = open_log(damaged)
        except LogDamaged:
            continue
        assert content(wal) == marks[-1][1]


def assert_damaged(image: Image, path: Path | None = None) -> LogDamaged:
    fs = FaultFileSystem.of({**image, PATH / "000000000099.log.tmp": b"left behind"})
    before = fs.image()
    with pytest.raises(LogDamaged) as caught:
        open_log(fs)
    assert fs.image() == before
    if path is not None:
        assert caught.value.path == path
        assert str(path) in str(caught.value)
    with pytest.raises(LogDamaged):
        open_log(fs)
    return caught.value


def test_the_head_of_a_torn_record_still_proves_damage_before_it() -> None:
    """It says what was durable when it was written, and its own CRC says that it is right."""
    fs, marks = history(4, segment_bytes=1 << 20)
    raw = bytearray(fs.read(segment(1))[:-1])
    raw[marks[3][0] - 1] ^= 1
    damage = assert_damaged({segment(1): bytes(raw)}, segment(1))
    assert damage.offset == marks[2][0]


def test_bytes_of_a_log_inside_torn_data_prove_nothing() -> None:
    """An entry may carry a whole copy of a log; torn, it must not be taken for records behind a tear."""
    fs, marks = history(3, segment_bytes=1 << 20)
    fs.restart()
    wal = open_log(fs, 1 << 20)
    wal.append([GroupUpdate(9, [Entry(1, 1, 0, fs.read(segment(1)) * 3)])])
    wal.sync()
    torn = FaultFileSystem.of({segment(1): fs.read(segment(1))[:-1]})
    wal = open_log(torn)
    assert content(wal) == marks[-1][1]


def test_records_written_and_synced_together_are_damage_when_the_first_breaks() -> None:
    """Order on the device is not known then, and losing what was acknowledged would be worse."""
    fs = FaultFileSystem()
    wal = open_log(fs, 1 << 20)
    start = len(fs.read(segment(1)))
    wal.append(updates(1))
    wal.append(updates(2))
    wal.sync()
    fs.flip(segment(1), 8 * start + 100)
    assert assert_damaged(fs.image()).offset == start


def test_a_missing_segment_is_damage() -> None:
    fs, _ = history(30)
    image = fs.image()
    for path in list(image)[1:-1]:
        assert_damaged({name: raw for name, raw in image.items() if name != path}, path)


def test_a_missing_first_segment_is_damage_while_its_entries_are_live() -> None:
    fs = FaultFileSystem()
    wal = open_log(fs)
    for number in range(1, 40):
        wal.append([GroupUpdate(1, [Entry(1, number, 0, bytes(50))])])
    wal.sync()
    image = fs.image()
    del image[segment(1)]
    assert "entries 1 to " in assert_damaged(image, PATH).reason


def test_exchanged_segments_are_damage() -> None:
    fs, _ = history(30)
    image = fs.image()
    assert_damaged({**image, segment(2): image[segment(3)]}, segment(2))
    # The same number, from another log (here: of the same history, with other salts).
    other = history(30)[0].image()
    assert_damaged({**image, segment(3): other[segment(3)]}, segment(2))


def test_a_newer_format_is_refused_and_left_alone() -> None:
    fs, _ = history(2)
    raw = fs.read(segment(1))
    header = SegmentHeader.decode(raw)
    assert header is not None
    newer = SegmentHeader(1, header.lsn, 0, 0, header.salt, format=2).encode()
    image = {segment(1): newer + b"whatever comes then"}
    fs = FaultFileSystem.of(image)
    with pytest.raises(LogVersion, match=r"format 2.*up to 1.*newer version"):
        open_log(fs)
    assert fs.image() == image


def test_what_a_killed_process_wrote_is_durable_once_it_is_recovered() -> None:
    fs = FaultFileSystem()
    wal = open_log(fs)
    wal.append(updates(1))
    expected = content(wal)
    fs.restart()
    assert content(open_log(fs)) == expected
    fs.crash()
    assert content(open_log(fs)) == expected


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_pages_lost_in_a_failed_sync_are_not_believed(seed: int) -> None:
    """After the failure the kernel holds them for clean; a restarted process must not build on them."""
    fs = FaultFileSystem(seed)
    wal = open_log(fs, 1 << 20)
    wal.append([GroupUpdate(1, [Entry(1, 1, 0, bytes(2000))])])
    wal.sync()
    wal.append([GroupUpdate(1, [Entry(1, 2, 0, b"x" * 2000)])])
    fs.fail("fdatasync")
    with pytest.raises(LogFailed):
        wal.sync()
    fs.restart()
    believed = content(open_log(fs))
    fs.crash()
    assert content(open_log(fs)) == believed


def test_half_made_segments_are_cleared_away() -> None:
    fs, marks = history(3)
    fs.restart()
    fs.write(PATH / "000000000002.log.tmp", b"half")
    fs.write(PATH / "notes.txt", b"not ours")
    assert content(open_log(fs)) == marks[-1][1]
    assert sorted(fs.image()) == [segment(1), PATH / "notes.txt"]


def test_recovery_counts_what_it_read() -> None:
    fs, _ = history(30)
    fs.restart()
    report = open_log(fs).recovery
    assert report.segments == len(fs.image())
    assert report.records == report.segments + 30
    assert report.bytes == sum(len(raw) - HEADER_BYTES for raw in fs.image().values())


def forged(fs: FaultFileSystem, items: list[Item], *, lsn: int = 3, meta: bytes | None = None) -> Image:
    """The one-segment log with a record more whose checks are right, whatever it says."""
    raw = fs.read(segment(1))
    header = SegmentHeader.decode(raw)
    assert header is not None
    meta = encode_items(items) if meta is None else meta
    head = Head(len(meta), 0, lsn, 0, crc32c(meta)).encode(header.seed, len(raw))
    return {segment(1): raw + head + meta}


EMPTY = bytes(1)
CONTRADICTIONS: dict[str, list[Item]] = {
    "gap": [Update(1, run=Run(5, [1], EMPTY, [0], [crc32c(b"")]))],
    "mark outside": [Update(1, snapshot=SnapshotMark(50, 1), reset=False)],
    "moved outside": [Relocation(1, Run(50, [1], EMPTY, [0], [crc32c(b"")]))],
}


@pytest.mark.parametrize("items", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_record_that_cannot_follow_is_damage(items: list[Item]) -> None:
    fs, marks = history(1)
    assert assert_damaged(forged(fs, items), segment(1)).offset == marks[-1][0]


def test_a_record_out_of_turn_is_damage() -> None:
    fs, _ = history(1)
    assert "record 7 where 3" in assert_damaged(forged(fs, [], lsn=7)).reason


UNKNOWN = {
    "an item of a new kind": b"\x91\x97\x09\x01\xc0\xc0\xc0\xc2\x00",
    "an item too short": b"\x91\x92\x00\x01",
    "no item": b"\x91\x01",
    "no msgpack": b"\xc1",
}


@pytest.mark.parametrize("meta", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("behind", [b"", b"torn"], ids=["at the end", "behind a tear"])
def test_content_that_is_not_understood_is_never_cut(meta: bytes, behind: bytes) -> None:
    """Its checks are right, so somebody wrote it and may have acknowledged it."""
    fs, marks = history(1)
    fs.write(segment(1), fs.read(segment(1)) + behind)
    assert assert_damaged(forged(fs, [], meta=meta), segment(1)).offset == marks[-1][0]


def rebuilt(raw: bytes, checkpoints: list[Item]) -> bytes:
    """A segment with the header of `raw` that holds but this checkpoint."""
    header = SegmentHeader.decode(raw)
    assert header is not None
    meta = encode_items(checkpoints)
    return raw[:HEADER_BYTES] + Head(len(meta), 0, header.lsn, 0, crc32c(meta)).encode(header.seed, 64) + meta


@pytest.mark.parametrize(
    "lie",
    [
        lambda told: Checkpoint(1, HardState(9, 9, 9), None, None, 5),
        lambda told: Checkpoint(77, HardState(), None, None, 0),
    ],
    ids=["other state", "unknown group"],
)
def test_a_later_checkpoint_has_to_agree(lie: Callable[[object], Item]) -> None:
    fs, _ = history(30)
    image = dict(list(fs.image().items())[:2])
    image[segment(2)] = rebuilt(image[segment(2)], [lie(None)])
    assert "contradicts" in assert_damaged(image, segment(2)).reason


def test_a_checkpoint_that_ends_before_it_begins_is_damage() -> None:
    fs, _ = history(1)
    lie: list[Item] = [Checkpoint(1, HardState(), SnapshotMark(9, 1), None, 3)]
    damage = assert_damaged({segment(1): rebuilt(fs.read(segment(1)), lie)}, segment(1))
    assert "ends before it begins" in damage.reason
