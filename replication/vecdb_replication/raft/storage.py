"""Where the core reads what is already stored."""

from collections.abc import Sequence
from typing import Protocol

from .errors import CompactedError, RaftFatal, SnapshotOutOfDateError, UnavailableError
from .messages import EMPTY_HARD_STATE, EMPTY_SNAPSHOT, ConfState, Entry, HardState, Snapshot
from .sizes import limit_size


class Storage(Protocol):
    """The stable part of one replica's log, as the core reads it; only the host writes it.

    What the core was told is stored (by `advance`, or by a storage thread's response) must be
    found here; what is still being written may be found or not. Nothing is dropped while a method
    of the core runs. Indexes are those of the Raft log, starting at 1.
    """

    def initial_state(self) -> tuple[HardState, ConfState]:
        """The stored hard state, and the configuration as of the applied index."""
        ...

    def entries(self, low: int, high: int, max_size: int) -> Sequence[Entry]:
        """Entries in [low, high): as many as fit `max_size` encoded bytes, but at least one.

        Raises CompactedError below `first_index`, UnavailableError beyond `last_index`.
        """
        ...

    def term(self, index: int) -> int:
        """Term of one entry, also of the last one compacted away.

        Raises CompactedError below `first_index() - 1`, UnavailableError beyond `last_index`.
        """
        ...

    def first_index(self) -> int:
        """Index of the first entry still in the log: one after the last compacted, 1 if none was."""
        ...

    def last_index(self) -> int:
        """Index of the last entry; `first_index() - 1` where there is none."""
        ...

    def snapshot(self) -> Snapshot:
        """A snapshot of the state machine to bring a follower up with.

        At or above `first_index() - 1`. Raises SnapshotUnavailableError while there is none.
        """
        ...


class MemoryStorage:
    """A Storage in memory: for tests, and as the model of what a durable one does."""

    def __init__(self) -> None:
        self.hard_state = EMPTY_HARD_STATE
        self._snapshot = EMPTY_SNAPSHOT
        # The first is not in the log: it keeps the term before it, for matching.
        self._entries: list[Entry] = [Entry()]

    def initial_state(self) -> tuple[HardState, ConfState]:
        """The hard state, and the configuration of the newest snapshot."""
        return self.hard_state, self._snapshot.conf_state

    def entries(self, low: int, high: int, max_size: int) -> Sequence[Entry]:
        """Entries in [low, high) up to `max_size` bytes, at least one."""
        base = self._entries[0].index
        if low <= base:
            raise CompactedError(f"entry {low} is compacted, up to {base}")
        if high > self.last_index() + 1:
            raise UnavailableError(f"entry {high - 1} is beyond the last, {self.last_index()}")
        return limit_size(self._entries[low - base : high - base], max_size)

    def term(self, index: int) -> int:
        """Term of the entry at `index`."""
        base = self._entries[0].index
        if index < base:
            raise CompactedError(f"entry {index} is compacted, up to {base}")
        if index > self.last_index():
            raise UnavailableError(f"entry {index} is beyond the last, {self.last_index()}")
        return self._entries[index - base].term

    def first_index(self) -> int:
        """Index of the first entry kept."""
        return self._entries[0].index + 1

    def last_index(self) -> int:
        """Index of the last entry."""
        return self._entries[-1].index

    def snapshot(self) -> Snapshot:
        """The newest snapshot that was applied or created."""
        return self._snapshot

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Begin anew at a snapshot. Raises SnapshotOutOfDateError for one not newer than the last."""
        if self._snapshot.index and self._snapshot.index >= snapshot.index:
            raise SnapshotOutOfDateError(
                f"snapshot {snapshot.index} is not newer than {self._snapshot.index}"
            )
        self._snapshot = snapshot
        self._entries = [Entry(snapshot.term, snapshot.index)]

    def create_snapshot(self, index: int, conf_state: ConfState | None, data: bytes) -> Snapshot:
        """Note that the state machine's state at `index` was saved; None keeps the configuration.

        Raises SnapshotOutOfDateError if it is not newer than the last, RaftFatal beyond the log.
        """
        if index <= self._snapshot.index:
            raise SnapshotOutOfDateError(f"snapshot {index} is not newer than {self._snapshot.index}")
        if index > self.last_index():
            raise RaftFatal(f"snapshot {index} is beyond the last entry, {self.last_index()}")
        state = self._snapshot.conf_state if conf_state is None else conf_state
        self._snapshot = Snapshot(index, self.term(index), data, state)
        return self._snapshot

    def compact(self, index: int) -> None:
        """Drop the log up to and including `index`.

        Raises CompactedError if it is dropped already, RaftFatal beyond the log.
        """
        base = self._entries[0].index
        if index <= base:
            raise CompactedError(f"entry {index} is compacted, up to {base}")
        if index > self.last_index():
            raise RaftFatal(f"compaction up to {index} is beyond the last entry, {self.last_index()}")
        kept = self._entries[index - base]
        self._entries = [Entry(kept.term, kept.index), *self._entries[index - base + 1 :]]

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries, replacing those at their indexes and all behind; compacted ones are skipped.

        Raises RaftFatal where they would leave a gap.
        """
        base = self._entries[0].index
        kept = [entry for entry in entries if entry.index > base]
        if not kept:
            return
        if kept[0].index > self.last_index() + 1:
            raise RaftFatal(f"entry {kept[0].index} does not follow the last, {self.last_index()}")
        self._entries[kept[0].index - base :] = kept
