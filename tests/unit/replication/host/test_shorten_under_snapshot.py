"""Shortening a group's log while a snapshot replaces it: the log is ahead of what the core has heard."""

from __future__ import annotations

from vecdb_replication import raft
from vecdb_replication.host import Envelope, HostCore, Pass
from vecdb_replication.raft import Entry, Message, MessageType
from vecdb_replication.wal import GroupUpdate, Tombstone, Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import FOLDER, Notes

G = 7


def test_a_log_that_begins_behind_a_snapshot_already_is_not_shortened_before_it() -> None:
    """Its record is written, and the core is yet to be told: nothing is left to drop, and nothing fails."""
    notes = Notes()
    with Wal.open(FOLDER, fs=FaultFileSystem()) as log:
        log.append([GroupUpdate(G, tombstone=Tombstone(1))])
        core = HostCore(log, boot=b"b", draw=lambda ticks: ticks, locate=lambda _, replica: f"n{replica}")
        core.open(G, notes, 2, (1, 2, 3))

        def hear(message: Message) -> Pass:
            core.receive("n1", Envelope(((G, message),)))
            return core.step()

        entries = tuple(Entry(1, index, data=b"word") for index in (1, 2, 3))
        done = hear(Message(MessageType.APP, to=2, from_=1, term=1, entries=entries, commit=3))
        while done.write is not None or done.tasks:
            for task in done.tasks:
                core.applied(task, notes.apply(task.entries))
            if done.write is not None:
                log.append(done.write.updates)
                core.written(done.write, None)
            done = core.step()
        assert notes.checkpoint() == 3

        snapshot = raft.Snapshot(20, 1, b"[]", raft.ConfState((1, 2, 3)))
        (staging,) = hear(Message(MessageType.SNAP, to=2, from_=1, term=1, snapshot=snapshot)).stagings
        notes.stage(20, snapshot.data)
        core.staged(staging, None)
        write = core.step().write
        assert write is not None
        log.append(write.updates)
        assert core.shorten(G) is None
        core.written(write, None)
        assert log.state(G).first_index == core.groups[G].replica.storage.first == 21
