"""A simulated node: the real core of the host and the real log, on a disk that fails."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Sequence
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
from vecdb_replication.host.recovery import needs_burial

from tests.sim.facts import demand
from tests.sim.machine import Registers
from tests.support.faultfs import FaultFileSystem, Keep

FOLDER = Path("/log")
_SEGMENT = 16 << 10
_Batches = list[tuple[Sequence[wal.GroupUpdate], Write | None]]
OPTIONS = Options(
    snapshot_ticks=40,
    max_message_bytes=2000,
    max_inflight_messages=8,
    max_inflight_bytes=8000,
    max_apply_bytes=4000,
    max_kept_bytes=60_000,
)


class Surroundings(Protocol):
    """What a node sees of the simulation."""

    @property
    def now(self) -> float: ...
    def later(self, seconds: float, act: Callable[..., None], *args: object) -> None: ...
    def send(self, source: int, target: int, envelope: Envelope) -> None: ...
    def node_of(self, group: int, replica: int) -> int | None: ...
    def founders(self, group: int) -> tuple[int, ...]: ...
    def synced(self, node: SimNode, updates: Sequence[wal.GroupUpdate]) -> None: ...
    def reopened(self, node: SimNode, group: int, replica: int) -> None: ...
    def leaving(self, node: SimNode, envelope: Envelope) -> None: ...
    def stepped(self, node: SimNode) -> None: ...
    def installed(self, node: SimNode) -> None: ...
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
        self.life = 0
        self.paused_until = 0.0
        self.clock_rate = 1.0
        self.reading_fails = False
        self.unsynced: list[Sequence[wal.GroupUpdate]] = []
        """Records that were written since the last sync."""
        self._queue: list[tuple[Sequence[wal.GroupUpdate], Write | None]] = []
        self._writing = False
        self._due = False

    @property
    def up(self) -> bool:
        return self.core is not None

    # Starting and dying

    def start(self) -> bool:
        """Open the log and the replicas. False where it cannot be: the disk is full or fails."""
        self.life += 1
        self.reading_fails = False
        world = self.world
        try:
            self.log = self._opened()
        except (wal.LogFull, wal.WriteFailed, wal.LogFailed, OSError) as error:
            world.note("start", self.number, "refused", type(error).__name__)
            self.disk.restart()
            return False
        self.unsynced_survived()
        core = HostCore(
            self.log,
            boot=self.number.to_bytes(4, "little") + self.life.to_bytes(4, "little"),
            draw=lambda ticks: ticks + self.dice.randrange(ticks),
            locate=self._locate,
            options=OPTIONS,
        )
        self.core = core
        for group, replica in self.replicas.items():
            if self.life == 1:
                self.prepare(group, replica)
            self.open(group, replica)
        for group, replica in list(self.replicas.items()):
            if world.node_of(group, replica) != self.number:
                self.bury(group)
        self.touch()
        return True

    def _opened(self) -> wal.Wal:
        entropy = self.disk.random.randbytes
        return wal.Wal.open(FOLDER, fs=self.disk, segment_bytes=_SEGMENT, cache_bytes=4000, entropy=entropy)

    def unsynced_survived(self) -> None:
        for group, replica in self.replicas.items():
            self.world.reopened(self, group, replica)
        self.unsynced = []

    def _locate(self, group: int, replica: int) -> str | None:
        node = self.world.node_of(group, replica)
        return None if node is None else str(node)

    def prepare(self, group: int, replica: int) -> None:
        """Before a replica comes here: whatever the log still has of older ones is buried."""
        assert self.log is not None
        if needs_burial(self.log, group, replica):
            self.log.append([wal.GroupUpdate(group, tombstone=wal.Tombstone(replica - 1))])
            self.log.sync()
            self.all_synced()

    def open(self, group: int, replica: int) -> None:
        """Bring up a replica that the catalogue placed here."""
        assert self.core is not None
        self.replicas[group] = replica
        machine = self.machines.setdefault((group, replica), Registers())
        self.core.open(group, machine, replica, self.world.founders(group))
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
        self._enqueue([wal.GroupUpdate(group, tombstone=wal.Tombstone(replica))], None)

    def die(self, keep: Keep | None) -> None:
        """The process ends; with `keep` the machine too, whose disk keeps so much of what was not synced."""
        self.life += 1
        self.core = self.log = None
        self._queue, self._writing, self._due = [], False, False
        if keep is None:
            self.disk.restart()
        else:
            self.disk.crash(keep)
        for machine in self.machines.values():
            machine.crash(power=keep is not None)

    def wipe(self) -> None:
        """A new disk in place of a damaged one: all that was here is gone."""
        self.disk = FaultFileSystem(self.dice.randrange(1 << 30))
        self.machines.clear()
        self.replicas.clear()
        self.unsynced = []

    # Passes

    def touch(self) -> None:
        """Something came in: make a pass soon."""
        if not self._due:
            self._due = True
            self._later(0.0002, self._pass)

    def _later(self, seconds: float, act: Callable[..., None], *args: object) -> None:
        self.world.later(seconds, self._alive, self.life, act, args)

    def _alive(self, life: int, act: Callable[..., None], args: tuple[object, ...]) -> None:
        if life != self.life:
            return
        wait = self.paused_until - self.world.now
        if wait > 0:
            self.world.later(wait, self._alive, life, act, args)
        else:
            act(*args)
            if self.core is not None:
                self.world.stepped(self)

    def _pass(self) -> None:
        self._due = False
        assert self.core is not None
        done = self.core.step()
        self._do(done)

    def _do(self, done: Pass) -> None:
        assert self.core is not None
        for peer, envelope in done.envelopes.items():
            self.world.leaving(self, envelope)
            self.world.send(self.number, int(peer), envelope)
        if done.write is not None:
            self._enqueue(done.write.updates, done.write)
            if not self.up:
                # The log failed, and the node with it.
                return
        for task in done.tasks:
            self._later(self.dice.random() * 0.003, self._perform, task)
        for staging in done.stagings:
            self._later(self.dice.random() * 0.01, self._stage, staging)
        for group in done.retries:
            self._later(0.5, self._retry, group)
        for fetch in done.fetches:
            # Some never come, and the leader has to offer another.
            if self.dice.random() < 0.95:
                self._later(self.dice.random() ** 3 * 3, self._fetched, fetch)
        for group in done.snapshots:
            self.core.groups[group].machine.prepare()

    def _stage(self, staging: Staging) -> None:
        assert self.core is not None
        assert isinstance(staging.machine, Registers)
        if self.disk.capacity is not None and self.dice.random() < 0.5:
            self.core.staged(staging, OSError(errno.ENOSPC, "no room for a snapshot"))
        else:
            staging.machine.stage(staging.snapshot.index, staging.snapshot.data)
            self.core.staged(staging, None)
        self.touch()

    def _retry(self, group: int) -> None:
        assert self.core is not None
        self.core.retry(group)
        self.touch()

    def _fetched(self, fetch: Fetch) -> None:
        assert self.core is not None
        self.core.fetched(fetch)
        self.touch()

    def _perform(self, task: Task) -> None:
        assert self.core is not None
        held = self.core.groups.get(task.group)
        if held is None or held.task is not task:
            return
        machine = task.machine
        assert isinstance(machine, Registers)
        results: Sequence[object] | BaseException = ()
        if task.install:
            machine.install(task.install)
            self.world.installed(self)
        elif task.entries and self.disk.capacity is not None and self.dice.random() < 0.3:
            results = StorageFull("no room")
        elif task.entries:
            results = machine.apply(task.entries)
        self.core.applied(task, results)
        self.touch()

    def receive(self, source: int, envelope: Envelope) -> None:
        """An envelope arrived."""
        self._later(0.0, self._receive, source, envelope)

    def _receive(self, source: int, envelope: Envelope) -> None:
        assert self.core is not None
        self.core.receive(str(source), envelope)
        self.touch()

    def report(self, group: int, replica: int, failed: bool) -> None:
        """What became of a snapshot."""
        if self.core is not None:
            self.core.report_snapshot(group, replica, failed=failed)
            self.touch()

    def tick(self) -> None:
        """The clock of this node."""
        if self.core is not None and self.paused_until <= self.world.now:
            self.core.tick(self.world.now * self.clock_rate)
            self.touch()

    # The log's writer: what is waiting shares one record and one sync, as in `wal.LogWriter`

    def _enqueue(self, updates: Sequence[wal.GroupUpdate], write: Write | None) -> None:
        self._queue.append((updates, write))
        self._write()

    def _write(self) -> None:
        if self._writing or not self._queue:
            return
        self._writing = True
        batches, self._queue = self._queue, []
        # A write takes time as well, in which others queue up: also behind one that will be refused.
        self._later(self.dice.random() * 0.003, self._begin, batches)

    def _begin(self, batches: _Batches) -> None:
        written = self._append(batches)
        if self.core is not None:
            self._later(0.0005 + self.dice.random() * 0.005, self._sync, written)

    def _append(self, batches: _Batches) -> _Batches:
        assert self.log is not None
        updates = [update for batch, _ in batches for update in batch]
        try:
            self.log.append(updates)
        except wal.LogMisuse as misuse:
            if len(batches) > 1:
                return [each for batch in batches for each in self._append([batch])]
            self._answer(batches, misuse)
            return []
        except wal.LogFailed as failed:
            self.world.died(self, str(failed))
            return []
        except wal.LogError as refused:
            self._answer(batches, refused)
            return []
        if updates:
            self.unsynced.append(updates)
        return batches

    def _answer(self, batches: _Batches, error: Exception | None) -> None:
        for _, write in batches:
            if write is not None:
                # Before anything that is written later is heard of, as from the writer's thread.
                self._later(0.0001, self._written, write, error)

    def _sync(self, batches: _Batches) -> None:
        assert self.log is not None
        assert self.core is not None
        try:
            self.log.sync()
        except wal.LogFailed as failed:
            self.world.died(self, str(failed))
            return
        self.all_synced()
        for _, write in batches:
            if write is not None:
                self._written(write, None)
                for task in write.foreseen:
                    self._later(self.dice.random() * 0.003, self._perform, task)
        self._writing = False
        self._write()

    def all_synced(self) -> None:
        unsynced, self.unsynced = self.unsynced, []
        for record in unsynced:
            self.world.synced(self, record)

    def _written(self, write: Write, error: Exception | None) -> None:
        assert self.core is not None
        self.core.written(write, error)
        self.touch()

    # Upkeep

    def compact(self, group: int) -> None:
        """Checkpoint a group, drop its entries, and old segments."""
        if self.core is None or self.log is None or group not in self.replicas:
            return
        self.machines[group, self.replicas[group]].checkpoint()
        if (update := self.core.shorten(group)) is not None:
            self._enqueue([update], None)
        self._later(0.05, self._drop)

    def _drop(self) -> None:
        if self._writing or self.log is None:
            return
        try:
            self.log.drop_segments()
        except wal.LogFailed as failed:
            self.world.died(self, str(failed))
        except wal.WriteFailed:
            return
        except wal.LogDamaged as damaged:
            self.world.died(self, str(damaged))

    def has_room_trouble(self) -> bool:
        return self.disk.capacity is not None

    def fill(self, room: int) -> None:
        """From now on the disk takes so many bytes more."""
        self.disk.capacity = sum(map(len, self.disk.image().values())) + room

    def fail(self, op: str) -> None:
        """The next such operation fails with EIO."""
        self.reading_fails = self.reading_fails or op == "pread"
        self.disk.fail(op, error=errno.EIO)  # type: ignore[arg-type]

    def flip(self) -> bool:
        """Turn a bit that a synced record follows, in a log that is closed. False where there is none."""
        image = self.disk.image()
        logs = [path for path in image if path.suffix == ".log"]
        if len(logs) < 2:
            return False
        path = self.dice.choice(logs[:-1])
        self.disk.flip(path, self.dice.randrange(len(image[path]) * 8))
        return True

    def start_damaged(self) -> None:
        """Open a log with a flipped bit: it has to be noticed."""
        try:
            log = self._opened()
        except wal.LogDamaged:
            return
        log.close()
        demand(False, f"node {self.number} opened a log with a flipped bit")
