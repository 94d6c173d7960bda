"""Replicas of real shards that come back from far behind: by snapshot, under load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from vecdb_replication.raft import Change, ChangeType, ConfChange
from vecdb_replication.snapshots import decode

from tests.unit.replication.host.machines import until
from tests.unit.vecdb.shards.replicas import GROUP, Nodes, three, write


@asynccontextmanager
async def load(nodes: Nodes) -> AsyncIterator[list[int]]:
    """Writes without a pause, and logs shortened all the time; gives the indexes that were acknowledged."""
    acknowledged: list[int] = []
    done = asyncio.Event()

    async def write_on() -> None:
        while not done.is_set():
            number = len(acknowledged)
            data = write(f"d{number % 50}", value=float(number))
            acknowledged.append((await nodes.propose(data)).index)

    async def shorten() -> None:
        while not done.is_set():
            for host in list(nodes.hosts.values()):
                await host.compact()
            await asyncio.sleep(0.02)

    tasks = [asyncio.create_task(write_on()), asyncio.create_task(shorten())]
    try:
        yield acknowledged
    finally:
        done.set()
        await asyncio.gather(*tasks)


async def behind(nodes: Nodes) -> int:
    """Leave a follower so far behind that the log cannot bring it up; which."""
    for number in range(20):
        await nodes.propose(write(f"d{number}"))
    lead = await nodes.leader()
    node = lead % 3 + 1
    await nodes.stop(node)
    for number in range(20):
        await nodes.propose(write(f"e{number}"))
    await nodes.shorten()
    return node


async def all_alike(nodes: Nodes) -> None:
    lead = await nodes.leader()
    index = await nodes.hosts[lead].barrier(GROUP)
    for host in nodes.hosts.values():
        await asyncio.wait_for(host.wait_applied(GROUP, index), 10)
    assert len(nodes.hashes()) == 1


async def test_a_replica_far_behind_catches_up_under_load(tmp_path: Path) -> None:
    """Writes and compaction never pause; it gets a snapshot, then what came since, and is like the others."""
    async with three(tmp_path) as nodes:
        node = await behind(nodes)
        async with load(nodes) as acknowledged:
            await until(lambda: len(acknowledged) > 5)
            await nodes.start(node)
            await until(lambda: nodes.network.chunks > 0)
            await until(lambda: len(acknowledged) > 50)
            wanted = acknowledged[-1]
            await until(lambda: nodes.machines[node].applied_index >= wanted)
        assert (tmp_path / f"n{node}" / str(GROUP) / "INSTALLED").exists()
        await all_alike(nodes)
        await nodes.shorten()
        await nodes.stop(node)
        await nodes.start(node)
        await all_alike(nodes)


async def test_the_retry_window_travels(tmp_path: Path) -> None:
    """A retry that reaches a replica that was brought up is answered as the first time, and applied once."""
    async with three(tmp_path) as nodes:
        first = await nodes.propose(write("r", session=b"s", sequence=3))
        node = await behind(nodes)
        await nodes.start(node)
        await all_alike(nodes)
        assert nodes.network.chunks
        await nodes.leader()
        while await nodes.leader() != node:
            nodes.hosts[await nodes.leader()].transfer(GROUP, node)
            await asyncio.sleep(0.05)
        before = nodes.hashes()
        again = await nodes.propose(write("r", session=b"s", sequence=3, value=5.0))
        assert (again.result.index, again.result.count) == (first.result.index, first.result.count)
        await all_alike(nodes)
        assert nodes.hashes() == before


async def test_a_new_replica_comes_by_snapshot_and_takes_part(tmp_path: Path) -> None:
    """An empty shard joins as a learner, is promoted, and can lead; the others may go."""
    async with three(tmp_path) as nodes:
        for number in range(30):
            await nodes.propose(write(f"d{number}"))
        await nodes.shorten()
        await nodes.start(4)
        lead = await nodes.leader()
        await nodes.hosts[lead].change(GROUP, ConfChange((Change(ChangeType.ADD_LEARNER, 4),)))
        await all_alike(nodes)
        assert nodes.network.chunks
        gone = lead % 3 + 1
        swap = ConfChange((Change(ChangeType.ADD_VOTER, 4), Change(ChangeType.REMOVE, gone)))
        await nodes.hosts[lead].change(GROUP, swap)
        await nodes.stop(gone)
        await nodes.propose(write("last"))
        await all_alike(nodes)
        # The configuration and the state are found again from the mark, the log and the installed files.
        await nodes.stop(4)
        await nodes.start(4)
        await all_alike(nodes)
        assert 4 in nodes.hosts[4]._groups[GROUP].replica.conf.voters


async def test_a_broken_connection_is_gone_on_with(tmp_path: Path) -> None:
    """The wire breaks again and again: nothing that arrived is asked for once more."""
    async with three(tmp_path) as nodes:
        node = await behind(nodes)
        nodes.network.breaks = {2, 4, 5, 8}
        await nodes.start(node)
        await all_alike(nodes)
        assert len({snapshot for snapshot, _, _ in nodes.network.asked}) == 1
        _, data = nodes.machines[await nodes.leader()].capture()
        assert nodes.network.passed == decode(data).total
        assert nodes.network.chunks > 8


async def test_the_leader_changes_while_files_are_on_their_way(tmp_path: Path) -> None:
    """What the old leader gave is let go of, and the new one's snapshot is fetched."""
    async with three(tmp_path) as nodes:
        node = await behind(nodes)
        nodes.network.hold.clear()
        await nodes.start(node)
        await until(lambda: bool(nodes.network.asked))
        (first,) = {snapshot for snapshot, _, _ in nodes.network.asked}
        lead = await nodes.leader()
        heir = ({1, 2, 3} - {lead, node}).pop()
        nodes.hosts[lead].transfer(GROUP, heir)
        await until(lambda: nodes.hosts[heir].status(GROUP).leader == heir)
        await until(lambda: len({snapshot for snapshot, _, _ in nodes.network.asked}) > 1)
        nodes.network.hold.set()
        await all_alike(nodes)
        assert nodes.network.asked[-1][0] != first


async def test_a_short_break_costs_no_second_snapshot(tmp_path: Path) -> None:
    """Under writes and compaction the stream breaks while files are on their way: the log waits for them."""
    async with three(tmp_path) as nodes:
        node = await behind(nodes)
        lead = await nodes.leader()
        async with load(nodes) as acknowledged:
            nodes.network.hold.clear()
            await nodes.start(node)
            await until(lambda: bool(nodes.network.asked))
            nodes.network.cut(f"n{node}", f"n{lead}")
            # What a transport tells of a stream that ended.
            nodes.hosts[lead].unreachable(f"n{node}")
            nodes.hosts[lead].report_snapshot(GROUP, node, failed=True)
            # Longer than a follower may be silent without being given up.
            count = len(acknowledged)
            await asyncio.sleep(0.02 * 2 * 8 * 2)
            await until(lambda: len(acknowledged) > count + 20)
            nodes.network.mend()
            nodes.network.hold.set()
            wanted = acknowledged[-1]
            await until(lambda: nodes.machines[node].applied_index >= wanted)
        await all_alike(nodes)
        assert len({snapshot for snapshot, _, _ in nodes.network.asked}) == 1


async def test_a_snapshot_that_is_gone_is_replaced_by_a_newer_one(tmp_path: Path) -> None:
    """The leader drops it under the follower's hands: it is told, and offers another."""
    async with three(tmp_path) as nodes:
        node = await behind(nodes)
        nodes.network.hold.clear()
        await nodes.start(node)
        await until(lambda: bool(nodes.network.asked))
        lead = await nodes.leader()
        outgoing = nodes.machines[lead]._area.outgoing
        outgoing._held.clear()
        nodes.network.breaks = {1}
        nodes.network.hold.set()
        await all_alike(nodes)
        assert len({snapshot for snapshot, _, _ in nodes.network.asked}) == 2


async def test_files_are_for_members_only(tmp_path: Path) -> None:
    """Whoever holds no replica of the group gets no file of it."""
    async with three(tmp_path) as nodes:
        with pytest.raises(PermissionError, match="n9 holds no replica of group 7"):
            nodes.hosts[1].open("n9", GROUP, "a1", "shard.db")
        with pytest.raises(LookupError, match="group 8"):
            nodes.hosts[1].open("n2", GROUP + 1, "a1", "shard.db")
        with pytest.raises(LookupError, match="no file"):
            nodes.hosts[1].open("n2", GROUP, "a1", "../../log")
