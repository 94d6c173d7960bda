"""RawNode: what goes in, what comes out, and in which order it may leave."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vecdb_replication.raft import (
    APPEND_THREAD,
    APPLY_THREAD,
    Change,
    ChangeType,
    ConfChange,
    ConfState,
    Entry,
    HardState,
    LocalMessageError,
    Message,
    MessageType,
    ProposalDroppedError,
    RaftFatal,
    RawNode,
    Ready,
    Role,
    Snapshot,
    SoftState,
    UnknownPeerError,
)
from vecdb_replication.raft.messages import LOCAL_TYPES, RESPONSE_TYPES

from tests.unit.replication.raft.network import Peer, elected, make_config, storage_with


def single(**options: object) -> tuple[RawNode, object]:
    storage = storage_with(voters=(1,))
    return RawNode(make_config(1, storage, **options)), storage


@pytest.mark.parametrize("kind", sorted(LOCAL_TYPES))
def test_local_messages_are_not_taken_from_outside(kind: MessageType) -> None:
    """A peer cannot make a node campaign, beat or believe that something was stored."""
    node = RawNode(make_config(1))
    with pytest.raises(LocalMessageError):
        node.step(Message(kind, 1, 2, 1))


@pytest.mark.parametrize("kind", sorted(RESPONSE_TYPES - LOCAL_TYPES))
def test_responses_are_not_taken_from_strangers(kind: MessageType) -> None:
    """Nobody asked them; requests are taken from anybody."""
    node = RawNode(make_config(1))
    with pytest.raises(UnknownPeerError):
        node.step(Message(kind, 1, 9, 1))
    node.step(Message(MessageType.VOTE, 1, 9, 1))


@pytest.mark.parametrize("kind", sorted(set(MessageType) - LOCAL_TYPES - RESPONSE_TYPES))
def test_a_message_that_says_nothing_breaks_nothing(kind: MessageType) -> None:
    """Of every type that a peer may send, from nobody, about nothing."""
    storage = storage_with(1, voters=(1,))
    storage.hard_state = HardState(1, 0, 1)
    peer = Peer(1, storage)
    with suppress(ProposalDroppedError):
        peer.step(kind)
    assert peer.node.committed >= 1


def test_a_fresh_node_has_nothing_to_do() -> None:
    """Nor is there anything in a Ready that is taken all the same."""
    node = RawNode(make_config(1))
    assert not node.has_ready()
    assert node.ready() == Ready()
    node.advance()


def test_a_ready_hands_out_everything_once() -> None:
    """States that changed, entries, what to apply, messages; then nothing until something happens."""
    peer = Peer(1, storage_with(voters=(1,)))
    peer.node.campaign()
    first, second, third = peer.once(), peer.once(), peer.once()
    assert first == Ready(SoftState(0, Role.CANDIDATE), HardState(1, 1, 0), must_sync=True)
    assert second == Ready(SoftState(1, Role.LEADER), entries=(Entry(1, 1),), must_sync=True)
    assert third == Ready(hard_state=HardState(1, 1, 1), committed_entries=(Entry(1, 1),))
    assert not peer.node.has_ready()


def test_a_ready_must_be_advanced_before_the_next() -> None:
    """Else the core would not know what was stored."""
    node, _ = single()
    node.campaign()
    node.ready()
    with pytest.raises(RaftFatal, match="before the last one was advanced"):
        node.ready()


def test_only_term_vote_and_entries_must_be_synced() -> None:
    """A commit index that is lost is learnt again."""
    peer = Peer(1)
    synced = []
    for m in (
        Message(MessageType.HEARTBEAT, 1, 2, 1),
        Message(MessageType.APP, 1, 2, 1, entries=(Entry(1, 1),)),
        Message(MessageType.HEARTBEAT, 1, 2, 1, commit=1),
    ):
        peer.node.step(m)
        synced.append(peer.once().must_sync)
    assert synced == [True, True, False]
    storage = storage_with()
    storage.hard_state = HardState(1, 0, 0)
    voter = Peer(1, storage)
    voter.node.step(Message(MessageType.VOTE, 1, 2, 1))
    assert voter.once().must_sync


def test_committed_entries_are_cut_to_their_limit() -> None:
    """Each Ready hands out what fits, at least one entry, and the next waits for it to be applied."""
    storage = storage_with(1, 1, 1, voters=(1,))
    storage.hard_state = HardState(1, 1, 3)
    for limit, counts in ((0, [1, 1, 1]), (12, [2, 1]), (2**64 - 1, [3])):
        peer = Peer(1, storage, max_committed_size_per_ready=limit, max_size_per_msg=0)
        got = []
        while peer.node.has_ready():
            got.append(len(peer.once().committed_entries))
        assert got == counts


def test_a_status_shows_progress_only_on_a_leader() -> None:
    """Nobody else knows of it."""
    network = elected()
    assert sorted(network[1].node.status().progress) == [1, 2, 3]
    assert network[2].node.status().progress == {}


def test_anyone_may_forget_the_leader_but_the_leader() -> None:
    """Term and timer stay."""
    network = elected()
    for node, lead in ((1, 1), (2, 0)):
        network[node].node.forget_leader()
        assert network[node].node.lead == lead
    network[2].node.forget_leader()
    assert network[2].node.term == 1


# Asynchronous storage writes


def test_storage_messages_take_the_place_of_advance() -> None:
    """What is to be stored and applied, and what to deliver once that is done."""
    node, storage = single(async_storage_writes=True)
    node.campaign()
    (append,) = node.ready().messages
    assert (append.type, append.to, append.term, append.vote) == (
        MessageType.STORAGE_APPEND,
        APPEND_THREAD,
        1,
        1,
    )
    assert [m.type for m in append.responses] == [MessageType.VOTE_RESP]
    with pytest.raises(RaftFatal, match="no advance"):
        node.advance()
    node.step(append.responses[0])
    (append,) = node.ready().messages
    assert [m.type for m in append.responses] == [MessageType.APP_RESP, MessageType.STORAGE_APPEND_RESP]
    storage.append(append.entries)
    for response in append.responses:
        node.step(response)
    commit, apply = node.ready().messages
    assert (commit.commit, commit.responses) == (1, ())
    assert (apply.type, apply.to, apply.entries) == (MessageType.STORAGE_APPLY, APPLY_THREAD, (Entry(1, 1),))
    assert node.applied == 0
    node.step(apply.responses[0])
    assert node.applied == 1
    assert not node.has_ready()


def test_an_acknowledgement_waits_for_what_is_being_written() -> None:
    """Though there is nothing new to write with it: it goes by the thread, behind all that is."""
    node = RawNode(make_config(1, async_storage_writes=True))
    for _ in range(2):
        node.step(Message(MessageType.APP, 1, 2, 1))
        (append,) = node.ready().messages
        assert append.type is MessageType.STORAGE_APPEND
        assert [m.type for m in append.responses] == [MessageType.APP_RESP]
    assert (append.term, append.entries) == (0, ())


def test_an_answer_about_storage_that_says_nothing_changes_nothing() -> None:
    """No entries and no snapshot: there was nothing to wait for."""
    node, _ = single(async_storage_writes=True)
    before = node.status()
    node.step(Message(MessageType.STORAGE_APPEND_RESP, 1, APPEND_THREAD))
    node.step(Message(MessageType.STORAGE_APPLY_RESP, 1, APPLY_THREAD))
    assert node.status() == before


@pytest.mark.parametrize("later_term", [False, True])
def test_a_stored_snapshot_is_applied_whatever_the_term(later_term: bool) -> None:
    """It is committed state, unlike the entries that an older term's answer names."""
    node = RawNode(make_config(1, async_storage_writes=True))
    snapshot = Snapshot(9, 1, b"", ConfState((1, 2, 3)))
    assert not node.restoring
    node.step(Message(MessageType.SNAP, 1, 2, 1, snapshot=snapshot))
    assert node.restoring
    (append,) = node.ready().messages
    assert append.snapshot == snapshot
    if later_term:
        node.step(Message(MessageType.HEARTBEAT, 1, 3, 2))
    stored = append.responses[-1]
    assert (stored.type, stored.snapshot) == (MessageType.STORAGE_APPEND_RESP, snapshot)
    node.step(stored)
    assert node.applied == 9
    assert not node.restoring


def test_entries_stored_under_an_older_term_stay_unstable() -> None:
    """They may have been replaced meanwhile; the answer of the newer term makes them stable."""
    storage = storage_with()
    node = RawNode(make_config(1, storage, async_storage_writes=True))
    node.step(Message(MessageType.APP, 1, 2, 1, entries=(Entry(1, 1),)))
    (first,) = node.ready().messages
    node.step(Message(MessageType.HEARTBEAT, 1, 3, 2))
    second = node.ready().messages[-1]
    node.step(first.responses[-1])
    assert node._raft.log.unstable.entries
    assert (second.responses[-1].index, second.responses[-1].log_term) == (1, 1)
    storage.append(first.entries)
    node.step(second.responses[-1])
    assert not node._raft.log.unstable.entries


TERMLESS = {MessageType.PROP, MessageType.READ_INDEX, MessageType.TRANSFER_LEADER}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(sorted(set(MessageType) - LOCAL_TYPES)),
        st.integers(1, 4),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.booleans())
def test_no_message_takes_back_what_was_promised(steps: list[tuple], cautious: bool) -> None:
    """Term, commit and applied never fall, and a vote never changes within a term.

    For any messages in any order, except that a term is always named: without one a message is the
    node's own. What no correct peer sends may be fatal, and nothing else.
    """
    peer = Peer(1, pre_vote=cautious, check_quorum=cautious)
    for kind, from_, term, index, log_term, count, reject in steps:
        before = peer.node.status()
        entries = tuple(Entry(max(log_term, 1), index + 1 + at) for at in range(count))
        named = (
            0 if kind in (MessageType.PROP, MessageType.READ_INDEX, MessageType.TRANSFER_LEADER) else term + 1
        )
        m = Message(kind, 1, from_, named, log_term, index, entries, min(index, 1), reject=reject)
        try:
            peer.node.step(m)
            peer.pump()
        except (RaftFatal, UnknownPeerError):
            return
        except ProposalDroppedError:
            assert kind is MessageType.PROP
        after = peer.node.status()
        assert after.term >= before.term
        assert after.commit >= before.commit
        assert after.applied >= before.applied
        if after.term == before.term and before.vote:
            assert after.vote == before.vote


def test_entries_past_the_core_are_taken_from_a_leader_who_is_alone() -> None:
    """They are committed and never handed out; what the core appends afterwards follows them."""
    storage = storage_with(voters=(1,))
    peer = Peer(1, storage)
    assert not peer.node.leads_alone
    peer.node.campaign()
    peer.pump()
    node = peer.node
    assert node.leads_alone
    assert node.is_settled
    storage.append([Entry(1, 2, data=b"a"), Entry(1, 3, data=b"b")])
    assert node.commit_alone(3) == HardState(1, 1, 3)
    assert not node.has_ready()
    assert (node.committed, node.applied, node.last_index) == (3, 1, 3)
    node.apply_alone(3)
    assert node.applied == 3
    assert [node.term_of(index) for index in (0, 3, 4)] == [0, 1, 0]
    node.propose(b"c")
    ready = node.ready()
    assert [(entry.index, entry.data) for entry in ready.entries] == [(4, b"c")]
    with pytest.raises(RaftFatal, match="past a node"):
        node.commit_alone(4)


def test_nobody_else_may_commit_past_the_core() -> None:
    """A follower, and a leader of several, need what others acknowledge."""
    follower = RawNode(make_config(1))
    leader = elected()[1].node
    for node in (follower, leader):
        with pytest.raises(RaftFatal, match="past a node"):
            node.commit_alone(1)


def test_a_change_that_is_not_applied_is_not_settled() -> None:
    """From its proposal to its effect it is not known who counts."""
    peer = Peer(1, storage_with(voters=(1,)))
    peer.node.campaign()
    peer.pump()
    peer.node.propose_conf_change(ConfChange((Change(ChangeType.ADD_LEARNER, 2),)))
    assert not peer.node.is_settled
    assert peer.node.leads_alone
    peer.pump()
    assert peer.node.is_settled
    assert not peer.node.leads_alone
