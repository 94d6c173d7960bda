"""Messages that no correct replica could send: dropped and counted, and nobody ends because of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from vecdb_replication import wal
from vecdb_replication.host import Envelope, HostCore, Pass, Proposal
from vecdb_replication.host.sanity import nonsense
from vecdb_replication.raft import (
    Change,
    ChangeType,
    ConfChange,
    ConfState,
    Entry,
    EntryType,
    Message,
    MessageType,
    Snapshot,
    to_entry,
)
from vecdb_replication.wal import Tombstone, Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import FOLDER, Notes, Words
from tests.unit.replication.host.test_core import Lead

G = 7
OTHER = 8
T = MessageType
BIG = 2**63
CONTEXT = (Entry(data=b"context"),)
THREE = ConfState((1, 2, 3))


@pytest.fixture
def log() -> Iterator[Wal]:
    with Wal.open(FOLDER, fs=FaultFileSystem()) as opened:
        yield opened


def store(log: Wal, core: HostCore, done: Pass) -> None:
    while done.write is not None or done.tasks:
        for task in done.tasks:
            core.applied(task, task.machine.apply(task.entries) if task.entries else ())
        if done.write is not None:
            log.append(done.write.updates)
            log.sync()
            core.written(done.write, None)
        done = core.step()


def snap(index: int = 9, term: int = 2, conf: ConfState = THREE) -> Snapshot:
    return Snapshot(index, term, b"[]", conf)


def follower(log: Wal) -> HostCore:
    """Replica 2 of three, with entries 1 to 3 of term 2, of which two are committed; and a group of one."""
    log.append([wal.GroupUpdate(G, tombstone=Tombstone(1))])
    core = HostCore(log, boot=b"b", draw=lambda ticks: ticks, locate=lambda _, replica: f"n{replica}")
    core.open(G, Notes(), 2, (1, 2, 3))
    core.open(OTHER, Words())
    core.receive("n1", said(entries=tuple(Entry(2, i, data=b"%d" % i) for i in (1, 2, 3)), commit=2))
    store(log, core, core.step())
    return core


def said(type_: T = T.APP, **fields: object) -> Envelope:
    return Envelope(((G, message(type_, **fields)),))


def message(type_: T = T.APP, **fields: object) -> Message:
    return Message(type_, **{"to": 2, "from_": 1, "term": 2, **fields})  # type: ignore[arg-type]


TO_FOLLOWERS = {
    "a proposal": message(T.PROP, entries=CONTEXT),
    "a local one": message(T.HUP),
    "a storage thread's": message(T.STORAGE_APPEND_RESP, index=3, log_term=2),
    "from nobody": message(T.HEARTBEAT, from_=0),
    "in its own name": message(T.HEARTBEAT, from_=2),
    "a negative number": message(T.HEARTBEAT, commit=-1),
    "a term beyond all": message(T.HEARTBEAT, term=BIG),
    "an append without a term": message(term=0, index=3, log_term=2),
    "an append behind a later term": message(index=3, log_term=3),
    "a vote in the term of its last entry": message(T.VOTE, term=3, index=9, log_term=3),
    "a read without a context": message(T.READ_INDEX, term=0),
    "a read with two": message(T.READ_INDEX, term=0, entries=CONTEXT * 2),
    "a read with a term": message(T.READ_INDEX, entries=CONTEXT),
    "an answer to no read": message(T.READ_INDEX_RESP, index=2),
    "a heartbeat with entries": message(T.HEARTBEAT, entries=CONTEXT),
    "a commit index beyond the log": message(T.HEARTBEAT, commit=4),
    "the same in a later term": message(T.HEARTBEAT, term=3, commit=4),
    "a gap between entries": message(index=3, log_term=2, entries=(Entry(2, 4), Entry(2, 6))),
    "entries that begin elsewhere": message(index=3, log_term=2, entries=(Entry(2, 2),)),
    "terms that fall": message(term=4, index=3, log_term=2, entries=(Entry(4, 4), Entry(3, 5))),
    "an entry of a term to come": message(index=3, log_term=2, entries=(Entry(3, 4),)),
    "an entry of no term": message(index=0, log_term=0, entries=(Entry(0, 1),)),
    "an entry beyond any log": message(index=BIG - 1, log_term=2, entries=(Entry(2, BIG),)),
    "a change that cannot be read": message(
        index=3, log_term=2, entries=(Entry(2, 4, EntryType.CONF_CHANGE_V2, b"\xff"),)
    ),
    "a snapshot that is none": message(T.SNAP),
    "a snapshot of nothing": message(T.SNAP, snapshot=snap(index=0)),
    "a snapshot of no term": message(T.SNAP, snapshot=snap(term=0)),
    "a snapshot of a term to come": message(T.SNAP, snapshot=snap(term=3)),
    "a snapshot of an earlier term": message(T.SNAP, snapshot=snap(term=1)),
    "a snapshot without voters": message(T.SNAP, snapshot=snap(conf=ConfState((), (), (2,)))),
    "a snapshot with a member 0": message(T.SNAP, snapshot=snap(conf=ConfState((0, 2)))),
    "a voter that learns": message(T.SNAP, snapshot=snap(conf=ConfState((1, 2), (), (2,)))),
    "a voter twice": message(T.SNAP, snapshot=snap(conf=ConfState((1, 2, 2)))),
    "one to leave what it is not in": message(T.SNAP, snapshot=snap(conf=ConfState((1, 2), auto_leave=True))),
}


@pytest.mark.parametrize("what", TO_FOLLOWERS)
def test_nonsense_changes_nothing_for_a_follower(log: Wal, what: str) -> None:
    """Nothing is written or answered, and the replica takes what makes sense as before."""
    core = follower(log)
    held = core.groups[G]
    node = held.replica.node
    before = (node.term, node.lead, node.role, node.committed, node.last_index)
    wrong = TO_FOLLOWERS[what]
    sender = f"n{wrong.from_}"
    core.receive(sender, Envelope(((G, wrong),)))
    done = core.step()
    assert (done.write, done.envelopes, done.fetches, done.stagings) == (None, {}, [], [])
    assert held.failure is None
    assert (node.term, node.lead, node.role, node.committed, node.last_index) == before
    assert core.incidents.nonsense == {sender: 1}
    assert [(each.peer, each.count) for each in done.incidents] == [(sender, 1)]
    core.receive("n1", said(index=3, log_term=2, entries=(Entry(2, 4, data=b"4"),), commit=4))
    store(log, core, core.step())
    assert held.applied == 4


def test_who_repeats_nonsense_is_told_of_ever_more_rarely(log: Wal) -> None:
    """All is counted; a line for the first, the second, the fourth, and so on."""
    core = follower(log)
    told = []
    for _ in range(100):
        core.receive("n1", said(T.HEARTBEAT, commit=9))
        told += [each.count for each in core.step().incidents]
    assert core.incidents.nonsense == {"n1": 100}
    assert told == [1, 2, 4, 8, 16, 32, 64]


def test_what_makes_sense_is_not_called_nonsense(log: Wal) -> None:
    """The neighbours of the above, which the core has to see."""
    node = follower(log).groups[G].replica.node
    change = replace(to_entry(ConfChange((Change(ChangeType.ADD_LEARNER, 4),))), term=2, index=4)
    joint = ConfState((1, 2), (1, 2, 3), (4,), (3,), auto_leave=True)
    for right in (
        message(T.HEARTBEAT, commit=3),
        message(T.HEARTBEAT, term=1, commit=9),
        message(index=3, log_term=2, entries=(change, Entry(2, 5))),
        message(term=4, index=3, log_term=2, entries=(Entry(3, 4), Entry(4, 5))),
        message(index=9, log_term=2),
        message(T.VOTE, term=3, index=3, log_term=2),
        message(T.READ_INDEX, term=0, entries=CONTEXT),
        message(T.READ_INDEX_RESP, index=9, entries=CONTEXT),
        message(T.SNAP, snapshot=snap(conf=joint)),
        message(T.SNAP, term=1, snapshot=snap(term=1)),
        message(T.APP_RESP, index=9),
        message(T.APP_RESP, term=3),
        message(T.TRANSFER_LEADER),
    ):
        assert nonsense(right, node) == ""


def test_nobody_acknowledges_more_than_there_is(log: Wal) -> None:
    """A leader that believed it would commit what no quorum has, as soon as its log is that long."""
    lead = Lead(log)
    lead.write(b"one")
    last = lead.held.replica.node.last_index
    lead.hear(3, T.APP_RESP, index=last + 1)
    assert lead.core.incidents.nonsense == {"n3": 1}
    lead.core.propose(G, Proposal(b"two", lambda *_: None, lambda _: None))
    lead.settle()
    assert lead.held.replica.node.committed == last
    lead.hear(3, T.APP_RESP, index=last, reject=True, reject_hint=last)
    assert lead.core.incidents.nonsense == {"n3": 1}


def test_a_wish_to_lead_that_comes_too_late_is_not_passed_on(log: Wal) -> None:
    """It was said to whoever led, who is a follower by now; no fault of anybody."""
    core = follower(log)
    core.receive("n3", Envelope(((G, message(T.TRANSFER_LEADER, from_=3)),)))
    assert core.step().envelopes == {}
    assert (core.groups[G].failure, core.incidents.nonsense) == (None, {})


def test_one_broken_replica_does_not_stop_a_pass(log: Wal) -> None:
    """Whatever is raised over one group ends that group: the others of the same pass are served."""
    core = follower(log)
    core.groups[G].replica.collect = lambda: [][0]  # type: ignore[method-assign]
    answers: list[object] = []
    core.receive("n1", said(T.HEARTBEAT, commit=3))
    core.propose(OTHER, Proposal(b"x", lambda index, _: answers.append(index), answers.append))
    done = core.step()
    assert "cannot go on" in str(core.groups[G].failure)
    (incident,) = done.incidents
    assert (incident.group, type(incident.error)) == (G, IndexError)
    assert done.write is not None
    store(log, core, done)
    assert core.groups[OTHER].failure is None
