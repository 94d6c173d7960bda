"""Replicating the log: section 5.3 and 5.4.2 of the paper, flow control, and snapshots."""

import pytest
from vecdb_replication.raft import (
    ConfState,
    Entry,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    ProgressState,
    ProposalDroppedError,
    RaftFatal,
    RawNode,
    Role,
    Snapshot,
    SnapshotUnavailableError,
)

from tests.unit.replication.raft.network import Network, Peer, elected, make_config, storage_with

APP = MessageType.APP
APP_RESP = MessageType.APP_RESP


def leader(*terms: int, **options: object) -> Peer:
    """Node 1 of three, leading term 1 or the one after its log's, with its first append answered."""
    storage = storage_with(*terms)
    if terms:
        storage.hard_state = HardState(terms[-1], 0, 0)
    peer = Peer(1, storage, **options)
    peer.node.campaign()
    peer.pump()
    peer.step(MessageType.VOTE_RESP, 2, term=peer.node.term)
    return peer


def ack(peer: Peer, from_: int, index: int) -> list[Message]:
    return peer.step(APP_RESP, from_, term=peer.node.term, index=index)


def test_a_proposal_is_appended_sent_and_committed_by_a_majority() -> None:
    """And the next append carries the commit index to the others (5.3)."""
    peer = leader()
    ack(peer, 2, 1)
    peer.node.propose(b"data")
    sent = peer.pump()
    assert [(m.type, m.to, m.index, m.log_term) for m in sent] == [(APP, 2, 1, 1)]
    assert sent[0].entries == (Entry(1, 2, data=b"data"),)
    answered = ack(peer, 2, 2)
    assert peer.data == [b"data"]
    assert [(m.to, m.commit) for m in answered] == [(2, 2)]


@pytest.mark.parametrize(
    ("size", "ackers", "committed"),
    [
        (1, (), True),
        (3, (), False),
        (3, (2,), True),
        (3, (2, 3), True),
        (5, (2,), False),
        (5, (2, 3), True),
        (5, (2, 3, 4), True),
    ],
)
def test_an_entry_is_committed_by_a_majority(size: int, ackers: tuple[int, ...], committed: bool) -> None:
    """Counting the leader's own copy, once that is durable (5.3)."""
    network = Network(*[None] * size)
    network.campaign(1)
    index = network[1].node.committed
    network[1].node.propose(b"x")
    network[1].pump()
    for acker in ackers:
        ack(network[1], acker, index + 1)
    assert (network[1].node.committed == index + 1) is committed


def test_the_own_copy_counts_only_once_it_is_durable() -> None:
    """A group of one commits nothing before its disk has it."""
    storage = storage_with(voters=(1,))
    peer = Peer(1, storage)
    peer.node.campaign()
    peer.pump()
    committed = peer.node.committed
    peer.node.propose(b"x")
    ready = peer.node.ready()
    assert (ready.must_sync, ready.committed_entries) == (True, ())
    assert peer.node.committed == committed
    storage.append(ready.entries)
    peer.node.advance()
    assert peer.node.committed == committed + 1


def test_an_older_terms_entry_is_committed_only_with_one_of_the_leaders_own() -> None:
    """Though a majority has it, it may still be replaced (5.4.2, figure 8)."""
    peer = leader(1, 1)
    assert ack(peer, 2, 2) != []
    assert peer.node.committed == 0
    ack(peer, 2, 3)
    assert peer.node.committed == 3


@pytest.mark.parametrize(("log_term", "index", "committed"), [(0, 0, 1), (1, 1, 1), (2, 2, 2), (2, 2, 5)])
def test_a_follower_acknowledges_what_attaches(log_term: int, index: int, committed: int) -> None:
    """And commits as far as it is told and has it (5.3)."""
    peer = Peer(1, storage_with(1, 2))
    (answer,) = peer.step(APP, 2, term=2, log_term=log_term, index=index, commit=committed)
    assert (answer.type, answer.index, answer.reject) == (APP_RESP, index, False)
    assert peer.node.committed == min(committed, index)


@pytest.mark.parametrize(
    ("log_term", "index", "hint"),
    [(1, 2, (1, 1)), (9, 2, (2, 2)), (2, 1, (1, 1)), (2, 3, (2, 2)), (3, 9, (2, 2)), (0, 2, (0, 0))],
)
def test_a_follower_rejects_what_does_not_attach(log_term: int, index: int, hint: tuple[int, int]) -> None:
    """With where the logs may agree: no entry of a later term than the leader's there (5.3)."""
    peer = Peer(1, storage_with(1, 2))
    (answer,) = peer.step(APP, 2, term=3, log_term=log_term, index=index)
    assert (answer.type, answer.index, answer.reject) == (APP_RESP, index, True)
    assert (answer.log_term, answer.reject_hint) == hint


def test_an_append_before_the_commit_index_is_answered_with_it() -> None:
    """What is committed agrees already."""
    storage = storage_with(1, 1, 1)
    storage.hard_state = HardState(1, 0, 2)
    peer = Peer(1, storage)
    (answer,) = peer.step(APP, 2, term=1, log_term=1, index=1)
    assert (answer.index, answer.reject) == (2, False)


@pytest.mark.parametrize(
    "log",
    [
        (),
        (1, 1, 1, 4, 4, 5, 5, 6, 6),
        (1, 1, 1, 4),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
        (1, 1, 1, 4, 4, 4, 4),
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
    ],
)
def test_a_leader_brings_any_log_into_line(log: tuple[int, ...]) -> None:
    """All of figure 7: missing entries are sent, surplus ones are replaced (5.3)."""
    terms = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    storage = storage_with(*terms)
    storage.hard_state = HardState(7, 0, 0)
    other = storage_with(*log)
    other.hard_state = HardState(7, 0, 0)
    network = Network(Peer(1, storage), Peer(2, other), Peer(3, storage_with()))
    network.campaign(1)
    network.propose(1)
    assert network[1].role is Role.LEADER
    assert network[2].log == network[3].log == network[1].log == [*terms, 8, 8]


@pytest.mark.parametrize(
    ("leaders", "followers", "probes"),
    [
        ((1, 2, 2, 4, 4, 4, 4), (1, 2, 2, 4, 4, 3, 3)[:5], 1),
        ((1, 3, 3, 3, 5, 5, 5, 5, 5), (1, 1, 1, 1, 2, 2), 1),
        ((1, 3, 3, 3, 3, 3, 3, 3, 7), (1, 3, 3, 4, 4, 5, 5, 5, 6), 2),
        ((1, 1, 1, 1, 1, 1), (1, 1, 1, 1), 1),
        ((2, 2, 2, 2), (1, 1, 1, 1, 1, 1), 1),
    ],
)
def test_finding_where_logs_agree_takes_few_probes(
    leaders: tuple[int, ...], followers: tuple[int, ...], probes: int
) -> None:
    """At most one for each term, not one for each entry: both sides skip what cannot agree."""
    storage, other = storage_with(*leaders), storage_with(*followers)
    storage.hard_state = other.hard_state = HardState(8, 0, 0)
    network = Network(Peer(1, storage), Peer(2, other), Peer(3, storage_with(*leaders)))
    network.campaign(1)
    rejections = [m for m in network.seen if m.type is APP_RESP and m.from_ == 2 and m.reject]
    assert len(rejections) == probes
    assert network[2].log == network[1].log


def test_proposals_of_followers_go_to_the_leader() -> None:
    """Without a term; nowhere if there is no leader, or if that was ruled out."""
    network = elected()
    network.propose(2, b"forwarded")
    assert {tuple(peer.data) for peer in network.peers.values()} == {(b"forwarded",)}
    with pytest.raises(ProposalDroppedError, match="no leader"):
        Peer(1).node.propose(b"x")
    silent = Peer(1, disable_proposal_forwarding=True)
    silent.step(MessageType.HEARTBEAT, 2, term=1)
    with pytest.raises(ProposalDroppedError, match="not forwarded"):
        silent.node.propose(b"x")


def test_a_batch_is_taken_whole_and_sent_in_one_message() -> None:
    """In its order, with consecutive indexes."""
    peer = leader()
    ack(peer, 2, 1)
    peer.node.propose_batch([b"a", b"b", b"c"])
    (sent,) = peer.pump()
    assert [(entry.index, entry.data) for entry in sent.entries] == [(2, b"a"), (3, b"b"), (4, b"c")]


def test_an_empty_proposal_is_fatal() -> None:
    """No correct node makes one."""
    with pytest.raises(RaftFatal, match="without entries"):
        leader().node.propose_batch([])


@pytest.mark.parametrize(
    ("fields", "reason"), [({"term": 1}, "must not have a term"), ({"term": 0}, "to the node itself")]
)
def test_what_cannot_be_passed_on_is_fatal(fields: dict[str, int], reason: str) -> None:
    """A proposal in a term, or with this very node for a leader, was made by no correct peer."""
    peer = Peer(1)
    peer.step(MessageType.HEARTBEAT, 2 if fields["term"] else 1, term=1)
    with pytest.raises(RaftFatal, match=reason):
        peer.step(MessageType.PROP, 3, entries=(Entry(data=b"x"),), **fields)


# Bounds on what is uncommitted


def test_what_is_uncommitted_is_bounded() -> None:
    """Beyond the bound proposals are dropped, until entries are applied; empty ones never are."""
    peer = leader(max_uncommitted_entries_size=20)
    ack(peer, 2, 1)
    peer.node.propose(b"x" * 15)
    with pytest.raises(ProposalDroppedError, match="uncommitted"):
        peer.node.propose(b"x" * 6)
    peer.node.propose(b"")
    peer.node.propose(b"x" * 5)
    with pytest.raises(ProposalDroppedError, match="uncommitted"):
        peer.node.propose(b"x")
    peer.pump()
    ack(peer, 2, 4)
    peer.node.propose(b"x" * 20)


def test_a_proposal_of_any_size_is_taken_while_nothing_is_uncommitted() -> None:
    """Otherwise it could never be made."""
    peer = leader(max_uncommitted_entries_size=20)
    peer.node.propose(b"x" * 1000)
    with pytest.raises(ProposalDroppedError):
        peer.node.propose(b"x")


def test_what_is_uncommitted_is_counted_anew_in_each_term() -> None:
    """What an earlier leader appended, be it this very node, is not counted."""
    peer = leader(max_uncommitted_entries_size=20)
    peer.node.propose(b"x" * 15)
    peer.pump()
    peer.step(MessageType.HEARTBEAT, 3, term=2)
    peer.node.campaign()
    peer.pump()
    peer.step(MessageType.VOTE_RESP, 2, term=3)
    peer.node.propose(b"x" * 10)
    peer.node.propose(b"x" * 10)
    with pytest.raises(ProposalDroppedError):
        peer.node.propose(b"x")


def test_no_bound_is_no_bound() -> None:
    """Zero means none."""
    peer = leader(max_uncommitted_entries_size=0)
    for _ in range(3):
        peer.node.propose(b"x" * 1000)


# Flow


def test_messages_are_cut_to_their_limit() -> None:
    """Several are sent where one does not hold everything; at least one entry each."""
    for limit, counts in ((0, [1, 1, 1]), (22, [2, 1]), (2**64 - 1, [3])):
        network = elected(max_size_per_msg=limit)
        network.isolate(2)
        network.propose(1, b"aaa", b"bbb", b"ccc")
        network.heal()
        network[1].node.report_unreachable(2)
        network.seen.clear()
        network.tick(1)
        sent = [len(m.entries) for m in network.seen if m.type is APP and m.to == 2 and m.entries]
        assert sent == counts
        assert network[2].data == [b"aaa", b"bbb", b"ccc"]


def test_a_window_bounds_what_is_in_flight() -> None:
    """In messages or in bytes; an acknowledgement makes room, a stale one does not."""
    for options in ({"max_inflight_msgs": 3}, {"max_inflight_bytes": 3, "max_size_per_msg": 1}):
        peer = leader(**options)
        ack(peer, 2, 1)
        for _ in range(5):
            peer.node.propose(b"x")
        assert [m.entries[0].index for m in peer.pump()] == [2, 3, 4]
        status = peer.node.status().progress[2]
        assert (status.inflight, status.inflight_full, status.paused) == (3, True, True)
        assert ack(peer, 2, 1) == []
        sent = [entry.index for m in ack(peer, 2, 2) for entry in m.entries]
        assert sent[0] == 5


def test_a_full_window_is_probed_with_empty_appends_on_heartbeats() -> None:
    """One for each heartbeat that is answered, or lost messages would block it for ever."""
    peer = leader(max_inflight_msgs=1)
    ack(peer, 2, 1)
    for _ in range(3):
        peer.node.propose(b"x")
    peer.pump()
    for _ in range(2):
        (probe,) = peer.step(MessageType.HEARTBEAT_RESP, 2, term=1)
        assert (probe.type, probe.entries) == (APP, ())


def test_a_probed_follower_gets_one_append_at_a_time() -> None:
    """The next goes out when a heartbeat is answered."""
    peer = leader()
    ack(peer, 2, 1)
    peer.node.report_unreachable(2)
    for _ in range(3):
        peer.node.propose(b"x")
    assert len([m for m in peer.pump() if m.to == 2]) == 1
    assert peer.node.status().progress[2].state is ProgressState.PROBE
    (again,) = peer.step(MessageType.HEARTBEAT_RESP, 2, term=1)
    assert len(again.entries) == 3
    peer.node.report_unreachable(2)
    assert peer.node.status().progress[2].state is ProgressState.PROBE


def test_a_rejection_that_is_stale_changes_nothing() -> None:
    """It was answered by what came after."""
    peer = leader()
    ack(peer, 2, 1)
    before = peer.node.status()
    assert peer.step(APP_RESP, 2, term=1, index=1, reject=True, reject_hint=0) == []
    assert peer.node.status() == before


def test_a_rejection_in_the_pipeline_begins_probing() -> None:
    """From what is known to match; without a term the hint is taken as it is."""
    peer = leader()
    ack(peer, 2, 1)
    for _ in range(3):
        peer.node.propose(b"x")
    peer.pump()
    (probe,) = peer.step(APP_RESP, 2, term=1, index=3, reject=True, reject_hint=1)
    assert (probe.index, len(probe.entries)) == (1, 3)
    assert peer.node.status().progress[2].state is ProgressState.PROBE


def test_the_commit_index_follows_at_once() -> None:
    """An answer that moves nothing else brings a follower the commit index that it lacks."""
    network = elected()
    network.cut(1, 3)
    network.propose(1, b"x")
    network.heal()
    network.seen.clear()
    network.tick(1)
    assert network[3].data == [b"x"]


@pytest.mark.parametrize("beaten", [False, True])
def test_a_commit_index_that_was_sent_is_not_sent_again(beaten: bool) -> None:
    """Unless a heartbeat came after it, which may have carried a lower one past it."""
    peer = leader()
    for follower in (2, 3):
        ack(peer, follower, 1)
    peer.node.propose(b"x")
    peer.pump()
    ack(peer, 2, 2)
    if beaten:
        peer.node.tick()
        peer.pump()
    assert [m.commit for m in ack(peer, 3, 2)] == [2] * beaten


def test_a_heartbeat_commits_no_further_than_what_is_known_to_match() -> None:
    """The follower may lack the rest, or have something else there."""
    peer = leader()
    ack(peer, 2, 1)
    peer.node.propose(b"x")
    peer.pump()
    ack(peer, 2, 2)
    peer.node.tick()
    assert {m.to: m.commit for m in peer.pump()} == {2: 2, 3: 0}


@pytest.mark.parametrize(("commit", "after"), [(3, 3), (1, 2)])
def test_a_follower_commits_by_heartbeats(commit: int, after: int) -> None:
    """Forwards only."""
    storage = storage_with(1, 2, 3)
    storage.hard_state = HardState(3, 0, 2)
    peer = Peer(1, storage)
    (answer,) = peer.step(MessageType.HEARTBEAT, 2, term=3, commit=commit, context=b"ctx")
    assert (answer.type, answer.context) == (MessageType.HEARTBEAT_RESP, b"ctx")
    assert peer.node.committed == after


def test_a_commit_index_beyond_the_log_is_fatal() -> None:
    """The leader knows of entries here that are gone: the log was lost."""
    with pytest.raises(RaftFatal, match="beyond the last entry"):
        Peer(1).step(MessageType.HEARTBEAT, 2, term=1, commit=4)


# Snapshots

MEMBERS = ConfState((1, 2, 3))


class Late(MemoryStorage):
    """A storage whose snapshot is ready only when it says so."""

    ready = False

    def snapshot(self) -> Snapshot:
        if not self.ready:
            raise SnapshotUnavailableError("still being written")
        return super().snapshot()


def compacted(storage: MemoryStorage | None = None, **options: object) -> Peer:
    """A leader whose log begins after 11, with follower 2 up to date."""
    storage = storage or MemoryStorage()
    storage.apply_snapshot(Snapshot(11, 11, b"state", MEMBERS))
    storage.hard_state = HardState(11, 0, 11)
    peer = Peer(1, storage, **options)
    peer.node.campaign()
    peer.pump()
    peer.step(MessageType.VOTE_RESP, 2, term=12)
    ack(peer, 2, 12)
    return peer


def test_a_follower_too_far_behind_gets_a_snapshot() -> None:
    """Once it is known to be there; nothing else is sent until it is heard of again."""
    peer = compacted()
    assert peer.step(APP_RESP, 3, term=12, index=11, reject=True, reject_hint=5)[0].type is MessageType.SNAP
    status = peer.node.status().progress[3]
    assert (status.state, status.pending_snapshot, status.next, status.paused) == (
        ProgressState.SNAPSHOT,
        11,
        12,
        True,
    )
    peer.node.propose(b"x")
    assert [m.to for m in peer.pump()] == [2]


def test_no_snapshot_is_sent_to_who_is_not_heard_of() -> None:
    """It would be lost, and is too large for that; the first sign of life brings it."""
    network = elected(check_quorum=True, election_tick=3)
    network.isolate(3)
    network.propose(1, b"a", b"b")
    storage = network[1].storage
    storage.create_snapshot(network[1].node.applied, MEMBERS, b"ab")
    storage.compact(network[1].node.applied)
    for _ in range(6):
        network.tick(1)
    network[1].node.report_unreachable(3)
    network[1].node.propose(b"c")
    assert {m.to for m in network[1].pump()} == {2}
    network.heal()
    network.tick(1)
    assert MessageType.SNAP in {m.type for m in network.seen if m.to == 3}


def test_a_snapshot_that_is_not_ready_is_asked_for_again() -> None:
    """The next answer of the follower is the next occasion."""
    storage = Late()
    peer = compacted(storage)
    assert peer.step(APP_RESP, 3, term=12, index=11, reject=True, reject_hint=5) == []
    storage.ready = True
    assert [m.type for m in peer.step(MessageType.HEARTBEAT_RESP, 3, term=12)] == [MessageType.SNAP]


def test_an_empty_snapshot_is_fatal() -> None:
    """A storage that compacted its log must have one."""

    class Empty(MemoryStorage):
        def snapshot(self) -> Snapshot:
            return Snapshot()

    with pytest.raises(RaftFatal, match="empty snapshot"):
        compacted(Empty()).step(APP_RESP, 3, term=12, index=11, reject=True, reject_hint=5)


@pytest.mark.parametrize(("failed", "next_index"), [(False, 12), (True, 1)])
def test_a_snapshot_that_is_reported_ends_the_wait(failed: bool, next_index: int) -> None:
    """Probing goes on after it, or from before if it failed; not before the next answer."""
    peer = compacted()
    peer.step(APP_RESP, 3, term=12, index=11, reject=True, reject_hint=5)
    peer.node.report_snapshot(3, failed=failed)
    status = peer.node.status().progress[3]
    assert (status.state, status.next, status.paused) == (ProgressState.PROBE, next_index, True)
    peer.node.report_snapshot(3, failed=True)
    assert peer.node.status().progress[3] == status


def test_a_snapshot_is_acknowledged_like_entries() -> None:
    """Then replication goes on behind it; an acknowledgement below the log does not do."""
    peer = compacted()
    peer.step(APP_RESP, 3, term=12, index=11, reject=True, reject_hint=5)
    assert ack(peer, 3, 9) == []
    assert peer.node.status().progress[3].state is ProgressState.SNAPSHOT
    (sent,) = ack(peer, 3, 11)
    assert (sent.type, sent.index, len(sent.entries)) == (APP, 11, 1)
    assert peer.node.status().progress[3].state is ProgressState.REPLICATE


def test_a_follower_begins_anew_at_a_snapshot() -> None:
    """Its log, commit index and membership are the snapshot's, and the host is told to store it."""
    peer = Peer(1, storage_with(1, 1))
    snapshot = Snapshot(11, 5, b"state", ConfState((1, 2), learners=(7,)))
    (answer,) = peer.step(MessageType.SNAP, 2, term=5, snapshot=snapshot)
    assert (answer.type, answer.index, answer.reject) == (APP_RESP, 11, False)
    assert [ready.snapshot for ready in peer.readies if ready.snapshot] == [snapshot]
    status = peer.node.status()
    assert (status.commit, status.applied, status.first_index, status.last_index) == (11, 11, 12, 11)
    assert status.config == snapshot.conf_state


@pytest.mark.parametrize(
    "snapshot",
    [
        None,
        Snapshot(2, 1, b"", MEMBERS),
        Snapshot(9, 1, b"", ConfState((2, 3))),
        Snapshot(9, 1, b"", ConfState((2,), learners_next=(1,))),
    ],
)
def test_a_snapshot_that_is_old_or_for_others_is_ignored(snapshot: Snapshot | None) -> None:
    """The answer tells what is committed here."""
    storage = storage_with(1, 1, 1)
    storage.hard_state = HardState(1, 0, 2)
    peer = Peer(1, storage)
    (answer,) = peer.step(MessageType.SNAP, 2, term=1, snapshot=snapshot)
    assert (answer.index, peer.node.status().last_index) == (2, 3)


@pytest.mark.parametrize(
    "members", [ConfState((1,)), ConfState((2,), learners=(1,)), ConfState((2,), voters_outgoing=(1, 2))]
)
def test_a_snapshot_is_for_every_kind_of_member(members: ConfState) -> None:
    """Voters, learners, and voters that are on their way out."""
    peer = Peer(1)
    peer.step(MessageType.SNAP, 2, term=1, snapshot=Snapshot(9, 1, b"", members))
    assert peer.node.status().last_index == 9


def test_a_snapshot_that_the_log_contains_only_commits() -> None:
    """Nothing has to be thrown away."""
    peer = Peer(1, storage_with(1, 1, 1))
    (answer,) = peer.step(MessageType.SNAP, 2, term=1, snapshot=Snapshot(2, 1, b"", MEMBERS))
    status = peer.node.status()
    assert (answer.index, status.commit, status.last_index, status.first_index) == (2, 2, 3, 1)


def test_a_follower_far_behind_catches_up_over_the_network() -> None:
    """By a snapshot and then by entries, and takes part again."""
    network = elected()
    network.isolate(3)
    network.propose(1, b"a", b"b")
    storage = network[1].storage
    storage.create_snapshot(network[1].node.applied, MEMBERS, b"ab")
    storage.compact(network[1].node.applied)
    network.propose(1, b"c")
    network.heal()
    network.tick(1)
    assert network[3].storage.snapshot().data == b"ab"
    assert network[3].data == [b"ab", b"c"]
    assert network[3].node.committed == network[1].node.committed


def test_a_new_leader_probes_everyone() -> None:
    """It knows nothing of their logs, whatever it knew in an earlier term."""
    peer = leader()
    ack(peer, 2, 1)
    peer.step(MessageType.HEARTBEAT, 3, term=2)
    assert peer.node.status().progress == {}
    peer.node.campaign()
    peer.pump()
    peer.step(MessageType.VOTE_RESP, 2, term=3)
    progress = peer.node.status().progress
    assert {node: (one.match, one.state) for node, one in progress.items()} == {
        1: (2, ProgressState.REPLICATE),
        2: (0, ProgressState.PROBE),
        3: (0, ProgressState.PROBE),
    }


def test_a_response_from_a_stranger_to_a_leader_is_ignored_inside() -> None:
    """RawNode refuses it; where it comes through, nothing is known of the sender."""
    node = RawNode(make_config(1, storage_with(voters=(1,))))
    node.campaign()
    node.ready()
    node.advance()
    node.report_unreachable(9)
    node.report_snapshot(9, failed=True)
    assert node.role is Role.LEADER
