"""Changing the membership: chapter 4 of the thesis, by joint consensus and one at a time."""

import pytest
from vecdb_replication.raft import (
    Change,
    ChangeType,
    ConfChange,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ProposalDroppedError,
    RaftFatal,
    RawNode,
    Role,
    Snapshot,
    Transition,
    UnknownPeerError,
    to_entry,
)

from tests.unit.replication.raft.network import Network, Peer, elected, make_config, storage_with

KINDS = {
    "v": ChangeType.ADD_VOTER,
    "l": ChangeType.ADD_LEARNER,
    "r": ChangeType.REMOVE,
    "u": ChangeType.UPDATE,
}


def change(text: str = "", transition: Transition = Transition.AUTO, *, v1: bool = False) -> ConfChange:
    singles = tuple(Change(KINDS[word[0]], int(word[1:])) for word in text.split())
    return ConfChange(singles, transition, v1=v1)


def alone() -> Peer:
    peer = Peer(1, storage_with(voters=(1,)))
    peer.node.campaign()
    peer.pump()
    return peer


def members(peer: Peer) -> ConfState:
    return peer.node.status().config


@pytest.mark.parametrize("v1", [False, True])
def test_a_voter_joins_when_the_change_is_applied(v1: bool) -> None:
    """Not when it is appended: until then the old majority decides."""
    peer = alone()
    peer.node.propose_conf_change(change("v2", v1=v1))
    ready = peer.once()
    assert [entry.type for entry in ready.entries] == [
        EntryType.CONF_CHANGE if v1 else EntryType.CONF_CHANGE_V2
    ]
    assert members(peer).voters == (1,)
    peer.pump()
    assert members(peer).voters == (1, 2)
    peer.node.propose(b"x")
    peer.pump()
    assert peer.data == []
    peer.step(MessageType.APP_RESP, 2, term=1, index=peer.node.status().last_index)
    assert peer.data == [b"x"]


def test_learners_follow_without_a_vote() -> None:
    """They are sent everything, count towards nothing, and can be made voters."""
    network = Network(*[Peer(node, storage_with(voters=(1,), learners=(2,))) for node in (1, 2)])
    assert network[2].node.status().config.learners == (2,)
    network.campaign(1)
    network.propose(1, b"x")
    assert network[2].data == [b"x"]
    network.isolate(2)
    network.propose(1, b"y")
    assert network[1].data == [b"x", b"y"]
    network.heal()
    network.change(1, change("v2"))
    network.tick(1)
    assert members(network[2]) == members(network[1]) == ConfState((1, 2))
    network[1].node.transfer_leader(2)
    network.settle()
    assert network[2].role is Role.LEADER


def test_one_change_at_a_time() -> None:
    """A second one before the first is applied becomes an empty entry, and so does one it cannot be."""
    peer = alone()
    peer.node.propose_conf_change(change("l2"))
    peer.node.propose_conf_change(change("l3"))
    peer.pump()
    assert [entry.type for entry in peer.applied] == [
        EntryType.NORMAL,
        EntryType.CONF_CHANGE_V2,
        EntryType.NORMAL,
    ]
    assert members(peer).learners == (2,)
    peer.node.propose_conf_change(change("l3"))
    peer.pump()
    assert members(peer).learners == (2, 3)


def test_what_is_refused_in_a_joint_state_and_outside_of_one() -> None:
    """Inside only leaving it, outside never leaving it; unless validation is off."""
    peer = alone()
    peer.node.propose_conf_change(change())
    peer.pump()
    assert peer.applied[-1].type is EntryType.NORMAL
    peer.node.propose_conf_change(change("l2", Transition.EXPLICIT))
    peer.pump()
    assert members(peer).voters_outgoing == (1,)
    peer.node.propose_conf_change(change("l3"))
    peer.pump()
    assert peer.applied[-1].type is EntryType.NORMAL
    peer.node.propose_conf_change(change())
    peer.pump()
    assert members(peer) == ConfState((1,), learners=(2,))

    trusting = Peer(1, storage_with(voters=(1,)), disable_conf_change_validation=True)
    trusting.node.campaign()
    trusting.pump()
    trusting.node.propose_conf_change(change())
    with pytest.raises(RaftFatal, match="cannot be applied"):
        trusting.pump()


def test_a_batch_keeps_its_indexes_around_a_refused_change() -> None:
    """The refused one becomes empty; the others are where they would have been."""
    peer = alone()
    batch = (Entry(data=b"a"), to_entry(change("l2")), Entry(data=b"b"), to_entry(change("l3")))
    peer.step(MessageType.PROP, 1, entries=batch)
    assert [(entry.type, entry.data) for entry in peer.applied[1:]] == [
        (EntryType.NORMAL, b"a"),
        (EntryType.CONF_CHANGE_V2, batch[1].data),
        (EntryType.NORMAL, b"b"),
        (EntryType.NORMAL, b""),
    ]
    assert peer.node._raft.pending_conf_index == 3


def test_a_change_that_cannot_be_read_is_fatal() -> None:
    """No correct node proposes it."""
    peer = alone()
    broken = Entry(type=EntryType.CONF_CHANGE_V2, data=b"\xff")
    with pytest.raises(RaftFatal, match="cannot be read"):
        peer.step(MessageType.PROP, 1, entries=(broken,))


@pytest.mark.parametrize("pending", [False, True])
def test_a_new_leader_waits_for_what_its_log_may_hold(pending: bool) -> None:
    """Any change in its tail counts as pending until all of that is applied."""
    storage = storage_with(voters=(1, 2))
    if pending:
        entry = to_entry(change("v3"))
        storage.append([Entry(1, 1, entry.type, entry.data)])
    storage.hard_state = HardState(1, 0, 0)
    peer = Peer(1, storage)
    peer.node.campaign()
    peer.pump()
    peer.step(MessageType.VOTE_RESP, 2, term=2)
    peer.node.propose_conf_change(change("l9"))
    peer.pump()
    last = storage.entries(storage.last_index(), storage.last_index() + 1, 100)[0]
    assert (last.type is EntryType.NORMAL) is pending


def test_a_joint_state_is_left_by_itself_once_it_is_applied() -> None:
    """By an empty change that the leader proposes, unless leaving was to be asked for."""
    for transition, leaves in (
        (Transition.AUTO, True),
        (Transition.IMPLICIT, True),
        (Transition.EXPLICIT, False),
    ):
        peer = alone()
        peer.node.propose_conf_change(change("l2 l3", transition))
        peer.pump()
        assert members(peer).learners == (2, 3)
        assert (members(peer).voters_outgoing == ()) is leaves


def test_a_joint_state_is_left_once() -> None:
    """Entries that are applied while it is being left do not make the leader propose it again."""
    leader = elected(2)[1]
    leader.node.propose_conf_change(change("l3 l4"))
    leader.node.propose(b"between")
    leader.pump()
    leader.step(MessageType.APP_RESP, 2, term=1, index=2)
    assert (members(leader).voters_outgoing, leader.node.status().last_index) == ((1, 2), 4)
    leader.step(MessageType.APP_RESP, 2, term=1, index=3)
    assert (leader.data, leader.node.status().last_index) == ([b"between"], 4)
    leader.step(MessageType.APP_RESP, 2, term=1, index=4)
    assert members(leader) == ConfState((1, 2), learners=(3, 4))


def test_a_joint_state_is_not_left_while_leadership_is_transferred() -> None:
    """The proposal is dropped; the next applied entry tries again."""
    network = elected(2)
    leader = network[1]
    leader.node.propose_conf_change(change("l3 l4"))
    leader.pump()
    leader.node.transfer_leader(2)
    leader.step(MessageType.APP_RESP, 2, term=1, index=2)
    assert members(leader).voters_outgoing == (1, 2)
    for _ in range(10):
        leader.node.tick()
    assert leader.node.status().lead_transferee == 0
    leader.node.propose(b"x")
    leader.pump()
    leader.step(MessageType.APP_RESP, 2, term=1, index=3)
    assert leader.node.status().last_index == 4
    leader.step(MessageType.APP_RESP, 2, term=1, index=4)
    assert members(leader) == ConfState((1, 2), learners=(3, 4))


def test_a_joint_state_needs_both_majorities() -> None:
    """To commit and to be elected."""
    storage = storage_with()
    storage.apply_snapshot(Snapshot(1, 1, b"", ConfState((1, 2, 3), (1, 4, 5))))
    peer = Peer(1, storage)
    peer.node.campaign()
    assert [m.to for m in peer.pump()] == [2, 3, 4, 5]
    peer.step(MessageType.VOTE_RESP, 2, term=1)
    assert peer.role is Role.CANDIDATE
    peer.step(MessageType.VOTE_RESP, 4, term=1)
    assert peer.role is Role.LEADER
    peer.step(MessageType.APP_RESP, 2, term=1, index=2)
    assert peer.node.committed == 1
    peer.step(MessageType.APP_RESP, 5, term=1, index=2)
    assert peer.node.committed == 2


def test_a_smaller_quorum_commits_at_once() -> None:
    """What waited for the removed voter does not wait any more, and the others hear of it."""
    network = elected(2)
    leader = network[1]
    leader.node.propose_conf_change(change("r2"))
    leader.node.propose(b"waiting")
    leader.pump()
    leader.step(MessageType.APP_RESP, 2, term=1, index=2)
    assert members(leader).voters == (1,)
    assert leader.data == [b"waiting"]


def test_a_leader_that_is_removed_leads_on_unless_it_is_to_step_down() -> None:
    """Without a vote: it drops proposals, and its own copy counts for nothing."""
    for step_down, role in ((False, Role.LEADER), (True, Role.FOLLOWER)):
        network = elected(step_down_on_removal=step_down)
        network.change(1, change("r1"))
        assert network[1].role is role
        with pytest.raises(ProposalDroppedError):
            network[1].node.propose(b"x")
        demoted = elected(step_down_on_removal=step_down)
        demoted.change(1, change("l1"))
        assert demoted[1].role is role


@pytest.mark.parametrize("pre_vote", [False, True])
@pytest.mark.parametrize(("told", "role"), [(False, Role.FOLLOWER), (True, Role.LEADER)])
def test_who_is_left_behind_by_a_removed_leader_can_be_elected(
    told: bool, role: Role, pre_vote: bool
) -> None:
    """Two are to be one. The removed one knows that it is so, has the longer log, and cannot lead any more.

    The other would need its vote for ever, did it not hear with the refusal that the removal is committed.
    """
    network = elected(2, step_down_on_removal=True, commit_in_rejections=told, pre_vote=pre_vote)
    leader, left = network[1], network[2]
    leader.node.propose_conf_change(change("r1"))
    (removal,) = leader.pump()
    leader.node.propose(b"longer")
    leader.pump()
    left.node.step(removal)
    (acknowledged,) = left.pump()
    leader.node.step(acknowledged)
    leader.pump()
    assert (leader.role, members(leader).voters, members(left).voters) == (Role.FOLLOWER, (2,), (1, 2))
    for _ in range(3):
        network.campaign(2)
    assert left.role is role


def test_a_transfer_to_who_is_removed_is_given_up() -> None:
    """It could never succeed; one to somebody who stays goes on."""
    for target, left in ((3, 0), (2, 2)):
        network = elected()
        leader = network[1]
        leader.node.propose_conf_change(change("r3"))
        leader.node.propose(b"behind")
        leader.pump()
        leader.node.transfer_leader(target)
        leader.step(MessageType.APP_RESP, 2, term=1, index=2)
        assert members(leader).voters == (1, 2)
        assert leader.node.status().lead_transferee == left


def test_a_removed_node_is_not_answered() -> None:
    """Its responses are refused, and it is no part of any majority."""
    network = elected()
    network.change(1, change("r3"))
    assert 3 not in network[1].node.status().progress
    network[1].node.step(Message(MessageType.VOTE, 1, 3, 1))
    with pytest.raises(UnknownPeerError):
        network[1].node.step(Message(MessageType.APP_RESP, 1, 3, 1, index=2))


def test_a_member_that_returns_starts_from_nothing() -> None:
    """What was known of its log is forgotten with it."""
    peer = alone()
    for text in ("v2", "r2", "v2"):
        peer.node.propose_conf_change(change(text))
        peer.pump()
        last = peer.node.status().last_index
        if (2 in peer.node.status().progress and text == "v2" and last == 2) or text == "r2":
            peer.step(MessageType.APP_RESP, 2, term=1, index=last)
    assert peer.node.status().progress[2].match == 0


def test_an_update_changes_nothing_in_the_membership() -> None:
    """It is for the application to read."""
    peer = alone()
    before = members(peer)
    peer.node.propose_conf_change(change("u1"))
    peer.pump()
    assert members(peer) == before
    assert peer.applied[-1].type is EntryType.CONF_CHANGE_V2


def test_a_whole_group_is_replaced_while_it_works() -> None:
    """Three leave, three join, in one joint change; nothing that was committed is lost."""
    peers = [Peer(node, storage_with(base=10)) for node in (1, 2, 3)]
    peers += [Peer(node, storage_with(voters=())) for node in (4, 5, 6)]
    network = Network(*peers)
    network.campaign(1)
    network.propose(1, b"before")
    network.change(1, change("v4 v5 v6 r1 r2 r3"))
    assert members(network[4]) == ConfState((4, 5, 6))
    network.campaign(5)
    network.propose(5, b"after")
    assert network[5].role is Role.LEADER
    assert [network[node].data for node in (4, 5, 6)] == [[b"before", b"after"]] * 3


def test_a_follower_applies_changes_without_sending_anything() -> None:
    """Only a leader has somebody to tell."""
    node = RawNode(make_config(1))
    state = node.apply_conf_change(change("v4"))
    assert state.voters == (1, 2, 3, 4)
    assert not node.has_ready()
    node.apply_conf_change(change("r1"))
    assert not node._raft.is_learner
