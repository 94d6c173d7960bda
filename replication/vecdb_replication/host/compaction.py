"""Shortening the log: what the states hold durably, the log need not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor

from vecdb_replication.host.core import HostCore
from vecdb_replication.host.group import Group
from vecdb_replication.host.maker import Maker
from vecdb_replication.wal import LogError, LogFailed, LogWriter, Wal


class Compactor:
    """Checkpoints groups that hold `at_bytes` of the log or more, or pin old segments of it."""

    def __init__(
        self, wal: Wal, writer: LogWriter, core: HostCore, pool: Executor, maker: Maker, at_bytes: int
    ) -> None:
        self._wal = wal
        self._writer = writer
        self._core = core
        self._pool = pool
        self._maker = maker
        self._at_bytes = at_bytes

    async def compact(self, groups: Sequence[Group]) -> int:
        """How many segments went. Raises LogFull, LogFailed, and what a machine's `checkpoint` raises."""
        loop = asyncio.get_running_loop()
        pinned = self._wal.pinned()
        refused: Exception | None = None
        for held in groups:
            if held.id in pinned or self._wal.state(held.id).log_bytes >= self._at_bytes:
                try:
                    await self._shorten(held)
                except LogFailed:
                    raise
                except Exception as error:
                    refused = refused or error
        dropped = await loop.run_in_executor(self._pool, self._wal.drop_segments)
        await self._maker.tidy(held.machine for held in groups if not held.removed)
        if refused is not None:
            # Told last: what the others gave up may be the room that this one lacked.
            raise refused
        return dropped

    async def _shorten(self, held: Group) -> None:
        if held.removed:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, held.machine.checkpoint)
        except Exception:
            if held.removed:
                # Its state was closed under the checkpoint; its log goes by its tombstone.
                return
            raise
        # Through the writer, so that no two records ever wait for one sync: a crash could keep the later
        # without the earlier, which looks like damage.
        if (update := self._core.shorten(held.id)) is not None:
            try:
                await asyncio.wrap_future(self._writer.submit([update]))
            except LogError:
                self._core.unshorten(held.id)
                raise
