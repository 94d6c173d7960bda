"""Bringing the files of snapshots here, before their messages go into the core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from vecdb_replication.host.work import Fetch
from vecdb_replication.snapshots import Files, FileSource, SnapshotDamaged

AT_ONCE: Final = 2
"""Fetches of different groups: more would only share the same wires and disks."""
_LONGEST_WAIT: Final = 30.0

Deliver = Callable[[Fetch, Fetch | None], None]
"""What is here now, and what was offered meanwhile."""


class Fetches:
    """One fetch a group, on the loop. What fails is tried again, from where it stopped.

    `files` leads to other nodes; without it no snapshot ever arrives.
    `deliver` is called once the files of an offer are here.
    """

    def __init__(self, files: Files | None, deliver: Deliver, retry_seconds: float) -> None:
        self._files = files
        self._deliver = deliver
        self._retry_seconds = retry_seconds
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[int, asyncio.Task[bool]] = {}
        self._current: dict[int, Fetch] = {}
        self._newer: dict[int, Fetch] = {}
        self._problems: dict[int, tuple[int, str]] = {}

    def problem(self, group: int, applied: int) -> str:
        """Why a snapshot beyond the applied index does not arrive; empty where nothing is wrong."""
        index, why = self._problems.get(group, (0, ""))
        return why if index > applied else ""

    def offer(self, fetch: Fetch) -> None:
        """Take an offered snapshot. One that is being fetched goes on, unless its leader was replaced."""
        group = fetch.group
        task, current = self._tasks.get(group), self._current.get(group)
        if task is None or current is None:
            self._start(fetch)
        elif current.sender == fetch.sender and current.snapshot.data == fetch.snapshot.data:
            # The same again: of its messages the last is the one that counts.
            self._current[group] = fetch
        else:
            self._newer[group] = fetch
            if fetch.message.term > current.message.term and not task.cancelling():
                # What its sender says of a term that is over would not be listened to.
                task.cancel()

    def _start(self, fetch: Fetch) -> None:
        group = fetch.group
        self._current[group] = fetch
        task = self._tasks[group] = asyncio.get_running_loop().create_task(self._bring(group))
        task.add_done_callback(lambda done: self._ended(group, done))

    def _ended(self, group: int, task: asyncio.Task[bool]) -> None:
        del self._tasks[group]
        fetch, newer = self._current.pop(group), self._newer.pop(group, None)
        if not task.cancelled() and task.result():
            self._problems.pop(group, None)
            self._deliver(fetch, newer)
        elif newer is not None:
            self._start(newer)

    async def _bring(self, group: int) -> bool:
        """Whether the files are here. False where it is no use to try again."""
        wait = self._retry_seconds
        while True:
            fetch = self._current[group]
            if fetch.machine.applied_index >= fetch.snapshot.index:
                # The log would do after all.
                return False
            try:
                async with self._slots:
                    await self._once(fetch)
                return True
            except (LookupError, SnapshotDamaged, ValueError) as useless:
                self._told(fetch, useless)
                return False
            except Exception as error:
                self._told(fetch, error)
            if group in self._newer:
                return False
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _once(self, fetch: Fetch) -> None:
        if self._files is None:
            raise ConnectionError("there is no way to other nodes")
        await fetch.machine.fetch(fetch.snapshot.data, FileSource(self._files, fetch.sender, fetch.group))

    def _told(self, fetch: Fetch, error: Exception) -> None:
        why = f"the snapshot from {fetch.sender} did not arrive: {error}"
        self._problems[fetch.group] = (fetch.snapshot.index, why)

    async def drop(self, group: int) -> None:
        """Fetch nothing for a group any more; returns once nothing is written for it."""
        self._newer.pop(group, None)
        self._problems.pop(group, None)
        if (task := self._tasks.get(group)) is not None:
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        """Stop. What has arrived stays."""
        for group in list(self._tasks):
            await self.drop(group)
