"""Making a core: what it goes on from, and what it refuses to begin with."""

import pytest
from vecdb_replication.raft import (
    Change,
    ChangeType,
    ConfChange,
    Config,
    ConfigError,
    ConfState,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    RaftFatal,
    RawNode,
    ReadOnlyOption,
    Snapshot,
)

from tests.unit.replication.raft.network import Peer, make_config, storage_with

# Making a core


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"node": 0}, "cannot be the id"),
        ({"node": 2**64 - 1}, "cannot be the id"),
        ({"heartbeat_tick": 0}, "heartbeat_tick"),
        ({"election_tick": 1, "heartbeat_tick": 1}, "election_tick"),
        ({"max_inflight_msgs": 0}, "max_inflight_msgs"),
        ({"max_inflight_bytes": 9, "max_size_per_msg": 10}, "max_inflight_bytes"),
        ({"read_only": ReadOnlyOption.LEASE}, "check_quorum"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(options: dict[str, int], reason: str) -> None:
    """Before anything is made of it."""
    with pytest.raises(ConfigError, match=reason):
        RawNode(make_config(options.pop("node", 1), **options))
    make_config(1, max_inflight_bytes=9).validate()
    make_config(1, max_inflight_bytes=0, max_size_per_msg=10).validate()


def test_a_core_goes_on_where_it_was() -> None:
    """Term, vote, commit and applied index, and the membership, come from the storage."""
    storage = storage_with(1, 2, 2, base=7)
    storage.hard_state = HardState(3, 2, 9)
    node = RawNode(make_config(1, storage, applied=8))
    status = node.status()
    assert (status.term, status.vote, status.commit, status.applied) == (3, 2, 9, 8)
    assert (status.first_index, status.last_index, status.config.voters) == (8, 10, (1, 2, 3))
    assert [entry.index for entry in node.ready().committed_entries] == [9]
    assert (node.id, node.term, node.lead, node.committed, node.applied) == (1, 3, 0, 9, 8)


def test_what_was_applied_was_committed() -> None:
    """Though the hard state that said so was lost: commit is raised; beyond the log it is damage."""
    storage = storage_with(1, 1, 1)
    storage.hard_state = HardState(1, 0, 1)
    assert RawNode(make_config(1, storage, applied=3)).committed == 3
    with pytest.raises(RaftFatal, match="beyond the last entry"):
        RawNode(make_config(1, storage, applied=4))


@pytest.mark.parametrize("commit", [4, 9])
def test_a_commit_index_outside_the_log_is_fatal(commit: int) -> None:
    """Before its first entry or after its last: entries were lost."""
    storage = storage_with(1, 1, base=5)
    storage.hard_state = HardState(2, 0, commit)
    with pytest.raises(RaftFatal, match="stored commit"):
        RawNode(make_config(1, storage))


@pytest.mark.parametrize(
    "state", [ConfState(learners=(1,)), ConfState((1, 1)), ConfState((1,), auto_leave=True)]
)
def test_a_membership_that_cannot_be_is_fatal(state: ConfState) -> None:
    """No voters, somebody twice, or a joint state to leave where there is none."""
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(1, 1, b"", state))
    with pytest.raises(RaftFatal, match="configuration"):
        RawNode(Config(1, storage, lambda ticks: ticks))


def test_a_vote_asked_for_without_a_term_is_fatal() -> None:
    """No correct peer asks so, and no answer could be understood."""
    with pytest.raises(RaftFatal, match="must have a term"):
        Peer(1).step(MessageType.VOTE, 2)


def test_a_leader_that_was_removed_while_it_was_elected_is_fatal() -> None:
    """Hosts apply changes before they let a node campaign, so this cannot be."""
    peer = Peer(1, storage_with(voters=(1, 2, 3)))
    peer.node.campaign()
    peer.pump()
    peer.node.apply_conf_change(ConfChange((Change(ChangeType.REMOVE, 1),)))
    peer.node.step(Message(MessageType.VOTE_RESP, 1, 2, 1))
    with pytest.raises(RaftFatal, match="no member"):
        peer.node.step(Message(MessageType.VOTE_RESP, 1, 3, 1))
