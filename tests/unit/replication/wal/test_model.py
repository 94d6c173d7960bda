"""The log against a plain dictionary, through crashes, rotation, compaction and dropped segments."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from vecdb_replication.wal import (
    Entry,
    GroupUpdate,
    HardState,
    LogDamaged,
    LogFailed,
    LogFull,
    SnapshotMark,
    Tombstone,
    Wal,
)

from tests.support.faultfs import FaultFileSystem

PATH = Path("/log")
GROUPS = st.integers(1, 4)


@dataclass
class Group:
    """What a group must be, as plainly as it can be said."""

    hard_state: HardState = field(default_factory=HardState)
    mark: SnapshotMark | None = None
    stone: Tombstone | None = None
    entries: dict[int, Entry] = field(default_factory=dict)

    @property
    def first(self) -> int:
        return self.mark.index + 1 if self.mark else 1

    @property
    def last(self) -> int:
        return max(self.entries, default=self.first - 1)

    def apply(self, update: GroupUpdate) -> None:
        if update.tombstone:
            self.hard_state, self.mark, self.entries, self.stone = HardState(), None, {}, update.tombstone
        if mark := update.snapshot:
            held = self.entries.get(mark.index)
            same = held.term == mark.term if held else self.mark and self.mark.index == mark.index
            self.entries = {i: e for i, e in self.entries.items() if i > mark.index and same}
            self.mark = mark
        if update.entries:
            first = update.entries[0].index
            self.entries = {i: e for i, e in self.entries.items() if i < first}
            self.entries |= {entry.index: entry for entry in update.entries}
        self.hard_state = update.hard_state or self.hard_state


Model = dict[int, Group]


class LogMachine(RuleBasedStateMachine):
    """`states` holds what the log may be after a crash: as of the last sync first, then append by append."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.fs = FaultFileSystem(seed)
        self.states: list[Model] = [{}]
        self.terms = 1
        self.reopen()

    def reopen(self) -> None:
        self.wal = Wal.open(
            PATH, fs=self.fs, segment_bytes=2500, cache_bytes=self.fs.random.choice((0, 2000, 1 << 20))
        )

    @property
    def model(self) -> Model:
        return self.states[-1]

    def log(self, updates: list[GroupUpdate]) -> None:
        self.wal.append(updates)
        after = copy.deepcopy(self.model)
        for update in updates:
            after.setdefault(update.group, Group()).apply(update)
        self.states.append(after)

    def synced(self) -> None:
        self.states = [self.model]

    @rule(
        parts=st.lists(
            st.tuples(GROUPS, st.integers(0, 5), st.integers(0, 8), st.integers(0, 400)),
            min_size=1,
            max_size=3,
            unique_by=lambda part: part[0],
        ),
        vote=st.integers(0, 3),
    )
    def append(self, parts: list[tuple[int, int, int, int]], vote: int) -> None:
        self.log([self.update(*part, vote) for part in parts])

    def update(self, group: int, back: int, count: int, size: int, vote: int) -> GroupUpdate:
        known = self.model.get(group, Group())
        first = max(known.first, known.last + 1 - back)
        self.terms += back > 0
        entries = [
            Entry(self.terms, i, i % 7, i.to_bytes(2, "big") * (size // 2))
            for i in range(first, first + count)
        ]
        return GroupUpdate(group, entries, HardState(self.terms, vote, first - 1))

    @rule()
    def sync(self) -> None:
        self.wal.sync()
        self.synced()

    @rule(group=GROUPS, back=st.integers(0, 6))
    def compact(self, group: int, back: int) -> None:
        known = self.model.get(group, Group())
        index = known.last - back
        if known.first <= index:
            conf = f"conf {index}".encode()
            term = known.entries[index].term
            self.wal.compact(group, index, term, conf=conf)
            after = copy.deepcopy(self.model)
            after[group].apply(GroupUpdate(group, snapshot=SnapshotMark(index, term, conf)))
            self.states.append(after)

    @rule(group=GROUPS, ahead=st.integers(-3, 4))
    def install_snapshot(self, group: int, ahead: int) -> None:
        known = self.model.get(group, Group())
        index = max(known.first, known.last + ahead)
        self.terms += 1
        self.log(
            [GroupUpdate(group, (), HardState(self.terms, 0, index), SnapshotMark(index, self.terms, b"i"))]
        )

    @rule(group=GROUPS)
    def bury(self, group: int) -> None:
        self.terms += 1
        self.log([GroupUpdate(group, tombstone=Tombstone(self.terms))])

    @rule()
    def drop_segments(self) -> None:
        oldest = min(self.fs.image())
        if self.wal.drop_segments():
            assert oldest not in self.fs.image()
        else:
            assert len(self.fs.image()) == 1 or self.wal.pinned()
        self.synced()

    @rule(capacity=st.integers(0, 300))
    def full_disk(self, capacity: int) -> None:
        self.fs.capacity = sum(map(len, self.fs.image().values())) + capacity
        try:
            self.log([self.update(1, 0, 3, 200, 1)])
        except LogFull:
            pass
        finally:
            self.fs.capacity = None

    @rule()
    def kill(self) -> None:
        self.fs.restart()
        self.reopen()
        self.check_against([self.model])

    @rule()
    def stop_and_start(self) -> None:
        self.wal.close()
        self.fs.crash()
        self.reopen()
        self.check_against([self.model])

    @rule()
    def lose_power_and_all_that_was_not_synced(self) -> None:
        self.fs.crash("none")
        self.reopen()
        # Making a new segment syncs what came before it, so more than the last sync may be there.
        self.check_against(self.states)

    @rule()
    def lose_power_with_torn_writes(self) -> None:
        self.fs.crash("torn")
        self.reopen_torn()

    @rule()
    def fail_a_sync_and_restart(self) -> None:
        self.log([self.update(2, 1, 2, 700, 2)])
        self.fs.fail("fdatasync")
        with pytest.raises(LogFailed):
            self.wal.sync()
        self.fs.restart()
        self.reopen_torn()

    def reopen_torn(self) -> None:
        """With one record in flight, as one sync per append has it, always a prefix and never damage.

        With several, sectors that reached the device out of order may look like damage; then nothing
        has changed, and the machine begins anew.
        """
        try:
            self.reopen()
        except LogDamaged:
            assert len(self.states) > 2
            self.begin(self.fs.random.randrange(2**32))
        self.check_against(self.states)

    def check_against(self, allowed: list[Model]) -> None:
        """The log is one of these; from here on it is that one, and durable."""
        matching = [model for model in allowed if self.matches(model)]
        assert matching, "the log is no state that it ever had since the last sync"
        self.states = [matching[-1]]

    def matches(self, model: Model) -> bool:
        return self.wal.groups() == sorted(model) and all(
            self.seen(group) == self.expected(known) for group, known in model.items()
        )

    def seen(self, group: int) -> object:
        state = self.wal.state(group)
        entries = self.wal.entries(group, state.first_index, state.last_index + 1)
        return state.hard_state, state.snapshot, state.tombstone, state.first_index, state.last_index, entries

    @staticmethod
    def expected(known: Group) -> object:
        entries = [known.entries[i] for i in sorted(known.entries)]
        return known.hard_state, known.mark, known.stone, known.first, known.last, entries

    @invariant()
    def is_the_last_state(self) -> None:
        assert self.matches(self.model)


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
