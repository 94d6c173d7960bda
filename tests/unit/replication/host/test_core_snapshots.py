"""Snapshots in the host's core by hand: what waits, what is kept, and what is made anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from vecdb_replication import wal
from vecdb_replication.host import Envelope, HostCore, Options
from vecdb_replication.raft import ConfState, Entry, MessageType, Snapshot
from vecdb_replication.wal import Tombstone, Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host import test_core
from tests.unit.replication.host.machines import FOLDER, Notes, Pages
from tests.unit.replication.host.test_core import G, core_over, from_leader, store


@pytest.fixture
def log() -> Iterator[Wal]:
    with Wal.open(FOLDER, fs=FaultFileSystem()) as opened:
        yield opened


class Lead(test_core.Lead):
    """See there."""

    def shortened(self) -> int:
        """Shorten the log as far as it may be; where it ends then."""
        self.notes.checkpoint()
        if (update := self.core.shorten(G)) is not None:
            self.log.append([update])
        return self.log.state(G).first_index - 1


def snapshot_from_leader(index: int = 9, term: int = 2, data: bytes = b"[]") -> Envelope:
    return from_leader(MessageType.SNAP, term=2, snapshot=Snapshot(index, term, data, ConfState((1, 2, 3))))


def follower(log: Wal, pages: Pages) -> HostCore:
    """Replica 2 of three at term 2, with entries 1 to 3 of it, the first two committed."""
    log.append([wal.GroupUpdate(G, tombstone=Tombstone(1))])
    core = core_over(log)
    core.open(G, pages, 2, (1, 2, 3))
    entries = tuple(Entry(2, index, data=b"x") for index in (1, 2, 3))
    core.receive("n1", from_leader(term=2, entries=entries, commit=2))
    done = core.step()
    store(log, done)
    assert done.write is not None
    core.written(done.write, None)
    for task in core.step().tasks:
        core.applied(task, pages.apply(task.entries))
    core.step()
    return core


def test_a_snapshot_is_not_believed_before_its_files_are_here(log: Wal) -> None:
    """Its message waits outside of the core; coming back, it goes the way of any snapshot."""
    pages = Pages()
    core = follower(log, pages)
    core.receive("n1", snapshot_from_leader())
    done = core.step()
    assert (done.write, done.envelopes) == (None, {})
    (fetch,) = done.fetches
    assert (fetch.group, fetch.sender, fetch.machine, fetch.snapshot.index) == (G, "n1", pages, 9)
    core.fetched(fetch)
    (staging,) = core.step().stagings
    assert (staging.machine, staging.snapshot.index, staging.snapshot.data) == (pages, 9, b"[]")
    core.staged(staging, None)
    done = core.step()
    assert done.write is not None
    store(log, done)
    core.written(done.write, None)
    assert [task.install for task in core.step().tasks] == [9]


def test_a_newer_snapshot_waits_until_the_older_is_in_its_place(log: Wal) -> None:
    """Nothing of it is fetched while the older is stepped in, staged, logged and installed; then it is."""
    pages = Pages()
    core = follower(log, pages)
    core.receive("n1", snapshot_from_leader())
    core.fetched(core.step().fetches[0])
    newer = snapshot_from_leader(20, data=b"[1]")
    core.receive("n1", newer)
    done = core.step()
    assert done.fetches == []
    (staging,) = done.stagings
    core.receive("n1", newer)
    assert core.step().fetches == []
    core.staged(staging, None)
    core.receive("n1", newer)
    done = core.step()
    assert done.fetches == []
    assert done.write is not None
    store(log, done)
    core.written(done.write, None)
    core.receive("n1", newer)
    done = core.step()
    assert done.fetches == []
    (task,) = done.tasks
    assert task.install == 9
    core.receive("n1", newer)
    assert core.step().fetches == []
    core.retry(G)
    assert core.step().fetches == []
    core.applied(task, ())
    done = core.step()
    # After a while: it may come by the log.
    assert (done.retries, done.fetches) == ([G], [])
    core.retry(G)
    assert [fetch.snapshot.index for fetch in core.step().fetches] == [20]
    core.retry(G)
    assert [fetch.snapshot.index for fetch in core.step().fetches] == []


def test_a_newer_snapshot_is_fetched_where_the_older_could_not_be_staged(log: Wal) -> None:
    """It is the better one of the two, and nothing of the older is under way any more."""
    core = follower(log, Pages())
    core.receive("n1", snapshot_from_leader())
    core.fetched(core.step().fetches[0])
    core.receive("n1", snapshot_from_leader(20, data=b"[1]"))
    (staging,) = core.step().stagings
    core.staged(staging, OSError("no room"))
    assert core.step().retries == [G]
    core.retry(G)
    assert [fetch.snapshot.index for fetch in core.step().fetches] == [20]


@pytest.mark.parametrize("where", ["staging", "logging"])
def test_a_snapshot_that_could_not_be_written_is_taken_up_again(log: Wal, where: str) -> None:
    """Without a word from the leader, which would wait for a minute: files are fetched, and it goes in."""
    pages = Pages()
    core = follower(log, pages)
    core.receive("n1", snapshot_from_leader())
    core.fetched(core.step().fetches[0])
    (staging,) = core.step().stagings
    core.staged(staging, OSError("no room") if where == "staging" else None)
    done = core.step()
    if where == "logging":
        assert done.write is not None
        core.written(done.write, wal.LogFull("no room"))
        done = core.step()
    assert done.retries == [G]
    core.retry(G)
    (fetch,) = core.step().fetches
    assert (fetch.sender, fetch.snapshot.index) == ("n1", 9)
    core.fetched(fetch)
    (staging,) = core.step().stagings
    core.staged(staging, None)
    done = core.step()
    assert done.write is not None
    store(log, done)
    core.written(done.write, None)
    assert [task.install for task in core.step().tasks] == [9]
    core.retry(G)
    assert core.step().fetches == []


@pytest.mark.parametrize(
    ("index", "term", "sent"), [(2, 2, 2), (3, 2, 3)], ids=["committed already", "in the log already"]
)
def test_a_snapshot_that_is_not_lacking_is_answered_at_once(
    log: Wal, index: int, term: int, sent: int
) -> None:
    """No file is fetched for what the log has anyway; the leader learns how far it is."""
    core = follower(log, Pages())
    core.receive("n1", snapshot_from_leader(index, term))
    done = core.step()
    assert done.fetches == []
    answers = [m for _, m in done.envelopes["n1"].messages if m.type is MessageType.APP_RESP]
    assert [answer.index for answer in answers] == [sent]


def test_a_snapshot_of_an_older_term_is_not_fetched(log: Wal) -> None:
    """Nobody would listen to it."""
    core = follower(log, Pages())
    core.receive("n1", from_leader(MessageType.HEARTBEAT, term=3))
    store(log, core.step())
    core.receive("n1", snapshot_from_leader())
    assert core.step().fetches == []


def test_files_that_come_for_a_group_that_is_gone_are_not_its_successors(log: Wal) -> None:
    """Removed, or opened anew over another state, while they were on their way: dropped."""
    core = follower(log, Pages())
    core.receive("n1", snapshot_from_leader())
    (fetch,) = core.step().fetches
    core.forget(G)
    core.fetched(fetch)
    core.open(G, Pages(), 2, (1, 2, 3))
    core.fetched(fetch)
    assert core.step().write is None


def test_a_leader_waits_for_whoever_fetches(log: Wal) -> None:
    """While files are read it does not take the snapshot for lost; once nobody reads, it does."""
    pages = Pages()
    lead = Lead(log, pages)
    lead.write(b"one")
    lead.shorten()
    assert len(lead.snapshots()) == 1
    for sending, sent in ((True, 0), (True, 0), (False, 1)):
        pages.sending = sending
        for _ in range(lead.core.options.snapshot_ticks):
            lead.held.replica.tick()
            lead.hear(2, MessageType.HEARTBEAT_RESP)
        assert len(lead.snapshots()) == sent


class Prepared(Notes):
    """Notes whose snapshots are what `prepare` saw."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[tuple[int, bytes]] = []

    def prepare(self, stopped: Callable[[], bool] = lambda: False) -> None:
        self.checkpoint()
        self.prepared.append(super().capture())

    def capture(self) -> tuple[int, bytes]:
        if not self.prepared:
            raise LookupError("none was prepared")
        return self.prepared[-1]


def test_a_snapshot_older_than_the_log_is_made_anew(log: Wal) -> None:
    """What lies between it and the log's beginning could not be sent: another one is prepared and sent."""
    notes = Prepared()
    lead = Lead(log, notes)
    lead.write(b"one")
    notes.prepare()
    lead.write(b"two")
    lead.shorten()
    (sent,) = lead.snapshots()
    assert sent.snapshot is not None
    assert [index for index, _ in notes.prepared] == [2, 3]
    assert sent.snapshot.index == 3


def test_the_log_is_kept_for_a_follower_that_is_being_brought_up(log: Wal) -> None:
    """As far as a live follower has got, or the snapshot that it is sent; not for one that is silent."""
    lead = Lead(log)
    for number in range(4):
        lead.write(b"%d" % number)
    lead.hear(3, MessageType.APP_RESP, index=2)
    assert lead.shortened() == 2
    # It falls silent, and nothing is kept for it.
    for _ in range(2 * lead.core.options.election_ticks):
        lead.held.replica.tick()
        lead.hear(2, MessageType.HEARTBEAT_RESP)
    assert lead.shortened() == 5
    # Back, it is sent a snapshot. What comes behind that stays until it is there.
    sent = lead.hear(3, MessageType.APP_RESP, index=5, reject=True, reject_hint=2)
    assert [m.snapshot.index for m in sent if m.snapshot] == [5]
    lead.write(b"more")
    assert lead.shortened() == 5
    lead.hear(3, MessageType.APP_RESP, index=6)
    assert lead.shortened() == 6


@pytest.mark.parametrize("why", ["reported lost", "silent", "both"])
def test_the_log_is_kept_behind_a_snapshot_that_seems_to_be_lost(log: Wal, why: str) -> None:
    """Its files come another way, and whoever has them goes on with the log; but not for ever."""
    lead = Lead(log)
    for number in range(4):
        lead.write(b"%d" % number)
    lead.shorten()
    assert [m.snapshot.index for m in lead.snapshots() if m.snapshot] == [5]
    if why != "silent":
        lead.core.report_snapshot(G, 3, failed=True)
    ticks = lead.core.options.election_ticks * 3
    for _ in range(ticks if why != "reported lost" else 0):
        lead.held.replica.tick()
        lead.hear(2, MessageType.HEARTBEAT_RESP)
    lead.write(b"more")
    assert lead.shortened() == 5
    # A newer one, offered because of that, does not take the place of the first.
    lead.hear(3, MessageType.HEARTBEAT_RESP)
    lead.write(b"even more")
    assert lead.shortened() == 5
    lead.hear(3, MessageType.APP_RESP, index=7)
    assert lead.shortened() == 7


def test_the_log_is_not_kept_for_ever_behind_a_snapshot(log: Wal) -> None:
    """Whoever says nothing for as long again as a word was waited for will need another one."""
    lead = Lead(log)
    lead.write(b"one")
    lead.shorten()
    assert len(lead.snapshots()) == 1
    lead.write(b"two")
    for kept in (True, False):
        assert (lead.shortened() < lead.core.groups[G].replica.storage.last) == kept
        for _ in range(2 * lead.core.options.snapshot_ticks):
            lead.held.replica.tick()
            lead.hear(2, MessageType.HEARTBEAT_RESP)


def test_a_log_is_not_kept_beyond_its_bounds(log: Wal) -> None:
    """A follower that is slower than the writers gets a snapshot in the end: the disk has an end too.

    What counts is the whole log, for no group can drop what lies behind an entry that is kept.
    """
    lead = Lead(log)
    lead.hear(3, MessageType.APP_RESP, index=1)
    big = b"x" * 1000
    for _ in range(4):
        lead.write(big)
    assert lead.shortened() == 1
    lead.core.options = Options(max_kept_bytes=log.size())
    assert lead.shortened() == 1
    log.append([wal.GroupUpdate(G + 1, entries=[wal.Entry(1, 1, 0, big)])])
    assert lead.shortened() == 5
