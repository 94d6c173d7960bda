"""A leader that is its whole group: entries go to the log without the core, by the core's rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from vecdb_replication import raft
from vecdb_replication.host import (
    Envelope,
    GroupBlocked,
    HostCore,
    Options,
    OutcomeUnknown,
    Pass,
    Proposal,
    StorageFull,
    UnknownGroup,
    Write,
)
from vecdb_replication.raft import Change, ChangeType, ConfChange, Message, MessageType, Role
from vecdb_replication.raft.elections import TRANSFER_CONTEXT
from vecdb_replication.wal import LogFull, LogMisuse, Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import FOLDER, Words

G = 7


@dataclass
class Alone:
    """A group of one whose log and workers are the test's."""

    log: Wal
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        self.words = Words()
        self.core = HostCore(
            self.log, boot=b"b", draw=lambda ticks: ticks, locate=lambda _, r: f"n{r}", options=self.options
        )
        self.held = self.core.open(G, self.words)
        self.answers: list[object] = []
        while (done := self.core.step()).write is not None:
            self.store(done.write)

    @property
    def node(self) -> raft.RawNode:
        return self.held.replica.node

    def propose(self, *words: bytes, change: ConfChange | None = None) -> None:
        told = self.answers.append
        for word in words or (b"",):
            self.core.propose(G, Proposal(word, lambda index, _: told(index), told, change))

    def step(self) -> Pass:
        return self.core.step()

    def write(self, *words: bytes, change: ConfChange | None = None) -> Write:
        self.propose(*words, change=change)
        write = self.step().write
        assert write is not None
        return write

    def store(self, write: Write) -> None:
        self.log.append(write.updates)
        self.log.sync()
        self.core.written(write, None)

    def apply(self, done: Pass) -> None:
        for task in done.tasks:
            self.core.applied(task, self.words.apply(task.entries))

    def settle(self) -> None:
        while (done := self.step()).write is not None or done.tasks:
            if done.write is not None:
                self.store(done.write)
                for task in done.write.foreseen:
                    self.core.applied(task, self.words.apply(task.entries))
            self.apply(done)


@pytest.fixture
def alone() -> Iterator[Alone]:
    with Wal.open(FOLDER, fs=FaultFileSystem()) as log:
        yield Alone(log)


def test_an_entry_is_committed_once_it_is_durable_and_not_before(alone: Alone) -> None:
    """The core counts it when the log says so; whoever waits is told when it is applied."""
    write = alone.write(b"a", b"b")
    (task,) = write.foreseen
    assert task.entries == [(2, b"a"), (3, b"b")]
    assert (alone.node.committed, alone.node.last_index) == (1, 1)
    alone.store(write)
    assert (alone.node.committed, alone.node.last_index, alone.node.applied) == (3, 3, 1)
    assert alone.step().tasks == []
    assert alone.answers == []
    alone.core.applied(task, alone.words.apply(task.entries))
    assert (alone.answers, alone.node.applied, alone.held.applied) == ([2, 3], 3, 3)
    assert alone.held.idle


def test_what_comes_behind_a_foreseen_task_waits_for_it(alone: Alone) -> None:
    """Writes overlap; their entries reach the state in order, one task at a time."""
    first, second = alone.write(b"a"), alone.write(b"b")
    assert (len(first.foreseen), len(second.foreseen)) == (1, 0)
    alone.store(first)
    alone.store(second)
    assert alone.step().tasks == []
    alone.core.applied(first.foreseen[0], alone.words.apply(first.foreseen[0].entries))
    alone.apply(alone.step())
    assert alone.words.words == [b"a", b"b"]
    assert alone.answers == [2, 3]


def test_what_was_foreseen_of_a_refused_write_is_void(alone: Alone) -> None:
    """All that was under way is refused for the first reason; then the same index goes to another entry."""
    first, second = alone.write(b"a"), alone.write(b"b")
    alone.core.written(first, LogFull("no room"))
    alone.propose(b"c")
    assert alone.step().write is None, "the second may still be written, for all the core knows"
    with pytest.raises(LogMisuse):
        alone.log.append(second.updates)
    alone.core.written(second, LogMisuse("a gap"))
    assert [type(answer) for answer in alone.answers] == [GroupBlocked, GroupBlocked]
    assert all("no room" in str(answer) for answer in alone.answers)
    alone.settle()
    assert (alone.answers[2:], alone.words.applied) == ([2], [(2, b"c")])
    assert (alone.node.term, alone.held.problem) == (1, "")


def test_a_state_without_room_gets_foreseen_entries_again(alone: Alone) -> None:
    """StorageFull on a foreseen task: told as durable, and applied once there is room."""
    write = alone.write(b"a")
    alone.store(write)
    alone.core.applied(write.foreseen[0], StorageFull("no room"))
    (told,) = alone.answers
    assert isinstance(told, GroupBlocked)
    assert told.durable
    assert alone.step().retries == [G]
    alone.core.retry(G)
    alone.apply(alone.step())
    assert alone.words.applied == [(2, b"a")]
    assert alone.held.idle


def test_a_change_of_membership_waits_for_what_is_under_way(alone: Alone) -> None:
    """It goes by way of the core, which must know of all before it; what is behind it goes the same way."""
    first = alone.write(b"a")
    alone.propose(change=ConfChange((Change(ChangeType.ADD_LEARNER, 2),)))
    alone.propose(b"b")
    assert alone.step().write is None
    alone.store(first)
    second = alone.step().write
    assert second is not None
    assert second.foreseen == []
    assert [entry.index for entry in second.updates[0].entries] == [3, 4]
    alone.core.applied(first.foreseen[0], alone.words.apply(first.foreseen[0].entries))
    alone.store(second)
    alone.settle()
    assert alone.words.words == [b"a", b"b"]
    assert alone.held.replica.conf.learners == (2,)
    assert alone.write(b"c").foreseen == [], "a learner gets its entries from the core"


@pytest.mark.parametrize("learner", [False, True])
def test_what_others_may_have_is_not_called_lost(alone: Alone, learner: bool) -> None:
    """A refused proposal behind a change that lets somebody in may live on there; one before it cannot."""
    if learner:
        alone.propose(change=ConfChange((Change(ChangeType.ADD_LEARNER, 2),)))
        alone.settle()
    first = alone.write(b"a", change=ConfChange((Change(ChangeType.ADD_LEARNER, 3),)))
    behind = alone.write(b"b")
    alone.answers.clear()
    alone.core.written(first, LogFull("no room"))
    alone.core.written(behind, LogMisuse("a gap"))
    expected = [OutcomeUnknown if learner else GroupBlocked, OutcomeUnknown]
    assert [type(answer) for answer in alone.answers] == expected
    assert all("no room" in str(answer) for answer in alone.answers)


def test_nobody_is_heard_where_nobody_else_belongs(alone: Alone) -> None:
    """A vote asked for by somebody who was removed does not end the leader's term, whatever it says."""
    for context in (b"", TRANSFER_CONTEXT):
        message = Message(MessageType.VOTE, to=1, from_=2, term=9, log_term=9, index=9, context=context)
        alone.core.receive("n2", Envelope(((G, message),)))
    assert alone.step().write is None
    assert (alone.node.role, alone.node.term) == (Role.LEADER, 1)


def test_a_group_that_ends_answers_what_is_on_its_way(alone: Alone) -> None:
    """Whoever waits for an entry between proposal and disk is told of the end."""
    write = alone.write(b"a")
    alone.held.end(UnknownGroup("gone"))
    assert [type(answer) for answer in alone.answers] == [UnknownGroup]
    alone.core.written(write, LogFull("no room"))
    assert alone.held.in_flight == 0
    assert alone.held.task is None


def test_tasks_are_bounded_though_the_record_is_one() -> None:
    """What was proposed at once is one record of the log, and as many steps of the state as it needs."""
    with Wal.open(FOLDER, fs=FaultFileSystem()) as log:
        alone = Alone(log, Options(max_apply_bytes=4))
        write = alone.write(b"abc", b"d", b"efghij", b"k")
        assert len(write.updates[0].entries) == 4
        assert write.foreseen == []
        alone.store(write)
        alone.settle()
        assert alone.words.batches == [2, 1, 1]
        assert alone.answers == [2, 3, 4, 5]
