"""Clients of the simulated cluster: they write and read registers, and remember what they saw."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from vecdb_replication import host

from tests.sim.history import Operation
from tests.sim.machine import writing
from tests.sim.node import SimNode

# What certainly had no effect.
DEFINITE = (host.NotLeader, host.ProposalLost, host.UnknownGroup, host.ChangeRefused)
_PATIENCE = 1.5
# How many operations a client begins at once, how many registers it chooses from, and how much its
# writes carry along: enough at times to fill windows, messages and segments.
_BURSTS = (1, 1, 2, 4, 8, 16)
_REGISTERS = 8
_PADDING = (0, 0, 0, 0, 300, 1500)


class Service(Protocol):
    """What clients see of the simulation."""

    nodes: dict[int, SimNode]
    groups: tuple[int, ...]
    calls: dict[Call, None]

    def node_of(self, group: int, replica: int) -> int | None: ...
    @property
    def now(self) -> float: ...
    def later(self, seconds: float, act: Callable[..., None], *args: object) -> None: ...
    def record(self, operation: Operation) -> None: ...
    def acknowledged(self, group: int, index: int, data: bytes) -> None: ...
    def note(self, *what: object) -> None: ...


class Client:
    """One client: some operations at once at one node, and when all have ended, or take too long, more."""

    def __init__(self, number: int, seed: int, service: Service) -> None:
        self.number = number
        self.dice = random.Random(seed)
        self.service = service
        self.done = 0
        self.resting = False
        self.pace = 0.8
        self._count = 0
        self._under_way = 0
        self._leaders: dict[int, int] = {}
        self._next()

    def _next(self) -> None:
        self.service.later(self.pace * (0.2 + self.dice.random()), self._begin)

    def _begin(self) -> None:
        if self.resting:
            self._next()
            return
        service, dice = self.service, self.dice
        group = dice.choice(service.groups)
        node = self._leaders.get(group, 0)
        if node not in service.nodes or dice.random() < 0.05:
            node = dice.choice(list(service.nodes))
        # One more than there are, so that the first to end is not taken for the last.
        burst = dice.choice(_BURSTS)
        self._under_way = burst + 1
        for _ in range(burst):
            self._call(group, node)
        self._ended()

    def _call(self, group: int, node: int) -> None:
        service, dice = self.service, self.dice
        # A register is used for some seconds only, which keeps histories short.
        name = f"{group}-{int(service.now / 5)}-{dice.randrange(_REGISTERS)}"
        self._count += 1
        write = dice.random() < 0.5
        operation = Operation(name, write, f"c{self.number}.{self._count}" if write else "", service.now)
        service.record(operation)
        Call(self, group, service.nodes[node], operation, dice.choice(_PADDING)).start()

    def finished(self, group: int, node: int, *, ok: bool) -> None:
        """An operation has ended, however it did."""
        self.done += ok
        if ok:
            self._leaders[group] = node
        else:
            self._leaders.pop(group, None)
        self._ended()

    def redirect(self, group: int, leader: int) -> None:
        """Somebody said which replica leads."""
        if (node := self.service.node_of(group, leader)) is not None:
            self._leaders[group] = node

    def _ended(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._next()


class Call:
    """One operation under way at one node."""

    def __init__(self, client: Client, group: int, node: SimNode, operation: Operation, padding: int) -> None:
        self.client = client
        self.group = group
        self.node = node
        self.operation = operation
        self.life = node.life
        self.over = False
        self._data = writing(operation.name, operation.value, padding)

    def __str__(self) -> str:
        what = "write" if self.operation.write else "read"
        return f"{what} of {self.operation.name} at node {self.node.number}, begun {self.operation.begin:.3f}"

    def start(self) -> None:
        """Ask. What is never answered stays in the service's `calls`."""
        service, core = self.client.service, self.node.core
        if core is None or self.group not in core.groups:
            self.operation.failed = True
            self._end(ok=False)
            return
        service.calls[self] = None
        service.later(_PATIENCE, self._give_up)
        if self.operation.write:
            try:
                core.propose(self.group, host.Proposal(self._data, self._written, self._rejected))
            except host.GroupError as refused:
                self._rejected(refused)
                return
        else:
            core.read(self.group, host.Reader(self._readable, self._rejected))
        self.node.touch()

    def _written(self, index: int, _: object) -> None:
        self.client.service.acknowledged(self.group, index, self._data)
        self._answer()

    def _readable(self, _: int) -> None:
        replica = self.node.replicas[self.group]
        if not self.over:
            self.operation.value = self.node.machines[self.group, replica].read(self.operation.name)
        self._answer()

    def _answer(self) -> None:
        del self.client.service.calls[self]
        if not self.over:
            self.operation.end = self.client.service.now
            self.client.service.note("ok", self.operation.name, self.operation.value)
            self._end(ok=True)

    def _rejected(self, error: Exception) -> None:
        del self.client.service.calls[self]
        definite = isinstance(error, DEFINITE) or (isinstance(error, host.GroupBlocked) and not error.durable)
        if definite:
            self.operation.failed = True
        if not self.over:
            self.client.service.note("no", self.operation.name, type(error).__name__)
            self._end(ok=False)
        if isinstance(error, host.NotLeader):
            self.client.redirect(self.group, error.leader)

    def _give_up(self) -> None:
        if not self.over:
            self.client.service.note("late", self.operation.name)
            self._end(ok=False)

    def _end(self, *, ok: bool) -> None:
        self.over = True
        self.client.finished(self.group, self.node.number, ok=ok)
