"""Group commit: many callers, one thread, one write and one sync for all that is waiting.

While a sync is under way the next callers queue up, so the batches grow with the load and the rate of
syncs stays what the disk can do (DeWitt et al., "Implementation Techniques for Main Memory Database
Systems", SIGMOD 1984, section 5.2).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Self

from vecdb_replication.wal.errors import GroupsRefused, LogBusy, LogClosed, LogError, LogFailed, LogMisuse
from vecdb_replication.wal.log import Wal
from vecdb_replication.wal.types import GroupUpdate

OnSync = Callable[[float, int, int], None]
OnFailure = Callable[[LogFailed], None]

# What a batch counts for beside its entries' data, so that empty ones fill the queue too.
_OVERHEAD = 64


@dataclass(frozen=True, slots=True)
class _Batch:
    updates: Sequence[GroupUpdate]
    size: int
    done: Future[None]


class LogWriter:
    """Makes updates durable from a thread of its own. Close it before its log.

    `max_bytes` limits the entry data that is queued or being written. `on_sync(seconds, batches, bytes)`
    is called from the thread after each round, with the time its write and sync took; `on_failure` once,
    when the log failed for good: the process has to stop then.
    """

    def __init__(
        self,
        wal: Wal,
        *,
        max_bytes: int = 256 << 20,
        on_sync: OnSync | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        self._wal = wal
        self._max_bytes = max_bytes
        self._on_sync = on_sync
        self._on_failure = on_failure
        self._queue: list[_Batch] = []
        self._bytes = 0
        self._closed = False
        self._failure: LogFailed | None = None
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="vecdb-log", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, updates: Sequence[GroupUpdate]) -> Future[None]:
        """Queue updates; the future resolves once they are durable. Batches keep their order.

        The future cannot be cancelled: what is queued will be written. It raises LogFull or WriteFailed
        with nothing of this batch written, GroupsRefused with nothing written of the groups at fault, or
        LogFailed. Raises LogBusy while the queue is full (a batch larger than the limit is taken when the
        queue is empty), LogFailed and LogClosed.
        """
        size = _OVERHEAD + sum(_OVERHEAD + len(e.data) for update in updates for e in update.entries)
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()
        with self._wake:
            if self._failure is not None:
                raise LogFailed(str(self._failure)) from self._failure
            if self._closed:
                raise LogClosed("the log's writer is closed")
            if self._bytes and self._bytes + size > self._max_bytes:
                raise LogBusy(f"{self._bytes} bytes wait for the disk, and {self._max_bytes} is the limit")
            self._bytes += size
            self._queue.append(_Batch(updates, size, done))
            self._wake.notify()
        return done

    def close(self) -> None:
        """Write what is queued, then end the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while (batches := self._take()) is not None:
            try:
                self._commit(batches)
            except BaseException as error:
                # Whatever it was, what is durable is not known any more.
                self._give_up(batches, error)
                return
            with self._wake:
                self._bytes -= sum(batch.size for batch in batches)

    def _take(self) -> list[_Batch] | None:
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._closed)
            batches, self._queue = self._queue, []
            return batches or None

    def _commit(self, batches: list[_Batch]) -> None:
        began = time.perf_counter()
        written = self._write(batches)
        self._wal.sync()
        seconds = time.perf_counter() - began
        for batch, misuse in written:
            if misuse is None:
                batch.done.set_result(None)
            else:
                batch.done.set_exception(misuse)
        if self._on_sync is not None:
            self._on_sync(seconds, len(written), sum(batch.size for batch, _ in written))

    def _write(self, batches: list[_Batch]) -> list[tuple[_Batch, GroupsRefused | None]]:
        """Write what can be written, failing the rest; returns what was, and who was left out of it."""
        try:
            self._wal.append([update for batch in batches for update in batch.updates])
        except LogMisuse as misuse:
            if len(batches) > 1:
                # One caller's mistake is not to fail the others'.
                return [found for each in batches for found in self._write([each])]
            return self._write_without(batches[0], misuse)
        except (LogFailed, LogClosed):
            raise
        except LogError as refused:
            for batch in batches:
                batch.done.set_exception(refused)
            return []
        return [(batch, None) for batch in batches]

    def _write_without(self, batch: _Batch, misuse: LogMisuse) -> list[tuple[_Batch, GroupsRefused | None]]:
        """Nor is one group's to fail the others that share its batch."""
        assert misuse.group is not None, "an append fails of its groups"
        rest = [update for update in batch.updates if update.group != misuse.group]
        written = self._write([replace(batch, updates=rest)])
        groups = frozenset({misuse.group}).union(*(more.groups for _, more in written if more is not None))
        return [(batch, GroupsRefused(str(misuse), groups)) for _ in written]

    def _give_up(self, batches: list[_Batch], error: BaseException) -> None:
        failure = error if isinstance(error, LogFailed) else LogFailed(f"the log's writer died: {error!r}")
        failure.__cause__ = failure.__cause__ or error
        with self._wake:
            self._failure = failure
            batches += self._queue
            self._queue = []
        for batch in batches:
            if not batch.done.done():
                batch.done.set_exception(failure)
        if self._on_failure is not None:
            self._on_failure(failure)
