"""The storage in memory: the model of what a durable one does."""

from collections.abc import Callable

import pytest
from vecdb_replication.raft import (
    EMPTY_SNAPSHOT,
    NO_LIMIT,
    CompactedError,
    ConfState,
    Entry,
    HardState,
    MemoryStorage,
    RaftFatal,
    Snapshot,
    SnapshotOutOfDateError,
    UnavailableError,
)
from vecdb_replication.raft.sizes import entries_size, entry_size, limit_size, payload_size, varint_size

from tests.unit.replication.raft.network import storage_with


def kept() -> MemoryStorage:
    """Entries 4 and 5 of terms 4 and 5, after 3 of term 3."""
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(3, 3))
    storage.append([Entry(4, 4), Entry(5, 5)])
    return storage


def test_what_is_stored_can_be_read() -> None:
    """Entries, their terms, and the term of the last one compacted."""
    storage = kept()
    assert (storage.first_index(), storage.last_index()) == (4, 5)
    assert [storage.term(index) for index in (3, 4, 5)] == [3, 4, 5]
    assert list(storage.entries(4, 6, NO_LIMIT)) == [Entry(4, 4), Entry(5, 5)]
    assert list(storage.entries(4, 6, 0)) == [Entry(4, 4)]
    assert list(storage.entries(5, 5, NO_LIMIT)) == []
    assert storage.initial_state() == (HardState(), ConfState())
    assert MemoryStorage().snapshot() == EMPTY_SNAPSHOT


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (lambda storage: storage.term(2), CompactedError),
        (lambda storage: storage.term(6), UnavailableError),
        (lambda storage: storage.entries(3, 5, 10), CompactedError),
        (lambda storage: storage.entries(4, 7, 10), UnavailableError),
        (lambda storage: storage.compact(3), CompactedError),
        (lambda storage: storage.compact(6), RaftFatal),
        (lambda storage: storage.create_snapshot(6, None, b""), RaftFatal),
        (lambda storage: storage.create_snapshot(3, None, b""), SnapshotOutOfDateError),
        (lambda storage: storage.apply_snapshot(Snapshot(3, 3)), SnapshotOutOfDateError),
        (lambda storage: storage.append([Entry(6, 7)]), RaftFatal),
    ],
)
def test_what_is_not_there_says_why(read: Callable[[MemoryStorage], object], error: type[Exception]) -> None:
    """Compacted and not-yet-there are told apart; what would leave a gap is fatal."""
    storage = kept()
    with pytest.raises(error):
        read(storage)
    assert (storage.first_index(), storage.last_index()) == (4, 5)


@pytest.mark.parametrize(
    ("entries", "terms"),
    [
        ([], [4, 5]),
        ([(1, 1), (2, 2)], [4, 5]),
        ([(3, 3), (4, 4), (5, 5)], [4, 5]),
        ([(3, 3), (4, 6), (5, 6)], [6, 6]),
        ([(3, 3), (4, 4), (5, 5), (6, 5)], [4, 5, 5]),
        ([(2, 3), (3, 3), (4, 5)], [5]),
        ([(4, 5)], [5]),
        ([(6, 5)], [4, 5, 5]),
    ],
)
def test_appending_replaces_from_the_first_entry_on(entries: list[tuple[int, int]], terms: list[int]) -> None:
    """Compacted entries are skipped; the rest replaces all from its first index."""
    storage = kept()
    storage.append([Entry(term, index) for index, term in entries])
    assert [storage.term(index) for index in range(4, storage.last_index() + 1)] == terms


def test_a_snapshot_notes_the_state_and_compaction_drops_the_log() -> None:
    """Independently: the log may reach further back than the snapshot."""
    storage = kept()
    members = ConfState((1, 2))
    assert storage.create_snapshot(4, members, b"state") == Snapshot(4, 4, b"state", members)
    assert storage.first_index() == 4
    assert storage.create_snapshot(5, None, b"later").conf_state == members
    storage.compact(5)
    assert (storage.first_index(), storage.last_index(), storage.term(5)) == (6, 5, 5)
    storage.apply_snapshot(Snapshot(9, 7))
    assert (storage.first_index(), storage.last_index(), storage.term(9)) == (10, 9, 7)


def test_a_storage_may_begin_with_a_configuration_alone() -> None:
    """At index 0, for a group that starts from nothing; a snapshot may still follow."""
    storage = storage_with(voters=(1,))
    assert storage.initial_state()[1].voters == (1,)
    storage.apply_snapshot(Snapshot(1, 1))
    assert storage.last_index() == 1


def test_sizes_are_those_of_the_protobuf_encoding() -> None:
    """Tag and varint of type, term and index always; of data only if there is any."""
    table = [
        (Entry(), 6),
        (Entry(1, 1), 6),
        (Entry(1, 1, data=b"x"), 9),
        (Entry(127, 128), 7),
        (Entry(2**64 - 1, 2**64 - 1), 24),
        (Entry(1, 1, data=b"x" * 127), 6 + 2 + 127),
        (Entry(1, 1, data=b"x" * 128), 6 + 3 + 128),
    ]
    for entry, size in table:
        assert entry_size(entry) == size
    assert [varint_size(value) for value in (0, 1, 127, 128, 2**14 - 1, 2**14, 2**63)] == [
        1,
        1,
        1,
        2,
        2,
        3,
        10,
    ]
    entries = [Entry(1, 1, data=b"ab"), Entry(1, 2), Entry(1, 3, data=b"c")]
    assert entries_size(entries) == 10 + 6 + 9
    assert payload_size(entries) == 3


def test_a_prefix_that_fits_is_never_empty() -> None:
    """As many entries as the limit allows, but the first whatever its size."""
    entries = [Entry(4, 4), Entry(5, 5), Entry(6, 6)]
    for limit, count in ((NO_LIMIT, 3), (18, 3), (17, 2), (12, 2), (11, 1), (6, 1), (0, 1)):
        assert list(limit_size(entries, limit)) == entries[:count]
    assert list(limit_size([], 0)) == []
