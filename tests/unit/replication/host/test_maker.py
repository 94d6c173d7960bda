"""Making snapshots: one at a time, beside everything else, and not over and over where it fails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from vecdb_replication.host.maker import Maker

from tests.unit.replication.host.machines import SECONDS, Notes, Pages, Words, until

G = 7


class Slow(Notes):
    """Counts how often a snapshot was made; `hold` holds it up, `fails` lets the next ones fail.

    Told to stop, it does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hold.set()
        self.begun: list[int] = []
        self.fails = 0

    def prepare(self, stopped: Callable[[], bool] = lambda: False) -> None:
        self.begun.append(threading.get_ident())
        deadline = time.monotonic() + SECONDS
        while not self.hold.wait(0.001):
            assert time.monotonic() < deadline
            if stopped():
                raise RuntimeError("it was given up")
        if self.fails:
            self.fails -= 1
            raise OSError("no room")
        super().prepare()


async def test_one_is_made_at_a_time() -> None:
    """Asked for again while one is made, nothing begins; of two groups the second waits, and no loop."""
    maker, one, two = Maker(0.001), Slow(), Slow()
    one.hold.clear()
    for _ in range(3):
        maker.make(1, one)
        maker.make(2, two)
    await until(lambda: bool(one.begun))
    assert (len(one.begun), len(two.begun)) == (1, 0)
    one.hold.set()
    await until(lambda: not maker._making)
    assert (len(one.begun), len(two.begun)) == (1, 1)
    assert threading.get_ident() not in one.begun + two.begun
    await maker.close()


async def test_one_that_fails_is_made_again_later() -> None:
    """Not with every heartbeat; it is told why, until one was made, or the group is gone."""
    maker, slow = Maker(0.05), Slow()
    slow.fails = 2
    maker.make(G, slow)
    await until(lambda: maker.problem(G) != "")
    assert maker.problem(G) == "a snapshot for another replica could not be made: no room"
    maker.make(G, slow)
    assert len(slow.begun) == 1
    for times in (2, 3):
        await until(lambda: not maker._making)
        maker.make(G, slow)
        await until(lambda times=times: len(slow.begun) == times)
    await until(lambda: maker.problem(G) == "")
    slow.fails = 1
    await until(lambda: not maker._making)
    maker.make(G, slow)
    await until(lambda: maker.problem(G) != "")
    await maker.drop(G)
    assert maker.problem(G) == ""
    await maker.close()


async def test_it_makes_nothing_where_there_is_nothing_to_make() -> None:
    """Not of a state without snapshots, and not any more once it is closed."""
    maker, slow = Maker(0.001), Slow()
    maker.make(1, Words())
    assert not maker._making
    await maker.close()
    maker.make(2, slow)
    assert not maker._making
    assert slow.begun == []


@pytest.mark.parametrize("close", [False, True])
async def test_nobody_waits_for_a_snapshot_that_is_not_wanted_any_more(close: bool) -> None:
    """Its group goes, or the node stops: it is given up; one that waits for its turn never begins."""
    maker, one, two = Maker(0.001), Slow(), Slow()
    one.hold.clear()
    maker.make(1, one)
    maker.make(2, two)
    await until(lambda: bool(one.begun))
    if close:
        await maker.close()
        assert two.begun == []
        return
    gone = asyncio.create_task(maker.drop(2))
    await maker.drop(1)
    await gone
    assert (one.durable, two.begun) == (0, [])
    await until(lambda: not maker._making)
    one.hold.set()
    maker.make(1, one)
    await until(lambda: len(one.begun) == 2 and not maker._making)
    assert maker.problem(1) == ""
    await maker.close()


async def test_upkeep_does_not_wait_for_a_snapshot() -> None:
    """Everything else of a node is cared for while one is made, however long that takes."""
    maker, slow, pages = Maker(0.001), Slow(), Pages()
    slow.hold.clear()
    maker.make(1, slow)
    await until(lambda: bool(slow.begun))
    async with asyncio.timeout(SECONDS):
        await maker.tidy([pages])
    assert pages.tidied == 1
    assert 1 in maker._making
    await maker.close()


async def test_tidying_goes_on_behind_one_that_cannot() -> None:
    """A disk that refuses costs room, and no other group its tidying."""

    class Stuck(Pages):
        def tidy(self) -> None:
            raise OSError("busy")

    maker, pages = Maker(0.001), Pages()
    await maker.tidy([Words(), Stuck(), pages])
    assert pages.tidied == 1
    await maker.close()
