"""Proposals in, applied results out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from vecdb_replication.host.errors import (
    GroupBlocked,
    GroupError,
    GroupStopped,
    HostClosed,
    UnknownGroup,
)
from vecdb_replication.host.group import Group, Proposal, Reader
from vecdb_replication.host.machine import StateMachine
from vecdb_replication.host.recovery import KIND_NORMAL, begin_term, replay
from vecdb_replication.wal import (
    Entry,
    GroupUpdate,
    LogClosed,
    LogFailed,
    LogFull,
    LogWriter,
    SnapshotMark,
    Tombstone,
    Wal,
)


@dataclass(frozen=True, slots=True)
class Committed:
    """A proposal that is durable and applied: its log index, and what the state machine said."""

    index: int
    result: Any


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """How a group stands. `problem` is empty where all is well."""

    group: int
    term: int
    last_index: int
    applied_index: int
    durable_index: int
    log_bytes: int
    problem: str


class Host:
    """The groups of a node over its log. All coroutines belong to the loop that made it.

    `threads` apply entries; a group uses one at a time. `on_sync(seconds,
    batches, bytes)` is called after each sync of the log, `on_failure` when a
    sync failed: the process has to end then, for nothing is known of the disk.
    A group that had no room to apply tries again after `retry_seconds`.
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
    ) -> None:
        self._wal = wal
        self._loop = asyncio.get_running_loop()
        self._writer = LogWriter(wal, max_bytes=max_queued_bytes, on_sync=on_sync, on_failure=on_failure)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="vecdb-apply")
        self._groups: dict[int, Group] = {}
        self._compact_bytes = compact_bytes
        self._retry_seconds = retry_seconds
        self._closed = False

    # --- groups --------------------------------------------------------------

    async def add(self, group: int, machine: StateMachine) -> None:
        """Bring a group up: apply what its log holds beyond the state, then begin a term.

        Raises GroupDamaged where log and state do not fit together, and what
        the machine's `apply` raises.
        """
        if group in self._groups:
            raise ValueError(f"group {group} is open already")
        await self._loop.run_in_executor(self._pool, replay, self._wal, group, machine)
        term, last = await begin_term(self._wal, self._writer, group)
        self._groups[group] = Group(group, machine, term, last, committed=last, applied=last)

    async def remove(self, group: int) -> None:
        """Forget a group for good: its log goes, and the tombstone stays."""
        held = self._group(group)
        held.removed = True
        del self._groups[group]
        await self._settled(held, UnknownGroup(f"group {group} was removed"))
        await self.bury(group)

    async def bury(self, group: int) -> None:
        """Log that a group that is not open here never will be, so that its log goes."""
        await asyncio.wrap_future(self._writer.submit([GroupUpdate(group, tombstone=Tombstone(1))]))

    async def _settled(self, held: Group, otherwise: GroupError) -> None:
        """Wait until nothing of a group is under way; who waits for room is told `otherwise`."""
        # Durable entries may still be on their way to the loop; each passes through it, so a turn of the
        # loop at a time is waited for.
        while held.in_flight or held.draining:
            if held.blocked and held.failure is None:
                held.end(otherwise)
            await asyncio.sleep(0.001)

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
        state = self._wal.state(group)
        problem = str(held.failure) if held.failure else held.blocked or held.refused
        machine = held.machine
        return GroupStatus(
            group,
            held.term,
            held.last,
            machine.applied_index,
            machine.durable_index,
            state.log_bytes,
            problem,
        )

    def _group(self, group: int) -> Group:
        held = self._groups.get(group)
        if held is None:
            raise UnknownGroup(f"no replica of group {group} is here")
        return held

    # --- writing -------------------------------------------------------------

    async def propose(self, group: int, data: bytes) -> Committed:
        """Write an entry; returns once it is durable and applied.

        Raises UnknownGroup, HostClosed, GroupBlocked, GroupStopped and
        LogBusy. Of these only a GroupBlocked with `durable` set, and a
        GroupStopped, leave it open whether the entry takes effect. LogFailed
        means that the node is about to end.
        """
        held = self._writable(group)
        index = held.last + 1
        answer: asyncio.Future[Committed] = self._loop.create_future()

        def resolve(result: object) -> None:
            self._loop.call_soon_threadsafe(_resolve, answer, Committed(index, result))

        def reject(error: GroupError) -> None:
            self._loop.call_soon_threadsafe(_reject, answer, error)

        entry = Entry(held.term, index, KIND_NORMAL, data)
        try:
            durable = self._writer.submit([GroupUpdate(group, entries=(entry,))])
        except LogClosed as closed:
            raise HostClosed("the node is shutting down") from closed
        held.last = index
        held.in_flight += 1
        proposal = Proposal(index, data, resolve, reject)
        # In the writer's thread, so that applying begins without a detour by way of the loop.
        durable.add_done_callback(lambda future: self._logged(held, proposal, future))
        return await answer

    def _writable(self, group: int) -> Group:
        held = self._group(group)
        if self._closed:
            raise HostClosed("the node is shutting down")
        if held.failure is not None:
            raise GroupStopped(str(held.failure)) from held.failure
        if held.blocked:
            raise GroupBlocked(held.blocked)
        if held.refused:
            raise GroupBlocked(held.refused)
        return held

    def _logged(self, held: Group, proposal: Proposal, durable: Future[None]) -> None:
        error = durable.exception()
        if error is None:
            if held.enqueue(proposal):
                self._start(held)
            self._loop.call_soon_threadsafe(self._landed, held, "")
            return
        # In this order, so that whoever is told finds the group ready for another try.
        self._loop.call_soon_threadsafe(self._landed, held, str(error))
        proposal.reject(_refusal(error))

    def _landed(self, held: Group, refused: str) -> None:
        """One entry less in flight. After a refusal the log has a gap: indexes begin again behind it."""
        held.in_flight -= 1
        held.refused = held.refused or refused
        if held.refused and not held.in_flight:
            held.refused = ""
            held.last = held.committed

    def _start(self, held: Group) -> None:
        try:
            self._pool.submit(self._drain, held)
        except RuntimeError:
            # The host is closing; the entry is in the log and is applied at the next start.
            held.draining = False

    def _drain(self, held: Group) -> None:
        if not held.drain():
            self._loop.call_soon_threadsafe(self._loop.call_later, self._retry_seconds, self._start, held)

    # --- reading -------------------------------------------------------------

    async def barrier(self, group: int) -> int:
        """Wait until everything that is acknowledged now is applied; returns the index.

        With one replica nothing is acknowledged before it is applied here, so
        this is what makes a read linearizable. UnknownGroup, GroupStopped.
        """
        held = self._group(group)
        await self.wait_applied(group, held.committed)
        return held.committed

    async def wait_applied(self, group: int, index: int) -> None:
        """Wait until the entry at `index` is applied. UnknownGroup, GroupStopped."""
        held = self._group(group)
        if held.applied >= index:
            return
        answer: asyncio.Future[None] = self._loop.create_future()

        def done() -> None:
            self._loop.call_soon_threadsafe(_resolve, answer, None)

        def failed(error: GroupError) -> None:
            self._loop.call_soon_threadsafe(_reject, answer, error)

        reader = Reader(index, done, failed)
        held.when_applied(reader)
        try:
            await answer
        finally:
            held.forget(reader)

    # --- upkeep --------------------------------------------------------------

    async def compact(self) -> int:
        """Shorten the log: checkpoint groups that hold much of it or pin old segments.

        Returns how many segments went. To be called every few seconds. Raises LogFull, LogFailed.
        """
        marks = await self._loop.run_in_executor(self._pool, self._checkpointed, list(self._groups.values()))
        # By way of the writer, so that no record is written beside another before one sync: power loss may
        # keep the later alone, and that looks like damage. And before the tombstone of a group that leaves.
        updates = [
            GroupUpdate(group, snapshot=mark) for group, mark in marks.items() if group in self._groups
        ]
        if updates:
            await asyncio.wrap_future(self._writer.submit(updates))
        return await self._loop.run_in_executor(self._pool, self._wal.drop_segments)

    def _checkpointed(self, groups: list[Group]) -> dict[int, SnapshotMark]:
        """Checkpoint the groups that should shorten their log; how far each may."""
        marks = {}
        pinned = self._wal.pinned()
        for held in groups:
            state = self._wal.state(held.id)
            if held.removed or (state.log_bytes < self._compact_bytes and held.id not in pinned):
                continue
            try:
                held.machine.checkpoint()
                index = min(held.machine.durable_index, state.last_index)
                if index >= state.first_index:
                    marks[held.id] = SnapshotMark(index, self._wal.term(held.id, index), b"")
            except Exception:
                if held.removed:
                    # Its state was closed under the checkpoint; its log goes by its tombstone.
                    continue
                raise
        return marks

    async def close(self) -> None:
        """Refuse new proposals, finish those under way, and stop. The log stays open: its owner closes it."""
        self._closed = True
        for held in list(self._groups.values()):
            told = "the node is shutting down without room for what is in the log: the next start applies it"
            await self._settled(held, GroupBlocked(told, durable=True))
        await self._loop.run_in_executor(None, self._writer.close)
        self._pool.shutdown(wait=True)


def _refusal(error: BaseException) -> GroupError:
    match error:
        case LogFull():
            return GroupBlocked(f"the disk of the log is full: {error}")
        case LogFailed():
            return GroupStopped(f"the log failed, the node has to end: {error}")
        case _:
            return GroupBlocked(f"not written: {error}")


def _resolve(answer: asyncio.Future[Any], value: object) -> None:
    if not answer.done():
        answer.set_result(value)


def _reject(answer: asyncio.Future[Any], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
