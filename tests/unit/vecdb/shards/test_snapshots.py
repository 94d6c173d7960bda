"""A shard's snapshots: whole, of one moment, and installed entirely or not at all."""

from __future__ import annotations

import errno
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from crc32c import crc32c
from vecdb_index import ShardClosed, ShardDamaged
from vecdb_replication.host import FileMachine, StorageFull
from vecdb_replication.snapshots import (
    FileEntry,
    Manifest,
    ManifestRefused,
    SnapshotDamaged,
    SnapshotGone,
    decode,
)

from tests.support.cutdisk import Cut, CutDisk
from tests.unit.vecdb.shards.replicas import GROUP, OPTIONS, Direct, machine, write
from vecdb.shards import ShardMachine
from vecdb.shards.machine import recover


def reopened(folder: Path) -> ShardMachine:
    recover(folder / str(GROUP))
    return ShardMachine.open(folder / str(GROUP), GROUP, OPTIONS)


async def hand_over(giver: ShardMachine, taker: ShardMachine, index: int = 0) -> int:
    """All steps, as the host takes them; the index under which it was installed."""
    giver.prepare()
    captured, data = giver.capture()
    await taker.fetch(data, Direct(giver).source)
    taker.stage(index or captured, data)
    taker.install(index or captured)
    return index or captured


async def test_the_state_of_one_is_the_state_of_the_other(tmp_path: Path) -> None:
    """Documents, positions and the retry window travel, and the taker goes on from there."""
    giver, taker = machine(tmp_path / "a", ids=30), machine(tmp_path / "b", ids=3)
    (first,) = giver.apply([(31, write("r", session=b"s", sequence=5))])
    old = taker.shard
    assert isinstance(taker, FileMachine)
    assert await hand_over(giver, taker) == 31
    assert (taker.applied_index, taker.durable_index) == (31, 31)
    assert taker.shard.content_hash() == giver.shard.content_hash()
    with pytest.raises(ShardClosed):
        old.count()
    # The retry that comes to the new replica is answered as the old one answered it, and changes nothing.
    retried = write("r", session=b"s", sequence=5, value=9.0)
    again = [each.apply([(32, retried)])[0] for each in (giver, taker)]
    assert [(result.index, result.count) for result in again] == [(first.index, first.count)] * 2
    assert taker.shard.content_hash() == giver.shard.content_hash()
    taker.close()
    taker = reopened(tmp_path / "b")
    assert (taker.applied_index, taker.shard.count()) == (32, 31)
    taker.tidy()
    assert not list((tmp_path / "b" / f"{GROUP}.snapshots").glob("staged/*"))
    for each in (giver, taker):
        each.close()


async def test_a_snapshot_does_not_change(tmp_path: Path) -> None:
    """Writes, seals and merges after it was made leave it what it was."""
    giver, taker = machine(tmp_path / "a", ids=20), machine(tmp_path / "b")
    giver.prepare()
    index, data = giver.capture()
    then = giver.shard.content_hash()
    for at in range(21, 60):
        giver.apply([(at, write(f"d{at % 25}", value=float(at)))])
    assert giver.shard.wait_indexed(30)
    giver.checkpoint()
    await taker.fetch(data, Direct(giver).source)
    taker.stage(index, data)
    taker.install(index)
    assert (taker.applied_index, taker.shard.content_hash()) == (20, then)
    for each in (giver, taker):
        each.close()


async def test_writes_go_on_while_a_snapshot_is_made(tmp_path: Path) -> None:
    """Many of them taken under writes: each is the state at its index, no more and no less."""
    giver = machine(tmp_path / "a")
    hashes: dict[int, bytes] = {0: giver.shard.content_hash()}
    stop = threading.Event()

    def load() -> None:
        index = 0
        while not stop.is_set():
            index += 1
            giver.apply([(index, write(f"d{index % 40}", value=float(index)))])
            hashes[index] = giver.shard.content_hash()

    writer = threading.Thread(target=load)
    writer.start()
    try:
        for round_ in range(3):
            taker = machine(tmp_path / f"b{round_}")
            index = await hand_over(giver, taker)
            found = taker.shard.content_hash()
            taker.close()
            assert found == hashes[index]
    finally:
        stop.set()
        writer.join()
    assert index > 0
    giver.close()


async def test_it_may_be_the_state_of_a_later_entry(tmp_path: Path) -> None:
    """Entries that are not for the state advance the snapshot; that is known again after a restart."""
    giver, taker = machine(tmp_path / "a", ids=5), machine(tmp_path / "b")
    assert await hand_over(giver, taker, index=9) == 9
    assert (taker.applied_index, taker.durable_index, taker.shard.applied_index) == (9, 9, 5)
    taker.close()
    taker = reopened(tmp_path / "b")
    assert (taker.applied_index, taker.durable_index) == (9, 9)
    third = machine(tmp_path / "c")
    assert await hand_over(taker, third) == 9
    taker.apply([(10, write("more"))])
    assert taker.applied_index == 10
    assert await hand_over(taker, third) == 10
    for each in (giver, taker, third):
        each.close()


async def test_a_crash_anywhere_leaves_the_old_state_or_the_new(tmp_path: Path) -> None:
    """The process dies before each operation on the disk, or the power fails.

    Until the log has the snapshot it is the old state; from then on the new
    one, once the next start has done again what it found undone.
    """
    giver = machine(tmp_path / "a", ids=12)
    giver.prepare()
    index, data = giver.capture()
    old = machine(tmp_path / "old", ids=2)
    old_hash = old.shard.content_hash()
    old.close()

    async def attempt(folder: Path, disk: CutDisk, cut: int | None) -> None:
        """Notes in `outcome` whether the log had it when the process died."""
        shutil.copytree(tmp_path / "old", folder)
        taker = ShardMachine.open(folder / str(GROUP), GROUP, OPTIONS, disk)
        disk.done.clear()
        disk.limit = cut
        logged = False
        try:
            await taker.fetch(data, Direct(giver).source)
            taker.stage(index, data)
            logged = True
            taker.install(index)
        finally:
            taker.close()
            outcome.append(logged)

    outcome: list[bool] = []
    counted = CutDisk()
    await attempt(tmp_path / "whole", counted, None)
    assert outcome.pop()
    seen = set()
    for cut in range(len(counted.done)):
        for power in (False, True):
            folder, disk = tmp_path / f"{cut}-{power}", CutDisk()
            with pytest.raises(Cut):
                await attempt(folder, disk, cut)
            logged = outcome.pop()
            if power:
                disk.lose_power()
            again = reopened(folder)
            if logged and again.applied_index < index:
                again.install(index)
            content, applied = again.shard.content_hash(), again.applied_index
            again.close()
            seen.add((logged, applied))
            expected = (index, giver.shard.content_hash()) if logged else (2, old_hash)
            assert (applied, content) == expected, (cut, power, counted.done[cut])
            shutil.rmtree(folder)
    assert seen == {(False, 2), (True, index)}
    giver.close()


async def test_a_snapshot_the_engine_cannot_use_is_refused(tmp_path: Path) -> None:
    """Checksums of the manifest that fit do not make a database of garbage: the old state stays."""
    taker = machine(tmp_path / "b", ids=3)
    giver = machine(tmp_path / "a", ids=9)
    giver.prepare()
    index, data = giver.capture()
    manifest = decode(data)
    database = tmp_path / "a" / f"{GROUP}.snapshots" / "out" / manifest.snapshot / "shard.db"
    content = bytearray(database.read_bytes())
    content[4096:] = b"?" * len(content[4096:])
    database.write_bytes(content)
    files = tuple(
        replace(entry, crc=crc32c(bytes(content))) if entry.name == "shard.db" else entry
        for entry in manifest.files
    )
    lying = replace(manifest, files=files).encode()
    with pytest.raises(SnapshotDamaged, match="cannot be used"):
        await taker.fetch(lying, Direct(giver).source)
    with pytest.raises(LookupError):
        taker.stage(index, lying)
    assert not (tmp_path / "b" / f"{GROUP}.snapshots" / "in").exists()
    assert (taker.applied_index, taker.shard.count()) == (3, 3)
    for each in (giver, taker):
        each.close()


async def test_a_manifest_that_lies_about_its_index_is_refused(tmp_path: Path) -> None:
    """A state newer than its index would have entries applied twice."""
    giver, taker = machine(tmp_path / "a", ids=5), machine(tmp_path / "b")
    giver.prepare()
    _, data = giver.capture()
    older = replace(decode(data), index=4).encode()
    with pytest.raises(SnapshotDamaged, match="has entry 5, and its manifest says 4"):
        await taker.fetch(older, Direct(giver).source)
    for each in (giver, taker):
        each.close()


@pytest.mark.parametrize(
    ("names", "group"),
    [
        (("shard.db", "LOCK"), GROUP),
        (("shard.db", "shard.db-wal"), GROUP),
        (("shard.db", "INSTALLED"), GROUP),
        (("shard.db", "segments/x.raw"), GROUP),
        (("shard.db", "other/0000000000000001.raw"), GROUP),
        (("segments/0000000000000001.raw",), GROUP),
        (("shard.db",), GROUP + 1),
    ],
)
async def test_only_files_of_a_shard_are_taken(tmp_path: Path, names: tuple[str, ...], group: int) -> None:
    """What the engine would never have written is not asked for, nor what is another group's."""
    giver, taker = machine(tmp_path / "a"), machine(tmp_path / "b")
    manifest = Manifest(group, "a1", 5, tuple(FileEntry(name, 1, 1) for name in names))
    with pytest.raises(ManifestRefused):
        await taker.fetch(manifest.encode(), Direct(giver).source)
    assert not (tmp_path / "b" / f"{GROUP}.snapshots").exists()
    for each in (giver, taker):
        each.close()


async def test_a_full_disk_leaves_the_old_state(tmp_path: Path) -> None:
    """While receiving, nothing changes; while installing, it is done once there is room."""

    class Full(CutDisk):
        fails = ""
        unsynced = False

        def sync_folder(self, path: Path) -> None:
            if self.unsynced and self.done[-1] == "rename" and path.name != "staged":
                raise OSError(errno.EIO, "not synced")
            super().sync_folder(path)

        def rename(self, source: Path, target: Path) -> None:
            if self.fails == target.name:
                raise OSError(errno.ENOSPC, "no room")
            super().rename(source, target)

    disk = Full()
    giver, taker = machine(tmp_path / "a", ids=9), machine(tmp_path / "b", ids=3, disk=disk)
    giver.prepare()
    index, data = giver.capture()
    disk.room = 1000
    with pytest.raises(OSError, match="are free") as caught:
        await taker.fetch(data, Direct(giver).source)
    assert caught.value.errno == errno.ENOSPC
    assert (taker.applied_index, taker.shard.count()) == (3, 3)
    disk.room = None
    await taker.fetch(data, Direct(giver).source)
    taker.stage(index, data)
    for name in (f"{GROUP}.replaced", f"{GROUP}"):
        disk.fails = name
        with pytest.raises(StorageFull, match="put in place"):
            taker.install(index)
        assert taker.applied_index == 3
    disk.fails, disk.unsynced = "", True
    with pytest.raises(StorageFull, match="not synced"):
        taker.install(index)
    assert not (tmp_path / "b" / f"{GROUP}.snapshots" / "staged" / str(index)).exists()
    disk.unsynced = False
    taker.install(index)
    assert (taker.applied_index, taker.shard.count()) == (9, 9)
    taker.install(index)
    for each in (giver, taker):
        each.close()


def test_no_snapshot_is_made_where_its_copy_would_fill_the_disk(tmp_path: Path) -> None:
    """The log of everybody needs the room more; once there is room, it is made."""
    disk = CutDisk()
    only = machine(tmp_path, ids=3, disk=disk)
    disk.room = 64 << 20
    with pytest.raises(OSError, match="kept back") as caught:
        only.prepare()
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(LookupError):
        only.capture()
    disk.room = 80 << 20
    only.prepare()
    assert only.capture()[0] == 3
    only.close()


def test_what_was_never_staged_cannot_be_installed(tmp_path: Path) -> None:
    """LookupError, and the state stays open; nothing is captured that was not prepared."""
    only = machine(tmp_path / "a", ids=2)
    with pytest.raises(LookupError, match="no snapshot of 5 was staged"):
        only.install(5)
    with pytest.raises(LookupError, match="no snapshot was made yet"):
        only.capture()
    with pytest.raises(SnapshotGone):
        only.open_file("a1", "shard.db")
    assert not only.is_sending()
    assert only.shard.count() == 2
    only.close()


async def test_the_note_of_an_installed_snapshot_is_checked(tmp_path: Path) -> None:
    """A bit that flips in it is damage: entries would be left out, or applied twice."""
    giver, taker = machine(tmp_path / "a", ids=5), machine(tmp_path / "b")
    await hand_over(giver, taker)
    for each in (giver, taker):
        each.close()
    note = tmp_path / "b" / str(GROUP) / "INSTALLED"
    data = note.read_bytes()
    note.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(ShardDamaged, match="INSTALLED"):
        reopened(tmp_path / "b")
