"""Making snapshots for others, and clearing them away: it takes long, and no applying is to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from vecdb_replication.host.machine import FileMachine, SnapshotMachine, StateMachine


class Maker:
    """One snapshot at a time, in a thread of its own. Belongs to the loop that made it.

    Whoever needs a snapshot asks again with every heartbeat. So one that
    failed is not made again before `retry_seconds` have passed.
    """

    def __init__(self, retry_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vecdb-snapshot")
        self._retry_seconds = retry_seconds
        self._making: dict[int, asyncio.Future[None]] = {}
        self._problems: dict[int, str] = {}
        self._dropped: set[int] = set()
        self._closed = False

    def problem(self, group: int) -> str:
        """Why a group's last snapshot was not made; empty where it was."""
        return self._problems.get(group, "")

    def make(self, group: int, machine: StateMachine) -> None:
        """Make a snapshot, unless that is under way or failed just now."""
        if group in self._making or self._closed or not isinstance(machine, SnapshotMachine):
            return
        work = self._making[group] = self._loop.run_in_executor(self._pool, self._prepare, group, machine)
        work.add_done_callback(lambda done: self._made(group, done))

    def _prepare(self, group: int, machine: SnapshotMachine) -> None:
        if not self._is_over(group):
            machine.prepare(partial(self._is_over, group))

    def _is_over(self, group: int) -> bool:
        return self._closed or group in self._dropped

    def _made(self, group: int, done: asyncio.Future[None]) -> None:
        if (error := done.exception()) is None:
            del self._making[group]
            self._problems.pop(group, None)
        else:
            self._problems[group] = f"a snapshot for another replica could not be made: {error}"
            self._loop.call_later(self._retry_seconds, self._making.pop, group, None)

    async def tidy(self, machines: Iterable[StateMachine]) -> None:
        """Clear away what nobody needs any more. It does not wait for what is being made."""
        filed = [machine for machine in machines if isinstance(machine, FileMachine)]
        await self._loop.run_in_executor(None, _tidy, filed)

    async def drop(self, group: int) -> None:
        """Give up what is made of a group, and return once nothing is. Nobody may ask for more meanwhile."""
        if (work := self._making.get(group)) is not None:
            self._dropped.add(group)
            await asyncio.wait([work])
            self._dropped.discard(group)
        self._problems.pop(group, None)

    async def close(self) -> None:
        """Give up what is under way, and stop."""
        self._closed = True
        await self._loop.run_in_executor(None, self._pool.shutdown)


def _tidy(machines: Sequence[FileMachine]) -> None:
    for machine in machines:
        # It is tried again in a moment, and only costs room meanwhile.
        with suppress(OSError):
            machine.tidy()
