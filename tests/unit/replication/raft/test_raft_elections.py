"""Elections: section 5.2 and 5.4.1 of the Raft paper, and chapters 4.2.3, 9.6 and 3.10 of the thesis."""

import pytest
from vecdb_replication.raft import (
    Change,
    ChangeType,
    ConfChange,
    ConfState,
    HardState,
    Message,
    MessageType,
    ProposalDroppedError,
    RawNode,
    Role,
    Snapshot,
    to_entry,
)

from tests.unit.replication.raft.network import Network, Peer, elected, make_config, storage_with


def as_role(role: Role, **options: object) -> Peer:
    """Node 1 of three, in term 1, in this role."""
    peer = Peer(1, **options)
    if role is Role.FOLLOWER:
        peer.step(MessageType.HEARTBEAT, 2, term=1)
    elif role is Role.LEADER:
        peer.node.campaign()
        peer.pump()
        peer.step(MessageType.VOTE_RESP, 2, term=1)
    else:
        peer.node.campaign()
        peer.pump()
    assert peer.role is role
    return peer


ROLES = [Role.FOLLOWER, Role.CANDIDATE, Role.LEADER]


@pytest.mark.parametrize("role", ROLES)
def test_a_newer_term_makes_anyone_a_follower(role: Role) -> None:
    """Whatever the message, a higher term is taken on; an append's sender is the leader (5.1)."""
    for kind in (MessageType.APP, MessageType.HEARTBEAT, MessageType.VOTE, MessageType.APP_RESP):
        peer = as_role(role)
        peer.step(kind, 2, term=5, index=0)
        assert (peer.role, peer.node.term) == (Role.FOLLOWER, 5)
        assert peer.node.lead == (2 if kind in (MessageType.APP, MessageType.HEARTBEAT) else 0)


@pytest.mark.parametrize("role", ROLES)
def test_an_older_term_is_ignored(role: Role) -> None:
    """A message from the past changes nothing and has no answer (5.1)."""
    peer = as_role(role)
    peer.step(MessageType.HEARTBEAT, 3, term=3)
    before = peer.node.status()
    for kind in (MessageType.APP, MessageType.VOTE, MessageType.HEARTBEAT, MessageType.VOTE_RESP):
        assert peer.step(kind, 2, term=2) == []
    assert peer.node.status() == before


def test_a_node_starts_as_a_follower() -> None:
    """Of nobody, in term 0."""
    status = Peer(1).node.status()
    assert (status.role, status.term, status.lead, status.vote) == (Role.FOLLOWER, 0, 0, 0)


def test_a_leader_sends_heartbeats() -> None:
    """One to each peer, every heartbeat tick (5.2)."""
    peer = as_role(Role.LEADER, heartbeat_tick=2)
    peer.node.tick()
    assert peer.pump() == []
    peer.node.tick()
    assert [(m.type, m.to) for m in peer.pump()] == [(MessageType.HEARTBEAT, 2), (MessageType.HEARTBEAT, 3)]


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE])
def test_whoever_hears_of_no_leader_campaigns(role: Role) -> None:
    """After its timeout: a new term, its own vote, and a request to every other voter (5.2)."""
    peer = as_role(role, election_tick=10)
    peer.node.set_randomized_election_timeout(7)
    for _ in range(6):
        peer.node.tick()
    assert peer.pump() == []
    peer.node.tick()
    votes = peer.pump()
    assert (peer.role, peer.node.term, peer.node.status().vote) == (Role.CANDIDATE, 2, 1)
    assert [(m.type, m.to, m.term) for m in votes] == [(MessageType.VOTE, 2, 2), (MessageType.VOTE, 3, 2)]


def test_timeouts_are_drawn_anew_at_every_reset() -> None:
    """The host draws them, from the election tick; one that was set lasts until the next reset."""
    drawn = iter([5, 11, 13, 17])
    asked: list[int] = []

    def draw(ticks: int) -> int:
        asked.append(ticks)
        return next(drawn)

    peer = Peer(1, election_tick=5, draw_timeout=draw)
    for expected in (5, 11):
        for _ in range(expected - 1):
            peer.node.tick()
        assert peer.pump() == []
        peer.node.tick()
        assert peer.pump()
    assert asked == [5, 5, 5]


@pytest.mark.parametrize(
    ("size", "votes", "role"),
    [
        (1, {}, Role.LEADER),
        (3, {2: True, 3: True}, Role.LEADER),
        (3, {2: True}, Role.LEADER),
        (5, {2: True, 3: True}, Role.LEADER),
        (3, {2: False, 3: False}, Role.FOLLOWER),
        (5, {2: False, 3: False, 4: False}, Role.FOLLOWER),
        (5, {2: True, 3: False, 4: False, 5: False}, Role.FOLLOWER),
        (3, {}, Role.CANDIDATE),
        (5, {2: True}, Role.CANDIDATE),
        (5, {2: False, 3: False}, Role.CANDIDATE),
    ],
)
def test_a_majority_elects_or_rejects(size: int, votes: dict[int, bool], role: Role) -> None:
    """With its own, a majority of votes makes a leader, of refusals a follower, in the same term (5.2)."""
    peer = Peer(1, storage_with(voters=range(1, size + 1)))
    peer.node.campaign()
    peer.pump()
    for voter, granted in votes.items():
        peer.step(MessageType.VOTE_RESP, voter, term=1, reject=not granted)
    assert (peer.role, peer.node.term) == (role, 1)


def test_the_own_vote_counts_only_once_it_is_durable() -> None:
    """A group of one has no leader before its vote is stored."""
    storage = storage_with(voters=(1,))
    node = RawNode(make_config(1, storage))
    node.campaign()
    ready = node.ready()
    assert (ready.hard_state, ready.must_sync, ready.messages) == (HardState(1, 1, 0), True, ())
    assert node.role is Role.CANDIDATE
    node.advance()
    assert node.role is Role.LEADER


@pytest.mark.parametrize(
    ("voted", "asks", "granted"), [(0, 2, True), (2, 2, True), (3, 3, True), (2, 3, False)]
)
def test_one_vote_a_term(voted: int, asks: int, granted: bool) -> None:
    """Who has voted votes for the same one again, and for nobody else (5.2)."""
    storage = storage_with()
    storage.hard_state = HardState(1, voted, 0)
    peer = Peer(1, storage)
    (answer,) = peer.step(MessageType.VOTE, asks, term=1)
    assert (answer.type, answer.to, answer.term, answer.reject) == (
        MessageType.VOTE_RESP,
        asks,
        1,
        not granted,
    )
    assert peer.node.status().vote == (asks if granted else voted)


def test_who_grants_a_vote_waits_for_the_outcome() -> None:
    """Its timeout begins anew; refusing, or granting a pre-vote, does not delay it."""
    for kind, index, waits in (
        (MessageType.VOTE, 0, True),
        (MessageType.PRE_VOTE, 0, False),
        (MessageType.VOTE, -1, False),
    ):
        storage = storage_with(1)
        storage.hard_state = HardState(2, 0, 0)
        peer = Peer(1, storage, election_tick=5)
        for _ in range(4):
            peer.node.tick()
        peer.step(kind, 2, term=2, log_term=1, index=1 + index)
        peer.node.tick()
        assert (peer.role is Role.FOLLOWER) is waits


def test_a_follower_of_a_leader_has_no_vote_to_give_in_its_term() -> None:
    """Though it voted for nobody, it knows who was elected."""
    peer = as_role(Role.FOLLOWER)
    (answer,) = peer.step(MessageType.VOTE, 3, term=1)
    assert answer.reject


@pytest.mark.parametrize(
    ("log", "last", "granted"),
    [
        ((1,), (1, 1), True),
        ((1,), (1, 2), True),
        ((1, 1), (1, 1), False),
        ((1,), (2, 1), True),
        ((1,), (2, 2), True),
        ((1, 1), (2, 1), True),
        ((2,), (1, 1), False),
        ((2,), (1, 2), False),
        ((2, 1), (1, 1), False),
    ],
)
@pytest.mark.parametrize("kind", [MessageType.VOTE, MessageType.PRE_VOTE])
def test_a_voter_refuses_a_log_behind_its_own(
    kind: MessageType, log: tuple[int, ...], last: tuple[int, int], granted: bool
) -> None:
    """The later last term, or the longer log of the same, is more complete (5.4.1)."""
    storage = storage_with(*log)
    storage.hard_state = HardState(2, 0, 0)
    peer = Peer(1, storage)
    (answer,) = peer.step(kind, 2, term=3, log_term=last[0], index=last[1])
    assert answer.reject is not granted


@pytest.mark.parametrize("kind", [MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP])
@pytest.mark.parametrize("pre_vote", [False, True])
def test_a_candidate_gives_way_to_a_leader_of_its_term(kind: MessageType, pre_vote: bool) -> None:
    """Somebody else was elected, whether it learns so by an append, a heartbeat or a snapshot (5.2)."""
    peer = Peer(1, pre_vote=pre_vote)
    peer.step(MessageType.HEARTBEAT, 3, term=1)
    peer.node.campaign()
    peer.pump()
    term = peer.node.term
    assert peer.role is (Role.PRE_CANDIDATE if pre_vote else Role.CANDIDATE)
    peer.step(kind, 2, term=term)
    assert (peer.role, peer.node.lead, peer.node.term) == (Role.FOLLOWER, 2, term)


def test_a_candidate_ignores_what_is_not_for_it() -> None:
    """Answers to its pre-candidacy, a request to lead, and anything a leader gets."""
    peer = as_role(Role.CANDIDATE)
    before = peer.node.status()
    for kind in (
        MessageType.PRE_VOTE_RESP,
        MessageType.TIMEOUT_NOW,
        MessageType.APP_RESP,
        MessageType.READ_INDEX,
    ):
        assert peer.step(kind, 2, term=1) == []
    assert peer.node.status() == before
    with pytest.raises(ProposalDroppedError):
        peer.node.propose(b"x")


def test_only_the_first_vote_of_each_voter_counts() -> None:
    """A repeated or changed answer does not decide anything."""
    peer = Peer(1, storage_with(voters=range(1, 6)))
    peer.node.campaign()
    peer.pump()
    for voter, granted in ((2, False), (2, True), (3, True), (3, True)):
        peer.step(MessageType.VOTE_RESP, voter, term=1, reject=not granted)
    assert peer.role is Role.CANDIDATE
    peer.step(MessageType.VOTE_RESP, 4, term=1)
    assert peer.role is Role.LEADER


def test_a_leader_does_not_campaign() -> None:
    """Nor does who is no member, only learns, or has a snapshot to store."""
    leader = as_role(Role.LEADER)
    leader.node.campaign()
    assert (leader.pump(), leader.role) == ([], Role.LEADER)
    for storage in (storage_with(voters=(2, 3)), storage_with(voters=(2, 3), learners=(1,))):
        peer = Peer(1, storage, election_tick=3)
        for _ in range(9):
            peer.node.tick()
        peer.node.campaign()
        assert (peer.pump(), peer.role) == ([], Role.FOLLOWER)
    restoring = Peer(1)
    snapshot = Snapshot(5, 1, b"", ConfState((1, 2, 3)))
    restoring.node.step(Message(MessageType.SNAP, 1, 2, 1, snapshot=snapshot))
    restoring.node.campaign()
    assert restoring.role is Role.FOLLOWER
    restoring.pump()
    restoring.node.campaign()
    assert restoring.role is Role.CANDIDATE


def test_nobody_campaigns_before_applying_what_changes_the_membership() -> None:
    """It might win by a majority that is none any more. Also with pages of one entry."""
    for limit in (0, 1000):
        storage = storage_with(1)
        change = ConfChange((Change(ChangeType.REMOVE, 3),))
        entry = to_entry(change)
        storage.append([type(entry)(1, 2, entry.type, entry.data)])
        storage.hard_state = HardState(1, 0, 2)
        node = RawNode(make_config(1, storage, max_size_per_msg=limit))
        node.campaign()
        assert node.role is Role.FOLLOWER
        while node.has_ready():
            for applied in node.ready().committed_entries:
                if applied.index == 2:
                    node.apply_conf_change(change)
            node.advance()
        node.campaign()
        assert node.role is Role.CANDIDATE


def test_logs_decide_who_can_lead() -> None:
    """A node that missed a committed entry cannot be elected; one that has it can."""
    network = elected()
    network.isolate(3)
    network.propose(1, b"kept")
    network.heal()
    network.isolate(1)
    network.campaign(3)
    assert network[3].role is Role.CANDIDATE
    network.campaign(2)
    assert network[2].role is Role.LEADER
    network.heal()
    network.tick(2)
    assert {tuple(peer.data) for peer in network.peers.values()} == {(b"kept",)}


def test_duelling_candidates() -> None:
    """The first to reach a majority leads; the other joins it, with the term it brings."""
    network = Network(None, None, None)
    network.cut(1, 3)
    network.campaign(1)
    network.campaign(3)
    assert [network[node].role for node in (1, 2, 3)] == [Role.LEADER, Role.FOLLOWER, Role.CANDIDATE]
    network.heal()
    network.campaign(3)
    assert [network[node].role for node in (1, 2, 3)] == [Role.FOLLOWER, Role.FOLLOWER, Role.FOLLOWER]
    assert {network[node].node.term for node in (1, 2, 3)} == {2}


@pytest.mark.parametrize(
    ("commit", "log_term", "learnt"),
    [(2, 1, 2), (3, 1, 0), (4, 2, 4), (5, 2, 0), (5, 0, 0), (4, 0, 0), (0, 0, 0)],
)
def test_a_refusal_tells_what_is_committed(commit: int, log_term: int, learnt: int) -> None:
    """If the candidate has that entry, of that term. It stands again once that is applied."""
    peer = Peer(1, storage_with(1, 1, 2, 2))
    peer.node.campaign()
    peer.pump()
    peer.step(MessageType.VOTE_RESP, 2, term=1, reject=True, commit=commit, log_term=log_term)
    assert peer.node.committed == learnt
    assert peer.role is (Role.FOLLOWER if learnt else Role.CANDIDATE)
    for told in (False, True):
        storage = storage_with(1, 1, 2)
        storage.hard_state = HardState(2, 0, 2)
        voter = Peer(2, storage, commit_in_rejections=told)
        (refusal,) = voter.step(MessageType.VOTE, 1, term=3, index=1, log_term=1)
        assert refusal.reject
        assert (refusal.commit, refusal.log_term) == ((2, 1) if told else (0, 0))
        (granted,) = voter.step(MessageType.VOTE, 3, term=3, index=3, log_term=2)
        assert (granted.reject, granted.commit, granted.log_term) == (False, 0, 0)


# Pre-votes


def test_a_pre_candidate_disturbs_nobody() -> None:
    """It asks for the next term, in which it is not yet, and neither term nor vote changes."""
    peer = Peer(1, pre_vote=True)
    peer.node.campaign()
    asked = peer.pump()
    assert [(m.type, m.term) for m in asked] == [(MessageType.PRE_VOTE, 1)] * 2
    assert (peer.role, peer.node.term, peer.node.status().vote) == (Role.PRE_CANDIDATE, 0, 0)
    voter = Peer(2)
    (answer,) = voter.step(MessageType.PRE_VOTE, 1, term=1)
    assert (answer.type, answer.term, answer.reject) == (MessageType.PRE_VOTE_RESP, 1, False)
    assert (voter.node.term, voter.node.status().vote) == (0, 0)


def test_pre_votes_lead_to_an_election() -> None:
    """A majority of them starts the real one; a majority of refusals makes a follower again."""
    peer = Peer(1, pre_vote=True)
    peer.node.campaign()
    peer.pump()
    votes = peer.step(MessageType.PRE_VOTE_RESP, 2, term=1)
    assert (peer.role, peer.node.term) == (Role.CANDIDATE, 1)
    assert [m.type for m in votes] == [MessageType.VOTE] * 2
    refused = Peer(1, pre_vote=True)
    refused.node.campaign()
    refused.pump()
    for voter in (2, 3):
        refused.step(MessageType.PRE_VOTE_RESP, voter, term=0, reject=True)
    assert refused.role is Role.FOLLOWER


def test_a_refused_pre_vote_tells_the_term_that_was_missed() -> None:
    """A pre-candidate behind in terms learns the voter's; without an answer it would ask for ever."""
    storage = storage_with()
    storage.hard_state = HardState(4, 0, 0)
    (answer,) = Peer(2, storage).step(MessageType.PRE_VOTE, 1, term=2)
    assert (answer.type, answer.term, answer.reject) == (MessageType.PRE_VOTE_RESP, 4, True)
    peer = Peer(1, pre_vote=True)
    peer.node.campaign()
    peer.pump()
    peer.step(answer.type, 2, term=answer.term, reject=True)
    assert (peer.role, peer.node.term) == (Role.FOLLOWER, 4)


def test_a_partitioned_node_does_not_depose_the_leader_when_it_is_back() -> None:
    """With pre-votes its term has not risen, and its campaign fails."""
    network = elected(pre_vote=True, check_quorum=True)
    network.isolate(3)
    for _ in range(5):
        network.tick(3, 10)
    assert network[3].role is Role.PRE_CANDIDATE
    network.heal()
    network.campaign(3)
    network.tick(1)
    assert [network[node].role for node in (1, 2, 3)] == [Role.LEADER, Role.FOLLOWER, Role.FOLLOWER]
    assert network[1].node.term == 1


# The quorum is checked


def test_a_leader_without_a_quorum_steps_down() -> None:
    """It had an election timeout to hear of one; a single answer is enough in a group of three."""
    for heard, role in ((True, Role.LEADER), (False, Role.FOLLOWER)):
        peer = as_role(Role.LEADER, check_quorum=True, election_tick=4)
        for again in (True, heard):
            if again:
                peer.step(MessageType.HEARTBEAT_RESP, 2, term=1)
            for _ in range(4):
                peer.node.tick()
            peer.pump()
        assert peer.role is role


def test_a_leader_whose_own_disk_stalls_is_not_deposed_for_that() -> None:
    """It counts as active itself, though it has not acknowledged anything yet."""
    node = RawNode(make_config(1, async_storage_writes=True, check_quorum=True, election_tick=3))
    node.campaign()
    for response in node.ready().messages[-1].responses:
        node.step(response)
    node.step(Message(MessageType.VOTE_RESP, 1, 2, 1))
    node.step(Message(MessageType.HEARTBEAT_RESP, 1, 2, 1))
    for _ in range(3):
        node.tick()
    assert node.role is Role.LEADER


def test_votes_are_turned_away_while_the_leader_is_heard_of() -> None:
    """Without even taking on the term; not after an election timeout, nor if the leader wants it."""
    for kind in (MessageType.VOTE, MessageType.PRE_VOTE):
        peer = as_role(Role.FOLLOWER, check_quorum=True, election_tick=4)
        assert peer.step(kind, 3, term=9) == []
        assert peer.node.term == 1
        (answer,) = peer.step(kind, 3, term=9, context=b"CampaignTransfer")
        assert not answer.reject
        later = as_role(Role.FOLLOWER, check_quorum=True, election_tick=4)
        later.node.set_randomized_election_timeout(9)
        for _ in range(4):
            later.node.tick()
        (answer,) = later.step(kind, 3, term=9)
        assert not answer.reject


@pytest.mark.parametrize("options", [{"check_quorum": True}, {"pre_vote": True}])
def test_a_stuck_candidate_makes_the_leader_catch_up_with_its_term(options: dict[str, bool]) -> None:
    """An append or heartbeat of an older term is answered, so that its sender learns of the newer one."""
    storage = storage_with()
    storage.hard_state = HardState(5, 0, 0)
    peer = Peer(1, storage, **options)
    for kind in (MessageType.APP, MessageType.HEARTBEAT):
        (answer,) = peer.step(kind, 2, term=3)
        assert (answer.type, answer.term, answer.to, answer.index) == (MessageType.APP_RESP, 5, 2, 0)
    assert peer.step(MessageType.VOTE, 2, term=3) == []


# Leadership is transferred


def test_leadership_goes_to_a_follower_that_is_up_to_date_at_once() -> None:
    """It campaigns without a pre-vote, whatever its timeout, and the others let it."""
    network = elected(pre_vote=True, check_quorum=True)
    network[1].node.transfer_leader(2)
    network.settle()
    assert [network[node].role for node in (1, 2, 3)] == [Role.FOLLOWER, Role.LEADER, Role.FOLLOWER]
    network[3].node.transfer_leader(1)
    network.settle()
    assert network[1].role is Role.LEADER


def test_leadership_waits_for_a_follower_that_is_behind() -> None:
    """Until its log is complete; meanwhile nothing else is proposed."""
    network = elected()
    network.isolate(3)
    network.propose(1, b"missed")
    network.heal()
    network[1].node.transfer_leader(3)
    assert network[1].node.status().lead_transferee == 3
    with pytest.raises(ProposalDroppedError, match="transferred"):
        network[1].node.propose(b"not now")
    network.settle()
    network.tick(1)
    assert network[3].role is Role.LEADER
    assert network[3].data == [b"missed"]


def test_a_transfer_that_cannot_succeed_is_given_up() -> None:
    """After an election timeout the leader goes on; another target replaces the first; one's own ends it."""
    network = elected(election_tick=4)
    network.isolate(3)
    network.tick(1, 2)
    network[1].node.transfer_leader(3)
    network.tick(1, 3)
    assert network[1].node.status().lead_transferee == 3
    network[1].node.transfer_leader(3)
    network.tick(1, 1)
    assert network[1].node.status().lead_transferee == 0
    network.propose(1, b"on")
    assert network[1].data == [b"on"]
    network[1].node.transfer_leader(3)
    network[1].node.transfer_leader(1)
    assert network[1].node.status().lead_transferee == 0
    network[1].node.transfer_leader(3)
    network[1].node.transfer_leader(2)
    network.settle()
    assert network[2].role is Role.LEADER


def test_leadership_does_not_go_to_a_learner_or_a_stranger() -> None:
    """A request to hand it over to either is ignored."""
    network = Network(Peer(1, storage_with(voters=(1,), learners=(2,))))
    network.campaign(1)
    for target in (2, 9):
        network[1].node.transfer_leader(target)
        assert network[1].node.status().lead_transferee == 0


def test_a_request_to_lead_is_ignored_by_who_is_no_member() -> None:
    """It was removed on the way."""
    peer = Peer(1, storage_with(voters=(2, 3)))
    assert peer.step(MessageType.TIMEOUT_NOW, 2, term=1) == []
    assert peer.role is Role.FOLLOWER


def test_a_transfer_asked_of_a_follower_without_a_leader_goes_nowhere() -> None:
    """There is nobody to pass it on to."""
    peer = Peer(1)
    peer.node.transfer_leader(2)
    assert peer.pump() == []
