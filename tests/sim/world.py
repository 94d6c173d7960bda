"""The simulated cluster: nodes, clock, network, the catalogue that places replicas, and clients."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence

from vecdb_replication import raft, wal
from vecdb_replication.host import Envelope
from vecdb_replication.host.group import Group
from vecdb_replication.host.incidents import Incident

from tests.sim.clients import Call, Client
from tests.sim.facts import Violation, fail
from tests.sim.history import Operation, is_linearizable
from tests.sim.invariants import sense
from tests.sim.machine import Registers
from tests.sim.network import Network
from tests.sim.node import TICK, SimNode
from tests.sim.watch import Watch

NODES = 5
# How many voters each group has, by seed: a group of one and one of two go with one of three. Ids that
# share a slot of the wheel tick together, and share envelopes.
SHAPES = ({1: 3, 5: 3}, {1: 3, 2: 2}, {1: 3, 5: 1}, {1: 3, 2: 1, 5: 2})
# For how long answers to a register's operations may come in after its last one began.
_LATE = 12.0


class World:
    """A cluster and its clients, from one seed. `trace`, if given, is called with every line."""

    def __init__(self, seed: int, *, clients: int = 4, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.now = 0.0
        self.sizes = self.dice.choice(SHAPES)
        self.groups = tuple(self.sizes)
        self.counts: Counter[str] = Counter()
        self._trace = trace
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._sequence = 0
        self.histories: dict[str, list[Operation]] = {}
        self.calls: dict[Call, None] = {}
        """What clients asked for and nobody has answered."""
        # The catalogue: where each replica is, who founded the group, and which id comes next.
        self.placement: dict[int, dict[int, int]] = {group: {} for group in self.groups}
        self.removed: dict[int, set[int]] = {}
        """By group, ids that were members once."""
        self.next_id = {group: size + 1 for group, size in self.sizes.items()}
        founders = {group: self.founders(group) for group in self.groups}
        self.watch = Watch(founders, self.counts, self.note if trace else None)
        self.network = Network(self.dice, self.later, self._deliver, self._report)
        self.nodes = {
            number: SimNode(number, self.dice.randrange(1 << 30), self) for number in range(1, NODES + 1)
        }
        for node in self.nodes.values():
            # No two clocks are alike: some run up to a fifth too fast or too slow.
            node.clock_rate = 0.8 + 0.4 * self.dice.random()
            if not node.start():
                fail("a fresh node starts")
            self.later(TICK * self.dice.random(), self._tick, node)
        for group in self.groups:
            homes = self.dice.sample(list(self.nodes.values()), self.sizes[group])
            for replica, node in zip(self.founders(group), homes, strict=True):
                self.placement[group][replica] = node.number
                node.prepare(group, replica)
                node.open(group, replica)
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
        heap, pop, steps = self._heap, heapq.heappop, 0
        try:
            while heap and heap[0][0] <= until:
                self.now, _, act, args = pop(heap)
                act(*args)
                steps += 1
        except Exception as error:
            raise self.violation(repr(error)) from error
        self.counts["steps"] += steps
        self.now = until

    def violation(self, what: str) -> Violation:
        """What went wrong, and how to see it again."""
        command = f"python -m tests.sim --seed {self.seed} --seconds {self.now + 0.001:.3f} --trace"
        return Violation(f"seed {self.seed} at {self.now:.4f} s: {what}\nreplay: {command}")

    def _tick(self, node: SimNode) -> None:
        node.tick()
        self.later(TICK, self._tick, node)

    def note(self, *what: object) -> None:
        """A line of the trace."""
        if self._trace is not None:
            self._trace(f"{self.now:.6f} {' '.join(map(str, what))}")

    # What nodes do

    def send(self, node: SimNode, target: int, envelope: Envelope) -> None:
        self.watch.leaving(node, envelope)
        self.network.send(node.number, target, envelope)

    def _deliver(self, source: int, target: int, envelope: Envelope) -> bool:
        node = self.nodes[target]
        if not node.up:
            return False
        node.receive(source, envelope)
        return True

    def _report(self, source: int, group: int, replica: int, failed: bool) -> None:
        self.nodes[source].report(group, replica, failed)

    def synced(self, node: SimNode, updates: Sequence[wal.GroupUpdate]) -> None:
        self.watch.synced(node, updates)

    def reopened(self, node: SimNode, group: int, replica: int) -> None:
        self.watch.reopened(node, group, replica)

    def applied(
        self, node: SimNode, group: int, entries: Sequence[tuple[int, bytes]], digests: Sequence[object]
    ) -> None:
        self.watch.applied(group, entries, digests)

    def installed(self, node: SimNode, group: int, machine: Registers) -> None:
        self.watch.installed(node, group, machine)

    def stepped(self, node: SimNode) -> None:
        """Something happened at a node: look at all its replicas."""
        assert node.core is not None
        for group, held in node.core.groups.items():
            if held.removed:
                continue
            if group not in node.replicas:
                fail(f"node {node.number} has a replica of group {group}, which nobody placed there")
            if held.failure is not None:
                self._ended(node, held)
                return
            self.watch.look(node, group, held)
        sense.check(node.number, node.core.incidents)

    def _ended(self, node: SimNode, held: Group) -> None:
        cause = held.failure.__cause__ if held.failure is not None else None
        if not isinstance(cause, wal.LogDamaged) or not node.reading_fails:
            raise Violation(f"group {held.id} on node {node.number} ended: {held.failure} ({cause!r})")
        self.died(node, "its log could not be read")

    def heard(self, node: SimNode, incident: Incident) -> None:
        """Whatever it is, invariants look at it."""
        self.note("incident", node.number, incident)

    def refused(self, node: SimNode, error: Exception) -> None:
        """A log took a write not at all, or only of some groups."""
        self.counts["refused writes"] += 1
        self.counts["writes refused in part"] += isinstance(error, wal.GroupsRefused)
        self.note("refused", node.number, error)

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
        return tuple(range(1, self.sizes[group] + 1))

    def allot(self, group: int, node: SimNode) -> int:
        """A new replica on a node: an id that was never used. wal.LogError where the disk refuses it."""
        replica = self.next_id[group]
        self.next_id[group] += 1
        node.prepare(group, replica)
        self.placement[group][replica] = node.number
        self.watch.placed(group, replica)
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
        self.counts["begun"] += 1

    def acknowledged(self, group: int, index: int, data: bytes) -> None:
        self.watch.acknowledged(group, index, data)

    def waiting(self, begun: float) -> list[Call]:
        """Calls that began by then and were not answered by a member that has been up all the time."""
        found = []
        for call in list(self.calls):
            node, replica = call.node, call.node.replicas.get(call.group)
            if call.life != node.life:
                del self.calls[call]
            elif call.operation.begin <= begun and replica is not None:
                found.append(call)
        return found

    def judge(self, *, all_over: bool = False) -> None:
        """Check what the clients saw so far, and forget it; all of it once nobody does anything any more."""
        for name, operations in list(self.histories.items()):
            if not all_over and operations[-1].begin > self.now - _LATE:
                continue
            del self.histories[name]
            self.counts["histories"] += 1
            if not is_linearizable(operations):
                listed = "\n".join(map(str, sorted(operations, key=lambda op: op.begin)))
                raise Violation(f"register {name} is not linearizable:\n{listed}")
