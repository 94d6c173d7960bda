"""The tail of the log that is not known to be stored yet."""

from collections.abc import Sequence

from .messages import Entry, Snapshot


class Unstable:
    """Entries and snapshot between the core and the storage.

    `entries[i]` has index `offset + i`. Those below `in_progress` were handed out for writing and
    are kept until the write is reported: until then only here they can be read for sure. The
    offset may be below the storage's last index: then writing replaces what is stored there.
    """

    __slots__ = ("entries", "in_progress", "offset", "snapshot", "snapshot_in_progress")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.in_progress = offset
        self.entries: list[Entry] = []
        self.snapshot: Snapshot | None = None
        self.snapshot_in_progress = False

    def last_index(self) -> int | None:
        """The last index, if it is known here."""
        if self.entries:
            return self.offset + len(self.entries) - 1
        return self.snapshot.index if self.snapshot else None

    def term(self, index: int) -> int | None:
        """The term at `index`, if it is known here."""
        position = index - self.offset
        if 0 <= position < len(self.entries):
            return self.entries[position].term
        if self.snapshot and self.snapshot.index == index:
            return self.snapshot.term
        return None

    @property
    def has_next(self) -> bool:
        """Whether there is anything that nobody was told to write yet."""
        if self.in_progress < self.offset + len(self.entries):
            return True
        return self.snapshot is not None and not self.snapshot_in_progress

    def next_entries(self) -> Sequence[Entry]:
        """Entries that nobody was told to write yet."""
        return self.entries[self.in_progress - self.offset :]

    def next_snapshot(self) -> Snapshot | None:
        """The snapshot, if nobody was told to write it yet."""
        return None if self.snapshot_in_progress else self.snapshot

    def accept(self) -> None:
        """All there is was handed out for writing."""
        self.in_progress = self.offset + len(self.entries)
        self.snapshot_in_progress = self.snapshot is not None

    def stable_to(self, term: int, index: int) -> None:
        """Entries up to (term, index) are stored: drop them.

        Ignored unless exactly that entry is here; another one has replaced it meanwhile, or it is
        gone already.
        """
        position = index - self.offset
        if not 0 <= position < len(self.entries) or self.entries[position].term != term:
            return
        del self.entries[: position + 1]
        self.offset = index + 1
        self.in_progress = max(self.in_progress, self.offset)

    def stable_snapshot_to(self, index: int) -> None:
        """The snapshot at `index` is stored: drop it."""
        if self.snapshot and self.snapshot.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False

    def restore(self, snapshot: Snapshot) -> None:
        """Begin anew at a snapshot."""
        self.offset = self.in_progress = snapshot.index + 1
        self.entries = []
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    def truncate_and_append(self, entries: Sequence[Entry]) -> None:
        """Append entries, replacing those at their indexes and all behind."""
        first = entries[0].index
        if first <= self.offset:
            # Nothing of what is here stays; what replaces it must be written, whatever was under way.
            self.entries = list(entries)
            self.offset = self.in_progress = first
            return
        self.entries[first - self.offset :] = entries
        self.in_progress = min(self.in_progress, first)

    def slice(self, low: int, high: int) -> Sequence[Entry]:
        """Entries in [low, high), all of which are here."""
        return self.entries[low - self.offset : high - self.offset]
