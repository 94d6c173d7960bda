"""The host: waiting for entries, and shortening the log."""

from __future__ import annotations

import asyncio

import pytest
from vecdb_replication.wal import Entry, Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import FOLDER, Words, hosting

G = 7


def logged(wal: Wal, group: int = G) -> list[Entry]:
    state = wal.state(group)
    return wal.entries(group, state.first_index, state.last_index + 1)


# --- reading ------------------------------------------------------------------


async def test_a_barrier_waits_for_what_is_durable() -> None:
    """barrier returns the committed index once it is applied; wait_applied of the past returns at once."""
    words = Words()
    async with hosting(FaultFileSystem(), {G: words}) as (host, _):
        assert await host.barrier(G) == 1
        words.hold.clear()
        write = asyncio.create_task(host.propose(G, b"x"))
        await asyncio.to_thread(words.applying.wait)
        barrier = asyncio.create_task(host.barrier(G))
        near, far = (asyncio.create_task(host.wait_applied(G, index)) for index in (2, 4))
        await host.wait_applied(G, 1)
        await asyncio.sleep(0.01)
        assert not barrier.done()
        words.hold.set()
        assert await barrier == 2
        await near
        await write
        await host.propose(G, b"y")
        assert not far.done()
        await host.propose(G, b"z")
        await far


async def test_readers_that_give_up_are_forgotten() -> None:
    """Waiting for an index that never comes leaves nothing behind once the caller has gone."""
    async with hosting(FaultFileSystem(), {G: Words()}) as (host, _):
        for _ in range(50):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(host.wait_applied(G, 10**12), 0.001)
        assert host._groups[G].readers == []


# --- shortening the log -----------------------------------------------------------


async def test_compaction_drops_segments_and_loses_nothing() -> None:
    """With checkpoints, old segments go; what is left and the state hold every entry."""
    fs, words = FaultFileSystem(), Words()
    async with hosting(fs, {G: words}, segment_bytes=2000, compact_bytes=1000) as (host, wal):
        for number in range(60):
            await host.propose(G, b"%03d" % number + bytes(200))
        before = len(fs.listdir(FOLDER))
        assert await host.compact() > 0
        assert len(fs.listdir(FOLDER)) < before
        assert wal.state(G).first_index > 1
        assert words.durable == words.applied_index
        status = host.status(G)
        assert (status.applied_index, status.durable_index) == (61, 61)
        assert status.log_bytes < 1000
        await host.propose(G, b"after")
    async with hosting(fs, {G: words}):
        assert len(words.words) == 61


async def test_an_idle_group_does_not_hold_the_log() -> None:
    """A group that pins an old segment is checkpointed however little it has there."""
    fs, idle, busy = FaultFileSystem(), Words(), Words()
    async with hosting(fs, {G: idle, 8: busy}, segment_bytes=4000, compact_bytes=1 << 20) as (host, wal):
        await host.propose(G, bytes(1500))
        for _ in range(40):
            await host.propose(8, bytes(500))
        busy.checkpoint()
        await host.compact()
        assert wal.state(G).first_index > 1
        assert idle.durable == idle.applied_index


async def test_a_checkpoint_that_gets_nowhere_keeps_the_log() -> None:
    """Entries beyond the durable index stay, whatever the log's size."""

    class Stuck(Words):
        def checkpoint(self) -> int:
            return self.durable

    fs = FaultFileSystem()
    async with hosting(fs, {G: Stuck()}, compact_bytes=0) as (host, wal):
        await host.propose(G, b"x")
        assert await host.compact() == 0
        assert wal.state(G).first_index == 1


async def test_a_checkpoint_that_fails_is_told_unless_its_group_is_gone() -> None:
    """A failure of a live group reaches the caller; one of a group that is being removed is no news."""

    class Failing(Words):
        def checkpoint(self) -> int:
            raise RuntimeError("closed")

    async with hosting(FaultFileSystem(), {G: Failing()}, compact_bytes=0) as (host, _):
        await host.propose(G, b"x")
        with pytest.raises(RuntimeError, match="closed"):
            await host.compact()
        held = host._groups[G]

        class Leaving(Failing):
            def checkpoint(self) -> int:
                held.removed = True
                return super().checkpoint()

        held.machine = Leaving()
        assert await host.compact() == 0
        assert await host.compact() == 0


async def test_a_start_commits_what_the_log_holds() -> None:
    """The hard state of a start commits what was there: an entry of this replica's own log is committed."""
    fs = FaultFileSystem()
    async with hosting(fs, {G: Words()}) as (host, wal):
        await host.propose(G, b"x")
    async with hosting(fs, {G: Words()}) as (_, wal):
        assert wal.state(G).hard_state.commit == 2
