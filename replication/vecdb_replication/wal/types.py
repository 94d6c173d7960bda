"""The values that go into the log and come out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """One Raft log entry. `kind` (0 to 255) belongs to the caller; the log only stores it."""

    term: int
    index: int
    kind: int
    data: bytes


@dataclass(frozen=True, slots=True)
class HardState:
    """What a Raft node must not forget: its term, its vote (0 for none) and the commit index."""

    term: int = 0
    vote: int = 0
    commit: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotMark:
    """Everything up to and including `index` (of `term`) lives in a snapshot; `conf` is opaque.

    Where the group's log holds that very entry, only the entries up to it go (compaction). Where the
    mark is beyond the log or contradicts it, the whole log goes and begins anew behind the mark.
    """

    index: int
    term: int
    conf: bytes = b""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The group's replica with this id was removed from this node for ever.

    Replica ids grow within a group and are never used twice, so the largest one buried says it all.
    """

    replica_id: int


@dataclass(frozen=True, slots=True)
class GroupUpdate:
    """What one group wants durable; applied in the order snapshot, entries, hard state.

    A tombstone comes alone: it empties the group (log, hard state and snapshot), and later updates
    belong to a new replica.

    `after`, the index and term of an entry, says what the update builds on: the entry before its
    first one, or without any the last of the log. Where the log has something else there, the update
    is refused. So of updates that are under way at once, none outlives one before it that was refused.
    """

    group: int
    entries: Sequence[Entry] = ()
    hard_state: HardState | None = None
    snapshot: SnapshotMark | None = None
    tombstone: Tombstone | None = None
    after: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class GroupState:
    """What the log knows of a group. An empty log has `last_index == first_index - 1`."""

    hard_state: HardState = HardState()
    first_index: int = 1
    last_index: int = 0
    snapshot: SnapshotMark | None = None
    tombstone: Tombstone | None = None
    log_bytes: int = 0
    """Bytes of entry data between first and last index."""


@dataclass(frozen=True, slots=True)
class Tear:
    """An unfinished last write that recovery cut off: `cut` bytes of `path` from `offset` on."""

    path: Path
    offset: int
    cut: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening the log found: its segments, records and bytes, and the tear if there was one."""

    segments: int = 0
    records: int = 0
    bytes: int = 0
    tear: Tear | None = None
