"""The host when disks are full, state machines fail, and the node shuts down."""

from __future__ import annotations

import asyncio
import errno
import threading
from typing import Any

import pytest
from structlog.testing import capture_logs
from vecdb_replication.host import (
    Committed,
    Envelope,
    GroupBlocked,
    GroupDamaged,
    GroupError,
    GroupStopped,
    HostClosed,
    StorageFull,
    UnknownGroup,
)
from vecdb_replication.raft import Message, MessageType
from vecdb_replication.wal import Entry, GroupUpdate, LogFailed, LogFull, Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import Words, hosting, until

G = 7


def logged(wal: Wal, group: int = G) -> list[Entry]:
    state = wal.state(group)
    return wal.entries(group, state.first_index, state.last_index + 1)


# --- a disk without room --------------------------------------------------------


async def test_a_full_log_refuses_and_goes_on_without_a_gap() -> None:
    """LogFull: each proposal behind it is refused, nothing of them is in the log, and once there is room
    indexes go on where the log ends. Reads need no room."""
    fs, words = FaultFileSystem(), Words()
    async with hosting(fs, {G: words}) as (host, wal):
        await host.propose(G, b"before")
        fs.capacity = sum(map(len, fs.image().values())) + 10
        answers = await asyncio.gather(
            *(host.propose(G, b"lost%d" % number) for number in range(20)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {GroupBlocked}
        assert not any(answer.durable for answer in answers if isinstance(answer, GroupBlocked))
        assert wal.state(G).last_index == 2
        assert await asyncio.wait_for(host.barrier(G), 5) == 2
        fs.capacity = None
        await until(lambda: host.status(G).problem == "")
        after = await host.propose(G, b"after")
        assert after.index == 3
        assert words.words == [b"before", b"after"]
    again = Words()
    async with hosting(fs, {G: again}):
        assert again.words == [b"before", b"after"]


async def test_a_refused_write_fails_only_those_behind_it() -> None:
    """One write refused under load: every answered entry is applied and logged, every other neither."""
    for nth in range(1, 6):
        fs, words = FaultFileSystem(), Words()
        async with hosting(fs, {G: words, 8: Words()}) as (host, wal):
            fs.fail("append", nth=nth, error=errno.ENOSPC)
            done: list[bytes] = []

            async def write(number: int, host: Any = host, done: list[bytes] = done) -> None:
                await asyncio.sleep(number * 0.0005)
                data = b"%d" % number
                try:
                    await host.propose(G, data)
                except GroupBlocked:
                    return
                done.append(data)

            await asyncio.gather(*(write(number) for number in range(60)))
            # Where few appends took all the writes, the fault has not struck yet.
            fs._faults.clear()
            await until(lambda host=host: host.status(G).problem == "")  # type: ignore[misc]
            await host.propose(G, b"last")
            await host.propose(8, b"another group")
            assert sorted(words.words) == sorted([*done, b"last"])
            assert [entry.index for entry in logged(wal)] == list(range(1, len(words.words) + 2))
            assert [entry.data for entry in logged(wal)][1:] == words.words


async def test_a_write_that_the_system_refuses_otherwise_blocks_too() -> None:
    """EIO on a write is rolled back: the proposal is refused, and the next one goes through."""
    fs, words = FaultFileSystem(), Words()
    async with hosting(fs, {G: words}) as (host, wal):
        fs.fail("append", error=errno.EIO)
        with pytest.raises(GroupBlocked, match="not written"):
            await host.propose(G, b"x")
        assert (await host.propose(G, b"y")).index == 2
        assert [entry.data for entry in logged(wal)] == [b"", b"y"]


async def test_a_state_without_room_is_tried_again() -> None:
    """StorageFull: the entry is durable and its writer is told so; it is applied once there is room, once."""
    words = Words()
    async with hosting(FaultFileSystem(), {G: words}) as (host, _):
        await host.propose(G, b"a")
        words.full = True
        with pytest.raises(GroupBlocked, match="no room in the state") as caught:
            await host.propose(G, b"b")
        assert caught.value.durable
        assert "no room" in host.status(G).problem
        with pytest.raises(GroupBlocked) as caught:
            await host.propose(G, b"refused")
        assert not caught.value.durable
        reading = asyncio.create_task(host.barrier(G))
        await asyncio.sleep(0.03)
        assert not reading.done(), "a read that must see the entry waits for it"
        words.full = False
        assert await reading == 3
        assert host.status(G).problem == ""
        await host.propose(G, b"c")
        assert words.words == [b"a", b"b", b"c"]


async def test_entries_behind_a_full_state_are_told_too() -> None:
    """All that wait behind an entry without room are told at once that they are durable."""
    words = Words()
    async with hosting(FaultFileSystem(), {G: words}) as (host, _):
        words.hold.clear()
        words.full = True
        tasks = [asyncio.create_task(host.propose(G, b"%d" % n)) for n in range(5)]
        await until(lambda: host._groups[G].in_flight == 0)
        words.hold.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(answer, GroupBlocked) and answer.durable for answer in answers)
        words.full = False
        await host.wait_applied(G, 6)
        assert words.words == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_blocked_group_can_be_removed() -> None:
    """Dropping what has no room is how room is made: removal does not wait for it."""
    words = Words()
    async with hosting(FaultFileSystem(), {G: words}) as (host, wal):
        words.full = True
        with pytest.raises(GroupBlocked):
            await host.propose(G, b"x")
        reader = asyncio.create_task(host.wait_applied(G, 2))
        await asyncio.sleep(0)
        await asyncio.wait_for(host.remove(G), 5)
        with pytest.raises(UnknownGroup):
            await reader
        assert wal.state(G).tombstone is not None
        assert words.words == []


async def test_closing_does_not_wait_for_room() -> None:
    """A host whose group is blocked closes; the entry is applied at the next start."""
    fs, words = FaultFileSystem(), Words()
    async with hosting(fs, {G: words}) as (host, _):
        words.full = True
        with pytest.raises(GroupBlocked):
            await host.propose(G, b"x")
        await asyncio.wait_for(host.close(), 5)
    words.full = False
    async with hosting(fs, {G: words}):
        assert words.words == [b"x"]


async def test_a_group_that_blocks_while_closing_does_not_hold_it_up() -> None:
    """An entry that finds no room after close began is told that it is durable, and the close ends."""
    words = Words()
    async with hosting(FaultFileSystem(), {G: words}) as (host, _):
        words.hold.clear()
        words.full = True
        write = asyncio.create_task(host.propose(G, b"x"))
        await asyncio.to_thread(words.applying.wait)
        closing = asyncio.create_task(host.close())
        await asyncio.sleep(0.01)
        words.hold.set()
        with pytest.raises(GroupBlocked) as caught:
            await write
        assert caught.value.durable
        await asyncio.wait_for(closing, 5)


async def test_a_start_without_room_says_so() -> None:
    """Replay that finds no room raises StorageFull; the same log opens once there is some."""
    fs, words = FaultFileSystem(), Words()
    async with hosting(fs, {G: words}) as (host, _):
        await host.propose(G, b"x")
    again = Words()
    again.full = True
    with pytest.raises(StorageFull):
        async with hosting(fs, {G: again}):
            pass
    again.full = False
    async with hosting(fs, {G: again}):
        assert again.words == [b"x"]


async def test_a_term_without_room_in_the_log_does_not_begin() -> None:
    """A start that cannot record its vote raises LogFull rather than serve."""
    fs = FaultFileSystem()
    async with hosting(fs, {8: Words()}) as (host, _):
        fs.capacity = sum(map(len, fs.image().values()))
        with pytest.raises(LogFull):
            await host.add(G, Words())
        fs.capacity = None
        await host.add(G, Words())
        assert host.groups() == [G, 8]


async def test_one_group_at_odds_with_its_log_costs_no_other_its_write() -> None:
    """Both share a record. The log refuses the one whose end is not where it was; the other's is answered."""
    words = Words()
    async with hosting(FaultFileSystem(), {G: words, 8: Words()}) as (host, wal):
        await host.propose(G, b"x")
        wal.append([GroupUpdate(G, [Entry(9, 2, 0, b"somebody else's")])])
        odd, even = await asyncio.gather(host.propose(G, b"y"), host.propose(8, b"z"), return_exceptions=True)
        assert isinstance(odd, GroupBlocked)
        assert "was to come before" in str(odd)
        assert isinstance(even, Committed)
        assert (even.index, even.result) == (2, b"Z")
        assert words.words == [b"x"]


# --- failures -----------------------------------------------------------------


async def test_a_failed_machine_stops_its_group_alone() -> None:
    """An exception from apply ends the group for good; nothing behind the entry is applied, others go on."""
    words, other = Words(), Words()
    async with hosting(FaultFileSystem(), {G: words, 8: other}) as (host, _):
        words.hold.clear()
        words.broken = True
        tasks = [asyncio.create_task(host.propose(G, b"%d" % n)) for n in range(4)]
        await asyncio.to_thread(words.applying.wait)
        reader = asyncio.create_task(host.wait_applied(G, 3))
        await until(lambda: host._groups[G].in_flight == 0)
        words.hold.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(answer) for answer in answers} == {GroupStopped}
        with pytest.raises(GroupStopped, match="the state is broken"):
            await reader
        words.broken = False
        for call in (host.propose(G, b"x"), host.barrier(G), host.wait_applied(G, 2)):
            with pytest.raises(GroupStopped):
                await call
        assert "broken" in host.status(G).problem
        assert words.words == []
        assert (await host.propose(8, b"y")).result == b"Y"


async def test_an_entry_on_its_way_to_a_failed_machine_is_not_applied() -> None:
    """What becomes durable after the failure is refused: behind a hole it would corrupt the state."""
    fs, words = FaultFileSystem(), Words()
    async with hosting(fs, {G: words}) as (host, _):
        held, seen = threading.Event(), threading.Event()
        words.hold.clear()
        words.broken = True
        first = asyncio.create_task(host.propose(G, b"first"))
        await asyncio.to_thread(words.applying.wait)

        def on_op(op: str, _: Any) -> None:
            if op == "fdatasync":
                seen.set()
                held.wait(10)

        fs.on_op = on_op
        second = asyncio.create_task(host.propose(G, b"second"))
        await asyncio.to_thread(seen.wait)
        words.hold.set()
        with pytest.raises(GroupStopped):
            await first
        words.broken = False
        held.set()
        with pytest.raises(GroupStopped):
            await second
        assert words.words == []


async def test_what_should_not_be_is_logged() -> None:
    """Nonsense by its sender, and a replica that ended, with a trace where nobody knows of such an end."""
    async with hosting(FaultFileSystem(), {G: Words()}, locate=lambda _, replica: f"n{replica}") as (host, _):
        with capture_logs() as lines:
            host.receive("n2", Envelope(((G, Message(MessageType.HUP, to=1, from_=2)),)))
            await until(lambda: bool(lines))
            assert host.nonsense == {"n2": 1}
            host._core.groups[G].replica.collect = lambda: [][0]  # type: ignore[method-assign]
            with pytest.raises(GroupDamaged):
                await host.propose(G, b"x")
        assert [(line["event"], line["group"]) for line in lines] == [
            ("message makes no sense", G),
            ("replica ended", G),
        ]
        assert (lines[0]["peer"], lines[0]["count"]) == ("n2", 1)
        assert isinstance(lines[1]["exc_info"], IndexError)


async def test_a_failed_sync_ends_everything() -> None:
    """After a failed fdatasync nothing is acknowledged any more, and on_failure is called once."""
    fs, words = FaultFileSystem(), Words()
    failures: list[LogFailed] = []
    async with hosting(fs, {G: words}, on_failure=failures.append) as (host, _):
        await host.propose(G, b"before")
        fs.fail("fdatasync")
        with pytest.raises(GroupStopped, match="the node has to end"):
            await host.propose(G, b"lost")
        for _ in range(3):
            with pytest.raises((LogFailed, GroupError)):
                await host.propose(G, b"after")
        await until(lambda: bool(failures))
        assert len(failures) == 1
        assert words.words == [b"before"]


async def test_a_machine_that_answers_too_little_stops_its_group() -> None:
    """A result is missing: nobody is told another's, and nobody waits for ever."""
    words = Words()
    words.apply = lambda entries: ["one"] * (len(entries) - 1)  # type: ignore[method-assign]
    async with hosting(FaultFileSystem(), {G: words, 8: Words()}) as (host, _):
        with pytest.raises(GroupStopped, match="0 results came back for 1"):
            await asyncio.wait_for(host.propose(G, b"x"), 5)
        await host.propose(8, b"y")


async def test_a_mark_without_room_is_made_later() -> None:
    """A full disk refuses to note that a log may be cut: others are cut, and this one the next time."""
    fs, busy, idle = FaultFileSystem(), Words(), Words()
    async with hosting(fs, {1: busy, 2: idle}, segment_bytes=4096, compact_bytes=0) as (host, wal):
        await host.propose(2, b"y" * 2000)
        for _ in range(6):
            await host.propose(1, b"x" * 1500)
        fs.fail("append", error=errno.ENOSPC)
        with pytest.raises(LogFull):
            await host.compact()
        assert (wal.state(1).first_index, wal.state(2).first_index) == (1, 3)
        assert await host.compact() > 0
        assert wal.state(1).first_index == 8
        assert wal.pinned() == {}


async def test_who_waits_for_an_index_is_told_when_the_host_closes() -> None:
    """So is who asks afterwards; and what still comes in from other nodes does no harm."""
    async with hosting(FaultFileSystem(), {G: Words()}) as (host, _):
        waits = asyncio.create_task(host.wait_applied(G, 99))
        await asyncio.sleep(0)
        await host.close()
        for waiting in (waits, host.wait_applied(G, 99), host.barrier(G)):
            with pytest.raises(HostClosed):
                await asyncio.wait_for(waiting, 5)
        host.receive("n2", Envelope(()))
        host.unreachable("n2")
        await asyncio.sleep(0)


async def test_syncs_are_reported() -> None:
    """on_sync hears of each round: seconds, batches, bytes."""
    rounds: list[tuple[float, int, int]] = []
    async with hosting(FaultFileSystem(), {G: Words()}, on_sync=lambda *r: rounds.append(r)) as (host, _):
        await host.propose(G, b"x" * 1000)
    # The vote, the entry that begins the term, the proposal, and at the end its commit.
    assert sum(batches for _, batches, _ in rounds) == 4
    assert max(size for _, _, size in rounds) >= 1000
    assert all(seconds >= 0 for seconds, _, _ in rounds)


async def test_a_closed_host_refuses() -> None:
    """After close, proposals are HostClosed and nothing is written; close may be called again."""
    async with hosting(FaultFileSystem(), {G: Words()}) as (host, wal):
        await host.propose(G, b"x")
        await host.close()
        with pytest.raises(HostClosed):
            await host.propose(G, b"y")
        assert wal.state(G).last_index == 2


async def test_closing_finishes_what_is_under_way() -> None:
    """A proposal that was taken before close is applied and answered."""
    words = Words()
    async with hosting(FaultFileSystem(), {G: words}) as (host, _):
        writes = [asyncio.create_task(host.propose(G, b"%d" % n)) for n in range(20)]
        await asyncio.sleep(0)
        await host.close()
        assert [(await write).result for write in writes] == [b"%d" % n for n in range(20)]
