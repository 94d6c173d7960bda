"""Clients of the simulated cluster: they write and read registers, and remember what they saw."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Protocol

from vecdb_replication import host

from tests.sim.history import Operation
from tests.sim.node import SimNode

# What certainly had no effect.
DEFINITE = (host.NotLeader, host.ProposalLost, host.UnknownGroup, host.ChangeRefused)
_PATIENCE = 4.0


class Service(Protocol):
    """What clients see of the simulation."""

    nodes: dict[int, SimNode]
    groups: tuple[int, ...]

    @property
    def now(self) -> float: ...
    def later(self, seconds: float, act: Callable[..., None], *args: object) -> None: ...
    def record(self, operation: Operation) -> None: ...
    def acknowledged(self, group: int, index: int, data: bytes) -> None: ...
    def note(self, *what: object) -> None: ...


class Client:
    """One client, one operation at a time."""

    def __init__(self, number: int, seed: int, service: Service) -> None:
        self.number = number
        self.dice = random.Random(seed)
        self.service = service
        self.done = 0
        self.resting = False
        self.pace = 0.1
        self._count = 0
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
        # A register is used for some seconds only, which keeps histories short.
        name = f"{group}-{int(service.now / 5)}-{dice.randrange(2)}"
        self._count += 1
        write = dice.random() < 0.5
        operation = Operation(name, write, f"c{self.number}.{self._count}" if write else "", service.now)
        service.record(operation)
        _Call(self, group, node, operation).start()

    def finished(self, group: int, node: int, *, ok: bool) -> None:
        """An operation has ended, however it did."""
        self.done += ok
        if ok:
            self._leaders[group] = node
        else:
            self._leaders.pop(group, None)
        self._next()

    def redirect(self, group: int, node: int) -> None:
        """Somebody said who leads."""
        self._leaders[group] = node


class _Call:
    """One operation under way at one node."""

    def __init__(self, client: Client, group: int, node: int, operation: Operation) -> None:
        self.client = client
        self.group = group
        self.node = client.service.nodes[node]
        self.operation = operation
        self.life = self.node.life
        self.over = False

    def start(self) -> None:
        core = self.node.core
        if core is None or self.group not in core.groups:
            self._fail()
            return
        self.client.service.later(_PATIENCE, self._give_up)
        op = self.operation
        if op.write:
            data = json.dumps(["w", op.name, op.value]).encode()
            try:
                core.propose(self.group, host.Proposal(data, self._written, self._rejected))
            except host.GroupError as refused:
                self._rejected(refused)
                return
        else:
            core.read(self.group, host.Reader(self._readable, self._rejected))
        self.node.touch()

    def _written(self, index: int, _: object) -> None:
        op = self.operation
        data = json.dumps(["w", op.name, op.value]).encode()
        self.client.service.acknowledged(self.group, index, data)
        self._answer()

    def _readable(self, _: int) -> None:
        replica = self.node.replicas.get(self.group)
        if replica is None or self.life != self.node.life:
            return
        if not self.over:
            self.operation.value = self.node.machines[self.group, replica].read(self.operation.name)
        self._answer()

    def _answer(self) -> None:
        if self.over:
            return
        self.over = True
        self.operation.end = self.client.service.now
        self.client.service.note("ok", self.operation.name, self.operation.value)
        self.client.finished(self.group, self.node.number, ok=True)

    def _rejected(self, error: Exception) -> None:
        definite = isinstance(error, DEFINITE) or (isinstance(error, host.GroupBlocked) and not error.durable)
        if definite:
            self.operation.failed = True
        if not self.over:
            self.client.service.note("no", self.operation.name, type(error).__name__)
            self._end()

    def _fail(self) -> None:
        self.operation.failed = True
        self.over = True
        self.client.finished(self.group, self.node.number, ok=False)

    def _end(self) -> None:
        self.over = True
        self.client.finished(self.group, self.node.number, ok=False)

    def _give_up(self) -> None:
        if not self.over:
            self.client.service.note("late", self.operation.name)
            self._end()
