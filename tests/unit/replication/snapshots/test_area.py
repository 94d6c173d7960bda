"""The folders of one group's snapshots: what is staged is whole, whatever happens; so is what is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
from vecdb_replication.snapshots import Area, recover_folder, replace_folder

from tests.support.cutdisk import Cut, CutDisk
from tests.unit.replication.snapshots.shelf import FILES, GROUP, Shelf, manifest_of

MANIFEST = manifest_of()


def area(folder: Path, disk: CutDisk | None = None) -> Area:
    return Area(folder, GROUP, disk or CutDisk(), reserve=0)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_what_is_staged_survives_a_power_loss(tmp_path: Path) -> None:
    """Its bytes and its name are durable once `stage` returns: the log may rely on it."""
    disk = CutDisk()
    here = area(tmp_path, disk)
    await here.incoming.fetch(MANIFEST, Shelf().source)
    here.stage(9, MANIFEST)
    disk.lose_power()
    assert content(here.staged(9)) == FILES
    assert not here.incoming.root.exists()
    assert not here.incoming.holds(MANIFEST)
    here.stage(9, MANIFEST)


async def test_a_crash_while_staging_leaves_it_whole_or_not_there(tmp_path: Path) -> None:
    """Before each operation the process dies, or the power fails; fetching and staging again ends well."""
    counted = CutDisk()
    whole = area(tmp_path / "whole", counted)
    await whole.incoming.fetch(MANIFEST, Shelf().source)
    begin = len(counted.done)
    whole.stage(9, MANIFEST)
    for cut in range(begin, len(counted.done)):
        for power in (False, True):
            folder, disk = tmp_path / f"{cut}-{power}", CutDisk(cut)
            died = area(folder, disk)
            await died.incoming.fetch(MANIFEST, Shelf().source)
            with pytest.raises(Cut):
                died.stage(9, MANIFEST)
            if power:
                disk.lose_power()
            again = area(folder)
            assert content(again.staged(9)) in ({}, FILES)
            await again.incoming.fetch(MANIFEST, Shelf().source)
            again.stage(9, MANIFEST)
            assert content(again.staged(9)) == FILES


async def test_only_what_arrived_whole_is_staged(tmp_path: Path) -> None:
    """LookupError for another manifest, and for one whose files did not all come."""
    here, shelf = area(tmp_path), Shelf()
    shelf.bytes_left = 600
    with pytest.raises(ConnectionError):
        await here.incoming.fetch(MANIFEST, shelf.source)
    with pytest.raises(LookupError, match="the files of the snapshot at 9 are not here"):
        here.stage(9, MANIFEST)
    assert not here.staged(9).exists()


async def test_what_the_state_has_passed_is_removed(tmp_path: Path) -> None:
    """Up to its index, strangers too; what lies beyond may still be installed."""
    here = area(tmp_path)
    here.tidy(5)
    for index in (4, 5, 6):
        await here.incoming.fetch(MANIFEST, Shelf().source)
        here.stage(index, MANIFEST)
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
