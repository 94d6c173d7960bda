"""The core under a careless network and crashes: a small simulation, the same for the same seed.

Messages are lost, repeated and reordered; nodes crash and come back with what they stored; logs are
compacted and memberships change, one by one and jointly. The simulator in tests/sim has disks that
lose data too.
"""

import random

import pytest
from vecdb_replication.raft import (
    Change,
    ChangeType,
    ConfChange,
    Entry,
    MemoryStorage,
    Message,
    ProgressState,
    ProposalDroppedError,
    Role,
    Transition,
    UnknownPeerError,
)

from tests.unit.replication.raft.network import Peer, storage_with

MEMBERS = range(1, 6)


class Chaos:
    """Five nodes, of which three vote at first, and all that is on its way between them."""

    def __init__(self, seed: int, **options: bool) -> None:
        self.random = random.Random(seed)
        self.options = options
        self.peers = {node: self.peer(node, storage_with(1, base=1)) for node in MEMBERS}
        self.flying: list[Message] = []
        self.leaders: dict[int, int] = {}
        self.applied: dict[int, Entry] = {}
        self.proposed = 0

    def peer(self, node: int, storage: MemoryStorage, applied: int = 0) -> Peer:
        return Peer(
            node,
            storage,
            applied=applied,
            election_tick=5,
            draw_timeout=lambda ticks: ticks + self.random.randrange(ticks),
            **self.options,
        )

    def step(self) -> None:
        node = self.random.choice(MEMBERS)
        act = self.random.choices(
            [self.tick, self.deliver, self.propose, self.change, self.restart, self.compact],
            [12, 80, 6, 1, 1, 1],
        )[0]
        act(node)
        for peer in self.peers.values():
            self.flying += peer.pump()
        self.check()

    def tick(self, node: int) -> None:
        self.peers[node].node.tick()

    def deliver(self, _: int, *, lossy: bool = True) -> None:
        if not self.flying:
            return
        m = self.flying.pop(self.random.randrange(len(self.flying)))
        luck = self.random.random() if lossy else 1
        if luck < 0.1:
            return
        if luck < 0.2:
            self.flying.append(m)
        try:
            self.peers[m.to].node.step(m)
        except (ProposalDroppedError, UnknownPeerError):
            return

    def propose(self, node: int) -> None:
        self.proposed += 1
        try:
            self.peers[node].node.propose(b"%d" % self.proposed)
        except ProposalDroppedError:
            return

    def change(self, node: int) -> None:
        kinds = [ChangeType.ADD_VOTER, ChangeType.ADD_VOTER, ChangeType.ADD_LEARNER, ChangeType.REMOVE]
        # Two nodes are never touched, so that a group is left to check.
        singles = [
            Change(self.random.choice(kinds), self.random.choice(MEMBERS[2:]))
            for _ in range(self.random.randrange(3))
        ]
        try:
            transition = self.random.choice(list(Transition)) if singles else Transition.AUTO
            self.peers[node].node.propose_conf_change(ConfChange(tuple(singles), transition))
        except ProposalDroppedError:
            return

    def restart(self, node: int) -> None:
        """The core is lost, and comes back with what was stored and applied."""
        self.save(node)
        old = self.peers[node]
        self.peers[node] = self.peer(node, old.storage, old.node.applied)

    def compact(self, node: int) -> None:
        self.save(node)
        peer = self.peers[node]
        if peer.node.applied >= peer.storage.first_index():
            peer.storage.compact(peer.node.applied)

    def save(self, node: int) -> None:
        peer = self.peers[node]
        if peer.node.applied > peer.storage.snapshot().index:
            peer.storage.create_snapshot(peer.node.applied, peer.node.status().config, b"")

    def check(self) -> None:
        for node, peer in self.peers.items():
            status = peer.node.status()
            if status.role is Role.LEADER:
                assert self.leaders.setdefault(status.term, node) == node, "two leaders in a term"
            for entry in peer.applied:
                assert self.applied.setdefault(entry.index, entry) == entry, "applied logs differ"
            peer.applied.clear()
            assert status.applied <= status.commit <= status.last_index

    def members(self) -> tuple[int, ...]:
        """Who belongs to the group, for all that is committed."""
        newest = max(self.peers.values(), key=lambda peer: peer.node.committed)
        config = newest.node.status().config
        return tuple({*config.voters, *config.voters_outgoing, *config.learners})

    def report(self, node: int) -> None:
        """Nothing is on its way for long, so a snapshot that is still awaited was lost."""
        for peer, progress in self.peers[node].node.status().progress.items():
            if progress.state is ProgressState.SNAPSHOT:
                self.peers[node].node.report_snapshot(peer, failed=True)

    def heal(self) -> None:
        """Deliver everything, tick, and see that a leader gets things done again."""
        for _ in range(60):
            # Replicas that were removed and do not know it would campaign for ever: they are stopped.
            for node in self.members():
                self.peers[node].node.tick()
                self.report(node)
            for peer in self.peers.values():
                self.flying += peer.pump()
            for _ in range(2000):
                if not self.flying:
                    break
                self.deliver(0, lossy=False)
                for peer in self.peers.values():
                    self.flying += peer.pump()
            self.check()


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_replicas_agree_and_recover(seed: int) -> None:
    """One leader a term, the same entry at each applied index everywhere; progress once it calms down."""
    chaos = Chaos(seed, pre_vote=seed % 2 == 0, check_quorum=seed % 3 == 0, step_down_on_removal=True)
    for _ in range(1500):
        chaos.step()
    chaos.heal()
    leaders = [peer for peer in chaos.peers.values() if peer.role is Role.LEADER]
    assert leaders
    leader = max(leaders, key=lambda peer: peer.node.term)
    committed = leader.node.committed
    leader.node.propose(b"at last")
    chaos.heal()
    assert leader.node.committed > committed
    assert any(entry.data == b"at last" for entry in chaos.applied.values())
    for node in chaos.members():
        assert chaos.peers[node].node.applied == leader.node.applied
