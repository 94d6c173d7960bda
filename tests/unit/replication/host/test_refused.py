"""Several writes of a replica under way, and the log refuses one: what is behind it cannot stand alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from vecdb_replication import wal
from vecdb_replication.host import Envelope, HostCore, Write
from vecdb_replication.raft import Entry, Message, MessageType
from vecdb_replication.wal import LogFull, LogMisuse, Tombstone, Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import FOLDER, Words

G = 7


class Follower:
    """Replica 2 of three, whose leaders the test plays. It holds entries 1 to 6 of leader 1, term 1."""

    def __init__(self, log: Wal) -> None:
        self.log, self.words = log, Words()
        log.append([wal.GroupUpdate(G, tombstone=Tombstone(1))])
        self.open()
        old = tuple(Entry(1, index, data=b"old%d" % index) for index in range(1, 7))
        self.store(self.hear(1, entries=old, commit=1))

    def open(self) -> None:
        locate = lambda _, replica: f"n{replica}"  # noqa: E731
        self.core = HostCore(self.log, boot=b"b", draw=lambda ticks: ticks, locate=locate)
        self.held = self.core.open(G, self.words, 2, (1, 2, 3))
        self.core.step()

    def hear(self, leader: int, type_: MessageType = MessageType.APP, **fields: object) -> Write:
        message = Message(type_, to=2, from_=leader, **{"term": leader, **fields})  # type: ignore[arg-type]
        self.core.receive(f"n{leader}", Envelope(((G, message),)))
        write = self.core.step().write
        assert write is not None
        return write

    def store(self, write: Write) -> None:
        """As the log's writer would; a refusal is told."""
        try:
            self.log.append(write.updates)
        except LogMisuse as misuse:
            self.core.written(write, misuse)
        else:
            self.log.sync()
            self.core.written(write, None)
        self.settle()

    def settle(self) -> None:
        while (done := self.core.step()).write is not None or done.tasks:
            for task in done.tasks:
                self.core.applied(task, self.words.apply(task.entries))
            if done.write is not None:
                self.store(done.write)


@pytest.fixture
def follower() -> Iterator[Follower]:
    with Wal.open(FOLDER, fs=FaultFileSystem()) as log:
        yield Follower(log)


def replaced(follower: Follower) -> Write:
    """Leader 3 replaces entries 2 to 4, and the log is about to refuse that."""
    new = tuple(Entry(3, index, data=b"new%d" % index) for index in (2, 3, 4))
    return follower.hear(3, index=1, log_term=1, entries=new, commit=1)


def test_entries_behind_a_refused_truncation_are_refused_too(follower: Follower) -> None:
    """They leave no gap, for older entries lie where they belong: but not the ones that they follow."""
    refused = replaced(follower)
    behind = follower.hear(3, index=4, log_term=3, entries=(Entry(3, 5, data=b"new5"),), commit=1)
    follower.core.written(refused, LogFull("no room"))
    follower.store(behind)
    assert [entry.term for entry in follower.log.entries(G, 1, 7)] == [1] * 6
    assert follower.words.words == [b"old1"]
    assert (follower.held.replica.node.last_index, follower.held.in_flight) == (6, 0)


def test_a_commit_index_behind_a_refused_truncation_is_refused_too(follower: Follower) -> None:
    """A term alone carries a commit index along: of entries that are not the ones in the log."""
    refused = replaced(follower)
    known = follower.hear(3, index=4, log_term=3, commit=4)
    behind = follower.hear(1, MessageType.HEARTBEAT, term=4)
    assert behind.updates[0].hard_state == wal.HardState(4, 0, 4)
    follower.core.written(refused, LogFull("no room"))
    follower.core.written(known, None)
    follower.store(behind)
    assert follower.log.state(G).hard_state.commit == 1
    assert follower.words.words == [b"old1"]


def test_a_vote_behind_refused_entries_is_refused_too(follower: Follower) -> None:
    """Its commit index is of entries that the log has not got: it would not open again."""
    more = follower.hear(1, index=6, log_term=1, entries=(Entry(1, 7, data=b"old7"),), commit=7)
    behind = follower.hear(3, MessageType.HEARTBEAT, term=4)
    follower.core.written(more, LogFull("no room"))
    follower.store(behind)
    assert follower.log.state(G).hard_state.term == 1
    follower.open()
    assert follower.held.replica.node.last_index == 6


def test_what_follows_an_accepted_write_is_accepted(follower: Follower) -> None:
    """The same writes, none refused: the log is the new leader's, and so is the state."""
    first = replaced(follower)
    second = follower.hear(3, index=4, log_term=3, entries=(Entry(3, 5, data=b"new5"),), commit=1)
    third = follower.hear(1, MessageType.HEARTBEAT, term=4, commit=0)
    for write in (first, second, third):
        follower.store(write)
    assert [entry.term for entry in follower.log.entries(G, 1, 6)] == [1, 3, 3, 3, 3]
    assert follower.log.state(G).hard_state.term == 4
