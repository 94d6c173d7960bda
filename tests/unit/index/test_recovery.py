"""Crashes, power loss, damage and full disks: what comes back, and what is refused."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import crc32c
import msgpack
import numpy as np
import pytest
from shards import STILL, TINY, crash_copy, ids_of
from vecdb_index import (
    Delete,
    FormatTooNew,
    LocalFileSystem,
    Schema,
    Shard,
    ShardClosed,
    ShardDamaged,
    ShardInUse,
    ShardOptions,
    SnapshotStopped,
    StorageFailed,
    UnknownMutation,
    Update,
    Upsert,
    encode,
    verify_snapshot,
)
from vecdb_index import snapshot as taking

DIM = 8
SCHEMA = Schema(DIM, "cosine")


def history(count: int, seed: int = 0) -> list[tuple[int, bytes]]:
    """A log with upserts, rewrites, updates and deletes over some tens of ids."""
    random = np.random.default_rng(seed)
    entries = []
    for index in range(1, count + 1):
        ids = [f"d{number}" for number in random.choice(60, 6, replace=False)]
        if index % 5 == 4:
            mutation: object = Delete(ids[:3])
        elif index % 5 == 3:
            mutation = Update(ids, msgpack.packb({"changed": index}), session=b"s", sequence=index)
        else:
            vectors = random.standard_normal((6, DIM)).astype(np.float32)
            mutation = Upsert(ids, vectors, texts=[f"text {index}"] * 6, session=b"s", sequence=index)
        entries.append((index, encode(mutation)))  # type: ignore[arg-type]
    return entries


def wal_frames(wal: Path) -> Iterator[int]:
    """The lengths at which a write-ahead log ends between two frames."""
    data = wal.read_bytes()
    page = struct.unpack_from(">I", data, 8)[0]
    return iter(range(32, len(data) + 1, 24 + page))


def test_power_loss_at_every_frame(tmp_path: Path) -> None:
    """Whatever of the write-ahead log a power loss takes, applying the log again ends at the same content."""
    log = history(60)
    with Shard.create(tmp_path / "a", SCHEMA, TINY) as shard:
        shard.apply(log[:20])
        assert shard.wait_indexed(30)
        shard.checkpoint()
        # From here on nothing is checkpointed, while blocks are sealed and segments merged.
        shard._keeper.stop()
        for entry in log[20:]:
            shard.apply([entry])
        assert shard.wait_indexed(30)
        wanted = shard.content_hash()
        copied = crash_copy(shard, tmp_path / "crashed")
    cuts = list(wal_frames(copied / "shard.db-wal"))
    assert len(cuts) > 100
    seen = set()
    for cut in cuts[:: max(1, len(cuts) // 50)] + cuts[-3:]:
        torn = tmp_path / f"torn-{cut}"
        shutil.copytree(copied, torn)
        os.truncate(torn / "shard.db-wal", cut + 17 * (cut % 2))
        with Shard.open(torn, TINY) as shard:
            assert shard.applied_index >= 20
            seen.add(shard.applied_index)
            shard.apply(log)
            assert shard.content_hash() == wanted
            shard.verify()
        shutil.rmtree(torn)
    assert len(seen) > 20


def test_kill_during_load(tmp_path: Path) -> None:
    """A process killed while it writes, seals and merges leaves a shard that opens and can be caught up."""
    script = (
        "import sys\n"
        "sys.path[:0] = sys.argv[3:]\n"
        "from pathlib import Path\n"
        "from shards import TINY\n"
        "from test_recovery import SCHEMA, history\n"
        "from vecdb_index import Shard\n"
        "shard = Shard.create(Path(sys.argv[1]), SCHEMA, TINY)\n"
        "for entry in history(int(sys.argv[2])):\n"
        "    shard.apply([entry])\n"
        "    print(entry[0], flush=True)\n"
    )
    log = history(400)
    with Shard.create(tmp_path / "whole", SCHEMA, STILL) as shard:
        shard.apply(log)
        wanted = shard.content_hash()
    for run, stop_at in enumerate((3, 77, 250)):
        path = tmp_path / f"killed-{run}"
        command = [sys.executable, "-c", script, str(path), "400", str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= stop_at:
                    break
            process.kill()
        with Shard.open(path, TINY) as shard:
            # The page cache survives a kill, so what was acknowledged is there.
            assert shard.applied_index >= stop_at
            shard.apply(log)
            assert shard.content_hash() == wanted
            assert shard.wait_indexed(30)
            shard.verify()


def test_orphans_are_removed(tmp_path: Path) -> None:
    """Segment files that no manifest names go at opening; files of other names stay."""
    with Shard.create(tmp_path / "a", SCHEMA, TINY) as shard:
        shard.apply(history(10))
        shard.wait_indexed(30)
    orphan = tmp_path / "a" / "segments" / "00000000000000ff.raw"
    foreign = tmp_path / "a" / "segments" / "notes.txt"
    orphan.write_bytes(b"left over")
    foreign.write_bytes(b"mine")
    Shard.open(tmp_path / "a").close()
    assert not orphan.exists()
    assert foreign.exists()


def test_files_go_only_after_a_checkpoint(tmp_path: Path) -> None:
    """A merged segment's files stay until the transaction that dropped them cannot be lost."""
    with Shard.create(tmp_path / "a", SCHEMA, TINY) as shard:
        shard._keeper.stop()
        for entry in history(30):
            shard.apply([entry])
        assert shard.wait_indexed(30)
        named = {
            path.name for part in shard._core.view.sealed for path in part.rows.manifest.paths(shard.path)
        }
        before = {path.name for path in (shard.path / "segments").iterdir()}
        assert before > named
        assert shard.checkpoint() == 30
        assert {path.name for path in (shard.path / "segments").iterdir()} == named


def use_after_scrub(path: Path) -> None:
    with Shard.open(path) as shard:
        shard._scrub.join()
        assert shard.stats().state == "damaged"
        shard.search(np.ones(DIM, np.float32), 3)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("docnos", {}),
        ("raw", {}),
        ("unit", {}),
        ("graph", {}),
        ("codes", {"storage": "sq8"}),
        ("codec", {"storage": "rabitq"}),
        ("codec", {"index": "ivf"}),
        ("lists", {"index": "ivf"}),
        ("codes", {"index": "ivf", "storage": "f16"}),
    ],
)
def test_damage_is_named(tmp_path: Path, suffix: str, kind: dict[str, Any]) -> None:
    """One flipped byte in any segment file is found at opening or by the scrub, which names the file."""
    options = ShardOptions(rest_rows=1, rest_seconds=0.01, flat_rows=16)
    with Shard.create(tmp_path / "a", replace(SCHEMA, **kind), options) as shard:
        shard.apply(history(30))
        assert shard.wait_indexed(30)
    (path,) = (tmp_path / "a" / "segments").glob(f"*.{suffix}")
    data = bytearray(path.read_bytes())
    for place in (0, len(data) // 2, len(data) - 1):
        flipped = bytearray(data)
        flipped[place] ^= 0x10
        path.write_bytes(flipped)
        with pytest.raises(ShardDamaged) as caught:
            use_after_scrub(tmp_path / "a")
        assert caught.value.path == path
    path.write_bytes(data[:-1])
    with pytest.raises(ShardDamaged, match=str(path)):
        Shard.open(tmp_path / "a")
    path.unlink()
    with pytest.raises(ShardDamaged, match="missing"):
        Shard.open(tmp_path / "a")


def test_damaged_documents_are_named(tmp_path: Path) -> None:
    """Bytes changed inside the database, where SQLite has no checksum, are found by the scrub."""
    with Shard.create(tmp_path / "a", SCHEMA, TINY) as shard:
        shard.apply(history(30))
        assert shard.wait_indexed(30)
    path = tmp_path / "a" / "shard.db"
    data = path.read_bytes()
    place = data.index(b"text 22")
    path.write_bytes(data[:place] + b"TEXT" + data[place + 4 :])
    with pytest.raises(ShardDamaged) as caught:
        use_after_scrub(tmp_path / "a")
    assert caught.value.path == path
    path.write_bytes(b"\0" * 4096 + data[4096:])
    with pytest.raises(ShardDamaged, match=r"shard\.db"):
        Shard.open(tmp_path / "a")


def test_damaged_growing_vectors_are_named(tmp_path: Path) -> None:
    """Growing vectors carry a checksum that is verified at opening."""
    vectors = np.full((4, DIM), 0.123456789, np.float32)
    with Shard.create(tmp_path / "a", SCHEMA, STILL) as shard:
        shard.upsert(["a", "b", "c", "d"], vectors)
    path = tmp_path / "a" / "shard.db"
    data = path.read_bytes()
    place = data.index(vectors[0].tobytes())
    path.write_bytes(data[:place] + b"\0" + data[place + 1 :])
    with pytest.raises(ShardDamaged, match="checksum"):
        Shard.open(tmp_path / "a")


def test_newer_format_is_refused(tmp_path: Path) -> None:
    """A shard that a later format wrote is not opened, and not changed."""
    Shard.create(tmp_path / "a", SCHEMA).close()
    with sqlite3.connect(tmp_path / "a" / "shard.db") as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(FormatTooNew):
        Shard.open(tmp_path / "a")


def test_directory_in_use_is_refused(tmp_path: Path) -> None:
    """A directory has one holder, in this process and among all; closing frees it."""
    with Shard.create(tmp_path / "a", SCHEMA):
        with pytest.raises(ShardInUse):
            Shard.open(tmp_path / "a")
        script = (
            "import sys, vecdb_index as v\ntry: v.Shard.open(sys.argv[1])\nexcept v.ShardInUse: sys.exit(7)"
        )
        assert (
            subprocess.run([sys.executable, "-c", script, str(tmp_path / "a")], check=False).returncode == 7
        )
        with pytest.raises(FileExistsError):
            Shard.create(tmp_path / "a", SCHEMA)
    Shard.open(tmp_path / "a").close()
    with pytest.raises(FileNotFoundError):
        Shard.open(tmp_path / "b")


def test_unknown_mutation_stops_and_changes_nothing(tmp_path: Path) -> None:
    """An unknown kind or format raises, and takes back the whole call."""
    with Shard.create(tmp_path / "a", SCHEMA, STILL) as shard:
        good = encode(Upsert(["a"], np.ones((1, DIM), np.float32)))
        for unknown in (bytes((1, 99, 0, 0, 0, 0, 0, 0)), bytes((2, 1, 0, 0, 0, 0, 0, 0))):
            with pytest.raises(UnknownMutation):
                shard.apply([(1, good), (2, unknown)])
            assert (shard.applied_index, shard.count()) == (0, 0)
        shard.apply([(1, good)])
        assert shard.count() == 1


class FullDisk(LocalFileSystem):
    """A file system that can be full."""

    def __init__(self) -> None:
        self.full = threading.Event()

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> tuple[int, int]:
        if self.full.is_set():
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return super().write(path, chunks)


def test_sealing_on_a_full_disk_is_tried_again(tmp_path: Path) -> None:
    """While segments cannot be written, reads and writes go on and the state says so; then it heals."""
    disk = FullDisk()
    disk.full.set()
    options = ShardOptions(seal_rows=8, rest_rows=4, rest_seconds=0.01, flat_rows=16, files=disk)
    with Shard.create(tmp_path / "a", SCHEMA, options) as shard:
        for entry in history(20):
            shard.apply([entry])
        deadline = time.monotonic() + 30
        while shard.stats().state != "failing" and time.monotonic() < deadline:
            time.sleep(0.005)
        stats = shard.stats()
        assert stats.state == "failing"
        assert "No space left" in str(stats.error)
        assert len(shard.search(np.ones(DIM, np.float32), 5).docnos) == 5
        assert list((tmp_path / "a" / "segments").iterdir()) == []
        disk.full.clear()
        assert shard.wait_indexed(30)
        assert shard.stats().state == "ready"


def fill(shard: Shard, vectors: np.ndarray, stop: int = 100) -> None:
    for index in range(shard.applied_index + 1, stop):
        ids = [f"{index}-{row}" for row in range(len(vectors))]
        shard.apply([(index, encode(Upsert(ids, vectors)))])


def test_writing_to_a_full_disk(tmp_path: Path) -> None:
    """SQLite out of space: the call fails whole, reads work, and after room is made writes do too."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs takes root")
    try:
        with Shard.create(small / "a", Schema(1024, "l2"), STILL) as shard:
            vectors = np.ones((64, 1024), np.float32)
            with pytest.raises(StorageFailed):
                fill(shard, vectors)
            applied = shard.applied_index
            assert 0 < applied < 99
            assert shard.count() == 64 * applied
            assert len(shard.search(vectors[0], 3).docnos) == 3
            subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
            fill(shard, vectors, applied + 3)
            assert shard.count() == 64 * (applied + 2)
            shard.verify()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_closed_shard_refuses(tmp_path: Path) -> None:
    """Every use of a closed shard raises ShardClosed, and closing again is fine."""
    shard = Shard.create(tmp_path / "a", SCHEMA)
    shard.close()
    shard.close()
    for use in (
        lambda: shard.search(np.ones(DIM, np.float32), 1),
        lambda: shard.get(["a"]),
        lambda: shard.apply([]),
        lambda: shard.count(),
        lambda: shard.checkpoint(),
    ):
        with pytest.raises(ShardClosed):
            use()
    assert not shard.wait_indexed(0)


@pytest.mark.parametrize("pages", [1, 4096])
def test_snapshot_is_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    """A snapshot taken under writes opens as a shard of its own, with the content of its applied index.

    However many pages of the database a step copies: the steps are of one moment.
    """
    monkeypatch.setattr(taking, "_PAGES", pages)
    log = history(200)
    with Shard.create(tmp_path / "a", SCHEMA, TINY) as shard:
        shard.apply(log[:100])
        writer = threading.Thread(target=lambda: [shard.apply([entry]) for entry in log[100:]])
        writer.start()
        snapshot = shard.snapshot(tmp_path / "copy")
        writer.join()
        wanted = shard.content_hash()
    with Shard.open(tmp_path / "copy", TINY) as copy:
        assert copy.applied_index == snapshot.applied_index >= 100
        assert copy.content_hash() == snapshot.content_hash
        copy.verify()
        copy.apply(log)
        assert copy.content_hash() == wanted
        assert copy.wait_indexed(30)
        assert len(ids_of(copy, copy.search(np.ones(DIM, np.float32), 5).docnos)) == 5
    assert {"shard.db"} <= {file.name for file in snapshot.files}


def test_a_snapshot_can_be_given_up(tmp_path: Path) -> None:
    """Between two steps of the copy; the shard is as before, and another one can be taken."""
    with Shard.create(tmp_path / "shard", SCHEMA, TINY) as shard:
        shard.apply(history(50))
        with pytest.raises(SnapshotStopped):
            shard.snapshot(tmp_path / "given up", lambda: True)
        wanted = shard.snapshot(tmp_path / "copy").content_hash
    with Shard.open(tmp_path / "copy", TINY) as copy:
        assert copy.content_hash() == wanted


def test_a_snapshot_need_not_be_verified_to_its_end(tmp_path: Path) -> None:
    """Whoever does not want it any more is not waited for, however far it was; it is neither good nor bad."""
    with Shard.create(tmp_path / "shard", SCHEMA, TINY) as shard:
        shard.apply(history(50))
        assert shard.wait_indexed(30)
        shard.snapshot(tmp_path / "copy")
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        return asked > until

    for until in range(3):
        asked = 0
        with pytest.raises(SnapshotStopped):
            verify_snapshot(tmp_path / "copy", TINY, stopped=stopped)
        assert asked == until + 1
    assert verify_snapshot(tmp_path / "copy", TINY) == 50


def test_snapshot_files_have_their_checksums(tmp_path: Path) -> None:
    """Every file of a snapshot has the size and CRC32C that its list says."""
    with Shard.create(tmp_path / "a", SCHEMA, TINY) as shard:
        shard.apply(history(50))
        assert shard.wait_indexed(30)
        snapshot = shard.snapshot(tmp_path / "b" / "copy")
        with pytest.raises(FileExistsError):
            shard.snapshot(tmp_path / "b" / "copy")
    files = {file.name: (file.size, file.crc) for file in snapshot.files}
    found = {
        str(path.relative_to(tmp_path / "b" / "copy")): (len(data := path.read_bytes()), crc32c.crc32c(data))
        for path in (tmp_path / "b" / "copy").rglob("*")
        if path.is_file()
    }
    assert files == found


def test_a_snapshot_is_verified_without_being_changed(tmp_path: Path) -> None:
    """All files stay as they are; damage in any of them is found, and the file named."""
    with Shard.create(tmp_path / "a", SCHEMA, TINY) as shard:
        shard.apply(history(50))
        assert shard.wait_indexed(30)
        snapshot = shard.snapshot(tmp_path / "copy")
    assert verify_snapshot(tmp_path / "copy", TINY) == 50
    for file in snapshot.files:
        path = tmp_path / "copy" / file.name
        data = path.read_bytes()
        assert (len(data), crc32c.crc32c(data)) == (file.size, file.crc)
        # In a copy: the shard has the same file, where links are possible.
        path.unlink()
        # A bit of a segment's, and a page of the database: not every byte of that means something.
        flipped = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
        path.write_bytes(data[:4096] + b"?" * 4096 + data[8192:] if path.suffix == ".db" else flipped)
        with pytest.raises(ShardDamaged, match=path.name):
            verify_snapshot(tmp_path / "copy", TINY)
        path.write_bytes(data)
    assert verify_snapshot(tmp_path / "copy", TINY) == 50
