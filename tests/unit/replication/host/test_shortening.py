"""Shortening a log while something else happens to it: log and core are not of one mind for a while."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from vecdb_replication import raft
from vecdb_replication.host import Envelope, HostCore, Pass
from vecdb_replication.raft import Entry, Message, MessageType
from vecdb_replication.wal import GroupUpdate, LogFull, Tombstone, Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import FOLDER, Notes

G = 7


@pytest.fixture
def log() -> Iterator[Wal]:
    with Wal.open(FOLDER, fs=FaultFileSystem()) as opened:
        yield opened


class Follower:
    """Replica 2 of three, whose state has three entries for good."""

    def __init__(self, log: Wal) -> None:
        self.log = log
        self.notes = Notes()
        log.append([GroupUpdate(G, tombstone=Tombstone(1))])
        self.core = HostCore(
            log, boot=b"b", draw=lambda ticks: ticks, locate=lambda _, replica: f"n{replica}"
        )
        self.held = self.core.open(G, self.notes, 2, (1, 2, 3))
        done = self.append(1, 2, 3, commit=3)
        while done.write is not None or done.tasks:
            for task in done.tasks:
                self.core.applied(task, self.notes.apply(task.entries))
            if done.write is not None:
                log.append(done.write.updates)
                self.core.written(done.write, None)
            done = self.core.step()
        assert self.notes.checkpoint() == 3

    def hear(self, message: Message) -> Pass:
        self.core.receive("n1", Envelope(((G, message),)))
        return self.core.step()

    def append(self, *indexes: int, commit: int) -> Pass:
        before = indexes[0] - 1
        entries = tuple(Entry(1, index, data=b"word") for index in indexes)
        fields = {"index": before, "log_term": min(before, 1), "entries": entries, "commit": commit}
        return self.hear(Message(MessageType.APP, to=2, from_=1, term=1, **fields))  # type: ignore[arg-type]


def test_a_log_that_begins_behind_a_snapshot_already_is_not_shortened_before_it(log: Wal) -> None:
    """Its record is written, and the core is yet to be told: nothing is left to drop, and nothing fails."""
    follower = Follower(log)
    core = follower.core
    snapshot = raft.Snapshot(20, 1, b"[]", raft.ConfState((1, 2, 3)))
    message = Message(MessageType.SNAP, to=2, from_=1, term=1, snapshot=snapshot)
    (staging,) = follower.hear(message).stagings
    follower.notes.stage(20, snapshot.data)
    core.staged(staging, None)
    write = core.step().write
    assert write is not None
    log.append(write.updates)
    assert core.shorten(G) is None
    core.written(write, None)
    assert log.state(G).first_index == follower.held.replica.storage.first == 21


@pytest.mark.parametrize("taken", [True, False])
def test_a_mark_on_its_way_stays_in_force_when_the_core_is_made_anew(log: Wal, taken: bool) -> None:
    """A write is refused meanwhile. The log takes the mark and drops what the new core must not ask for then.

    Should the log refuse the mark as well, all of it is still there.
    """
    follower = Follower(log)
    core, held = follower.core, follower.held
    write = follower.append(4, commit=3).write
    assert write is not None
    mark = core.shorten(G)
    assert mark is not None
    core.written(write, LogFull("no room"))
    assert held.replica.epoch == 2
    if taken:
        log.append([mark])
    else:
        core.unshorten(G)
    assert held.replica.storage.first == log.state(G).first_index == (4 if taken else 1)
    assert held.replica.node.term_of(0) == 0
    assert held.failure is None
