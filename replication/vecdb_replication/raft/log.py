"""The replicated log: the storage's stable part with the unstable tail over it.

Three indexes move over it, only ever forwards: `committed`, `applying` (handed to the host) and
`applied` (reported back), with applied <= applying <= committed <= last index.
"""

from collections.abc import Iterator, Sequence

from .errors import CompactedError, RaftFatal, UnavailableError
from .messages import NO_LIMIT, Entry, Snapshot
from .sizes import limit_size
from .storage import Storage
from .unstable import Unstable


class RaftLog:
    """One replica's log. `max_applying_size` bounds the encoded bytes handed out but not applied."""

    __slots__ = (
        "_applying_paused",
        "_applying_size",
        "_max_applying_size",
        "_storage",
        "applied",
        "applying",
        "committed",
        "unstable",
    )

    def __init__(self, storage: Storage, max_applying_size: int = NO_LIMIT) -> None:
        self._storage = storage
        self._max_applying_size = max_applying_size
        self._applying_size = 0
        self._applying_paused = False
        self.unstable = Unstable(storage.last_index() + 1)
        compacted = storage.first_index() - 1
        self.committed = self.applying = self.applied = compacted

    # What the log holds

    def first_index(self) -> int:
        """Index of the first entry that can still be read."""
        snapshot = self.unstable.snapshot
        return snapshot.index + 1 if snapshot else self._storage.first_index()

    def last_index(self) -> int:
        """Index of the last entry, stored or not."""
        index = self.unstable.last_index()
        return self._storage.last_index() if index is None else index

    def last_term(self) -> int:
        """Term of the last entry."""
        return self.term(self.last_index())

    def term(self, index: int) -> int:
        """Term of the entry at `index`, from the last one compacted to the last there is.

        Raises CompactedError or UnavailableError outside of that.
        """
        term = self.unstable.term(index)
        if term is not None:
            return term
        # The one just below the first is gone, but its term still serves to match logs.
        if index + 1 < self.first_index():
            raise CompactedError(f"entry {index} is compacted")
        if index > self.last_index():
            raise UnavailableError(f"entry {index} is beyond the last")
        return self._storage.term(index)

    def term_or_zero(self, index: int) -> int:
        """The term at `index`, or zero where it cannot be known."""
        try:
            return self.term(index)
        except (CompactedError, UnavailableError):
            return 0

    def match_term(self, index: int, term: int) -> bool:
        """Whether the entry at `index` is known and of this term."""
        try:
            return self.term(index) == term
        except (CompactedError, UnavailableError):
            return False

    def is_up_to_date(self, term: int, index: int) -> bool:
        """Whether a log ending so has all that this one has committed, for all it knows (paper 5.4.1)."""
        return (term, index) >= (self.last_term(), self.last_index())

    def entries(self, low: int, max_size: int) -> Sequence[Entry]:
        """Entries from `low` to the end, up to `max_size` encoded bytes but at least one."""
        last = self.last_index()
        return self.slice(low, last + 1, max_size) if low <= last else ()

    def slice(self, low: int, high: int, max_size: int) -> Sequence[Entry]:
        """Entries in [low, high), which must not be empty, cut to `max_size` but at least one.

        Raises CompactedError if the first is no longer there.
        """
        if low < self.first_index():
            raise CompactedError(f"entry {low} is compacted")
        offset = self.unstable.offset
        if low >= offset:
            return limit_size(self.unstable.slice(low, high), max_size)
        cut = min(high, offset)
        try:
            stored = self._storage.entries(low, cut, max_size)
        except UnavailableError as error:
            raise RaftFatal(f"entries [{low}, {cut}) are missing from the storage") from error
        if high <= offset or len(stored) < cut - low:
            return stored
        return limit_size([*stored, *self.unstable.slice(offset, high)], max_size)

    def scan(self, low: int, high: int, page_size: int) -> Iterator[Entry]:
        """Entries in [low, high), read page by page."""
        while low < high:
            page = self.slice(low, high, page_size)
            yield from page
            low += len(page)

    def snapshot(self) -> Snapshot:
        """The newest snapshot. Raises SnapshotUnavailableError while there is none."""
        return self.unstable.snapshot or self._storage.snapshot()

    @property
    def restoring(self) -> bool:
        """Whether a snapshot waits to be stored, or is being stored."""
        return self.unstable.snapshot is not None

    # How it grows

    def append(self, entries: Sequence[Entry]) -> int:
        """Append entries, replacing those at their indexes and all behind; the new last index.

        Raises RaftFatal if that would replace a committed entry or leave a gap.
        """
        first = entries[0].index
        if first <= self.committed:
            raise RaftFatal(f"entry {first} is already committed, up to {self.committed}")
        if first > self.last_index() + 1:
            raise RaftFatal(f"entry {first} does not follow the last, {self.last_index()}")
        self.unstable.truncate_and_append(entries)
        return self.last_index()

    def maybe_append(
        self, prev_term: int, prev_index: int, entries: Sequence[Entry], committed: int
    ) -> int | None:
        """Take a leader's entries if they attach to this log; the last index that now agrees with it.

        None if the entry before them is not here. Entries that are here already stay as they are:
        an old append that arrives late must not cut off what came after it.
        """
        if not self.match_term(prev_index, prev_term):
            return None
        last_new = prev_index + len(entries)
        conflict = self._find_conflict(entries)
        if conflict is not None:
            if entries[conflict].index <= self.committed:
                raise RaftFatal(
                    f"entry {entries[conflict].index} conflicts with one committed, up to {self.committed}"
                )
            self.append(entries[conflict:])
        self.commit_to(min(committed, last_new))
        return last_new

    def _find_conflict(self, entries: Sequence[Entry]) -> int | None:
        """Position of the first entry that is not in the log, with its term, already."""
        for position, entry in enumerate(entries):
            if not self.match_term(entry.index, entry.term):
                return position
        return None

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The highest (index, term) here, up to `index`, that a log with `term` at `index` may share.

        Terms only grow along a log, so entries of a higher term than `term` cannot be in the other
        one. The term is 0 where it cannot be known.
        """
        while index > 0:
            try:
                ours = self.term(index)
            except (CompactedError, UnavailableError):
                return index, 0
            if ours <= term:
                return index, ours
            index -= 1
        return 0, 0

    def restore(self, snapshot: Snapshot) -> None:
        """Begin anew at a snapshot."""
        self.committed = snapshot.index
        self.unstable.restore(snapshot)

    # How far it is committed and applied

    def commit_to(self, index: int) -> None:
        """Raise the commit index. Raises RaftFatal beyond the log: entries were lost."""
        if index <= self.committed:
            return
        if index > self.last_index():
            raise RaftFatal(f"commit index {index} is beyond the last entry, {self.last_index()}")
        self.committed = index

    def maybe_commit(self, term: int, index: int) -> bool:
        """Commit up to `index`, which somebody has found to be committed, if that entry is of `term`.

        A leader finds out for entries of its own term only (paper 5.4.2). Here the same index and term is
        the same entry (5.3).
        """
        if index > self.committed and self.term_or_zero(index) == term:
            self.commit_to(index)
            return True
        return False

    def _max_appliable(self, allow_unstable: bool) -> int:
        return self.committed if allow_unstable else min(self.committed, self.unstable.offset - 1)

    def has_next_committed(self, allow_unstable: bool) -> bool:
        """Whether there is something to apply now."""
        # A snapshot is applied first, and alone. Mostly there is nothing committed, which is soon said.
        if self.applying >= self.committed or self._applying_paused or self.restoring:
            return False
        return self.applying < self._max_appliable(allow_unstable)

    def next_committed(self, allow_unstable: bool) -> Sequence[Entry]:
        """The next entries to apply; without `allow_unstable` only those known to be stored."""
        if not self.has_next_committed(allow_unstable):
            return ()
        room = self._max_applying_size - self._applying_size
        return self.slice(self.applying + 1, self._max_appliable(allow_unstable) + 1, room)

    def accept_applying(self, index: int, size: int, allow_unstable: bool) -> None:
        """Entries up to `index`, of `size` encoded bytes, were handed out to be applied."""
        self.applying = index
        self._applying_size += size
        # Pause too if the batch was cut: the next entry would not have fitted beside it.
        self._applying_paused = self._applying_size >= self._max_applying_size or index < self._max_appliable(
            allow_unstable
        )

    def applied_to(self, index: int, size: int) -> None:
        """Entries up to `index` were applied, freeing `size` encoded bytes.

        Raises RaftFatal if `index` falls back or is not committed.
        """
        if not self.applied <= index <= self.committed:
            raise RaftFatal(f"applied index {index} is outside [{self.applied}, {self.committed}]")
        self.applied = index
        self.applying = max(self.applying, index)
        self._applying_size = max(self._applying_size - size, 0)
        self._applying_paused = self._applying_size >= self._max_applying_size
