"""What mutants of the core got away with in the simulator (tests/mutants)."""

from __future__ import annotations

from vecdb_replication.raft import ConfState, Entry, MessageType, Snapshot

from tests.unit.replication.raft.network import Peer, elected, storage_with


def test_an_acknowledgement_of_an_older_term_counts_for_nothing() -> None:
    """What a follower had in an older term may have been replaced: only its answers in this term count."""
    network = elected()
    leader = network[1]
    network.campaign(2)
    network.campaign(1)
    network.isolate(1)
    network.propose(1, b"alone")
    status = leader.node.status()
    old = status.term - 1
    leader.step(MessageType.APP_RESP, 2, term=old, index=status.last_index)
    after = leader.node.status()
    assert after.progress[2].match < status.last_index
    assert after.commit == status.commit
    leader.step(MessageType.APP_RESP, 2, term=status.term, index=status.last_index)
    assert leader.node.status().commit == status.last_index


def test_a_snapshot_replaces_entries_that_are_not_stored_yet() -> None:
    """Entries that wait to be written do not outlive a snapshot: the log then begins behind it."""
    follower = Peer(2, storage_with(voters=(1, 2, 3)))
    node = follower.node
    log = node._raft.log
    log.append([Entry(1, index) for index in range(1, 4)])
    log.restore(Snapshot(9, 2, b"", ConfState((1, 2, 3))))
    assert node.last_index == log.last_index() == 9
    assert log.last_term() == 2
    assert log.unstable.next_entries() == []
