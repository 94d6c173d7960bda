"""The host's core by hand: what comes out for what goes in, where threads would hide it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from vecdb_replication import raft, wal
from vecdb_replication.host import (
    Envelope,
    GroupDamaged,
    HostCore,
    Pass,
    Proposal,
    Reader,
)
from vecdb_replication.host.storage import Memberships, pack_conf, unpack_conf
from vecdb_replication.host.wheel import Wheel
from vecdb_replication.raft import ConfState, Entry, Message, MessageType
from vecdb_replication.wal import Tombstone, Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import FOLDER, Notes, Words

G = 7


@pytest.fixture
def log() -> Iterator[Wal]:
    with Wal.open(FOLDER, fs=FaultFileSystem()) as opened:
        yield opened


def core_over(log: Wal, boot: bytes = b"boot") -> HostCore:
    return HostCore(log, boot=boot, draw=lambda ticks: ticks, locate=lambda _, replica: f"n{replica}")


def store(log: Wal, done: Pass) -> None:
    """Do what the log's writer would."""
    if done.write is not None:
        log.append(done.write.updates)
        log.sync()


def from_leader(type_: MessageType = MessageType.APP, **fields: object) -> Envelope:
    message = Message(type_, to=2, from_=1, **{"term": 1, **fields})  # type: ignore[arg-type]
    return Envelope(((G, message),))


def test_a_read_is_never_asked_with_a_context_of_another_life(log: Wal) -> None:
    """Contexts differ between reads and between starts, though term and count are the same."""
    contexts = set()
    log.append([wal.GroupUpdate(G, tombstone=Tombstone(1))])
    for boot in (b"first", b"second"):
        core = core_over(log, boot)
        core.open(G, Words(), 2, (1, 2, 3))
        core.receive("n1", from_leader(MessageType.HEARTBEAT))
        store(log, core.step())
        for _ in range(2):
            core.read(G, Reader(lambda _: None, lambda _: None))
            for _, message in core.step().envelopes["n1"].messages:
                if message.type is MessageType.READ_INDEX:
                    contexts.add(message.entries[0].data)
    assert len(contexts) == 4


def test_what_a_write_vouches_for_need_not_wait_for_the_clock(log: Wal) -> None:
    """A vote or an acknowledgement is due as soon as it is durable, though nothing else is to be done."""
    log.append([wal.GroupUpdate(G, tombstone=Tombstone(1))])
    core = core_over(log)
    core.open(G, Words(), 2, (1, 2, 3))
    core.step()
    vote = from_leader(MessageType.VOTE)
    entries = from_leader(entries=(Entry(1, 1, data=b"word"),))
    for asked, answer in ((vote, MessageType.VOTE_RESP), (entries, MessageType.APP_RESP)):
        core.receive("n1", asked)
        done = core.step()
        assert done.envelopes == {}
        store(log, done)
        assert done.write is not None
        assert not core.is_due
        core.written(done.write, None)
        assert core.is_due
        ((_, message),) = core.step().envelopes["n1"].messages
        assert (message.type, message.reject) == (answer, False)
        assert not core.is_due


def test_a_message_creates_no_replica(log: Wal) -> None:
    """Whoever it is for and whatever it says: what the catalogue did not place here is not here."""
    core = core_over(log)
    core.open(8, Words(), 1, (1,))
    core.step()
    for kind in (MessageType.HEARTBEAT, MessageType.APP, MessageType.VOTE, MessageType.SNAP):
        core.receive("n2", Envelope(((G, Message(kind, to=1, from_=2, term=3)),)))
        assert (list(core.groups), core.step().envelopes) == ([8], {})
    assert log.groups() == []


def test_an_unanswered_read_is_asked_again_and_an_old_answer_is_not_taken(log: Wal) -> None:
    """Ticks ask again under a new context; what comes for the first one then means nothing."""
    log.append([wal.GroupUpdate(G, tombstone=Tombstone(1))])
    core = core_over(log)
    core.open(G, Words(), 2, (1, 2, 3))
    core.receive("n1", from_leader(MessageType.HEARTBEAT))
    store(log, core.step())
    answered: list[int] = []
    core.read(G, Reader(answered.append, lambda _: None))
    first = core.step().envelopes["n1"].messages[0][1].entries
    core.tick(0.0)
    again: list[Message] = []
    for turn in range(1, 25):
        core.tick(turn * 0.025)
        again += [m for _, m in core.step().envelopes.get("n1", Envelope(())).messages]
    assert [m.type for m in again] == [MessageType.READ_INDEX]
    for entries in (first, again[0].entries):
        core.receive("n1", from_leader(MessageType.READ_INDEX_RESP, index=0, entries=entries))
        core.step()
        assert answered == ([] if entries is first else [0])


def test_reads_that_come_together_share_a_round(log: Wal) -> None:
    """One question to the others answers all; who has given up is not told, nor waited for."""
    lead = Lead(log)
    lead.write(b"one")
    answered: list[int] = []
    readers = [Reader(lambda index, n=n: answered.append(n), lambda _: None) for n in range(5)]  # type: ignore[misc]
    for reader in readers[:4]:
        lead.core.read(G, reader)
    lead.held.forget(readers[1])
    beats = [m for m in lead.settle() if m.type is MessageType.HEARTBEAT]
    assert sorted(m.to for m in beats) == [2, 3]
    lead.core.read(G, readers[4])
    lead.held.forget(readers[3])
    more = [m for m in lead.settle() if m.type is MessageType.HEARTBEAT]
    lead.hear(2, MessageType.HEARTBEAT_RESP, context=beats[0].context)
    assert answered == [0, 2]
    lead.hear(2, MessageType.HEARTBEAT_RESP, context=more[0].context)
    assert answered == [0, 2, 4]
    assert (lead.held.replica._reads._rounds, lead.held.replica._reads._round_of) == ({}, {})


def test_a_round_that_nobody_waits_for_is_not_asked_again(log: Wal) -> None:
    """All of its readers have given up: ticks drop it without a word."""
    lead = Lead(log)
    lead.write(b"one")
    reader = Reader(lambda _: None, lambda _: None)
    lead.core.read(G, reader)
    lead.settle()
    lead.held.forget(reader)
    for _ in range(lead.core.options.read_ticks):
        lead.held.replica.tick()
    beats = [m for m in lead.settle() if m.type is MessageType.HEARTBEAT]
    assert {m.context for m in beats} <= {b"", (1).to_bytes(8, "little")}
    assert lead.held.replica._reads._rounds == {}


def test_a_replica_does_not_begin_on_what_an_older_one_left(log: Wal) -> None:
    """Until the ids before it are buried, a later replica cannot be opened; a buried one never."""
    core = core_over(log)
    core.open(G, Words(), 1, (1,))
    store(log, core.step())
    other = core_over(log)
    with pytest.raises(ValueError, match="older replica"):
        other.open(G, Words(), 2, (1,))
    log.append([wal.GroupUpdate(G, tombstone=Tombstone(1))])
    assert other.open(G, Words(), 2, (1,)).replica.node.term == 0
    with pytest.raises(GroupDamaged, match="removed"):
        core_over(log).open(G, Words(), 1, (1,))


def test_an_install_that_a_crash_cut_off_is_done_at_the_next_start(log: Wal) -> None:
    """The log begins behind a snapshot and the state before it: the staged snapshot is put in place."""
    notes = Notes()
    notes.stage(5, b'[[5, "five"]]')
    mark = wal.SnapshotMark(5, 2, pack_conf(ConfState((1, 2, 3))))
    log.append([wal.GroupUpdate(G, snapshot=mark, hard_state=wal.HardState(2, 0, 5))])
    held = core_over(log).open(G, notes, 1, (1,))
    assert notes.words == [b"five"]
    assert held.replica.conf == ConfState((1, 2, 3))
    assert (held.applied, held.replica.node.committed) == (5, 5)


def test_a_state_without_its_snapshot_is_damage(log: Wal) -> None:
    """Where nothing was staged, the replica does not go on, whether or not its state knows snapshots."""
    log.append([wal.GroupUpdate(G, snapshot=wal.SnapshotMark(5, 2))])
    for machine in (Notes(), Words()):
        with pytest.raises(GroupDamaged, match="begins at 6"):
            core_over(log).open(G, machine, 1, (1,))


def test_a_log_that_contradicts_itself_is_damage(log: Wal) -> None:
    """A commit index beyond the log's end means that entries are gone."""
    log.append([wal.GroupUpdate(G, hard_state=wal.HardState(2, 1, 9))])
    with pytest.raises(GroupDamaged, match="cannot go on"):
        core_over(log).open(G, Words(), 1, (1,))


def test_an_entry_of_an_unknown_kind_is_not_guessed_at(log: Wal) -> None:
    """A committed entry that a newer version wrote ends the replica."""
    log.append([wal.GroupUpdate(G, entries=[wal.Entry(1, 1, 9, b"?")], hard_state=wal.HardState(1, 1, 1))])
    core = core_over(log)
    held = core.open(G, Words(), 1, (1,))
    core.step()
    assert isinstance(held.failure, GroupDamaged)
    assert "9 is not a valid" in str(held.failure)


class Lead:
    """Replica 1 of three as the leader, whose followers the test plays."""

    def __init__(self, log: Wal, notes: Notes | None = None) -> None:
        self.log, self.notes = log, notes or Notes()
        self.core = core_over(log)
        self.held = self.core.open(G, self.notes, 1, (1, 2, 3))
        self.held.replica.node.campaign()
        self.core.unreachable("n3")
        self.settle()
        for type_, term in ((MessageType.PRE_VOTE_RESP, 1), (MessageType.VOTE_RESP, 1)):
            self.hear(2, type_, term=term)

    def hear(self, peer: int, type_: MessageType, **fields: object) -> list[Message]:
        message = Message(type_, to=1, from_=peer, **{"term": 1, **fields})  # type: ignore[arg-type]
        self.core.receive(f"n{peer}", Envelope(((G, message),)))
        return self.settle()

    def settle(self) -> list[Message]:
        """Do all that comes out; the messages to others."""
        sent: list[Message] = []
        while True:
            done = self.core.step()
            sent += [m for envelope in done.envelopes.values() for _, m in envelope.messages]
            for group in done.snapshots:
                self.core.groups[group].machine.prepare()
            if done.write is not None:
                store(self.log, done)
                self.core.written(done.write, None)
            for task in done.tasks:
                results = self.notes.apply(task.entries) if task.entries else ()
                self.core.applied(task, results)
            if done.write is None and not done.tasks:
                return sent

    def write(self, data: bytes) -> list[Message]:
        self.core.propose(G, Proposal(data, lambda *_: None, lambda _: None))
        sent = self.settle()
        last = self.held.replica.node.status().last_index
        return sent + self.hear(2, MessageType.APP_RESP, index=last)

    def shorten(self) -> None:
        self.notes.checkpoint()
        update = self.core.shorten(G)
        assert update is not None
        self.log.append([update])

    def snapshots(self) -> list[Message]:
        """What the third replica gets, which has nothing, when it answers a heartbeat."""
        sent = self.hear(3, MessageType.HEARTBEAT_RESP)
        sent += self.hear(3, MessageType.APP_RESP, index=0, reject=True)
        return [m for m in sent if m.type is MessageType.SNAP]


def test_a_snapshot_whose_fate_is_told_is_sent_again(log: Wal) -> None:
    """The leader waits for a report, and for no longer than snapshot_ticks; then it sends another."""
    lead = Lead(log)
    lead.write(b"one")
    lead.shorten()
    assert [m.to for m in lead.snapshots()] == [3]
    assert lead.snapshots() == []
    lead.core.report_snapshot(G, 3, failed=True)
    assert [m.to for m in lead.snapshots()] == [3]
    ticks = lead.core.options.snapshot_ticks
    for _ in range(ticks):
        lead.held.replica.tick()
        lead.hear(2, MessageType.HEARTBEAT_RESP)
    assert [m.to for m in lead.snapshots()] == [3]


def test_a_snapshot_knows_whoever_it_is_for(log: Wal) -> None:
    """After a change of membership the state is made durable again before a snapshot of it is sent."""
    lead = Lead(log)
    lead.write(b"one")
    lead.shorten()
    lead.write(b"two")
    change = raft.ConfChange((raft.Change(raft.ChangeType.ADD_LEARNER, 4),))
    lead.core.propose(G, Proposal(b"", lambda *_: None, lambda _: None, change))
    lead.settle()
    last = lead.held.replica.node.status().last_index
    lead.hear(2, MessageType.APP_RESP, index=last)
    assert lead.held.replica.conf.learners == (4,)
    sent = [*lead.snapshots(), *lead.snapshots()]
    assert sent
    for message in sent:
        assert message.snapshot is not None
        assert message.snapshot.conf_state.learners == (4,)
        assert message.snapshot.index == last


def test_a_snapshot_is_no_newer_than_the_membership_that_it_carries(log: Wal) -> None:
    """The state may be ahead of what the core has heard: by a change of membership that it would lack."""
    lead = Lead(log)
    lead.write(b"one")
    lead.shorten()
    change = raft.ConfChange((raft.Change(raft.ChangeType.ADD_LEARNER, 4),))
    for data, what in ((b"", change), (b"two", None)):
        lead.core.propose(G, Proposal(data, lambda *_: None, lambda _: None, what))
    lead.settle()
    last = lead.held.replica.node.status().last_index
    message = Message(MessageType.APP_RESP, to=1, from_=2, term=1, index=last)
    lead.core.receive("n2", Envelope(((G, message),)))
    (task,) = lead.core.step().tasks
    results = lead.notes.apply(task.entries)
    lead.notes.checkpoint()
    for sent in lead.snapshots():
        assert sent.snapshot is not None
        assert sent.snapshot.index < last
    lead.core.applied(task, results)
    lead.settle()
    (sent, *_) = [*lead.snapshots(), *lead.snapshots()]
    assert sent.snapshot is not None
    assert (sent.snapshot.index, sent.snapshot.conf_state.learners) == (last, (4,))


def test_votes_are_asked_for_once_the_log_they_speak_of_is_durable(log: Wal) -> None:
    """Term, own vote and all entries are on the disk before anybody is asked: no later life asks again."""
    log.append([wal.GroupUpdate(G, tombstone=Tombstone(1))])
    core = core_over(log)
    held = core.open(G, Words(), 2, (1, 2, 3))
    core.receive("n1", from_leader(entries=(Entry(1, 1), Entry(1, 2, data=b"x"))))
    entries = core.step()
    held.replica.node.campaign()
    grant = Message(MessageType.PRE_VOTE_RESP, to=2, from_=3, term=2)
    core.step()
    store(log, entries)
    assert entries.write is not None
    core.written(entries.write, None)
    core.receive("n3", Envelope(((G, grant),)))
    asked: list[Message] = []
    for _ in range(5):
        done = core.step()
        sent = [m for e in done.envelopes.values() for _, m in e.messages]
        asked += [m for m in sent if m.type is MessageType.VOTE]
        if done.write is not None:
            assert asked == []
            store(log, done)
            core.written(done.write, None)
    assert log.state(G).hard_state == wal.HardState(2, 2, 0)
    assert [(m.to, m.term, m.index) for m in asked] == [(1, 2, 2), (3, 2, 2)]


def test_a_leader_is_told_where_a_peer_is_out_of_reach(log: Wal) -> None:
    """unreachable and report_snapshot reach the core of every group with a replica there, and no other."""
    log.append([wal.GroupUpdate(G, tombstone=Tombstone(1))])
    core = core_over(log)
    core.open(G, Words(), 2, (1, 2, 3))
    core.unreachable("n3")
    core.unreachable("n9")
    core.report_snapshot(G, 3, failed=True)
    core.report_snapshot(8, 3, failed=True)
    assert core.step().write is None


def test_the_wheel_leaves_late_turns_out() -> None:
    """Each group gets one tick a period; after a pause one turn is due, not all that were missed."""
    wheel = Wheel(1.0, slots=4)
    for group in range(8):
        wheel.put(group)
    assert wheel.due(0.0) == []
    seen = [group for turn in range(1, 5) for group in wheel.due(turn * 0.25)]
    assert sorted(seen) == list(range(8))
    assert wheel.due(100.0) == [1, 5]
    assert wheel.due(100.1) == []
    assert wheel.due(100.3) == [2, 6]
    wheel.drop(3)
    assert wheel.due(100.6) == [7]
    assert len(wheel) == 7


def test_memberships_are_told_by_index() -> None:
    """at() gives what held then, also after the beginning is forgotten; a known change is no news."""
    one, two, three = (ConfState(tuple(range(1, n))) for n in (2, 3, 4))
    known = Memberships(0, one)
    known.add(5, two)
    known.add(9, three)
    known.add(5, one)
    assert [known.at(index) for index in (0, 4, 5, 8, 9, 20)] == [one, one, two, two, three, three]
    known.forget(6)
    assert known.all() == (two, three)
    assert known.at(6) == two
    conf = ConfState((1, 2), (3,), (4,), (5,), True)
    assert unpack_conf(pack_conf(conf)) == conf
