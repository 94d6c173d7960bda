"""Snapshots for others: they do not change, and stay while somebody needs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from vecdb_replication.host.fetches import _LONGEST_WAIT
from vecdb_replication.snapshots import FileEntry, LocalDisk, ManifestRefused, Outgoing, SnapshotGone

from tests.unit.replication.snapshots.shelf import GROUP

DATA = b"what it was"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def build(folder: Path) -> tuple[int, Sequence[FileEntry]]:
    folder.mkdir()
    (folder / "state").write_bytes(DATA)
    return 5, [FileEntry("state", len(DATA), 1)]


def outgoing(root: Path, clock: Clock | None = None) -> Outgoing:
    return Outgoing(root / "out", GROUP, LocalDisk(), keep_seconds=20.0, clock=clock or Clock())


def test_what_was_made_can_be_read(tmp_path: Path) -> None:
    """By the names in its manifest, and by no others."""
    out = outgoing(tmp_path)
    assert out.newest() is None
    made = out.make(build)
    assert (made.group, made.index) == (GROUP, 5)
    assert out.newest() == made
    with out.open(made.snapshot, "state") as file:
        file.seek(5)
        assert file.read() == DATA[5:]
    file.close()
    for snapshot, name in ((made.snapshot, "other"), ("00", "state"), (made.snapshot, "../out/x")):
        with pytest.raises(SnapshotGone, match="of group 7"):
            out.open(snapshot, name)


def test_the_newest_is_offered_and_older_ones_go(tmp_path: Path) -> None:
    """Made anew again and again, they do not fill the disk; who reads an older one is not cut off."""
    clock = Clock()
    out = outgoing(tmp_path, clock)
    first, second = out.make(build), out.make(build)
    assert first.snapshot != second.snapshot
    with pytest.raises(SnapshotGone):
        out.open(first.snapshot, "state")
    with out.open(second.snapshot, "state") as file:
        third = out.make(build)
        assert out.newest() == third
        clock.now = 100.0
        assert file.read() == DATA
        with out.open(second.snapshot, "state"):
            pass
    clock.now = 144.0
    out.tidy()
    out.open(second.snapshot, "state").close()
    clock.now = 190.0
    out.tidy()
    assert list((tmp_path / "out").iterdir()) == []


def test_the_newest_stays_for_a_while(tmp_path: Path) -> None:
    """From when it was offered last: whoever was told of it may be waiting for its turn."""
    clock = Clock()
    out = outgoing(tmp_path, clock)
    made = out.make(build)
    clock.now = 15.0
    assert out.newest() == made
    clock.now = 34.0
    out.tidy()
    assert next((tmp_path / "out").iterdir()).name == made.snapshot
    clock.now = 36.0
    out.tidy()
    assert list((tmp_path / "out").iterdir()) == []


def test_one_is_not_offered_for_ever(tmp_path: Path) -> None:
    """It may be damaged, and fetched in vain again and again: it is offered on while somebody reads it."""
    clock = Clock()
    out = outgoing(tmp_path, clock)
    made = out.make(build)
    for clock.now in (10.0, 19.0):
        assert out.newest() == made
    with out.open(made.snapshot, "state"):
        clock.now = 100.0
        assert out.newest() == made
    clock.now = 140.0
    assert out.newest() == made
    clock.now = 146.0
    assert out.newest() is None
    with out.open(made.snapshot, "state") as file:
        assert file.read() == DATA


def test_it_knows_whether_somebody_reads(tmp_path: Path) -> None:
    """A leader waits for a follower that fetches, also between two tries, and for no other."""
    clock = Clock()
    out = outgoing(tmp_path, clock)
    made = out.make(build)
    assert not out.in_use
    with out.open(made.snapshot, "state"):
        clock.now = 50.0
        assert out.in_use
    clock.now = 50.0 + _LONGEST_WAIT
    assert out.in_use
    clock.now = 96.0
    assert not out.in_use


def test_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    """Neither an error of the state nor a manifest that cannot be leaves files."""

    def fails(folder: Path) -> tuple[int, Sequence[FileEntry]]:
        build(folder)
        raise OSError("no room")

    out = outgoing(tmp_path)
    with pytest.raises(OSError, match="no room"):
        out.make(fails)
    with pytest.raises(ManifestRefused):
        out.make(lambda folder: (build(folder)[0], [FileEntry("../state", 1, 1)]))
    assert list((tmp_path / "out").iterdir()) == []
    assert out.newest() is None


def test_what_could_not_be_removed_is_tried_again(tmp_path: Path) -> None:
    """And does not keep a newer one from being made."""

    class Stuck(LocalDisk):
        stuck = True

        def remove(self, path: Path) -> None:
            if self.stuck and path.exists():
                raise OSError("it cannot be removed")
            super().remove(path)

    disk = Stuck()
    out = Outgoing(tmp_path / "out", GROUP, disk, keep_seconds=20.0, clock=Clock())
    out.make(build)
    second = out.make(build)
    assert out.newest() == second
    with pytest.raises(OSError, match="cannot be removed"):
        out.tidy()
    disk.stuck = False
    out.tidy()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [second.snapshot]


def test_what_another_life_left_is_removed(tmp_path: Path) -> None:
    """Nobody knows what it was."""
    outgoing(tmp_path).make(build)
    assert outgoing(tmp_path).newest() is None
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_opened_pins_nothing(tmp_path: Path) -> None:
    """An error on opening is told, and the snapshot can go."""
    clock = Clock()
    out = outgoing(tmp_path, clock)
    made = out.make(build)
    (tmp_path / "out" / made.snapshot / "state").unlink()
    with pytest.raises(FileNotFoundError):
        out.open(made.snapshot, "state")
    clock.now = 100.0
    out.tidy()
    assert out.newest() is None
