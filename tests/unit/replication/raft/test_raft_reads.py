"""Linearizable reads: chapter 6.4 of the thesis."""

import pytest
from vecdb_replication.raft import (
    Change,
    ChangeType,
    ConfChange,
    Entry,
    HardState,
    Message,
    MessageType,
    RaftFatal,
    ReadOnlyOption,
    ReadState,
    Role,
)
from vecdb_replication.raft.reads import ReadQueue
from vecdb_replication.raft.tracker import TrackerConfig

from tests.unit.replication.raft.network import Network, Peer, elected, storage_with


def leading() -> Peer:
    """Node 1 of three, leading term 1, with its first entry committed at 1."""
    peer = Peer(1)
    peer.node.campaign()
    peer.pump()
    peer.step(MessageType.VOTE_RESP, 2, term=1)
    peer.step(MessageType.APP_RESP, 2, term=1, index=1)
    return peer


def beats(messages: list[Message]) -> list[Message]:
    return [m for m in messages if m.type is MessageType.HEARTBEAT]


@pytest.mark.parametrize("asks", [1, 2, 3])
def test_a_read_sees_what_was_committed_before_it(asks: int) -> None:
    """On whatever node it is asked, the index is at least the commit index at that time."""
    network = elected()
    for number in range(3):
        network.propose(1, b"x")
        committed = network[1].node.committed
        network[asks].node.read_index(b"read%d" % number)
        network.settle()
        assert network[asks].reads[-1] == ReadState(committed, b"read%d" % number)


def test_a_leader_that_lost_its_quorum_answers_no_read() -> None:
    """It might have been replaced, and others may have committed since."""
    network = elected()
    network.isolate(1)
    network.campaign(2)
    network.propose(2, b"newer")
    network[1].node.read_index(b"r")
    network.settle()
    assert network[1].role is Role.LEADER
    assert network[1].reads == []


def test_a_read_is_kept_back_until_something_of_the_term_is_committed() -> None:
    """A new leader may not know yet how far earlier ones have committed; then it sees all of that."""
    network = elected()
    network.propose(1, b"x")
    network.ignore(MessageType.APP)
    network.campaign(2)
    assert network[2].role is Role.LEADER
    network.tick(2)
    network[2].node.read_index(b"early")
    network[3].node.read_index(b"forwarded")
    network.settle()
    assert network[2].reads == network[3].reads == []
    network.heal()
    network.tick(2)
    assert network[2].reads == [ReadState(network[2].node.committed, b"early")]
    assert network[3].reads == [ReadState(network[2].node.committed, b"forwarded")]


def test_a_group_of_one_keeps_reads_back_too() -> None:
    """Its commit index on disk may be behind what it acknowledged before it was restarted."""
    storage = storage_with(1, 1, 1, voters=(1,))
    storage.hard_state = HardState(1, 1, 2)
    peer = Peer(1, storage)
    peer.node.campaign()
    peer.once()
    assert peer.role is Role.LEADER
    peer.node.read_index(b"early")
    peer.pump()
    assert peer.reads == [ReadState(4, b"early")]
    peer.node.read_index(b"later")
    peer.pump()
    assert peer.reads[1:] == [ReadState(4, b"later")]


def test_a_learner_reads_through_the_leader_whose_group_is_one_voter() -> None:
    """The single voter answers without asking anyone."""
    network = Network(
        Peer(1, storage_with(voters=(1,), learners=(2,))), Peer(2, storage_with(voters=(1,), learners=(2,)))
    )
    network.campaign(1)
    network[2].node.read_index(b"r")
    network.settle()
    assert network[2].reads == [ReadState(1, b"r")]


def test_one_heartbeat_confirms_all_reads_that_wait() -> None:
    """In the order they came, each with the commit index that it had to see."""
    peer = leading()
    peer.node.read_index(b"a")
    first = beats(peer.pump())
    peer.node.propose(b"x")
    peer.pump()
    peer.step(MessageType.APP_RESP, 2, term=1, index=2)
    peer.node.read_index(b"b")
    second = beats(peer.pump())
    assert first[0].context != second[0].context
    peer.step(MessageType.HEARTBEAT_RESP, 2, term=1, context=second[0].context)
    assert peer.reads == [ReadState(1, b"a"), ReadState(2, b"b")]
    peer.step(MessageType.HEARTBEAT_RESP, 3, term=1, context=first[0].context)
    assert len(peer.reads) == 2


def test_a_read_that_is_asked_again_is_not_answered_by_what_confirmed_the_first_try() -> None:
    """Contexts on the wire are the core's own, so a caller's repeated one does no harm."""
    peer = leading()
    peer.node.read_index(b"same")
    (old, _) = beats(peer.pump())
    peer.node.propose(b"x")
    peer.pump()
    peer.step(MessageType.APP_RESP, 2, term=1, index=2)
    peer.node.read_index(b"same")
    peer.pump()
    peer.step(MessageType.HEARTBEAT_RESP, 2, term=1, context=old.context)
    assert peer.reads == [ReadState(1, b"same")]


def test_a_heartbeat_that_is_due_asks_again() -> None:
    """As long as reads wait, each carries their position; none does afterwards."""
    peer = leading()
    peer.node.read_index(b"r")
    (sent, _) = beats(peer.pump())
    peer.node.tick()
    (again, _) = beats(peer.pump())
    assert again.context == sent.context
    peer.step(MessageType.HEARTBEAT_RESP, 3, term=1, context=again.context)
    assert peer.reads == [ReadState(1, b"r")]
    peer.node.tick()
    assert beats(peer.pump())[0].context == b""


@pytest.mark.parametrize("context", [b"", b"short", b"much too long", b"\xff" * 8])
def test_a_context_that_was_never_sent_confirms_nothing(context: bytes) -> None:
    """Neither reads that wait nor reads to come."""
    peer = leading()
    peer.node.read_index(b"r")
    peer.pump()
    peer.step(MessageType.HEARTBEAT_RESP, 2, term=1, context=context)
    peer.step(MessageType.HEARTBEAT_RESP, 3, term=1, context=context)
    assert peer.reads == []


def test_learners_do_not_confirm_reads() -> None:
    """They are no part of any majority."""
    storage = storage_with(voters=(1, 2), learners=(3,))
    peer = Peer(1, storage)
    peer.node.campaign()
    peer.pump()
    peer.step(MessageType.VOTE_RESP, 2, term=1)
    peer.step(MessageType.APP_RESP, 2, term=1, index=1)
    peer.node.read_index(b"r")
    (beat, _) = beats(peer.pump())
    peer.step(MessageType.HEARTBEAT_RESP, 3, term=1, context=beat.context)
    assert peer.reads == []
    peer.step(MessageType.HEARTBEAT_RESP, 2, term=1, context=beat.context)
    assert peer.reads == [ReadState(1, b"r")]


def test_reads_that_wait_are_forgotten_with_the_leadership() -> None:
    """Their positions begin anew in the next term: an old answer must not confirm a new read."""
    peer = leading()
    peer.node.read_index(b"lost")
    (beat, _) = beats(peer.pump())
    peer.step(MessageType.HEARTBEAT, 2, term=2)
    peer.node.campaign()
    peer.pump()
    peer.step(MessageType.VOTE_RESP, 2, term=3)
    peer.step(MessageType.APP_RESP, 2, term=3, index=2)
    peer.node.read_index(b"new")
    (fresh, _) = beats(peer.pump())
    assert peer.step(MessageType.HEARTBEAT_RESP, 2, term=1, context=beat.context) == []
    assert peer.reads == []
    peer.step(MessageType.HEARTBEAT_RESP, 2, term=3, context=fresh.context)
    assert peer.reads == [ReadState(2, b"new")]


def test_reads_by_lease_ask_nobody() -> None:
    """The leader answers at once: an option for comparison only."""
    network = elected(check_quorum=True, read_only=ReadOnlyOption.LEASE)
    network.isolate(1)
    network[1].node.read_index(b"r")
    network.settle()
    assert network[1].reads == [ReadState(1, b"r")]
    network.heal()
    network[3].node.read_index(b"f")
    network.settle()
    assert network[3].reads == [ReadState(1, b"f")]
    network.seen.clear()
    network.tick(1)
    assert all(m.context == b"" for m in network.seen)


def test_a_read_without_a_leader_goes_nowhere() -> None:
    """There is nobody to ask; the caller asks again."""
    peer = Peer(1)
    peer.node.read_index(b"r")
    assert (peer.pump(), peer.reads) == ([], [])


def test_an_answer_of_another_shape_is_ignored() -> None:
    """It names exactly one read."""
    peer = Peer(1)
    peer.step(MessageType.HEARTBEAT, 2, term=1)
    peer.step(MessageType.READ_INDEX_RESP, 2, term=1, index=4)
    peer.step(MessageType.READ_INDEX_RESP, 2, term=1, index=4, entries=(Entry(), Entry()))
    assert peer.reads == []


def test_a_read_without_a_context_is_fatal() -> None:
    """No core sends one."""
    with pytest.raises(RaftFatal, match="without a context"):
        leading().step(MessageType.READ_INDEX, 2)


def test_reads_are_confirmed_by_both_majorities_of_a_joint_state() -> None:
    """One is not enough while another may still decide."""
    peer = leading()
    peer.node.apply_conf_change(
        ConfChange(
            (Change(ChangeType.ADD_VOTER, 4), Change(ChangeType.REMOVE, 3), Change(ChangeType.REMOVE, 2))
        )
    )
    peer.pump()
    peer.node.read_index(b"r")
    context = beats(peer.pump())[0].context
    peer.step(MessageType.HEARTBEAT_RESP, 2, term=1, context=context)
    assert peer.reads == []
    peer.step(MessageType.HEARTBEAT_RESP, 4, term=1, context=context)
    assert peer.reads == [ReadState(1, b"r")]


def test_a_queue_answers_each_read_once_and_in_order() -> None:
    """Acknowledgements may repeat and fall back; confirmed reads do not come again."""
    queue, config = ReadQueue(), TrackerConfig(frozenset({1, 2, 3}))
    assert queue.context() == b""
    contexts = []
    for commit in (5, 6, 7):
        queue.add(Message(MessageType.READ_INDEX, index=commit), commit)
        contexts.append(queue.context())
        queue.acknowledge(1, queue.context())
    queue.acknowledge(2, contexts[1])
    assert [read.index for read in queue.advance(config)] == [5, 6]
    queue.acknowledge(2, contexts[0])
    assert queue.advance(config) == []
    queue.acknowledge(3, contexts[2])
    assert [read.index for read in queue.advance(config)] == [7]
    assert queue.context() == b""
