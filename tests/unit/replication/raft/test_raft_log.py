"""The log: a stable part, an unstable tail, and three indexes that only move forwards."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vecdb_replication.raft import (
    NO_LIMIT,
    CompactedError,
    Entry,
    MemoryStorage,
    RaftFatal,
    Snapshot,
    UnavailableError,
)
from vecdb_replication.raft.log import RaftLog
from vecdb_replication.raft.unstable import Unstable

from tests.unit.replication.raft.network import storage_with


def entries(first: int, *terms: int) -> list[Entry]:
    return [Entry(term, first + at) for at, term in enumerate(terms)]


def log_of(*terms: int, stored: int | None = None, limit: int = NO_LIMIT) -> RaftLog:
    """A log with these terms, of which `stored` (all by default) are in the storage."""
    cut = len(terms) if stored is None else stored
    log = RaftLog(storage_with(*terms[:cut]), limit)
    if terms[cut:]:
        log.append(entries(cut + 1, *terms[cut:]))
    return log


def terms_of(log: RaftLog) -> list[int]:
    return [log.term(index) for index in range(log.first_index(), log.last_index() + 1)]


@pytest.mark.parametrize(
    ("given_terms", "first", "last", "all_terms", "offset"),
    [
        ((2,), 3, 3, [1, 2, 2], 3),
        ((2, 2), 3, 4, [1, 2, 2, 2], 3),
        ((2,), 1, 1, [2], 1),
        ((3, 3), 2, 3, [1, 3, 3], 2),
    ],
)
def test_appending_replaces_from_the_first_index_on(
    given_terms: tuple[int, ...], first: int, last: int, all_terms: list[int], offset: int
) -> None:
    """Entries after the end are added; those in the middle take the place of all behind."""
    log = log_of(1, 2)
    assert log.append(entries(first, *given_terms)) == last
    assert terms_of(log) == all_terms
    assert log.unstable.offset == offset


@pytest.mark.parametrize("first", [1, 2])
def test_a_committed_entry_is_never_replaced(first: int) -> None:
    """Nor is a gap left: both mean that something is broken beyond repair."""
    log = log_of(1, 2, 3)
    log.commit_to(2)
    with pytest.raises(RaftFatal, match="already committed"):
        log.append(entries(first, 9))
    with pytest.raises(RaftFatal, match="does not follow"):
        log.append(entries(5, 9))
    assert terms_of(log) == [1, 2, 3]


@pytest.mark.parametrize("stored", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("prev", "given_terms", "committed", "last", "all_terms", "commit"),
    [
        ((2, 3), (), 3, None, [1, 2, 3], 1),
        ((3, 4), (4,), 3, None, [1, 2, 3], 1),
        ((3, 3), (), 3, 3, [1, 2, 3], 3),
        ((3, 3), (), 4, 3, [1, 2, 3], 3),
        ((3, 3), (), 2, 3, [1, 2, 3], 2),
        ((3, 3), (), 0, 3, [1, 2, 3], 1),
        ((0, 0), (), 3, 0, [1, 2, 3], 1),
        ((3, 3), (4,), 3, 4, [1, 2, 3, 4], 3),
        ((3, 3), (4,), 5, 4, [1, 2, 3, 4], 4),
        ((3, 3), (4, 4), 3, 5, [1, 2, 3, 4, 4], 3),
        ((2, 2), (4,), 3, 3, [1, 2, 4], 3),
        ((1, 1), (4,), 3, 2, [1, 4], 2),
        ((1, 1), (4, 4), 3, 3, [1, 4, 4], 3),
        ((1, 1), (2,), 3, 2, [1, 2, 3], 2),
    ],
)
def test_a_leaders_entries_attach_where_the_logs_agree(
    stored: int,
    prev: tuple[int, int],
    given_terms: tuple[int, ...],
    committed: int,
    last: int | None,
    all_terms: list[int],
    commit: int,
) -> None:
    """Refused without the entry before them; else what conflicts goes, what agrees stays.

    Whether the log is in the storage or not makes no difference. Commit moves up to what now agrees.
    """
    log = log_of(1, 2, 3, stored=stored)
    log.commit_to(1)
    assert log.maybe_append(prev[0], prev[1], entries(prev[1] + 1, *given_terms), committed) == last
    assert terms_of(log) == all_terms
    assert log.committed == commit


def test_a_conflict_with_a_committed_entry_is_fatal() -> None:
    """A leader that lacks a committed entry cannot be."""
    log = log_of(1, 2, 3)
    log.commit_to(2)
    with pytest.raises(RaftFatal, match="conflicts with one committed"):
        log.maybe_append(1, 1, entries(2, 4), 3)


def test_where_logs_may_agree() -> None:
    """The last entry up to an index that is of no later term; unknown terms may always agree."""
    log = RaftLog(storage_with(2, 3, 3, 3, 4, base=100))
    table = [
        ((105, 4), (105, 4)),
        ((105, 3), (104, 3)),
        ((104, 3), (104, 3)),
        ((104, 2), (101, 2)),
        ((104, 1), (100, 1)),
        ((100, 0), (99, 0)),
        ((106, 9), (106, 0)),
        ((99, 9), (99, 0)),
    ]
    for asked, found in table:
        assert log.find_conflict_by_term(*asked) == found, asked
    assert log_of(5, 6).find_conflict_by_term(2, 4) == (0, 0)
    assert RaftLog(storage_with()).find_conflict_by_term(0, 3) == (0, 0)


def test_which_log_is_more_complete() -> None:
    """The later last term wins; with the same, the longer one; an equal one will do."""
    log = log_of(1, 2, 3)
    assert log.is_up_to_date(4, 1)
    assert log.is_up_to_date(4, 9)
    assert log.is_up_to_date(3, 3)
    assert log.is_up_to_date(3, 4)
    assert not log.is_up_to_date(3, 2)
    assert not log.is_up_to_date(2, 9)


@pytest.mark.parametrize("stored", [0, 2, 4])
def test_reading_across_the_stable_and_the_unstable_part(stored: int) -> None:
    """Wherever the border is, a range reads the same, and a limit cuts it the same."""
    log = log_of(1, 2, 3, 4, stored=stored)
    for low in range(1, 5):
        for high in range(low + 1, 6):
            for limit in (0, 6, 12, 17, 18, NO_LIMIT):
                expected = entries(1, 1, 2, 3, 4)[low - 1 : high - 1][: max(1, limit // 6)]
                assert list(log.slice(low, high, limit)) == expected
    assert list(log.entries(3, NO_LIMIT)) == entries(3, 3, 4)
    assert list(log.entries(5, NO_LIMIT)) == []
    for page in (0, 12, NO_LIMIT):
        assert list(log.scan(1, 5, page)) == entries(1, 1, 2, 3, 4)
    assert list(log.scan(5, 5, NO_LIMIT)) == []


def test_terms_are_known_from_the_last_compacted_entry_to_the_end() -> None:
    """Before and behind that the log says which of both it is."""
    log = RaftLog(storage_with(2, 3, base=10))
    assert [log.term(index) for index in (10, 11, 12)] == [1, 2, 3]
    with pytest.raises(CompactedError):
        log.term(9)
    with pytest.raises(UnavailableError):
        log.term(13)
    with pytest.raises(CompactedError):
        log.slice(10, 12, NO_LIMIT)
    assert [log.term_or_zero(index) for index in (9, 11, 13)] == [0, 2, 0]
    assert log.match_term(11, 2)
    assert not log.match_term(11, 3)
    assert not log.match_term(13, 0)


class Hollow(MemoryStorage):
    """A storage that lost the entries which it says it has."""

    def entries(self, low: int, high: int, max_size: int) -> list[Entry]:
        raise UnavailableError(f"entry {low} is gone")


def test_a_storage_without_its_entries_is_fatal() -> None:
    """What the core was told is stored must be there."""
    storage = Hollow()
    storage.append(entries(1, 1, 1))
    log = RaftLog(storage)
    with pytest.raises(RaftFatal, match="missing from the storage"):
        log.slice(1, 3, NO_LIMIT)


def test_commit_only_rises_and_stays_within_the_log() -> None:
    """Lower is ignored; beyond the end entries must have been lost."""
    log = log_of(1, 2, 3)
    log.commit_to(2)
    log.commit_to(1)
    assert log.committed == 2
    with pytest.raises(RaftFatal, match="beyond the last entry"):
        log.commit_to(4)


def test_a_leader_commits_only_what_is_of_its_term() -> None:
    """An entry of an older term may still be replaced, though it is on a majority (paper 5.4.2)."""
    log = log_of(1, 2, 3)
    assert not log.maybe_commit(3, 2)
    assert not log.maybe_commit(4, 3)
    assert not log.maybe_commit(3, 9)
    assert log.maybe_commit(3, 3)
    assert not log.maybe_commit(3, 3)
    assert log.committed == 3


def test_applied_stays_between_itself_and_commit() -> None:
    """It neither falls back nor overtakes."""
    log = log_of(1, 1, 1)
    log.commit_to(2)
    log.applied_to(1, 0)
    for index in (0, 3):
        with pytest.raises(RaftFatal, match="outside"):
            log.applied_to(index, 0)


def test_what_is_handed_out_to_be_applied_is_bounded() -> None:
    """With room for two entries of six bytes: two are handed out, and no more until some are applied."""
    log = log_of(1, 1, 1, 1, limit=12)
    log.commit_to(4)
    assert list(log.next_committed(True)) == entries(1, 1, 1)
    log.accept_applying(2, 12, True)
    assert not log.has_next_committed(True)
    assert log.next_committed(True) == ()
    log.applied_to(1, 6)
    assert list(log.next_committed(True)) == entries(3, 1)
    log.accept_applying(3, 6, True)
    assert not log.has_next_committed(True)
    log.applied_to(3, 12)
    assert list(log.next_committed(True)) == entries(4, 1)
    log.applied_to(4, 100)
    assert not log.has_next_committed(True)


def test_a_batch_that_was_cut_pauses_until_some_of_it_is_applied() -> None:
    """The next entry did not fit beside it, so the bound would be crossed."""
    log = log_of(1, 1, 1, limit=15)
    log.commit_to(3)
    assert len(log.next_committed(True)) == 2
    log.accept_applying(2, 12, True)
    assert not log.has_next_committed(True)


@pytest.mark.parametrize(("allow_unstable", "applies"), [(True, 3), (False, 1)])
def test_unstable_entries_are_applied_only_if_that_is_allowed(allow_unstable: bool, applies: int) -> None:
    """With asynchronous writes an entry must be known to be stored before it is applied."""
    log = log_of(1, 1, 1, stored=1)
    log.commit_to(3)
    assert len(log.next_committed(allow_unstable)) == applies


def test_nothing_is_applied_beside_a_snapshot() -> None:
    """A snapshot replaces the log, and is applied first."""
    log = log_of(1, 1)
    log.restore(Snapshot(7, 3))
    assert (log.first_index(), log.last_index(), log.last_term(), log.committed) == (8, 7, 3, 7)
    assert log.restoring
    assert log.snapshot() == Snapshot(7, 3)
    log.append(entries(8, 3))
    log.commit_to(8)
    assert not log.has_next_committed(True)
    log.unstable.stable_snapshot_to(6)
    assert log.restoring
    log.unstable.stable_snapshot_to(7)
    assert not log.restoring


# The unstable tail on its own


def tail(first: int, *terms: int, snapshot: Snapshot | None = None) -> Unstable:
    unstable = Unstable(first)
    if snapshot:
        unstable.restore(snapshot)
    if terms:
        unstable.truncate_and_append(entries(first, *terms))
    return unstable


def test_what_the_tail_knows() -> None:
    """Its entries' terms and last index, and the snapshot's before them; nothing else."""
    unstable = tail(5, 1, 2, snapshot=Snapshot(4, 1))
    assert [unstable.term(index) for index in (3, 4, 5, 6, 7)] == [None, 1, 1, 2, None]
    assert unstable.last_index() == 6
    assert tail(5, snapshot=Snapshot(4, 1)).last_index() == 4
    assert tail(5).last_index() is None
    assert tail(5).term(4) is None


def test_what_was_handed_out_is_not_handed_out_again() -> None:
    """Entries and snapshot are offered once; what comes later is offered then."""
    unstable = tail(5, 1, snapshot=Snapshot(4, 1))
    assert list(unstable.next_entries()) == entries(5, 1)
    assert unstable.next_snapshot() == Snapshot(4, 1)
    unstable.accept()
    assert list(unstable.next_entries()) == []
    assert unstable.next_snapshot() is None
    unstable.truncate_and_append(entries(6, 1))
    assert list(unstable.next_entries()) == entries(6, 1)
    empty = tail(5)
    empty.accept()
    assert empty.next_snapshot() is None


def test_whether_there_is_anything_to_hand_out() -> None:
    """Entries or a snapshot that were not handed out yet."""
    unstable = tail(5, snapshot=Snapshot(4, 1))
    assert unstable.has_next
    unstable.accept()
    assert not unstable.has_next
    unstable.truncate_and_append(entries(5, 1))
    assert unstable.has_next
    unstable.accept()
    assert not unstable.has_next


@pytest.mark.parametrize(
    ("term", "index", "offset", "left"),
    [
        (1, 5, 6, [1]),
        (1, 6, 7, []),
        (2, 6, 5, [1, 1]),
        (1, 7, 5, [1, 1]),
        (1, 4, 5, [1, 1]),
        (1, 3, 5, [1, 1]),
    ],
)
def test_only_the_very_entry_that_was_stored_is_dropped(
    term: int, index: int, offset: int, left: list[int]
) -> None:
    """Another term at that index, an index that is not there, or the snapshot's: nothing happens."""
    unstable = tail(5, 1, 1, snapshot=Snapshot(4, 1))
    unstable.accept()
    unstable.stable_to(term, index)
    assert unstable.offset == offset
    assert [entry.term for entry in unstable.entries] == left
    assert unstable.in_progress == 7


def test_what_is_stored_need_not_be_handed_out_any_more() -> None:
    """Even if that was not known to have been done."""
    unstable = tail(5, 1, 1, 1)
    unstable.stable_to(1, 6)
    assert (unstable.offset, unstable.in_progress) == (7, 7)
    assert list(unstable.next_entries()) == entries(7, 1)


@pytest.mark.parametrize(
    ("first", "terms", "offset", "in_progress", "all_terms"),
    [
        (6, (1, 1), 5, 6, [1, 1, 1]),
        (5, (2, 2), 5, 5, [2, 2]),
        (4, (2, 2, 2), 4, 4, [2, 2, 2]),
    ],
)
def test_replaced_entries_are_no_longer_being_written(
    first: int, terms: tuple[int, ...], offset: int, in_progress: int, all_terms: list[int]
) -> None:
    """What takes their place has to be written, whatever was under way."""
    unstable = tail(5, 1)
    unstable.accept()
    unstable.truncate_and_append(entries(first, *terms))
    assert (unstable.offset, unstable.in_progress) == (offset, in_progress)
    assert [entry.term for entry in unstable.entries] == all_terms


def test_replacing_in_the_middle_keeps_what_is_before() -> None:
    """Only entries before the replaced ones are still being written."""
    unstable = tail(5, 1, 1, 1)
    unstable.accept()
    unstable.truncate_and_append(entries(6, 2))
    assert [entry.term for entry in unstable.entries] == [1, 2]
    assert (unstable.offset, unstable.in_progress) == (5, 6)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 4), st.integers(1, 4)),
        st.tuples(st.just("accept"), st.just(0), st.just(0)),
        st.tuples(st.just("store"), st.just(0), st.just(0)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(OPERATIONS)
def test_the_log_reads_as_a_list_whatever_was_stored_meanwhile(steps: list[tuple[str, int, int]]) -> None:
    """Appending, replacing, handing out and storing in any order: it reads as a list would.

    Storing applies exactly what was handed out, as a host does; the term rises with each append.
    """
    storage = storage_with()
    log = RaftLog(storage)
    model: list[int] = []
    handed: list[Entry] = []
    for term, (what, back, count) in enumerate(steps, 1):
        if what == "append":
            keep = max(0, len(model) - back)
            log.append(entries(keep + 1, *[term] * count))
            model[keep:] = [term] * count
        elif what == "accept" and not handed:
            handed = list(log.unstable.next_entries())
            log.unstable.accept()
        elif what == "store" and handed:
            storage.append(handed)
            log.unstable.stable_to(handed[-1].term, handed[-1].index)
            handed = []
        assert terms_of(log) == model
        if model:
            assert [entry.term for entry in log.entries(1, NO_LIMIT)] == model
