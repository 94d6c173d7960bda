"""A change of membership that the core hands out twice, because it was made anew while a worker was busy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from vecdb_replication.raft import Change, ChangeType, ConfChange, ConfState, Entry, EntryType, Transition
from vecdb_replication.raft.changes import to_entry
from vecdb_replication.wal import GroupUpdate, LogFull, Tombstone, Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import FOLDER, Words
from tests.unit.replication.host.test_core import G, core_over, from_leader, store


@pytest.fixture
def log() -> Iterator[Wal]:
    with Wal.open(FOLDER, fs=FaultFileSystem()) as opened:
        yield opened


def test_a_change_that_is_handed_out_again_takes_effect_once(log: Wal) -> None:
    """Into a joint state and out of it: neither can be done twice, and the next life of the core has both."""
    swap = ConfChange((Change(ChangeType.ADD_VOTER, 4), Change(ChangeType.REMOVE, 3)), Transition.EXPLICIT)
    words = Words()
    log.append([GroupUpdate(G, tombstone=Tombstone(1))])
    core = core_over(log)
    held = core.open(G, words, 2, (1, 2, 3))
    changes = [to_entry(change) for change in (swap, ConfChange())]
    entries = (
        Entry(1, 1, data=b"word"),
        *(Entry(1, index, entry.type, entry.data) for index, entry in enumerate(changes, 2)),
    )
    assert all(entry.type is EntryType.CONF_CHANGE_V2 for entry in entries[1:])
    core.receive("n1", from_leader(entries=entries, commit=3))
    done = core.step()
    store(log, done)
    assert done.write is not None
    core.written(done.write, None)
    (task,) = core.step().tasks

    # A worker has the word when the log refuses what comes next: the core begins anew behind it all.
    core.receive("n1", from_leader(index=3, log_term=1, entries=(Entry(1, 4, data=b"more"),), commit=3))
    refused = core.step().write
    assert refused is not None
    core.written(refused, LogFull("no room"))
    core.step()
    assert (held.replica.epoch, held.replica.node.applied) == (2, 0)
    core.applied(task, words.apply(task.entries))
    while (done := core.step()).tasks or done.write is not None:
        assert not done.tasks, "nothing is applied twice"
        store(log, done)
        assert done.write is not None
        core.written(done.write, None)

    assert held.failure is None
    assert words.words == [b"word"]
    after = ConfState((1, 2, 4))
    assert held.replica.conf == held.replica.node._raft.tracker.config.conf_state() == after
    assert held.replica.storage.memberships.at(2) == ConfState((1, 2, 4), (1, 2, 3))
    assert held.replica.node.applied == 3
