"""The catalogue's snapshots: one file, and the same steps as any."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from crc32c import crc32c
from vecdb_replication.host import FileMachine
from vecdb_replication.snapshots import FileEntry, FileSource, Manifest, ManifestRefused, SnapshotDamaged

from tests.support.cutdisk import Cut, CutDisk
from tests.unit.vecdb.catalog.records import record, token
from vecdb.catalog import (
    CATALOG_GROUP,
    CatalogMachine,
    CatalogState,
    CreateCollection,
    CreateToken,
    Genesis,
    QuarantineAuthor,
    Quarantined,
    encode,
)


class Direct:
    """Fetches from a machine in this process, and turns a bit in the first file where `flip` is set."""

    def __init__(self, giver: CatalogMachine) -> None:
        self.giver = giver
        self.flip = False

    async def fetch(
        self, peer: str, group: int, snapshot: str, name: str, offset: int = 0
    ) -> AsyncIterator[bytes]:
        with self.giver.open_file(snapshot, name) as file:
            file.seek(offset)
            data = file.read()
        if self.flip:
            self.flip = False
            data = bytes([data[0] ^ 1]) + data[1:]
        yield data

    @property
    def source(self) -> FileSource:
        return FileSource(self, "n1", CATALOG_GROUP)


def filled(folder: Path) -> CatalogMachine:
    folder.mkdir()
    machine = CatalogMachine(folder / "state")
    commands = (
        Genesis("c", 1),
        CreateCollection(record("a"), 2),
        CreateToken(token("t")),
        QuarantineAuthor(Quarantined("eve", "spam", 5)),
    )
    machine.apply([(index, encode(command)) for index, command in enumerate(commands, 1)])
    return machine


async def test_the_state_of_one_is_the_state_of_the_other(tmp_path: Path) -> None:
    """It is told of the change, is there after a restart, and stands at the entry it was installed for."""
    giver, seen = filled(tmp_path / "a"), list[CatalogState]()
    (tmp_path / "b").mkdir()
    taker = CatalogMachine(tmp_path / "b" / "state", seen.append)
    assert isinstance(taker, FileMachine)
    with pytest.raises(LookupError, match="no snapshot was made yet"):
        giver.capture()
    giver.prepare()
    index, data = giver.capture()
    assert index == 4
    direct = Direct(giver)
    direct.flip = True
    await taker.fetch(data, direct.source)
    assert giver.is_sending()
    assert taker.applied_index == 0
    # Two entries behind it were not for the state.
    taker.stage(6, data)
    with pytest.raises(LookupError, match="no snapshot of 5 was staged"):
        taker.install(5)
    for _ in range(2):
        taker.install(6)
    assert (taker.applied_index, taker.durable_index) == (6, 6)
    assert taker.state == replace(giver.state, applied=6)
    assert taker.state.tokens
    assert taker.state.quarantined
    assert seen == [taker.state]
    taker.tidy()
    again = CatalogMachine(tmp_path / "b" / "state")
    assert again.state == taker.state


async def test_a_clean_up_that_fails_does_not_undo_an_installation(tmp_path: Path) -> None:
    """The state is in its place already: what is left beside it goes by the next clean-up."""

    class Stuck(CutDisk):
        stuck = False

        def remove(self, path: Path) -> None:
            if self.stuck and path.parent.name == "staged":
                raise OSError("it cannot be removed")
            super().remove(path)

    disk = Stuck()
    giver, taker = filled(tmp_path / "a"), CatalogMachine(tmp_path / "b" / "state", None, disk)
    giver.prepare()
    index, data = giver.capture()
    await taker.fetch(data, Direct(giver).source)
    taker.stage(index, data)
    disk.stuck = True
    taker.install(index)
    assert taker.state == giver.state
    staged = tmp_path / "b" / "snapshots" / "staged"
    assert [path.name for path in staged.iterdir()] == [str(index)]
    disk.stuck = False
    taker.tidy()
    assert not list(staged.iterdir())


async def test_a_crash_anywhere_leaves_the_old_state_or_the_new(tmp_path: Path) -> None:
    """Until the log has the snapshot the state is the old one; from then on installing it goes through."""
    giver = filled(tmp_path / "a")
    giver.prepare()
    index, data = giver.capture()
    for cut in range(100):
        folder = tmp_path / str(cut)
        folder.mkdir()
        disk = CutDisk()
        taker, logged = CatalogMachine(folder / "state", None, disk), False
        disk.done.clear()
        disk.limit = cut
        try:
            await taker.fetch(data, Direct(giver).source)
            taker.stage(index, data)
            logged = True
            taker.install(index)
            break
        except Cut:
            disk.lose_power()
        again = CatalogMachine(folder / "state")
        if logged and again.applied_index < index:
            again.install(index)
        assert again.state == (giver.state if logged else CatalogState())
    else:
        pytest.fail("it never came to an end")
    assert cut > 10


@pytest.mark.parametrize(
    "manifest",
    [
        Manifest(CATALOG_GROUP + 1, "a1", 2, (FileEntry("state", 1, 1),)),
        Manifest(CATALOG_GROUP, "a1", 2, (FileEntry("other", 1, 1),)),
        Manifest(CATALOG_GROUP, "a1", 2, (FileEntry("state", 1, 1), FileEntry("more", 1, 1))),
    ],
)
async def test_only_a_catalogue_is_taken(tmp_path: Path, manifest: Manifest) -> None:
    """Another group's files, or others than the one, are refused before they are asked for."""
    taker = CatalogMachine(tmp_path / "state")
    with pytest.raises(ManifestRefused):
        await taker.fetch(manifest.encode(), Direct(taker).source)
    assert not (tmp_path / "snapshots").exists()


async def test_a_file_that_is_no_catalogue_is_refused(tmp_path: Path) -> None:
    """Its checksum in the manifest may fit: what it is has to fit too."""
    giver, taker = filled(tmp_path / "a"), filled(tmp_path / "b")
    before = taker.state
    giver.prepare()
    folder = next((tmp_path / "a" / "snapshots" / "out").iterdir())
    (folder / "state").write_bytes(b"nonsense")
    entry = FileEntry("state", 8, crc32c(b"nonsense"))
    lying = Manifest(CATALOG_GROUP, folder.name, 2, (entry,)).encode()
    with pytest.raises(SnapshotDamaged, match="cannot be used"):
        await taker.fetch(lying, Direct(giver).source)
    with pytest.raises(LookupError):
        taker.stage(2, lying)
    assert taker.state == before
