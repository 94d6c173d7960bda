"""Fetching a snapshot's files: gone on with after any interruption, and never believed unseen."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from vecdb_replication.snapshots import (
    Incoming,
    LocalDisk,
    Manifest,
    SnapshotBusy,
    SnapshotCut,
    SnapshotDamaged,
    SnapshotGone,
)
from vecdb_replication.snapshots import incoming as module

from tests.support.cutdisk import Cut, CutDisk
from tests.unit.replication.host.machines import until
from tests.unit.replication.snapshots.shelf import FILES, Shelf, manifest_of

MANIFEST = manifest_of()
TOTAL = MANIFEST.total


def arrived(to: Incoming, manifest: Manifest = MANIFEST) -> dict[str, bytes]:
    root = to.folder(manifest)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def incoming(root: Path, disk: CutDisk | None = None) -> Incoming:
    return Incoming(root / "in", disk or LocalDisk(), reserve=0)


async def test_all_files_arrive(tmp_path: Path) -> None:
    """Bytes and folders are as the manifest says, empty files too, and each was asked for once."""
    shelf, to = Shelf(), incoming(tmp_path)
    assert not to.holds(MANIFEST)
    await to.fetch(MANIFEST, shelf.source)
    assert arrived(to) == FILES
    assert to.holds(MANIFEST)
    assert [name for name, _ in shelf.asked] == ["state", "segments/1.raw"]
    await to.fetch(MANIFEST, shelf.source)
    assert len(shelf.asked) == 2


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("cut", range(0, TOTAL, 100))
async def test_a_fetch_goes_on_where_it_stopped(tmp_path: Path, cut: int, restarted: bool) -> None:
    """Cut at every chunk, in one life of the process or two: no byte is asked for twice."""
    shelf, to = Shelf(), incoming(tmp_path)
    shelf.bytes_left = cut
    with pytest.raises(ConnectionError):
        await to.fetch(MANIFEST, shelf.source)
    shelf.bytes_left = None
    if restarted:
        to = incoming(tmp_path)
    await to.fetch(MANIFEST, shelf.source)
    assert arrived(to) == FILES
    assert shelf.given == TOTAL


async def test_an_end_that_comes_too_early_is_a_cut(tmp_path: Path) -> None:
    """A source that gives less than it said is gone on with, as one that broke."""
    shelf, to = Shelf({**FILES, "state": FILES["state"][:70]}), incoming(tmp_path)
    with pytest.raises(SnapshotCut, match="state ended at 70 of 500 bytes"):
        await to.fetch(MANIFEST, shelf.source)
    shelf.files["state"] = FILES["state"]
    await to.fetch(MANIFEST, shelf.source)
    assert ("state", 70) in shelf.asked


@pytest.mark.parametrize("name", ["state", "segments/1.raw"])
async def test_a_flipped_bit_is_noticed_and_fetched_again(tmp_path: Path, name: str) -> None:
    """The file begins anew, the others stay, and what counts in the end is right."""
    shelf, to = Shelf(), incoming(tmp_path)
    shelf.flips[name] = 1
    await to.fetch(MANIFEST, shelf.source)
    assert arrived(to) == FILES
    assert [asked for asked in shelf.asked if asked[0] == name] == [(name, 0), (name, 0)]


async def test_a_bit_that_flips_on_the_disk_is_noticed(tmp_path: Path) -> None:
    """What lies there from before is compared as a whole, not only what comes on top of it."""
    shelf, to = Shelf(), incoming(tmp_path)
    shelf.bytes_left = 300
    with pytest.raises(ConnectionError):
        await to.fetch(MANIFEST, shelf.source)
    there = (to.folder(MANIFEST) / "state").read_bytes()
    (to.folder(MANIFEST) / "state").write_bytes(bytes([there[0] ^ 4]) + there[1:])
    shelf.bytes_left = None
    await to.fetch(MANIFEST, shelf.source)
    assert arrived(to) == FILES
    assert shelf.asked == [("state", 0), ("state", 300), ("state", 0), ("segments/1.raw", 0)]


@pytest.mark.parametrize("change", [b"", b"?", FILES["segments/1.raw"]])
async def test_a_manifest_that_lies_gets_nothing(tmp_path: Path, change: bytes) -> None:
    """Other bytes, or more of them, than it says: given up after a few times, and nothing counts."""
    wrong = bytes([FILES["state"][0] ^ 1]) + FILES["state"][1:] + change
    shelf, to = Shelf({**FILES, "state": wrong}), incoming(tmp_path)
    with pytest.raises(SnapshotDamaged, match="state does not fit its checksum, fetched 3 times"):
        await to.fetch(MANIFEST, shelf.source)
    assert not to.holds(MANIFEST)
    assert shelf.asked == [("state", 0)] * 3
    assert (to.folder(MANIFEST) / "state").read_bytes() == b""


async def test_a_source_that_never_ends_fills_no_disk(tmp_path: Path) -> None:
    """Behind the size in the manifest nothing more is taken."""
    shelf, to = Shelf({**FILES, "state": b"x" * 10**6}), incoming(tmp_path)
    with pytest.raises(SnapshotDamaged):
        await to.fetch(MANIFEST, shelf.source)
    assert shelf.given <= 3 * (500 + shelf.chunk)


async def test_what_another_snapshot_has_in_common_is_not_fetched_again(tmp_path: Path) -> None:
    """Files are known by name, size and checksum; what the new manifest has not is removed."""
    shelf, to = Shelf(), incoming(tmp_path)
    shelf.bytes_left = 640
    with pytest.raises(ConnectionError):
        await to.fetch(MANIFEST, shelf.source)
    newer = {"state": b"newer", "segments/1.raw": FILES["segments/1.raw"]}
    shelf.files, shelf.bytes_left, shelf.asked = newer, None, []
    await to.fetch(manifest_of(newer, "b2"), shelf.source)
    assert arrived(to, manifest_of(newer, "b2")) == newer
    assert not to.folder(MANIFEST).exists()
    assert shelf.asked == [("state", 0), ("segments/1.raw", 140)]


async def test_links_and_strange_files_do_not_survive(tmp_path: Path) -> None:
    """A link in the folder is never written through, and what does not belong goes."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    to = incoming(tmp_path)
    at = to.folder(MANIFEST)
    at.mkdir(parents=True)
    (at / "state").symlink_to(outside)
    (at / "segments").symlink_to(tmp_path)
    (at / "LOCK").write_bytes(b"?")
    (to.root / "strange").symlink_to(tmp_path)
    await to.fetch(MANIFEST, Shelf().source)
    assert arrived(to) == FILES
    assert outside.read_bytes() == b"mine"


async def test_room_is_looked_for_before_anything_is_fetched(tmp_path: Path) -> None:
    """What is missing has to fit beside what is kept back; what has arrived does not count again."""
    disk = CutDisk()
    shelf, to = Shelf(), Incoming(tmp_path / "in", disk, reserve=50)
    disk.room = TOTAL + 49
    with pytest.raises(OSError, match=f"{TOTAL} bytes more, {TOTAL + 49} are free") as caught:
        await to.fetch(MANIFEST, shelf.source)
    assert caught.value.errno == errno.ENOSPC
    assert shelf.asked == []
    disk.room = TOTAL + 50
    shelf.bytes_left = 300
    with pytest.raises(ConnectionError):
        await to.fetch(MANIFEST, shelf.source)
    disk.room, shelf.bytes_left = TOTAL - 250, None
    await to.fetch(MANIFEST, shelf.source)
    assert to.holds(MANIFEST)


async def test_a_snapshot_that_is_gone_says_so(tmp_path: Path) -> None:
    """It is for the caller to ask for another."""
    shelf = Shelf()
    shelf.gone = True
    with pytest.raises(SnapshotGone):
        await incoming(tmp_path).fetch(MANIFEST, shelf.source)


async def test_whoever_is_cancelled_writes_nothing_afterwards(tmp_path: Path) -> None:
    """Cancelled in the middle of a write, fetch returns once that is done."""
    began, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Slow(LocalDisk):
        def write_at(self, path: Path, offset: int, data: bytes) -> None:
            if data:
                loop.call_soon_threadsafe(began.set)
                assert go.wait(10)
            super().write_at(path, offset, data)

    to = Incoming(tmp_path / "in", Slow(), reserve=0)
    task = asyncio.create_task(to.fetch(MANIFEST, Shelf().source))
    await began.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (to.folder(MANIFEST) / "state").stat().st_size == 100


async def test_whoever_is_cancelled_again_and_again_still_waits(tmp_path: Path) -> None:
    """A thread that writes for a fetch that was let go of would write into the next one's files."""
    began, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Slow(LocalDisk):
        def write_at(self, path: Path, offset: int, data: bytes) -> None:
            if offset == 100:
                loop.call_soon_threadsafe(began.set)
                assert go.wait(10)
            super().write_at(path, offset, data)

    to = Incoming(tmp_path / "in", Slow(), reserve=0)
    task = asyncio.create_task(to.fetch(MANIFEST, Shelf().source))
    await began.wait()
    for _ in range(3):
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    assert not task.done()
    with pytest.raises(SnapshotBusy):
        await to.fetch(MANIFEST, Shelf().source)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    newer = manifest_of({"state": b"n" * 400}, "b2", 20)
    await to.fetch(newer, Shelf({"state": b"n" * 400}).source)
    assert arrived(to, newer) == {"state": b"n" * 400}


async def test_a_check_is_told_that_nobody_waits_for_it(tmp_path: Path) -> None:
    """It may take minutes: cancelled, a fetch ends as soon as the check does, and nothing counts as whole."""
    to, checking = incoming(tmp_path), threading.Event()

    def check(_: Path, stopped: Callable[[], bool]) -> None:
        checking.set()
        deadline = time.monotonic() + 10
        while not stopped():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        raise RuntimeError("given up")

    task = asyncio.create_task(to.fetch(MANIFEST, Shelf().source, check))
    await asyncio.to_thread(checking.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not to.holds(MANIFEST)
    shelf = Shelf()
    await to.fetch(MANIFEST, shelf.source)
    assert shelf.given == 0
    assert arrived(to) == FILES


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("stuck", [False, True])
@pytest.mark.parametrize("kind", ["sync_file", "sync_folder"])
async def test_what_could_not_be_synced_is_fetched_anew(
    tmp_path: Path, kind: str, stuck: bool, restarted: bool
) -> None:
    """After a failed sync the pages are called clean, written or not: only new ones can be believed.

    Also by the next process, unless what is there could not be removed either.
    """

    class Failing(CutDisk):
        fails = True
        stuck = False

        def remove(self, path: Path) -> None:
            if self.stuck:
                self.stuck = False
                raise OSError(errno.EROFS, "nothing can be removed")
            super().remove(path)

        def sync_file(self, path: Path) -> None:
            self._fail("sync_file")
            super().sync_file(path)

        def sync_folder(self, path: Path) -> None:
            self._fail("sync_folder")
            super().sync_folder(path)

        def _fail(self, operation: str) -> None:
            if self.fails and operation == kind:
                self.fails, self.stuck = False, stuck
                raise OSError(errno.EIO, "the pages are lost")

    shelf, to = Shelf(), incoming(tmp_path, Failing())
    with pytest.raises(OSError, match="the pages are lost"):
        await to.fetch(MANIFEST, shelf.source)
    assert not to.holds(MANIFEST)
    before = shelf.given
    if restarted and not stuck:
        to = incoming(tmp_path)
    await to.fetch(MANIFEST, shelf.source)
    assert shelf.given == before + TOTAL
    assert arrived(to) == FILES


async def test_a_snapshot_that_is_found_bad_is_thrown_away(tmp_path: Path) -> None:
    """Its bytes are what the manifest says, and still no state; looked at where it lies, and once."""
    looked = []

    def check(folder: Path, stopped: Callable[[], bool]) -> None:
        assert not stopped()
        looked.append(folder)
        if len(looked) == 1:
            raise SnapshotDamaged("no state")

    shelf, to = Shelf(), incoming(tmp_path)
    with pytest.raises(SnapshotDamaged, match="no state"):
        await to.fetch(MANIFEST, shelf.source, check)
    assert not to.root.exists()
    for _ in range(2):
        await to.fetch(MANIFEST, shelf.source, check)
    assert looked == [to.folder(MANIFEST)] * 2
    assert shelf.given == 2 * TOTAL


async def test_the_sender_hears_that_its_snapshot_is_being_checked(tmp_path: Path) -> None:
    """However long it takes, and though it cannot be reached now and then; nothing is read twice."""
    shelf = Shelf()
    to = Incoming(tmp_path / "in", LocalDisk(), reserve=0, touch_seconds=0.001)
    checking, go = threading.Event(), threading.Event()

    def check(_: Path, stopped: Callable[[], bool]) -> None:
        checking.set()
        assert go.wait(10)

    task = asyncio.create_task(to.fetch(MANIFEST, shelf.source, check))
    await asyncio.to_thread(checking.wait)
    last = MANIFEST.files[-1]
    for gone in (False, True, False):
        shelf.gone = gone
        before = len(shelf.asked)
        await until(lambda before=before: len(shelf.asked) > before + 2)
        assert set(shelf.asked[before:]) == {(last.name, last.size)}
    go.set()
    await task
    assert to.holds(MANIFEST)
    assert shelf.given == TOTAL
    asked = len(shelf.asked)
    await asyncio.sleep(0.01)
    assert len(shelf.asked) == asked


async def test_a_crash_while_another_snapshots_files_are_taken_over(tmp_path: Path) -> None:
    """Before each operation the process dies, or the power fails: what is believed in the end is right."""
    newer = {"state": b"newer" * 50, "segments/1.raw": FILES["segments/1.raw"], "more/2": b"2" * 120}
    second = manifest_of(newer, "b2", 20)

    async def first(root: Path, disk: CutDisk) -> Incoming:
        to = incoming(root, disk)
        await to.fetch(MANIFEST, Shelf().source)
        return to

    counted, shelf = CutDisk(), Shelf(newer)
    to = await first(tmp_path / "whole", counted)
    begin = len(counted.done)
    await to.fetch(second, shelf.source)
    assert [name for name, _ in shelf.asked] == ["state", "more/2"]
    for cut in range(begin, len(counted.done)):
        for power in (False, True):
            folder = tmp_path / f"{cut}-{power}"
            disk = CutDisk(cut)
            with pytest.raises(Cut):
                await (await first(folder, disk)).fetch(second, Shelf(newer).source)
            if power:
                disk.lose_power()
            to = incoming(folder)
            await to.fetch(second, Shelf(newer).source)
            assert arrived(to, second) == newer
            assert [path.name for path in to.root.iterdir()] == [to.folder(second).name]


async def test_a_crash_anywhere_leaves_what_can_be_gone_on_with(tmp_path: Path) -> None:
    """Before each operation on the disk the process dies, or the power fails: the next fetch ends well."""
    counted = CutDisk()
    await incoming(tmp_path / "whole", counted).fetch(MANIFEST, Shelf().source)
    for cut in range(len(counted.done)):
        for power in (False, True):
            folder = tmp_path / f"{cut}-{power}"
            disk = CutDisk(cut)
            with pytest.raises(Cut):
                await incoming(folder, disk).fetch(MANIFEST, Shelf().source)
            if power:
                disk.lose_power()
            to = incoming(folder)
            await to.fetch(MANIFEST, Shelf().source)
            assert arrived(to) == FILES


async def test_what_nobody_goes_on_with_is_thrown_away(tmp_path: Path) -> None:
    """Not during a fetch, not at once, but after an hour."""
    now = 0.0
    to = Incoming(tmp_path / "in", LocalDisk(), reserve=0, clock=lambda: now)
    await to.fetch(MANIFEST, Shelf().source)
    now += module.KEEP_SECONDS - 1
    to.tidy()
    assert to.holds(MANIFEST)
    now += 2
    to.tidy()
    assert not to.root.exists()
    assert not to.holds(MANIFEST)
