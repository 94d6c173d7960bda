"""The simulated cluster: nodes, clock, network, catalogue, and everything that is checked after each step."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence

from vecdb_replication import raft, wal
from vecdb_replication.host import Envelope
from vecdb_replication.host.group import Group

from tests.sim.clients import Client
from tests.sim.facts import DurableLog, GroupFacts, Look, Violation, demand
from tests.sim.history import Operation, is_linearizable
from tests.sim.invariants import (
    durable_cause,
    durable_quorum,
    election_safety,
    leader_completeness,
    log_matching,
    monotone,
    recovered_log,
    state_machine_safety,
)
from tests.sim.network import Network
from tests.sim.node import SimNode

NODES = 5
GROUPS = (1, 2)
FOUNDERS = (1, 2, 3)
ALONE = 3
"""A group of one replica, which stays so."""
_HOME = 4
_TICK = 0.025


class World:
    """A cluster and its clients, from one seed. `trace`, if given, is called with every line."""

    def __init__(self, seed: int, *, clients: int = 4, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.now = 0.0
        self.groups = (*GROUPS, ALONE)
        self.counts: Counter[str] = Counter()
        self.digest = hashlib.sha256()
        self._trace = trace
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._sequence = 0
        self.histories: dict[str, list[Operation]] = {}
        self.facts = {group: GroupFacts() for group in self.groups}
        # The catalogue: where each replica is, who founded the group, and which id comes next.
        self.placement = {group: {replica: replica for replica in FOUNDERS} for group in GROUPS}
        self.placement[ALONE] = {1: _HOME}
        self.removed: dict[int, set[int]] = {}
        """By group, ids that were members once."""
        self.next_id = dict.fromkeys(GROUPS, len(FOUNDERS) + 1)
        self.network = Network(self.dice, self.later, self._deliver, self._report)
        self.nodes = {
            number: SimNode(number, self.dice.randrange(1 << 30), self) for number in range(1, NODES + 1)
        }
        for group, placed in self.placement.items():
            for replica, home in placed.items():
                self.nodes[home].replicas[group] = replica
                self.facts[group].disks[replica] = DurableLog()
        for node in self.nodes.values():
            # No two clocks are alike: some run up to a fifth too fast or too slow.
            node.clock_rate = 0.8 + 0.4 * self.dice.random()
            demand(node.start(), "a fresh node starts")
            self.later(_TICK, self._tick, node)
        self.clients = [
            Client(number, self.dice.randrange(1 << 30), self) for number in range(1, clients + 1)
        ]

    # Time

    def later(self, seconds: float, act: Callable[..., None], *args: object) -> None:
        """Do something in a while."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + seconds, self._sequence, act, args))

    def run(self, until: float) -> None:
        """Let time pass. Violation names the seed and the moment."""
        try:
            while self._heap and self._heap[0][0] <= until:
                self.now, _, act, args = heapq.heappop(self._heap)
                act(*args)
                self.counts["steps"] += 1
        except Exception as error:
            raise self.violation(repr(error)) from error
        self.now = until

    def violation(self, what: str) -> Violation:
        """What went wrong, and how to see it again."""
        command = f"python -m tests.sim --seed {self.seed} --seconds {self.now + 0.001:.3f} --trace"
        return Violation(f"seed {self.seed} at {self.now:.4f} s: {what}\nreplay: {command}")

    def _tick(self, node: SimNode) -> None:
        node.tick()
        self.later(_TICK, self._tick, node)

    def installed(self, node: SimNode) -> None:
        """A snapshot took the place of a state."""
        self.counts["snapshots"] += 1

    def note(self, *what: object) -> None:
        """A line of the trace."""
        line = f"{self.now:.6f} {' '.join(map(str, what))}"
        self.digest.update(line.encode() + b"\n")
        if self._trace is not None:
            self._trace(line)

    # What nodes do

    def send(self, source: int, target: int, envelope: Envelope) -> None:
        self.network.send(source, target, envelope)

    def _deliver(self, source: int, target: int, envelope: Envelope) -> bool:
        node = self.nodes[target]
        if not node.up:
            return False
        node.receive(source, envelope)
        return True

    def _report(self, source: int, group: int, replica: int, failed: bool) -> None:
        self.nodes[source].report(group, replica, failed)

    def leaving(self, node: SimNode, envelope: Envelope) -> None:
        """Before anything leaves: it must not vouch for what a power cut could take back."""
        for group, message in envelope.messages:
            durable_cause.check(group, self.facts[group].disks[message.from_], message)
            self.counts["checks"] += 1
            self.note(
                node.number,
                "->",
                group,
                message.type.value,
                message.from_,
                message.to,
                message.term,
                message.index,
                len(message.entries),
                message.commit,
                int(message.reject),
            )

    def synced(self, node: SimNode, updates: Sequence[wal.GroupUpdate]) -> None:
        """A record is on a disk for good."""
        for update in updates:
            if update.tombstone is not None:
                continue
            facts = self.facts[update.group]
            replica = node.replicas.get(update.group)
            if replica is None:
                continue
            disk = facts.disks[replica]
            log_matching.check(update.group, facts, disk, update)
            before = disk.copy()
            disk.apply(update)
            monotone.check_disk(update.group, replica, before, disk)
            self.counts["checks"] += 2
        self.note(node.number, "synced", [(u.group, len(u.entries)) for u in updates])

    def reopened(self, node: SimNode, group: int, replica: int) -> None:
        """A log was opened again."""
        assert node.log is not None
        disks = self.facts[group].disks
        mine = [[u for u in record if u.group == group and u.tombstone is None] for record in node.unsynced]
        disks[replica] = recovered_log.check(group, disks[replica], mine, node.log)
        self.counts["checks"] += 1

    def stepped(self, node: SimNode) -> None:
        """Something happened at a node: look at all its replicas."""
        if node.core is None:
            return
        for group, held in list(node.core.groups.items()):
            if held.removed:
                continue
            if held.failure is not None:
                self._ended(node, held)
                return
            self._look(node, group, held)

    def _look(self, node: SimNode, group: int, held: Group) -> None:
        facts, replica = self.facts[group], held.replica
        life = node.life * 1000 + replica.epoch
        core = replica.node
        now = (life, core.term, core.committed, core.applied)
        machine = node.machines[group, replica.id]
        for index, data in machine.applied:
            state_machine_safety.check(group, facts, index, data)
        machine.applied.clear()
        if facts.seen.get(replica.id) == now and core.term in facts.leaders:
            return
        look = Look(group, replica.id, life, core, core.applied, facts)
        demand(replica.applied <= facts.commit or core.committed >= replica.applied, f"{look} is too far")
        monotone.check(look)
        durable_quorum.check(look)
        leader_completeness.check(look)
        if core.role is raft.Role.LEADER and core.term not in facts.leaders:
            self.counts["elections"] += 1
            self.note("leader", group, replica.id, core.term)
        election_safety.check(look)
        facts.seen[replica.id] = now
        self.counts["checks"] += 5

    def _ended(self, node: SimNode, held: Group) -> None:
        cause = held.failure.__cause__ if held.failure is not None else None
        if not isinstance(cause, wal.LogDamaged) or not node.reading_fails:
            raise Violation(f"group {held.id} on node {node.number} ended: {held.failure} ({cause!r})")
        self.died(node, "its log could not be read")

    def died(self, node: SimNode, why: str) -> None:
        """A node ends itself."""
        self.counts["deaths"] += 1
        self.note("died", node.number, why)
        node.die(None)
        self.later(0.5, self.revive, node)

    def revive(self, node: SimNode) -> None:
        """Start a node that is down; again later where it cannot start."""
        if node.up:
            return
        node.disk.capacity = None
        if not node.start():
            self.later(0.5, self.revive, node)
        self.note("started", node.number)

    # The catalogue

    def node_of(self, group: int, replica: int) -> int | None:
        return self.placement[group].get(replica)

    def founders(self, group: int) -> tuple[int, ...]:
        return FOUNDERS if group != ALONE else (1,)

    def allot(self, group: int, node: SimNode) -> int:
        """A new replica on a node: an id that was never used. wal.LogError where the disk refuses it."""
        replica = self.next_id[group]
        self.next_id[group] += 1
        node.prepare(group, replica)
        self.placement[group][replica] = node.number
        self.facts[group].disks[replica] = DurableLog()
        node.open(group, replica)
        return replica

    def leader(self, group: int) -> tuple[SimNode, Group] | None:
        """Whoever leads in the newest term, of those that are up."""
        best: tuple[int, SimNode, Group] | None = None
        for node in self.nodes.values():
            held = node.core.groups.get(group) if node.core else None
            if held is not None and held.failure is None and held.replica.node.role is raft.Role.LEADER:
                term = held.replica.node.term
                if best is None or term > best[0]:
                    best = (term, node, held)
        return best[1:] if best else None

    # What clients saw

    def record(self, operation: Operation) -> None:
        """A client began something."""
        self.histories.setdefault(operation.name, []).append(operation)

    def acknowledged(self, group: int, index: int, data: bytes) -> None:
        """A client was told that its write is done: it has to be where it was said to be, for ever."""
        self.counts["writes"] += 1
        known = self.facts[group].applied.get(index)
        pending = [
            d
            for node in self.nodes.values()
            for m in node.machines.values()
            for i, d in m.applied
            if i == index and d == data
        ]
        demand(
            bool(pending) or (known is not None and known[2] == data),
            f"group {group}: {data!r} was acknowledged at {index}, where {known} is",
        )

    def judge(self) -> None:
        """Check what the clients saw so far, and forget it."""
        for name, operations in list(self.histories.items()):
            # Registers are used for some seconds; then nobody waits for an answer any more.
            if operations[-1].begin > self.now - 12:
                continue
            del self.histories[name]
            self.counts["histories"] += 1
            if not is_linearizable(operations):
                listed = "\n".join(map(str, sorted(operations, key=lambda op: op.begin)))
                raise Violation(f"register {name} is not linearizable:\n{listed}")
