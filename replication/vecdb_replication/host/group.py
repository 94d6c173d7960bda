"""One group as the host sees it: what waits to be applied, and in what state it is."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vecdb_replication.host.errors import GroupBlocked, GroupError, GroupStopped, StorageFull
from vecdb_replication.host.machine import StateMachine

# One apply call takes at most so much entry data: a longer one would hold up
# the answers of all that it carries.
_MAX_APPLY_BYTES = 32 << 20


@dataclass(slots=True, eq=False)
class Proposal:
    """An entry on its way; `resolve` and `reject` may be called from any thread, once."""

    index: int
    data: bytes
    resolve: Callable[[object], None]
    reject: Callable[[GroupError], None]


@dataclass(slots=True, eq=False)
class Group:
    """A replica. Log positions belong to the event loop; the queue to whoever holds the lock."""

    id: int
    machine: StateMachine
    term: int
    last: int
    """The index of the newest entry that was handed to the log."""
    in_flight: int = 0
    """Entries handed to the log that are not known to be durable."""
    refused: str = ""
    """Why the log refused an entry. Those behind it fail as well; then writing may go on."""
    failure: GroupError | None = None
    """Why nothing is applied any more."""
    blocked: str = ""
    """Why nothing can be applied for now."""
    committed: int = 0
    """The newest durable entry."""
    applied: int = 0
    """The newest entry that is dealt with; the machine does not see those that only begin a term."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    queue: deque[Proposal] = field(default_factory=deque)
    draining: bool = False
    removed: bool = False
    readers: list[tuple[int, Callable[[], None], Callable[[GroupError], None]]] = field(default_factory=list)

    def enqueue(self, proposal: Proposal) -> bool:
        """Take a durable entry; True where a worker has to be started."""
        with self.lock:
            self.committed = max(self.committed, proposal.index)
            self.queue.append(proposal)
            start = not self.draining
            self.draining = True
            return start

    def drain(self) -> bool:
        """Apply what waits, in a worker thread. False where it stopped for want of room."""
        while batch := self._take():
            try:
                results = self.machine.apply([(each.index, each.data) for each in batch])
            except StorageFull as full:
                self._block(batch, str(full))
                return False
            except BaseException as error:
                self._stop(batch, error)
                return True
            self.blocked = ""
            self.applied = batch[-1].index
            for each, result in zip(batch, results, strict=True):
                each.resolve(result)
            self._release_readers()
        return True

    def _take(self) -> Sequence[Proposal]:
        with self.lock:
            batch: list[Proposal] = []
            size = 0
            while self.queue and (not batch or size + len(self.queue[0].data) <= _MAX_APPLY_BYTES):
                batch.append(self.queue.popleft())
                size += len(batch[-1].data)
            if not batch:
                self.draining = False
            return batch

    def _block(self, batch: Sequence[Proposal], why: str) -> None:
        """Put the entries back: they are in the log and have to be applied. Those who wait are told now."""
        self.blocked = why
        told = GroupBlocked(
            f"written to the log but not applied yet: {why}; it will be once there is room", durable=True
        )
        with self.lock:
            waiting = [*batch, *self.queue]
            self.queue.clear()
            self.queue.extend(Proposal(each.index, each.data, _ignore, _ignore) for each in waiting)
        for each in waiting:
            each.reject(told)

    def _stop(self, batch: Sequence[Proposal], error: BaseException) -> None:
        failure = GroupStopped(f"group {self.id} stopped applying: {error}")
        failure.__cause__ = error
        with self.lock:
            self.failure = failure
            waiting = [*batch, *self.queue]
            self.queue.clear()
            self.draining = False
            readers, self.readers = self.readers, []
        for each in waiting:
            each.reject(failure)
        for _, _, reject in readers:
            reject(failure)

    def when_applied(
        self, index: int, done: Callable[[], None], failed: Callable[[GroupError], None]
    ) -> None:
        """Call `done` once everything up to `index` is applied; from any thread, perhaps at once."""
        with self.lock:
            if self.failure is None and self.applied < index:
                self.readers.append((index, done, failed))
                return
        if self.failure is not None:
            failed(self.failure)
        else:
            done()

    def _release_readers(self) -> None:
        applied = self.applied
        with self.lock:
            ready = [reader for reader in self.readers if reader[0] <= applied]
            self.readers = [reader for reader in self.readers if reader[0] > applied]
        for _, done, _ in ready:
            done()


def _ignore(_: object) -> None:
    """Whoever waited for the entry was told already."""
