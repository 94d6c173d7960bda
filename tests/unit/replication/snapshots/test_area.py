"""The folders of one group's snapshots: what is staged is whole, whatever happens; so is what is replaced."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from vecdb_replication.snapshots import Area, SnapshotBusy, recover_folder, replace_folder

from tests.support.cutdisk import Cut, CutDisk
from tests.unit.replication.snapshots.shelf import FILES, GROUP, Shelf, manifest_of

MANIFEST = manifest_of()


def area(folder: Path, disk: CutDisk | None = None) -> Area:
    return Area(folder, GROUP, disk or CutDisk(), reserve=0)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_what_is_staged_survives_a_power_loss(tmp_path: Path) -> None:
    """Its bytes and all names on the way to it are durable once `stage` returns: the log may rely on it."""
    disk = CutDisk()
    here = area(tmp_path / "7.snapshots", disk)
    await here.fetch(MANIFEST, Shelf().source)
    here.stage(9, MANIFEST)
    disk.lose_power()
    assert content(here.staged(9)) == FILES
    assert content(here.incoming.root) == {}
    assert not here.incoming.holds(MANIFEST)
    here.stage(9, MANIFEST)
    assert content(here.staged(9)) == FILES


async def test_a_crash_while_staging_leaves_it_whole_or_not_there(tmp_path: Path) -> None:
    """Before each operation the process dies, or the power fails; fetching and staging again ends well."""
    counted = CutDisk()
    whole = area(tmp_path / "whole", counted)
    await whole.fetch(MANIFEST, Shelf().source)
    begin = len(counted.done)
    whole.stage(9, MANIFEST)
    for cut in range(begin, len(counted.done)):
        for power in (False, True):
            folder, disk = tmp_path / f"{cut}-{power}", CutDisk(cut)
            died = area(folder, disk)
            await died.fetch(MANIFEST, Shelf().source)
            with pytest.raises(Cut):
                died.stage(9, MANIFEST)
            if power:
                disk.lose_power()
            again = area(folder)
            assert content(again.staged(9)) in ({}, FILES)
            await again.fetch(MANIFEST, Shelf().source)
            again.stage(9, MANIFEST)
            assert content(again.staged(9)) == FILES


async def test_only_what_arrived_whole_is_staged(tmp_path: Path) -> None:
    """LookupError for another manifest, and for one whose files did not all come."""
    here, shelf = area(tmp_path), Shelf()
    shelf.bytes_left = 600
    with pytest.raises(ConnectionError):
        await here.fetch(MANIFEST, shelf.source)
    with pytest.raises(LookupError, match="the files of the snapshot at 12 are not here"):
        here.stage(9, MANIFEST)
    shelf.bytes_left = None
    await here.fetch(MANIFEST, shelf.source)
    for other in (manifest_of(snapshot="b2"), manifest_of({"state": FILES["state"]})):
        with pytest.raises(LookupError):
            here.stage(9, other)
    assert not here.staged(9).exists()


class SlowAtRoot(CutDisk):
    """Once `armed`, the first sync of the area's root waits in the middle of staging, until `go`."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.armed = False
        self.reached, self.go = threading.Event(), threading.Event()

    def sync_folder(self, path: Path) -> None:
        if self.armed and path == self.root:
            self.armed = False
            self.reached.set()
            assert self.go.wait(10)
        super().sync_folder(path)


NEWER = {"state": b"n" * 300, "segments/2.raw": b"z" * 50}


async def test_a_newer_fetch_takes_nothing_from_what_is_being_staged(tmp_path: Path) -> None:
    """It begins, and breaks off, in the middle of staging: what is staged is whole, or staging says no."""
    disk = SlowAtRoot(tmp_path)
    here = area(tmp_path, disk)
    await here.fetch(MANIFEST, Shelf().source)
    disk.armed = True
    staging = asyncio.get_running_loop().run_in_executor(None, here.stage, 12, MANIFEST)
    await asyncio.to_thread(disk.reached.wait)
    shelf = Shelf(NEWER)
    shelf.bytes_left = 120
    with pytest.raises(ConnectionError):
        await here.incoming.fetch(manifest_of(NEWER, "b2", 20), shelf.source)
    disk.go.set()
    with pytest.raises(LookupError, match="the files of the snapshot at 12 are not here"):
        await staging
    assert not here.staged(12).exists()
    await here.fetch(MANIFEST, Shelf().source)
    here.stage(12, MANIFEST)
    assert content(here.staged(12)) == FILES


async def test_nothing_is_handed_over_in_the_middle_of_a_fetch(tmp_path: Path) -> None:
    """Neither of the snapshot that is fetched, nor of the one before: it is to be tried again."""
    here, waiting = area(tmp_path), Shelf(NEWER)
    await here.fetch(MANIFEST, Shelf().source)
    began, go = asyncio.Event(), asyncio.Event()
    fetch = waiting.fetch

    async def slow(*args: Any) -> AsyncIterator[bytes]:
        began.set()
        await go.wait()
        async for chunk in fetch(*args):
            yield chunk

    waiting.fetch = slow  # type: ignore[method-assign]
    newer = manifest_of(NEWER, "b2", 20)
    task = asyncio.create_task(here.fetch(newer, waiting.source))
    await began.wait()
    for index, manifest in ((12, MANIFEST), (20, newer)):
        with pytest.raises(SnapshotBusy):
            await asyncio.to_thread(here.stage, index, manifest)
    go.set()
    await task
    here.stage(20, newer)
    assert content(here.staged(20)) == NEWER


async def test_a_snapshot_that_lost_a_file_is_not_staged(tmp_path: Path) -> None:
    """Whoever took it away, and whether it had been staged before: it is to be fetched anew, all of it."""
    here, shelf = area(tmp_path), Shelf()
    await here.fetch(MANIFEST, shelf.source)
    (here.incoming.folder(MANIFEST) / "state").write_bytes(b"?")
    with pytest.raises(LookupError, match="state of the snapshot at 12 is not as it came"):
        here.stage(12, MANIFEST)
    await here.fetch(MANIFEST, shelf.source)
    here.stage(12, MANIFEST)
    (here.staged(12) / "segments/1.raw").unlink()
    with pytest.raises(LookupError, match="are not here"):
        here.stage(12, MANIFEST)
    await here.fetch(MANIFEST, shelf.source)
    here.stage(12, MANIFEST)
    assert content(here.staged(12)) == FILES
    assert shelf.given == 3 * MANIFEST.total


async def test_what_an_earlier_process_staged_gives_way(tmp_path: Path) -> None:
    """Nobody knows any more what is in it: the log did not name it, or it would be installed by now."""
    before = area(tmp_path)
    await before.fetch(manifest_of(NEWER, "b2"), Shelf(NEWER).source)
    before.stage(9, manifest_of(NEWER, "b2"))
    here = area(tmp_path)
    await here.fetch(MANIFEST, Shelf().source)
    here.stage(9, MANIFEST)
    assert content(here.staged(9)) == FILES


async def test_what_is_staged_is_not_fetched_again(tmp_path: Path) -> None:
    """Where the log had no room for it, it is offered once more, perhaps for a later entry."""
    here, shelf = area(tmp_path), Shelf()
    for index in (9, 9, 11):

        def mark(folder: Path, index: int = index) -> None:
            (folder / "mark").write_bytes(b"%d" % index)

        await here.fetch(MANIFEST, shelf.source)
        here.stage(index, MANIFEST, mark)
    assert shelf.given == MANIFEST.total
    assert content(here.staged(11)) == {**FILES, "mark": b"11"}
    assert [path.name for path in (tmp_path / "staged").iterdir()] == ["11"]
    here.forget(11)
    await here.fetch(MANIFEST, shelf.source)
    assert shelf.given == 2 * MANIFEST.total


@pytest.mark.parametrize("folder", ["staged", "in"])
async def test_a_name_that_could_not_be_synced_is_not_believed_later(tmp_path: Path, folder: str) -> None:
    """A second sync may succeed and say nothing of the first: what was staged is brought here anew."""

    class Failing(CutDisk):
        fails = False

        def sync_folder(self, path: Path) -> None:
            if self.fails and path == tmp_path / folder:
                raise OSError("no")
            super().sync_folder(path)

    disk, shelf = Failing(), Shelf()
    here = area(tmp_path, disk)
    await here.fetch(MANIFEST, shelf.source)
    disk.fails = True
    with pytest.raises(OSError, match="no"):
        here.stage(9, MANIFEST)
    disk.fails = False
    assert not here.staged(9).exists()
    with pytest.raises(LookupError):
        here.stage(9, MANIFEST)
    await here.fetch(MANIFEST, shelf.source)
    here.stage(9, MANIFEST)
    disk.lose_power()
    assert content(here.staged(9)) == FILES
    assert shelf.given == 2 * MANIFEST.total


async def test_what_the_state_has_passed_is_removed(tmp_path: Path) -> None:
    """Up to its index, strangers too; what lies beyond may still be installed."""
    here = area(tmp_path)
    here.tidy(5)
    for index in (4, 5, 6):
        manifest = manifest_of(snapshot=f"a{index}")
        await here.fetch(manifest, Shelf().source)
        here.stage(index, manifest)
    (tmp_path / "staged" / "odd").mkdir()
    here.tidy(5)
    assert [path.name for path in (tmp_path / "staged").iterdir()] == ["6"]


def test_a_crash_while_a_folder_is_replaced_leaves_one_of_them(tmp_path: Path) -> None:
    """Before each operation the process dies, or the power fails: the folder is the old one or the new.

    Where it is the old one, the new one is still there to be put in its place.
    """

    def prepared(folder: Path) -> tuple[Path, Path]:
        path, new = folder / "7", folder / "staged" / "9"
        for made, text in ((path, "old"), (new, "new")):
            made.mkdir(parents=True)
            (made / "state").write_text(text)
        return path, new

    counted = CutDisk()
    path, new = prepared(tmp_path / "whole")
    replace_folder(counted, path, new)
    assert (path / "state").read_text() == "new"
    assert [each.name for each in path.parent.iterdir()].count("7.replaced") == 0
    seen = set()
    for cut in range(len(counted.done)):
        for power in (False, True):
            path, new = prepared(tmp_path / f"{cut}-{power}")
            disk = CutDisk(cut)
            with pytest.raises(Cut):
                replace_folder(disk, path, new)
            if power:
                disk.lose_power()
            recover_folder(CutDisk(), path)
            found = (path / "state").read_text()
            assert new.exists() == (found == "old")
            seen.add(found)
            if found == "old":
                replace_folder(CutDisk(), path, new)
            assert (path / "state").read_text() == "new"
            recover_folder(CutDisk(), path)
            assert sorted(each.name for each in path.parent.iterdir()) == ["7", "staged"]
    assert seen == {"old", "new"}


def test_what_a_start_found_is_not_lost_to_a_later_power_loss(tmp_path: Path) -> None:
    """The process alone dies, before each operation; what the next start goes on with is durable then."""
    for cut in range(20):
        path, new = tmp_path / str(cut) / "7", tmp_path / str(cut) / "staged" / "9"
        for made in (path, new):
            made.mkdir(parents=True)
            (made / "state").write_text(made.name)
        disk = CutDisk(cut)
        try:
            replace_folder(disk, path, new)
            break
        except Cut:
            disk.limit = None
        recover_folder(disk, path)
        found = (path / "state").read_text()
        disk.lose_power()
        recover_folder(CutDisk(), path)
        assert (path / "state").read_text() == found
    assert cut > 5


def test_replacing_goes_on_after_an_error(tmp_path: Path) -> None:
    """Tried again in the same process it never gives up the old folder before the new one is in its place."""

    class Failing(CutDisk):
        fails = True

        def rename(self, source: Path, target: Path) -> None:
            if self.fails and target.name == "7":
                raise OSError("no")
            super().rename(source, target)

    disk, path, new = Failing(), tmp_path / "7", tmp_path / "9"
    for made in (path, new):
        made.mkdir()
        (made / "state").write_text(made.name)
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            replace_folder(disk, path, new)
        assert (tmp_path / "7.replaced" / "state").read_text() == "7"
    disk.fails = False
    replace_folder(disk, path, new)
    assert (path / "state").read_text() == "9"
    assert [each.name for each in tmp_path.iterdir()] == ["7"]


def test_a_name_that_could_not_be_synced_is_synced_when_it_is_tried_again(tmp_path: Path) -> None:
    """The new folder is in its place already: doing it again only makes that durable."""

    class Failing(CutDisk):
        fails = True

        def sync_folder(self, path: Path) -> None:
            if self.fails and not new.exists():
                raise OSError("no")
            super().sync_folder(path)

    disk, path, new = Failing(), tmp_path / "7", tmp_path / "9"
    for made in (path, new):
        made.mkdir()
        (made / "state").write_text(made.name)
    with pytest.raises(OSError, match="no"):
        replace_folder(disk, path, new)
    disk.fails = False
    replace_folder(disk, path, new)
    disk.lose_power()
    assert (path / "state").read_text() == "9"
    assert [each.name for each in tmp_path.iterdir()] == ["7"]
