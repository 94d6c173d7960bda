"""One node's storage and state machine, in memory, with what of them a crash would leave."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..raft import (
    EMPTY_HARD_STATE,
    EMPTY_SNAPSHOT,
    ConfState,
    Entry,
    HardState,
    MemoryStorage,
    Snapshot,
)


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying one entry did."""

    term: int
    index: int
    appended: bytes
    conf_state: ConfState


class Appender:
    """A state machine whose state is all that was applied to it, one after the other.

    It remembers every step since the snapshot it began from, so that it can be taken back to any.
    """

    def __init__(self, base: Snapshot, steps: Sequence[Applied] = ()) -> None:
        self._base = base
        self._steps = list(steps)

    @property
    def first(self) -> int:
        """The earliest index that it can be taken back to."""
        return self._base.index

    @property
    def index(self) -> int:
        """The applied index."""
        return self._steps[-1].index if self._steps else self._base.index

    @property
    def conf_state(self) -> ConfState:
        """The membership as of the applied index."""
        return self._steps[-1].conf_state if self._steps else self._base.conf_state

    def snapshot(self) -> Snapshot:
        """All of its state."""
        if not self._steps:
            return self._base
        last = self._steps[-1]
        data = self._base.data + b"".join(step.appended for step in self._steps)
        return Snapshot(last.index, last.term, data, last.conf_state)

    def apply(self, entry: Entry, appended: bytes, conf_state: ConfState | None) -> None:
        """Append, and take on a new membership if there is one."""
        self._steps.append(Applied(entry.term, entry.index, appended, conf_state or self.conf_state))

    def as_of(self, index: int) -> "Appender":
        """A copy in the state it had at `index`."""
        return Appender(self._base, [step for step in self._steps if step.index <= index])


class DriverStorage(MemoryStorage):
    """Storage whose newest snapshot is always the state machine's present state."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        super().__init__()
        if snapshot is not None:
            self.apply_snapshot(snapshot)
        self.machine = Appender(snapshot or EMPTY_SNAPSHOT)
        self._durable = self._saved()

    def _saved(self) -> tuple[HardState, Snapshot, tuple[Entry, ...], Appender]:
        return self.hard_state, self._snapshot, tuple(self._entries), self.machine.as_of(self.machine.index)

    def initial_state(self) -> tuple[HardState, ConfState]:
        """The hard state, and the membership as of the applied index."""
        return self.hard_state, self.machine.conf_state

    def snapshot(self) -> Snapshot:
        """The state machine's present state."""
        return self.machine.snapshot()

    def persist(
        self, hard_state: HardState | None, snapshot: Snapshot | None, entries: Sequence[Entry]
    ) -> None:
        """Write what a Ready asks for. A snapshot replaces the state machine's state too.

        Raises SnapshotOutOfDateError, or RaftFatal where entries would leave a gap.
        """
        if hard_state is not None and hard_state != EMPTY_HARD_STATE:
            self.hard_state = hard_state
        if snapshot is not None and snapshot.index:
            self.apply_snapshot(snapshot)
            self.machine = Appender(snapshot)
        self.append(entries)

    def sync(self) -> None:
        """All that was persisted and applied so far survives a crash."""
        self._durable = self._saved()

    def lose_unsynced(self) -> None:
        """Go back to what would have survived."""
        self.hard_state, self._snapshot, entries, machine = self._durable
        self._entries = list(entries)
        self.machine = machine.as_of(machine.index)

    def all_entries(self) -> tuple[Entry, ...]:
        """Everything in the log."""
        return tuple(self._entries[1:])
