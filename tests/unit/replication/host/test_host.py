"""The host over a real log: what is proposed is durable, and applied once and in order."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from vecdb_replication.host import (
    EntryTooLarge,
    GroupDamaged,
    Options,
    UnknownGroup,
)
from vecdb_replication.wal import Entry, LogBusy, Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import FOLDER, Words, hosting, until

G = 7


def logged(wal: Wal, group: int = G) -> list[Entry]:
    state = wal.state(group)
    return wal.entries(group, state.first_index, state.last_index + 1)


# --- proposing ----------------------------------------------------------------


async def test_a_proposal_is_answered_with_its_index_and_result() -> None:
    """propose returns once the entry is in the log and applied, with what the machine said."""
    fs, words = FaultFileSystem(), Words()
    async with hosting(fs, {G: words}) as (host, wal):
        first = await host.propose(G, b"one")
        second = await host.propose(G, b"two")
        assert (first.index, first.result) == (2, b"ONE")
        assert (second.index, second.result) == (3, b"TWO")
        assert [entry.data for entry in logged(wal)] == [b"", b"one", b"two"]
        assert words.applied == [(2, b"one"), (3, b"two")]


async def test_an_answered_entry_survives_power_loss() -> None:
    """What propose has returned is on the device: a crash that keeps nothing unsynced keeps it."""
    fs = FaultFileSystem()
    async with hosting(fs, {G: Words()}) as (host, _):
        await host.propose(G, b"kept")
        after = FaultFileSystem.of({path: bytes(file.device) for path, file in fs._durable_names.items()})
    again = Words()
    async with hosting(after, {G: again}):
        assert again.words == [b"kept"]


async def test_concurrent_proposals_are_applied_in_log_order() -> None:
    """Hundreds at once over several groups: indexes have no gaps, each result is the right one, each once."""
    fs = FaultFileSystem()
    machines = {group: Words() for group in (1, 2, 3)}
    async with hosting(fs, machines) as (host, wal):

        async def write(group: int, number: int) -> None:
            data = f"{group}-{number}x".encode()
            done = await host.propose(group, data)
            assert done.result == data.upper()
            assert (done.index, data) in machines[group].applied

        await asyncio.gather(*(write(group, number) for number in range(200) for group in machines))
        for group, machine in machines.items():
            assert [index for index, _ in machine.applied] == list(range(2, 202))
            assert [(entry.index, entry.data) for entry in logged(wal, group)[1:]] == machine.applied
            assert max(machine.batches) > 1, "entries that wait together are applied together"


async def test_the_loop_never_applies() -> None:
    """The machine is called from worker threads only, so that a slow disk does not stop the loop."""
    words = Words()
    async with hosting(FaultFileSystem(), {G: words}) as (host, _):
        await host.propose(G, b"one")
    assert threading.get_ident() not in words.threads


async def test_a_cancelled_caller_takes_nothing_back() -> None:
    """A caller that stops waiting has its entry applied all the same, and the group goes on."""
    words = Words()
    async with hosting(FaultFileSystem(), {G: words}) as (host, _):
        words.hold.clear()
        task = asyncio.create_task(host.propose(G, b"one"))
        await asyncio.to_thread(words.applying.wait)
        task.cancel()
        words.hold.set()
        assert (await host.propose(G, b"two")).index == 3
        assert words.words == [b"one", b"two"]


async def test_a_long_queue_is_refused() -> None:
    """Beyond max_queued_bytes a proposal is LogBusy, has taken no index, and the next one goes through."""
    fs, words = FaultFileSystem(), Words()
    async with hosting(fs, {G: words}, max_queued_bytes=1000) as (host, _):
        await until(lambda: host._writer._bytes == 0)
        held = threading.Event()
        seen = threading.Event()

        def on_op(op: str, _: Any) -> None:
            if op == "fdatasync":
                seen.set()
                held.wait(10)

        fs.on_op = on_op
        first = asyncio.create_task(host.propose(G, b"x" * 900))
        await asyncio.to_thread(seen.wait)
        with pytest.raises(LogBusy):
            await host.propose(G, b"y" * 900)
        held.set()
        assert (await first).index == 2
        assert (await host.propose(G, b"z")).index == 3


async def test_an_entry_is_limited_in_a_group_of_one_too() -> None:
    """It may have others to send it to one day. At the limit it is taken, above it nothing is written."""
    fs, words = FaultFileSystem(), Words()
    async with hosting(fs, {G: words}, options=Options(max_entry_bytes=1000)) as (host, wal):
        await host.propose(G, b"x" * 1000)
        with pytest.raises(EntryTooLarge, match="an entry of 1001 bytes, and 1000 is the limit"):
            await host.propose(G, b"x" * 1001)
        assert [len(entry.data) for entry in logged(wal)] == [0, 1000]
        assert (await host.propose(G, b"z")).index == 3


# --- groups -------------------------------------------------------------------


async def test_an_unknown_group_is_refused() -> None:
    """Every call on a group that is not here is UnknownGroup."""
    async with hosting(FaultFileSystem(), {}) as (host, _):
        for call in (host.propose(9, b"x"), host.barrier(9), host.wait_applied(9, 1), host.remove(9)):
            with pytest.raises(UnknownGroup):
                await call
        with pytest.raises(UnknownGroup):
            host.status(9)
        assert not host.has_known(9)
        assert host.groups() == []


async def test_a_group_is_opened_once() -> None:
    """Adding an open group again is the caller's mistake."""
    async with hosting(FaultFileSystem(), {G: Words()}) as (host, _):
        with pytest.raises(ValueError, match="open already"):
            await host.add(G, Words())


async def test_each_start_is_a_new_term_with_a_vote_and_an_empty_entry() -> None:
    """Restarts count terms up; the vote is recorded, and the empty entry is not shown to the machine."""
    fs, words = FaultFileSystem(), Words()
    for start in (1, 2, 3):
        async with hosting(fs, {G: words}) as (host, wal):
            status = host.status(G)
            assert (status.term, status.last_index) == (start, 2 * start - 1)
            hard = wal.state(G).hard_state
            assert (hard.term, hard.vote) == (start, 1)
            await host.propose(G, b"w")
    assert [index for index, _ in words.applied] == [2, 4, 6]
    fs.restart()
    wal = Wal.open(FOLDER, fs=fs)
    assert [(entry.term, entry.data) for entry in logged(wal)] == [
        (term, data) for term in (1, 2, 3) for data in (b"", b"w")
    ]


async def test_replay_applies_what_the_state_has_not() -> None:
    """A state behind the log is brought up before the group answers; one that is level is left alone."""
    fs, words = FaultFileSystem(), Words()
    async with hosting(fs, {G: words}) as (host, _):
        for word in (b"a", b"b", b"c"):
            await host.propose(G, word)
    behind = Words()
    behind.applied = words.applied[:1]
    async with hosting(fs, {G: behind}) as (host, _):
        assert behind.applied == words.applied
        assert behind.batches == [2]
        assert host.status(G).applied_index == 4
    async with hosting(fs, {G: behind}):
        assert behind.batches == [2]


async def test_replay_goes_in_bounded_steps() -> None:
    """More than 32 MiB of entries are replayed in several calls, in order."""
    fs, words = FaultFileSystem(), Words()
    async with hosting(fs, {G: words}, segment_bytes=64 << 20) as (host, _):
        for number in range(5):
            await host.propose(G, bytes([number]) * (9 << 20))
    again = Words()
    async with hosting(fs, {G: again}, segment_bytes=64 << 20):
        assert again.applied == words.applied
        assert len(again.batches) > 1


async def test_waiting_entries_are_applied_in_bounded_steps() -> None:
    """What piles up while the machine is busy is handed over in calls of at most 32 MiB."""
    words = Words()
    async with hosting(FaultFileSystem(), {G: words}, segment_bytes=64 << 20) as (host, _):
        words.hold.clear()
        tasks = [asyncio.create_task(host.propose(G, bytes(9 << 20))) for _ in range(8)]
        await until(lambda: host.status(G).last_index == 9 and host._groups[G].in_flight == 0)
        words.hold.set()
        await asyncio.gather(*tasks)
    assert max(words.batches) <= 3
    assert sum(words.batches) == 8


@pytest.mark.parametrize("applied", [[(9, b"ahead")], []])
async def test_a_state_that_does_not_fit_its_log_is_damage(applied: list[tuple[int, bytes]]) -> None:
    """A state beyond the log's end, or before its beginning, is refused rather than served."""
    fs, words = FaultFileSystem(), Words()
    async with hosting(fs, {G: words}, compact_bytes=0) as (host, _):
        for word in (b"a", b"b", b"c"):
            await host.propose(G, word)
        if not applied:
            await host.compact()
    other = Words()
    other.applied = applied
    with pytest.raises(GroupDamaged, match="group 7"):
        async with hosting(fs, {G: other}):
            pass


async def test_a_removed_group_never_comes_back() -> None:
    """Removal is in the log: the group refuses calls at once, and is refused at the next start."""
    fs = FaultFileSystem()
    async with hosting(fs, {G: Words(), 8: Words()}) as (host, wal):
        await host.propose(G, b"x")
        assert host.has_known(G)
        await host.remove(G)
        assert host.groups() == [8]
        assert host.has_known(G)
        with pytest.raises(UnknownGroup):
            await host.propose(G, b"y")
        assert wal.state(G).log_bytes == 0
        await host.propose(8, b"others go on")
    with pytest.raises(GroupDamaged, match="removed"):
        async with hosting(fs, {G: Words()}):
            pass


async def test_a_group_that_is_not_open_can_be_buried() -> None:
    """bury leaves a tombstone for a group that was left over by a crash."""
    fs = FaultFileSystem()
    async with hosting(fs, {G: Words()}) as (host, _):
        await host.propose(G, b"x")
    async with hosting(fs, {}) as (host, wal):
        await host.bury(G)
        assert wal.state(G).tombstone is not None
        assert host.has_known(G)


async def test_removal_waits_for_what_is_under_way() -> None:
    """An entry that was taken before the removal is applied and answered; then the group goes."""
    words = Words()
    async with hosting(FaultFileSystem(), {G: words}) as (host, _):
        words.hold.clear()
        write = asyncio.create_task(host.propose(G, b"x"))
        await asyncio.to_thread(words.applying.wait)
        removal = asyncio.create_task(host.remove(G))
        await asyncio.sleep(0)
        with pytest.raises(UnknownGroup):
            await host.propose(G, b"y")
        assert not removal.done()
        words.hold.set()
        assert (await write).result == b"X"
        await removal
