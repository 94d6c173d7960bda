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
class Reader:
    """Someone who waits until the entry at `index` is applied."""

    index: int
    done: Callable[[], None]
    failed: Callable[[GroupError], None]


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
    """Why nothing is applied any more. An entry behind one that was not applied must not be either."""
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
    readers: list[Reader] = field(default_factory=list)

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
                failure = GroupStopped(f"group {self.id} stopped applying: {error}")
                failure.__cause__ = error
                self.end(failure, batch)
                return True
            self.blocked = ""
            self.applied = batch[-1].index
            for each, result in zip(batch, results, strict=True):
                each.resolve(result)
            self._release_readers()
        return True

    def _take(self) -> Sequence[Proposal]:
        """The next entries to apply; none where there are none, or none may be applied any more."""
        batch: list[Proposal] = []
        size = 0
        with self.lock:
            if (failure := self.failure) is None:
                while self.queue and (not batch or size + len(self.queue[0].data) <= _MAX_APPLY_BYTES):
                    batch.append(self.queue.popleft())
                    size += len(batch[-1].data)
            if batch:
                return batch
            self.draining = False
            left = list(self.queue)
            self.queue.clear()
        for each in left:
            assert failure is not None, "entries are left only where none may be applied"
            each.reject(failure)
        return ()

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

    def end(self, failure: GroupError, batch: Sequence[Proposal] = ()) -> None:
        """Apply nothing from now on, and tell everyone who waits; from any thread."""
        with self.lock:
            self.failure = failure
            waiting = [*batch, *self.queue]
            self.queue.clear()
            if batch:
                self.draining = False
            readers, self.readers = self.readers, []
        for each in waiting:
            each.reject(failure)
        for reader in readers:
            reader.failed(failure)

    def when_applied(self, reader: Reader) -> None:
        """Call `done` of the reader once its index is applied; from any thread, perhaps at once."""
        with self.lock:
            if self.failure is None and self.applied < reader.index:
                self.readers.append(reader)
                return
        if self.applied >= reader.index:
            reader.done()
        elif self.failure is not None:
            reader.failed(self.failure)

    def forget(self, reader: Reader) -> None:
        """A reader has stopped waiting. Without this, those who wait for what never comes would pile up."""
        with self.lock:
            if reader in self.readers:
                self.readers.remove(reader)

    def _release_readers(self) -> None:
        applied = self.applied
        with self.lock:
            ready = [reader for reader in self.readers if reader.index <= applied]
            self.readers = [reader for reader in self.readers if reader.index > applied]
        for reader in ready:
            reader.done()


def _ignore(_: object) -> None:
    """Whoever waited for the entry was told already."""
