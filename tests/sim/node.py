"""A simulated node: the real core of the host and the real log, on a disk that fails.

What threads do in the real host (write the log, apply, checkpoint, stage) happens here between passes of
the core, and the core hears of it later: in order, as calls to an event loop are.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from vecdb_replication import wal
from vecdb_replication.host import (
    Envelope,
    Fetch,
    HostCore,
    Options,
    Pass,
    Staging,
    StorageFull,
    Task,
    UnknownGroup,
    Write,
)
from vecdb_replication.host.incidents import Incident
from vecdb_replication.host.recovery import needs_burial

from tests.sim.machine import Registers
from tests.sim.writer import SimWriter, Waiting
from tests.support.faultfs import FaultFileSystem, Keep

FOLDER = Path("/log")
_SEGMENT = 16 << 10
OPTIONS = Options(
    snapshot_ticks=40,
    max_message_bytes=2000,
    max_inflight_messages=8,
    max_inflight_bytes=8000,
    max_apply_bytes=4000,
    max_kept_bytes=60_000,
)
# How often a node looks at its clock: all turns of the wheel that are due by then come at once.
TICK = OPTIONS.tick_seconds
_NAMES = {number: str(number) for number in range(1, 10)}
_TURNS = tuple(TICK * late for late in (0.75, 0.5, 0.25, 0.0))


class Surroundings(Protocol):
    """What a node sees of the simulation."""

    @property
    def now(self) -> float: ...
    def later(self, seconds: float, act: Callable[..., None], *args: object) -> None: ...
    def send(self, node: SimNode, target: int, envelope: Envelope) -> None: ...
    def node_of(self, group: int, replica: int) -> int | None: ...
    def founders(self, group: int) -> tuple[int, ...]: ...
    def synced(self, node: SimNode, updates: Sequence[wal.GroupUpdate]) -> None: ...
    def reopened(self, node: SimNode, group: int, replica: int) -> None: ...
    def stepped(self, node: SimNode) -> None: ...
    def applied(
        self, node: SimNode, group: int, entries: Sequence[tuple[int, bytes]], digests: Sequence[object]
    ) -> None: ...
    def installed(self, node: SimNode, group: int, machine: Registers) -> None: ...
    def heard(self, node: SimNode, incident: Incident) -> None: ...
    def refused(self, node: SimNode, error: Exception) -> None: ...
    def died(self, node: SimNode, why: str) -> None: ...
    def note(self, *what: object) -> None: ...


class SimNode:
    """One node. Everything that takes time comes back by way of `later`, unless the node died meanwhile."""

    def __init__(self, number: int, seed: int, world: Surroundings) -> None:
        self.number = number
        self.world = world
        self.dice = random.Random(seed)
        self.disk = FaultFileSystem(seed)
        self.machines: dict[tuple[int, int], Registers] = {}
        self.replicas: dict[int, int] = {}
        """The replica that the catalogue placed here, by group."""
        self.core: HostCore | None = None
        self.log: wal.Wal | None = None
        self.writer: SimWriter | None = None
        self.life = 0
        self.paused_until = 0.0
        self.clock_rate = 1.0
        self.slowness = 1.0
        """How many times longer than usual syncs, applying and checkpoints take."""
        self.hung_until = 0.0
        """No sync comes to its end before."""
        self.staging_fails = False
        self.reading_fails = False
        self.doom: Callable[[], None] | None = None
        """What is to happen while the next write waits for its sync."""
        self.unsynced: list[Sequence[wal.GroupUpdate]] = []
        """As the last life left them: records whose sync did not come to its end."""
        self._due = False
        self._told_until = 0.0
        self._shortening: set[int] = set()

    @property
    def up(self) -> bool:
        return self.core is not None

    # Starting and dying

    def start(self) -> bool:
        """Open the log and the replicas. False where it cannot be: the disk is full or fails."""
        self.life += 1
        self.reading_fails = False
        self._shortening.clear()
        world = self.world
        try:
            self.log = self.opened()
        except (wal.LogFull, wal.WriteFailed, wal.LogFailed, OSError) as error:
            world.note("start", self.number, "refused", type(error).__name__)
            self.disk.restart()
            return False
        for group, replica in self.replicas.items():
            world.reopened(self, group, replica)
        self.unsynced = []
        self.writer = SimWriter(
            self.log,
            self.dice,
            later=self._later,
            tell=self._tell,
            delay=self._sync_seconds,
            wrote=self._wrote,
            synced=partial(world.synced, self),
            failed=lambda error: world.died(self, str(error)),
        )
        self.core = HostCore(
            self.log,
            boot=self.number.to_bytes(4, "little") + self.life.to_bytes(4, "little"),
            draw=lambda ticks: ticks + self.dice.randrange(ticks),
            locate=self._locate,
            options=OPTIONS,
        )
        for group, replica in self.replicas.items():
            self.open(group, replica)
        for group, replica in list(self.replicas.items()):
            if world.node_of(group, replica) != self.number:
                self.bury(group)
        self.touch()
        return True

    def opened(self) -> wal.Wal:
        """The log in this node's folder."""
        entropy = self.disk.random.randbytes
        return wal.Wal.open(FOLDER, fs=self.disk, segment_bytes=_SEGMENT, cache_bytes=4000, entropy=entropy)

    def _locate(self, group: int, replica: int) -> str | None:
        node = self.world.node_of(group, replica)
        return None if node is None else _NAMES[node]

    def prepare(self, group: int, replica: int) -> None:
        """Before a replica comes here: whatever the log still has of older ones is buried. wal.LogError."""
        assert self.log is not None
        assert self.writer is not None
        if needs_burial(self.log, group, replica):
            self.writer.write_now([wal.GroupUpdate(group, tombstone=wal.Tombstone(replica - 1))])

    def open(self, group: int, replica: int) -> None:
        """Bring up a replica that the catalogue placed here."""
        assert self.core is not None
        self.replicas[group] = replica
        machine = self.machines.setdefault((group, replica), Registers())
        before = machine.applied_index
        self.core.open(group, machine, replica, self.world.founders(group))
        if machine.applied_index != before:
            self.world.installed(self, group, machine)
        self.touch()

    def bury(self, group: int) -> None:
        """The replica of a group was removed: once nothing of it is under way, its tombstone is written."""
        assert self.core is not None
        held = self.core.groups[group]
        held.removed = True
        held.end(UnknownGroup(f"group {group} was removed"))
        if held.in_flight or held.task is not None:
            self._later(0.005, self.bury, group)
            return
        replica = self.replicas.pop(group)
        self.machines.pop((group, replica))
        self.core.forget(group)
        self._submit([wal.GroupUpdate(group, tombstone=wal.Tombstone(replica))], lambda _: None)

    def die(self, keep: Keep | None) -> None:
        """The process ends; with `keep` the machine too, whose disk keeps so much of what was not synced."""
        self.life += 1
        if self.writer is not None:
            self.unsynced = self.writer.unsynced
        self.core = self.log = self.writer = None
        self._due = False
        if keep is None:
            self.disk.restart()
        else:
            self.disk.crash(keep)
        for machine in self.machines.values():
            machine.crash(power=keep is not None)

    def stop(self) -> bool:
        """End the process in good order, which it can only while nothing is being written. wal.LogError."""
        assert self.core is not None
        assert self.log is not None
        assert self.writer is not None
        if self.writer.busy:
            return False
        if words := self.core.last_words():
            self.writer.write_now(words)
        self.log.close()
        self.die(None)
        return True

    def wipe(self) -> None:
        """A new disk in place of a damaged one: all that was here is gone."""
        self.disk = FaultFileSystem(self.dice.randrange(1 << 30))
        self.machines.clear()
        self.replicas.clear()
        self.unsynced = []

    # Time

    def touch(self) -> None:
        """Something came in: make a pass soon, if there is anything to do."""
        if not self._due and self.core is not None and self.core.is_due:
            self._due = True
            self._later(0.0002 + self.dice.random() * 0.003, self._pass)

    def _later(self, seconds: float, act: Callable[..., object], *args: object) -> None:
        self.world.later(seconds, self._alive, self.life, act, args)

    def _alive(self, life: int, act: Callable[..., object], args: tuple[object, ...]) -> None:
        if life != self.life:
            return
        wait = self.paused_until - self.world.now
        if wait > 0:
            self.world.later(wait, self._alive, life, act, args)
        else:
            act(*args)

    def _stepped(self) -> None:
        """The loop did something: whatever the core is now has to be right."""
        if self.core is not None:
            self.world.stepped(self)

    def _hear(self, act: Callable[..., None], *args: object) -> None:
        act(*args)
        self._stepped()

    def _tell(self, act: Callable[..., None], *args: object) -> None:
        """A thread calls the loop, which hears of it a little later: of one call after the other."""
        now = self.world.now
        # Now and then late enough for more to be handed in that builds on what was refused.
        late = 0.03 if self.dice.random() < 0.1 else 0.002
        self._told_until = max(self._told_until, now + 0.0001 + self.dice.random() * late)
        self._later(self._told_until - now, self._hear, act, *args)

    def _wrote(self, seconds: float) -> None:
        doom, self.doom = self.doom, None
        if doom is not None:
            self._later(self.dice.random() * seconds, doom)

    def _sync_seconds(self) -> float:
        usual = self.dice.random() * 0.008 * self.slowness
        return max(usual, self.hung_until - self.world.now)

    def _work(self, seconds: float, act: Callable[..., object], *args: object) -> None:
        """Something for a thread of the pool, which takes up to so many seconds when nothing is slow."""
        self._later(self.dice.random() * seconds * self.slowness, act, *args)

    # Passes

    def _pass(self) -> None:
        self._due = False
        assert self.core is not None
        if self.core.is_due:
            # Otherwise an earlier one has done it all.
            self._do(self.core.step())
            self._stepped()

    def _do(self, done: Pass) -> None:
        if done.write is not None:
            write = done.write
            self._submit(write.updates, partial(self._written, write), partial(self._foresee, write))
        for incident in done.incidents:
            self.world.heard(self, incident)
        for peer, envelope in done.envelopes.items():
            self.world.send(self, int(peer), envelope)
        for task in done.tasks:
            self._work(0.003, self._perform, task)
        for staging in done.stagings:
            self._work(0.02, self._stage, staging)
        for group in done.retries:
            self._later(0.5, self._retry, group)
        for fetch in done.fetches:
            # Some never come, and the leader has to offer another.
            if self.dice.random() < 0.95:
                self._later(self.dice.random() ** 3 * 3, self._fetched, fetch)
        for group in done.snapshots:
            self._work(0.02, self.machines[group, self.replicas[group]].prepare)

    def _submit(
        self,
        updates: Sequence[wal.GroupUpdate],
        told: Callable[[Exception | None], None],
        durable: Callable[[Exception | None], None] = lambda _: None,
    ) -> None:
        assert self.writer is not None
        self.writer.submit(Waiting(updates, told, durable))

    def _foresee(self, write: Write, error: Exception | None) -> None:
        for task in write.foreseen:
            if write.failure_of(task.group, error) is None:
                self._work(0.003, self._perform, task)

    def _written(self, write: Write, error: Exception | None) -> None:
        assert self.core is not None
        self.core.written(write, error)
        if error is not None:
            self.world.refused(self, error)
        if self.dice.random() < 0.5:
            self.touch()
            return
        # At once, as the host does. But what is committed now is looked at before a change among it counts.
        self._stepped()
        if self.core is not None:
            self._pass()

    def _stage(self, staging: Staging) -> None:
        assert isinstance(staging.machine, Registers)
        error = None
        if self.staging_fails or (self.disk.capacity is not None and self.dice.random() < 0.5):
            error = OSError(errno.ENOSPC, "no room for a snapshot")
        else:
            staging.machine.stage(staging.snapshot.index, staging.snapshot.data)
        self._tell(self._staged, staging, error)

    def _staged(self, staging: Staging, error: Exception | None) -> None:
        assert self.core is not None
        self.core.staged(staging, error)
        self.touch()

    def _fetched(self, fetch: Fetch) -> None:
        assert self.core is not None
        self.core.fetched(fetch)
        self.touch()

    def _retry(self, group: int) -> None:
        assert self.core is not None
        self.core.retry(group)
        self.touch()

    def _perform(self, task: Task) -> None:
        """In a worker: the state has it, and the core is yet to hear of it."""
        machine = task.machine
        assert isinstance(machine, Registers)
        results: Sequence[object] | BaseException = ()
        if task.install:
            machine.install(task.install)
            self.world.installed(self, task.group, machine)
        elif task.entries:
            machine.full = self.disk.capacity is not None and self.dice.random() < 0.3
            try:
                results = machine.apply(task.entries)
            except StorageFull as full:
                results = full
            else:
                self.world.applied(self, task.group, task.entries, results)
        self._tell(self._applied, task, results)

    def _applied(self, task: Task, results: Sequence[object] | BaseException) -> None:
        assert self.core is not None
        self.core.applied(task, results)
        self.touch()

    # What comes in

    def receive(self, source: int, envelope: Envelope) -> None:
        """An envelope arrived."""
        self._alive(self.life, self._receive, (source, envelope))

    def _receive(self, source: int, envelope: Envelope) -> None:
        assert self.core is not None
        self.core.receive(_NAMES[source], envelope)
        self.touch()
        self._stepped()

    def report(self, group: int, replica: int, failed: bool) -> None:
        """What became of a snapshot."""
        if self.core is not None:
            self.core.report_snapshot(group, replica, failed=failed)
            self.touch()

    def lose(self, peer: int) -> None:
        """The connection to a peer broke."""
        if self.core is not None:
            self.core.unreachable(str(peer))
            self.touch()

    def tick(self) -> None:
        """The clock of this node."""
        core = self.core
        if core is not None and self.paused_until <= self.world.now:
            now = self.world.now * self.clock_rate
            for late in _TURNS:
                core.tick(now - late)
            if core.is_due:
                self.touch()
                self._stepped()

    # Upkeep

    def compact(self, group: int) -> None:
        """Checkpoint a group, drop its entries, and old segments."""
        if self.core is not None and (machine := self.machines.get((group, self.replicas.get(group, 0)))):
            self._work(0.02, machine.checkpoint)
            self._work(0.05, self._tell, self._shorten, group)

    def _shorten(self, group: int) -> None:
        assert self.core is not None
        # One mark at a time, as the host's compaction does.
        if group not in self._shortening and (update := self.core.shorten(group)) is not None:
            self._shortening.add(group)
            self._submit([update], partial(self._shortened, group))
        self._work(0.05, self._drop)

    def _shortened(self, group: int, error: Exception | None) -> None:
        assert self.core is not None
        self._shortening.discard(group)
        if error is not None:
            self.core.unshorten(group)

    def _drop(self) -> None:
        assert self.log is not None
        assert self.writer is not None
        if self.writer.busy:
            # The log's lock is held for as long as a record is written and synced.
            return
        try:
            self.log.drop_segments()
        except (wal.LogFailed, wal.LogDamaged) as failed:
            self.world.died(self, str(failed))
        except wal.WriteFailed:
            return

    # What goes wrong with the disk

    def fill(self, room: int) -> None:
        """From now on the disk takes so many bytes more."""
        self.disk.capacity = sum(map(len, self.disk.image().values())) + room

    def fail(self, op: str) -> None:
        """The next such operation fails with EIO."""
        self.reading_fails = self.reading_fails or op == "pread"
        self.disk.fail(op, error=errno.EIO)  # type: ignore[arg-type]

    def mend(self) -> None:
        """Everything works as it should."""
        self.disk.capacity = None
        self.disk.mend()
        self.paused_until = self.hung_until = 0.0
        self.slowness = 1.0
        self.staging_fails = False
        self.doom = None
