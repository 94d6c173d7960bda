"""The thread that writes a node's log, as `wal.LogWriter` behaves, on the simulated clock.

A round takes all that waits, appends it as one record, and syncs. Writing and syncing take time, in
which more may be handed in; the loop hears of the outcome a little later still. So a write can be on its
way, or even durable, while the refusal of the one before it has not been heard of.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vecdb_replication import wal

Told = Callable[[Exception | None], None]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Updates, and who is told what became of them. `durable` is called in the log's own thread."""

    updates: Sequence[wal.GroupUpdate]
    told: Told
    durable: Told


# Something that is durable, but for the groups that were at fault.
Written = tuple[Waiting, wal.GroupsRefused | None]


class SimWriter:
    """Writes to `log`. `later` lets time pass, `tell` gets a call to the loop, in order.

    `wrote(seconds)` is called when records were written, and their sync takes so long; `synced(record)` for
    each record that a sync made durable, `failed` once the log is beyond use: nothing comes back any more
    then.
    """

    def __init__(
        self,
        log: wal.Wal,
        dice: random.Random,
        *,
        later: Callable[..., None],
        tell: Callable[..., None],
        delay: Callable[[], float],
        wrote: Callable[[float], None],
        synced: Callable[[Sequence[wal.GroupUpdate]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._log = log
        self._dice = dice
        self._later = later
        self._tell = tell
        self._delay = delay
        self._wrote = wrote
        self._synced = synced
        self._failed = failed
        self._queue: list[Waiting] = []
        self.busy = False
        self.unsynced: list[Sequence[wal.GroupUpdate]] = []
        """Records that were written since the last sync."""

    def submit(self, waiting: Waiting) -> None:
        """Hand something in."""
        self._queue.append(waiting)
        if not self.busy:
            self._take()

    def write_now(self, updates: Sequence[wal.GroupUpdate]) -> None:
        """Write and sync while nothing else goes on. Raises wal.LogError."""
        self._log.append(updates)
        self.unsynced.append(updates)
        self._log.sync()
        self._all_synced()

    def _take(self) -> None:
        self.busy = bool(self._queue)
        if self.busy:
            batches, self._queue = self._queue, []
            self._later(self._dice.random() * 0.001, self._write, batches)

    def _write(self, batches: list[Waiting]) -> None:
        try:
            written = self._append(batches)
        except wal.LogFailed as failed:
            self._failed(failed)
            return
        seconds = 0.0005 + self._delay()
        if self.unsynced:
            self._wrote(seconds)
        self._later(seconds, self._sync, written)

    def _append(self, batches: list[Waiting]) -> list[Written]:
        updates = [update for batch in batches for update in batch.updates]
        try:
            self._log.append(updates)
        except wal.LogMisuse as misuse:
            if len(batches) > 1:
                return [each for batch in batches for each in self._append([batch])]
            return self._append_without(batches[0], misuse)
        except wal.LogFailed:
            raise
        except wal.LogError as refused:
            for batch in batches:
                self._tell(batch.told, refused)
            return []
        if updates:
            self.unsynced.append(updates)
        return [(batch, None) for batch in batches]

    def _append_without(self, batch: Waiting, misuse: wal.LogMisuse) -> list[Written]:
        assert misuse.group is not None
        rest = [update for update in batch.updates if update.group != misuse.group]
        written = self._append([replace(batch, updates=rest)])
        groups = frozenset({misuse.group}).union(*(more.groups for _, more in written if more is not None))
        return [(batch, wal.GroupsRefused(str(misuse), groups)) for _ in written]

    def _sync(self, written: list[Written]) -> None:
        try:
            self._log.sync()
        except wal.LogFailed as failed:
            self._failed(failed)
            return
        self._all_synced()
        for batch, misuse in written:
            self._tell(batch.told, misuse)
            batch.durable(misuse)
        self._take()

    def _all_synced(self) -> None:
        unsynced, self.unsynced = self.unsynced, []
        for record in unsynced:
            self._synced(record)
