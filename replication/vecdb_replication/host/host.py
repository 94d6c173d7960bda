"""The host's core on an event loop, with a thread that writes the log and threads that apply."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO

from vecdb_replication import raft
from vecdb_replication.host.compaction import Compactor
from vecdb_replication.host.core import HostCore, Locate
from vecdb_replication.host.errors import (
    EntryTooLarge,
    GroupBlocked,
    GroupError,
    HostClosed,
    UnknownGroup,
)
from vecdb_replication.host.fetches import Fetches
from vecdb_replication.host.group import Group
from vecdb_replication.host.machine import FileMachine, StateMachine
from vecdb_replication.host.maker import Maker
from vecdb_replication.host.recovery import needs_burial
from vecdb_replication.host.status import Committed, GroupStatus
from vecdb_replication.host.tasks import perform, stage
from vecdb_replication.host.work import (
    Envelope,
    Fetch,
    Nowhere,
    Options,
    Outbox,
    Proposal,
    Reader,
    Staging,
    Task,
    Write,
)
from vecdb_replication.snapshots import Files, SnapshotGone
from vecdb_replication.wal import (
    GroupUpdate,
    LogBusy,
    LogClosed,
    LogError,
    LogFailed,
    LogWriter,
    Tombstone,
    Wal,
)

# The core counts proposals by itself; what else goes to the log is small and must not be refused.
_NO_LIMIT = 1 << 62
# What a proposal counts for beside its data, so that empty ones fill the queue too.
_OVERHEAD = 64


class Host:
    """The groups of a node over its log. All coroutines belong to the loop that made it.

    `max_queued_bytes` limits what is proposed and not answered, of all groups:
    the data of each proposal and a little for itself. More is refused as LogBusy.
    `threads` apply entries; a group uses one at a time. `on_sync(seconds,
    batches, bytes)` is called after each sync of the log, `on_failure` when a
    sync failed: the process has to end then, for nothing is known of the disk.
    A group that had no room tries again after `retry_seconds`. `outbox` leads
    to other nodes, `files` to the files of their snapshots, `locate` says which
    of them holds a replica.
    """

    def __init__(
        self,
        wal: Wal,
        *,
        threads: int = 2,
        max_queued_bytes: int = 256 << 20,
        compact_bytes: int = 64 << 20,
        retry_seconds: float = 1.0,
        on_sync: Callable[[float, int, int], None] | None = None,
        on_failure: Callable[[LogFailed], None] | None = None,
        outbox: Outbox | None = None,
        files: Files | None = None,
        locate: Locate = lambda _group, _replica: None,
        options: Options | None = None,
    ) -> None:
        self._wal = wal
        self._loop = asyncio.get_running_loop()
        self._writer = LogWriter(wal, max_bytes=_NO_LIMIT, on_sync=on_sync, on_failure=on_failure)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="vecdb-apply")
        self._maker = Maker(retry_seconds)
        dice = random.Random(os.urandom(16))  # noqa: S311 (timeouts are no secrets)
        self._core = HostCore(
            wal,
            boot=os.urandom(16),
            draw=lambda ticks: ticks + dice.randrange(ticks),
            locate=locate,
            options=options,
        )
        self._outbox: Outbox = outbox or Nowhere()
        self._locate = locate
        self._fetches = Fetches(files, self._fetched, retry_seconds)
        self._compactor = Compactor(wal, self._writer, self._core, self._pool, self._maker, compact_bytes)
        self._groups: dict[int, Group] = {}
        self._opening: dict[int, asyncio.Future[None]] = {}
        self._queued_bytes = 0
        self._max_queued_bytes = max_queued_bytes
        self._retry_seconds = retry_seconds
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._stopped = False

    # --- the loop --------------------------------------------------------------

    def _schedule(self) -> None:
        """Make a pass soon: all that comes in until then shares it, and its record in the log."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        done = self._core.step()
        if done.write is not None:
            self._log(done.write)
        for peer, envelope in done.envelopes.items():
            self._outbox.send(peer, envelope)
        for task in done.tasks:
            self._start(task)
        for staging in done.stagings:
            self._stage(staging)
        for group in done.retries:
            self._loop.call_later(self._retry_seconds, self._retry, group)
        for group in done.snapshots:
            self._maker.make(group, self._core.groups[group].machine)
        for fetch in done.fetches:
            self._fetches.offer(fetch)
        for incident in done.incidents:
            incident.log()
        self._wind()

    def _stage(self, staging: Staging) -> None:
        """It may take a while, so it is not the appliers' business."""
        staged = self._loop.run_in_executor(None, stage, staging)
        staged.add_done_callback(lambda done: self._staged(staging, done.exception()))

    def _staged(self, staging: Staging, error: BaseException | None) -> None:
        self._core.staged(staging, _as_exception(error))
        self._schedule()

    def _log(self, write: Write) -> None:
        try:
            durable = self._writer.submit(write.updates)
        except (LogFailed, LogClosed) as error:
            self._loop.call_soon(self._written, write, error)
            return
        durable.add_done_callback(lambda done: self._logged(write, done.exception()))

    def _logged(self, write: Write, error: BaseException | None) -> None:
        """In the log's thread, so that applying need not wait for the loop."""
        self._call(self._written, write, error)
        for task in write.foreseen:
            if write.failure_of(task.group, _as_exception(error)) is None:
                self._start(task)

    def _written(self, write: Write, error: BaseException | None) -> None:
        failure = _as_exception(error)
        self._core.written(write, failure)
        for append in write.appends:
            opening = self._opening.get(append.group)
            refused = write.failure_of(append.group, failure)
            if refused is not None and opening is not None and not opening.done():
                opening.set_exception(refused)
        if self._core.is_due:
            # At once: somebody waits for what comes out, and another turn of the loop is time.
            self._pass()

    def _start(self, task: Task) -> None:
        done = self._pool.submit(perform, task)
        done.add_done_callback(
            lambda done: self._call(self._applied, task, done.exception() or done.result())
        )

    def _applied(self, task: Task, results: Sequence[object] | BaseException) -> None:
        opening = self._opening.get(task.group)
        if isinstance(results, BaseException) and opening is not None and not opening.done():
            opening.set_exception(results)
        self._core.applied(task, results)
        self._schedule()

    def _fetched(self, fetch: Fetch, newer: Fetch | None) -> None:
        self._core.fetched(fetch)
        if newer is not None:
            self._core.receive(newer.sender, Envelope(((newer.group, newer.message),)))
        self._schedule()

    def _retry(self, group: int) -> None:
        self._core.retry(group)
        self._schedule()

    def _call(self, act: Callable[..., None], *args: Any) -> None:
        """From another thread. A loop that was closed has nobody left to tell."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(act, *args)

    def _wind(self) -> None:
        """Keep the clock going while there is a group that lives by it."""
        if self._timer is None and len(self._core.wheel) and not self._closed:
            turn = self._core.options.tick_seconds / 4
            self._timer = self._loop.call_later(turn, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._core.tick(self._loop.time())
        self._schedule()

    # --- groups --------------------------------------------------------------

    async def add(
        self, group: int, machine: StateMachine, *, replica: int = 1, founders: Iterable[int] = (1,)
    ) -> None:
        """Bring a replica up. One that is alone applies what its log holds, and leads, before this returns.

        `replica` is its id, and `founders` are the voters that the group began
        with, also where this replica joined later. Raises GroupDamaged where
        log and state do not fit together, what the machine's `apply` raises,
        and LogFull where there is no room to begin.
        """
        if group not in self._groups and needs_burial(self._wal, group, replica):
            await self.bury(group, replica=replica - 1)
        held = self._core.open(group, machine, replica, founders)
        try:
            if held.replica.alone:
                await self._settle_in(held)
        except BaseException as error:
            held.removed = True
            await self._settled(held, UnknownGroup(f"group {group} did not come up: {error}"))
            self._core.forget(group)
            raise
        self._groups[group] = held
        self._schedule()

    async def _settle_in(self, held: Group) -> None:
        opening = self._opening[held.id] = self._loop.create_future()
        ready = self._reading(held.id)
        try:
            await asyncio.wait((opening, ready), return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                await opening
            await ready
        finally:
            del self._opening[held.id]
            opening.cancel()
            ready.cancel()
            # Retrieved, so that nobody is told that it was not.
            await asyncio.gather(opening, ready, return_exceptions=True)

    def _reading(self, group: int) -> asyncio.Future[int]:
        answer, reader = self._reader()
        self._core.read(group, reader)
        self._schedule()
        return answer

    async def remove(self, group: int) -> None:
        """Forget a group for good: its log goes, and the tombstone stays."""
        held = self._group(group)
        held.removed = True
        del self._groups[group]
        await self._fetches.drop(group)
        await self._maker.drop(group)
        await self._settled(held, UnknownGroup(f"group {group} was removed"))
        self._core.forget(group)
        await self.bury(group, replica=held.replica.id)

    async def bury(self, group: int, *, replica: int = 1) -> None:
        """Log that a replica that is not open here never will be, so that its log goes."""
        await asyncio.wrap_future(self._writer.submit([GroupUpdate(group, tombstone=Tombstone(replica))]))

    async def _settled(self, held: Group, otherwise: GroupError) -> None:
        """Wait until nothing of a group is under way; who waits for more is told `otherwise`."""
        while True:
            if held.blocked and held.failure is None:
                held.end(otherwise)
            if held.idle or (held.failure is not None and not held.in_flight and held.task is None):
                break
            await asyncio.sleep(0.001)
        if held.failure is None and held.removed:
            held.end(otherwise)

    def has_known(self, group: int) -> bool:
        """Whether a replica of the group is here or ever was."""
        if group in self._groups:
            return True
        # While it is being removed it is neither open nor under its tombstone, but has its log.
        state = self._wal.state(group)
        return state.tombstone is not None or state.last_index > 0

    def applied_index(self, group: int) -> int:
        """The newest entry of a group that reads see. Cheap: each read of a session asks. UnknownGroup."""
        return self._group(group).applied

    def groups(self) -> list[int]:
        """The open groups."""
        return sorted(self._groups)

    def status(self, group: int) -> GroupStatus:
        """How a group stands. UnknownGroup."""
        held = self._group(group)
        problem = held.problem or self._fetches.problem(group, held.applied) or self._maker.problem(group)
        return GroupStatus.of(held, self._wal.state(group).log_bytes, problem)

    def _group(self, group: int) -> Group:
        held = self._groups.get(group)
        if held is None:
            raise UnknownGroup(f"no replica of group {group} is here")
        return held

    # --- other nodes ---------------------------------------------------------

    @property
    def nonsense(self) -> Mapping[str, int]:
        """How many messages were dropped because none that follows the protocol could say them, by peer."""
        return self._core.incidents.nonsense

    def receive(self, sender: str, envelope: Envelope) -> None:
        """Take in what a peer said. `sender` must be who it was proven to be."""
        self._core.receive(sender, envelope)
        self._schedule()

    def unreachable(self, peer: str) -> None:
        """The connection to a peer broke."""
        self._core.unreachable(peer)
        self._schedule()

    def report_snapshot(self, group: int, replica: int, *, failed: bool) -> None:
        """What became of a snapshot that was sent to a replica: in its place, or lost.

        That its message arrived says nothing yet: the files follow, and the
        replica itself answers once it has them. So a transport reports failures.
        """
        self._core.report_snapshot(group, replica, failed=failed)
        self._schedule()

    def open(self, peer: str, group: int, snapshot: str, name: str) -> BinaryIO:
        """A file of a snapshot, for a peer that fetches it: to be closed. On any thread; it blocks.

        `peer` must be who it was proven to be. Raises LookupError where there
        is no such file, and the peer then gets a newer snapshot;
        PermissionError where it holds no replica of the group; OSError.
        """
        held = self._groups.get(group)
        if held is None or not isinstance(held.machine, FileMachine):
            raise SnapshotGone(f"no snapshots of group {group} are here")
        replicas = [replica for replica in held.members if self._locate(group, replica) == peer]
        if not replicas:
            raise PermissionError(f"{peer} holds no replica of group {group}")
        try:
            return held.machine.open_file(snapshot, name)
        except LookupError:
            for replica in replicas:
                self._call(partial(self.report_snapshot, group, replica, failed=True))
            raise

    async def change(self, group: int, change: raft.ConfChange) -> Committed:
        """Change who belongs to a group; the result is its ConfState. ChangeRefused, and as `propose`."""
        return await self._propose(group, b"", change)

    def transfer(self, group: int, replica: int) -> None:
        """Ask the leader to hand over to a replica; `status` tells whether it came to that.

        To be asked where the leader is: others can only ask it for themselves.
        """
        self._group(group)
        self._core.transfer(group, replica)
        self._schedule()

    @property
    def max_entry_bytes(self) -> int:
        """The size of the largest entry that `propose` takes."""
        return self._core.options.max_entry_bytes

    # --- writing -------------------------------------------------------------

    async def propose(self, group: int, data: bytes) -> Committed:
        """Write an entry; returns once it is durable, on a quorum, and applied here. It must not be empty.

        Raises EntryTooLarge, UnknownGroup, HostClosed, GroupBlocked, GroupStopped, NotLeader,
        ProposalLost, OutcomeUnknown and LogBusy. Of these only a GroupBlocked
        with `durable` set, a GroupStopped and an OutcomeUnknown leave it open
        whether the entry takes effect. LogFailed means that the node is about
        to end.
        """
        if not data:
            raise ValueError("an entry without data would never reach the state")
        return await self._propose(group, data, None)

    async def _propose(self, group: int, data: bytes, change: raft.ConfChange | None) -> Committed:
        self._group(group)
        if self._closed:
            raise HostClosed("the node is shutting down")
        if len(data) > self.max_entry_bytes:
            raise EntryTooLarge(len(data), self.max_entry_bytes)
        size = _OVERHEAD + len(data)
        if self._queued_bytes and self._queued_bytes + size > self._max_queued_bytes:
            raise LogBusy(
                f"{self._queued_bytes} bytes wait for the disk, and {self._max_queued_bytes} is the limit"
            )
        answer: asyncio.Future[Committed] = self._loop.create_future()

        def resolve(index: int, result: object) -> None:
            self._queued_bytes -= size
            if not answer.done():
                answer.set_result(Committed(index, result))

        def reject(error: Exception) -> None:
            self._queued_bytes -= size
            if not answer.done():
                answer.set_exception(error)

        self._core.propose(group, Proposal(data, resolve, reject, change))
        self._queued_bytes += size
        self._schedule()
        return await answer

    # --- reading -------------------------------------------------------------

    async def barrier(self, group: int) -> int:
        """Wait until everything that is acknowledged now, anywhere, is applied here; returns the index.

        This is what makes a read linearizable. UnknownGroup, GroupStopped,
        HostClosed. Waits for as long as the group has no leader.
        """
        held = self._group(group)
        answer, reader = self._reader()
        self._core.read(group, reader)
        self._schedule()
        try:
            return await answer
        finally:
            held.forget(reader)

    async def wait_applied(self, group: int, index: int) -> None:
        """Wait until the entry at `index` is applied. UnknownGroup, GroupStopped, HostClosed."""
        held = self._group(group)
        answer, reader = self._reader(index)
        held.wait(reader)
        try:
            await answer
        finally:
            held.forget(reader)

    def _reader(self, index: int = -1) -> tuple[asyncio.Future[int], Reader]:
        answer: asyncio.Future[int] = self._loop.create_future()

        def done(index: int) -> None:
            if not answer.done():
                answer.set_result(index)

        def failed(error: Exception) -> None:
            if not answer.done():
                answer.set_exception(error)

        return answer, Reader(done, failed, index)

    # --- upkeep --------------------------------------------------------------

    async def compact(self) -> int:
        """Shorten the log: checkpoint groups that hold much of it or pin old segments.

        Returns how many segments went. To be called every few seconds. Raises LogFull, LogFailed.
        """
        return await self._compactor.compact(list(self._groups.values()))

    async def close(self) -> None:
        """Refuse new proposals, finish those under way, and stop. The log stays open: its owner closes it."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._fetches.close()
        await self._maker.close()
        told = "the node is shutting down without room for what is in the log: the next start applies it"
        for held in list(self._groups.values()):
            await self._settled(held, GroupBlocked(told, durable=True))
        words = self._core.last_words()
        self._stopped = True
        for held in self._groups.values():
            held.end(HostClosed("the node is shutting down"))
        await self._loop.run_in_executor(None, self._finish, words)

    def _finish(self, words: Sequence[GroupUpdate]) -> None:
        # Worth having, but not needed: what is committed is found out again.
        with suppress(LogError):
            if words:
                self._writer.submit(words).result()
        self._writer.close()
        self._pool.shutdown(wait=True)


def _as_exception(error: BaseException | None) -> Exception | None:
    """Staging runs foreign code, which may raise anything."""
    return error if error is None or isinstance(error, Exception) else LogError(repr(error))
