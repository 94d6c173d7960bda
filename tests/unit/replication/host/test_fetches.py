"""Fetching the files of snapshots: one a group, gone on with, and let go of when outdated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vecdb_replication.host import Fetch
from vecdb_replication.host.fetches import AT_ONCE, Fetches
from vecdb_replication.raft import ConfState, Message, MessageType, Snapshot
from vecdb_replication.snapshots import SnapshotDamaged, SnapshotGone

from tests.unit.replication.host.machines import Pages, until
from tests.unit.replication.snapshots.shelf import Shelf

G = 7


def offered(pages: Pages, data: bytes = b"one", *, term: int = 1, sender: int = 1, group: int = G) -> Fetch:
    snapshot = Snapshot(5, 1, data, ConfState((1, 2, 3)))
    message = Message(MessageType.SNAP, to=2, from_=sender, term=term, snapshot=snapshot)
    return Fetch(group, f"n{sender}", pages, message)


class Arrived:
    def __init__(self) -> None:
        self.calls: list[tuple[Fetch, Fetch | None]] = []

    def __call__(self, fetch: Fetch, newer: Fetch | None) -> None:
        self.calls.append((fetch, newer))


@asynccontextmanager
async def fetching() -> AsyncIterator[tuple[Fetches, Pages, Arrived]]:
    arrived = Arrived()
    fetches = Fetches(Shelf(), arrived, 0.001)
    try:
        yield fetches, Pages(), arrived
    finally:
        await fetches.close()


async def test_what_was_fetched_is_delivered_once() -> None:
    """The same offer again while it is fetched makes no second fetch, and its last message counts."""
    async with fetching() as (fetches, pages, arrived):
        fetches.offer(offered(pages))
        await until(lambda: len(pages.fetching) == 1)
        again = offered(pages, term=2)
        fetches.offer(again)
        pages.go.set()
        await until(lambda: bool(arrived.calls))
        assert arrived.calls == [(again, None)]
        assert [data for data, _ in pages.fetching] == [b"one"]


async def test_a_lost_connection_is_tried_again() -> None:
    """Until it comes through; meanwhile it is told why not, and afterwards no more."""
    async with fetching() as (fetches, pages, arrived):
        pages.errors = [ConnectionError("the wire broke"), OSError("no room"), ConnectionError("again")]
        pages.go.set()
        fetches.offer(offered(pages))
        await until(lambda: bool(fetches.problem(G, 4)))
        assert fetches.problem(G, 4).startswith("the snapshot from n1 did not arrive: ")
        assert fetches.problem(G, 5) == ""
        await until(lambda: bool(arrived.calls))
        assert len(pages.fetching) == 4
        assert fetches.problem(G, 4) == ""


async def test_what_the_log_has_brought_meanwhile_is_not_tried_again() -> None:
    """A leader that kept its log after all needs no snapshot to bring a replica up."""
    async with fetching() as (fetches, pages, arrived):
        pages.errors = [ConnectionError("the wire broke")]
        fetches.offer(offered(pages))
        await until(lambda: len(pages.fetching) == 1)
        pages.applied.append((5, b"by the log"))
        pages.go.set()
        await until(lambda: not fetches._tasks)
        assert len(pages.fetching) == 1
        assert arrived.calls == []


async def test_what_is_no_use_is_not_tried_again() -> None:
    """Gone, damaged or no manifest: it waits for another offer, which begins at once."""
    for error in (SnapshotGone("gone"), SnapshotDamaged("bad"), ValueError("no manifest")):
        async with fetching() as (fetches, pages, arrived):
            pages.errors = [error]
            pages.go.set()
            fetches.offer(offered(pages))
            await until(lambda fetches=fetches: not fetches._tasks)
            assert str(error) in fetches.problem(G, 0)
            fetches.offer(offered(pages, b"two"))
            await until(lambda arrived=arrived: bool(arrived.calls))
            assert [data for data, _ in pages.fetching] == [b"one", b"two"]


async def test_a_newer_one_of_the_same_leader_waits() -> None:
    """Progress is not thrown away for it: it is told of when the older one has arrived."""
    async with fetching() as (fetches, pages, arrived):
        first, second = offered(pages), offered(pages, b"two")
        fetches.offer(first)
        await until(lambda: len(pages.fetching) == 1)
        fetches.offer(second)
        pages.go.set()
        await until(lambda: bool(arrived.calls))
        assert arrived.calls == [(first, second)]


async def test_a_newer_one_takes_over_where_the_older_fails() -> None:
    """Whatever it failed of."""
    for error in (SnapshotGone("gone"), ConnectionError("lost")):
        async with fetching() as (fetches, pages, arrived):
            pages.errors = [error]
            second = offered(pages, b"two")
            fetches.offer(offered(pages))
            await until(lambda pages=pages: len(pages.fetching) == 1)
            fetches.offer(second)
            pages.go.set()
            await until(lambda arrived=arrived: bool(arrived.calls))
            assert arrived.calls == [(second, None)]


async def test_a_new_leader_replaces_the_old_ones_snapshot() -> None:
    """Its term is higher, so nothing of the old one would be listened to: the fetch changes over at once."""
    async with fetching() as (fetches, pages, arrived):
        fetches.offer(offered(pages))
        heir = offered(pages, b"two", term=2, sender=3)
        fetches.offer(heir)
        await until(lambda: [data for data, _ in pages.fetching][-1:] == [b"two"])
        pages.go.set()
        await until(lambda: bool(arrived.calls))
        assert arrived.calls == [(heir, None)]


async def test_only_so_many_fetch_at_once() -> None:
    """Others wait for their turn, and get it."""
    async with fetching() as (fetches, _, arrived):
        all_pages = [Pages() for _ in range(AT_ONCE + 2)]
        for group, pages in enumerate(all_pages):
            fetches.offer(offered(pages, group=group))
        await until(lambda: sum(len(pages.fetching) for pages in all_pages) == AT_ONCE)
        await asyncio.sleep(0)
        assert sum(len(pages.fetching) for pages in all_pages) == AT_ONCE
        for pages in all_pages:
            pages.go.set()
        await until(lambda: len(arrived.calls) == AT_ONCE + 2)


async def test_what_is_dropped_never_arrives() -> None:
    """Neither the fetch under way nor the one behind it, whether or not it had begun."""
    async with fetching() as (fetches, pages, arrived):
        for started in (False, True):
            fetches.offer(offered(pages))
            fetches.offer(offered(pages, b"two"))
            if started:
                await until(lambda: bool(pages.fetching))
            await fetches.drop(G)
            pages.go.set()
            await asyncio.sleep(0.01)
            assert arrived.calls == []
            pages.go.clear()
        await fetches.drop(G)


async def test_without_a_way_to_others_nothing_arrives() -> None:
    """A host that was given none says so, and does not ask the state."""
    arrived, pages = Arrived(), Pages()
    fetches = Fetches(None, arrived, 0.001)
    fetches.offer(offered(pages))
    await until(lambda: "no way to other nodes" in fetches.problem(G, 0))
    await fetches.close()
    assert (arrived.calls, pages.fetching) == ([], [])
