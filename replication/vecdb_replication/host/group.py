"""One group as the host's core sees it: its replica, what waits to be applied, and who waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vecdb_replication import raft
from vecdb_replication.host.errors import (
    GroupBlocked,
    GroupError,
    GroupStopped,
    HostClosed,
    OutcomeUnknown,
    StorageFull,
    UnknownGroup,
)
from vecdb_replication.host.machine import StateMachine
from vecdb_replication.host.replica import Replica
from vecdb_replication.host.work import Append, Batch, Output, Reader, Task


@dataclass(slots=True, eq=False)
class Group:
    """A replica and its state machine. Knows no threads: its tasks are given out one at a time."""

    id: int
    machine: StateMachine
    replica: Replica
    max_apply_bytes: int
    queue: deque[Batch] = field(default_factory=deque)
    task: Task | None = None
    failure: GroupError | None = None
    """Why nothing is applied any more. An entry behind one that was not applied must not be either."""
    blocked: str = ""
    """Why nothing can be applied for now."""
    removed: bool = False
    readers: list[Reader] = field(default_factory=list)
    held_back: list[Append] | None = None
    """While a snapshot is being staged, its append and those behind it."""
    offer: tuple[str, raft.Message] | None = None
    """The last snapshot's message that went in, and who sent it: taken up again, should it not be written."""
    newer: tuple[str, raft.Message] | None = None
    """A snapshot's message that came while another one was under way: it waits until that is in its place."""
    staged: Append | None = None
    """The append whose snapshot was staged last."""

    @property
    def in_flight(self) -> int:
        """Writes that the log has not answered."""
        return self.replica.in_flight

    @property
    def applied(self) -> int:
        """The newest entry that is dealt with."""
        return self.replica.applied

    @property
    def members(self) -> frozenset[int]:
        """The replicas of the group, as far as that is applied here."""
        conf = self.replica.conf
        return frozenset({*conf.voters, *conf.voters_outgoing, *conf.learners, *conf.learners_next})

    @property
    def problem(self) -> str:
        """What is wrong; empty where nothing is."""
        if self.failure is not None:
            return str(self.failure)
        refused = self.replica.refused
        return self.blocked or (str(refused) if refused is not None else "")

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self.replica.idle and not self.queue and self.task is None

    @property
    def has_work(self) -> bool:
        """Whether a pass would find anything to do here. Most ticks and heartbeats leave nothing."""
        replica = self.replica
        if self.failure is not None or replica.inbox or replica.wants_snapshot or replica.node.has_ready():
            return True
        return bool(self.queue) and self.task is None

    @property
    def takes_snapshot(self) -> bool:
        """Whether a snapshot has gone in and is not in the state's place yet."""
        if self.replica.node.restoring or self.held_back is not None:
            return True
        installing = self.task is not None and self.task.install > 0
        return installing or any(batch.install for batch in self.queue)

    def next_task(self) -> Task | None:
        """What to apply now, if anything: whole batches, and a snapshot alone."""
        if self.task is not None or self.blocked or self.failure is not None or not self.queue:
            return None
        if self.queue[0].install:
            batch = self.queue.popleft()
            self.task = Task(self.id, self.machine, (batch,), (), batch.install)
            return self.task
        batches: list[Batch] = []
        entries: list[tuple[int, bytes]] = []
        size = 0
        while self.queue and not self.queue[0].install:
            added = self.queue[0].size
            if batches and size + added > self.max_apply_bytes:
                break
            size += added
            batches.append(self.queue.popleft())
            entries += [(i.entry.index, i.entry.data) for i in batches[-1].items if i.is_for_machine]
        self.task = Task(self.id, self.machine, batches, entries)
        return self.task

    def foresee(self, append: Append) -> Task | None:
        """What a worker may begin as soon as an append is durable; None where something comes before it."""
        if len(append.batches) != 1 or self.in_flight > 1 or self.task is not None or self.queue:
            return None
        if self.blocked or self.failure is not None:
            return None
        entries = [(item.entry.index, item.entry.data) for item in append.batches[0].items]
        self.task = Task(self.id, self.machine, append.batches, entries, append=append)
        return self.task

    def refused(self, append: Append) -> None:
        """An append is not durable: what was foreseen of it is void."""
        if self.task is not None and self.task.append is append:
            self.task = None

    def done(self, results: Sequence[object]) -> Output:
        """The task was done; who waited for it is told."""
        task, self.task = self.task, None
        assert task is not None, "only a task that was given out comes back"
        out = Output()
        if len(results) != len(task.entries):
            failure = GroupStopped(f"{len(results)} results came back for {len(task.entries)} entries")
            self.queue.extendleft(reversed(task.batches))
            self.end(failure)
            return out
        answers = iter(results)
        for batch in task.batches:
            if self.failure is None:
                out.messages += self.replica.finished(batch).messages
            self._resolve(batch, answers)
        self.release()
        return out

    def skip(self) -> Output:
        """What has nothing for the state machine needs no worker: it is done as soon as its turn comes."""
        out = Output()
        while self.task is None and not self.blocked and self.queue and self.queue[0].is_empty:
            batch = self.queue.popleft()
            out.messages += self.replica.finished(batch).messages
            self._resolve(batch, iter(()))
            self.release()
        return out

    def _resolve(self, batch: Batch, answers: Iterator[object]) -> None:
        for item in batch.items:
            result = next(answers) if item.is_for_machine else None
            if item.proposal is not None:
                changed = item.entry.type is not raft.EntryType.NORMAL
                item.proposal.resolve(item.entry.index, self.replica.conf if changed else result)

    def failed(self, error: BaseException) -> None:
        """The task failed: for good, or for want of room."""
        task, self.task = self.task, None
        assert task is not None, "only a task that was given out comes back"
        if isinstance(error, StorageFull):
            self._block(task, str(error))
            return
        failure = GroupStopped(f"group {self.id} stopped applying: {error}")
        failure.__cause__ = error
        self.queue.extendleft(reversed(task.batches))
        self.end(failure)

    def _block(self, task: Task, why: str) -> None:
        """Put the entries back: they are in the log and have to be applied. Those who wait are told now."""
        self.blocked = why
        self.queue.extendleft(reversed(task.batches))
        self._tell(
            GroupBlocked(
                f"written to the log but not applied yet: {why}; it will be once there is room", durable=True
            )
        )

    def _tell(self, error: GroupError) -> None:
        """Tell those whose entries wait to be applied that they wait in vain, or for too long."""
        for batch in self.queue:
            batch.reject(error)

    def end(self, failure: GroupError) -> None:
        """Apply nothing from now on, and tell everyone who waits."""
        self.failure = self.failure or failure
        entered: GroupError = failure
        if isinstance(failure, UnknownGroup | HostClosed) and self.members - {self.replica.id}:
            # It says that nothing was written. Of what has entered the log, others go on without this one.
            entered = OutcomeUnknown(f"other replicas may have the entry; here {failure}")
        self._tell(entered)
        self.queue.clear()
        self.replica.abandon(failure, entered)
        readers, self.readers = self.readers, []
        for reader in readers:
            reader.failed(failure)

    def enqueue(self, batches: Sequence[Batch]) -> None:
        """Take committed entries."""
        if self.task is not None and self.task.append is not None and self.task.batches[0] is batches[0]:
            # It was foreseen, and a worker has it.
            return
        self.queue.extend(batches)
        if self.failure is not None:
            self._tell(self.failure)
            self.queue.clear()
        elif self.blocked:
            self._tell(GroupBlocked(f"written to the log but not applied yet: {self.blocked}", durable=True))

    def wait(self, reader: Reader) -> None:
        """Answer the reader once its index is applied, perhaps at once."""
        if self.failure is not None:
            reader.failed(self.failure)
        elif self.applied >= reader.index:
            reader.done(reader.index)
        else:
            self.readers.append(reader)

    def forget(self, reader: Reader) -> None:
        """A reader has stopped waiting. Without this, those who wait for what never comes would pile up."""
        self.replica.unread(reader)
        if reader in self.readers:
            self.readers.remove(reader)

    def release(self) -> None:
        """Answer the readers whose index is applied."""
        applied = self.applied
        ready = [reader for reader in self.readers if reader.index <= applied]
        if ready:
            self.readers = [reader for reader in self.readers if reader.index > applied]
        for reader in ready:
            reader.done(reader.index)
