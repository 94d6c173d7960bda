"""Group commit: many callers, few syncs, an acknowledgement only for what is durable."""

from __future__ import annotations

import asyncio
import errno
import threading
from concurrent.futures import Future, wait
from pathlib import Path

import pytest
from vecdb_replication.wal import (
    Entry,
    GroupsRefused,
    GroupUpdate,
    LogBusy,
    LogClosed,
    LogFailed,
    LogFull,
    LogMisuse,
    LogWriter,
    Wal,
)

from tests.support.faultfs import FaultFileSystem

PATH = Path("/log")


class HeldDisk(FaultFileSystem):
    """A disk whose syncs wait while `gate` is shut, so that batches can be made to queue up."""

    def __init__(self) -> None:
        super().__init__(on_op=self._wait)
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.syncs = 0

    def _wait(self, op: str, path: Path) -> None:
        if op == "fdatasync":
            self.syncs += 1
            self.waiting.set()
            assert self.gate.wait(10)

    def hold(self) -> None:
        self.gate.clear()
        self.waiting.clear()


@pytest.fixture
def fs() -> HeldDisk:
    return HeldDisk()


def batch(group: int, index: int, size: int = 100) -> list[GroupUpdate]:
    return [GroupUpdate(group, [Entry(1, index, 0, bytes(size))])]


def test_an_acknowledged_batch_is_durable(fs: HeldDisk) -> None:
    wal = Wal.open(PATH, fs=fs)
    writer = LogWriter(wal)
    for index in range(1, 20):
        writer.submit(batch(1, index)).result(10)
        durable = FaultFileSystem.of(fs.image())
        assert Wal.open(PATH, fs=durable).state(1).last_index == index
    fs.crash()
    assert Wal.open(PATH, fs=fs).state(1).last_index == 19


def test_no_acknowledgement_before_the_sync(fs: HeldDisk) -> None:
    with Wal.open(PATH, fs=fs) as wal, LogWriter(wal) as writer:
        fs.hold()
        done = writer.submit(batch(1, 1))
        assert fs.waiting.wait(10)
        assert wal.state(1).last_index == 1, "readable at once"
        assert not done.done()
        assert not done.cancel(), "what is queued will be written"
        fs.gate.set()
        done.result(10)


def test_what_queues_up_during_a_sync_shares_the_next_one(fs: HeldDisk) -> None:
    rounds: list[tuple[int, int]] = []
    with Wal.open(PATH, fs=fs) as wal:
        writer = LogWriter(wal, on_sync=lambda seconds, batches, size: rounds.append((batches, size)))
        fs.hold()
        first = writer.submit(batch(1, 1))
        assert fs.waiting.wait(10)
        before = fs.syncs
        rest = [writer.submit(batch(group, 1)) for group in range(2, 52)]
        fs.gate.set()
        wait([first, *rest], 10)
        writer.close()
        assert fs.syncs == before + 1
        assert [batches for batches, _ in rounds] == [1, 50]
        assert rounds[1][1] > 50 * 100
        assert wal.groups() == list(range(1, 52))


def test_batches_keep_their_order(fs: HeldDisk) -> None:
    with Wal.open(PATH, fs=fs) as wal, LogWriter(wal) as writer:
        futures = [writer.submit(batch(1, index)) for index in range(1, 300)]
        for future in futures:
            future.result(10)
        assert wal.state(1).last_index == 299


def test_many_threads_at_once(fs: HeldDisk) -> None:
    with Wal.open(PATH, fs=fs, segment_bytes=20_000) as wal, LogWriter(wal) as writer:

        def work(group: int) -> None:
            for index in range(1, 60):
                writer.submit(batch(group, index)).result(10)

        threads = [threading.Thread(target=work, args=(group,)) for group in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    fs.crash()
    wal = Wal.open(PATH, fs=fs)
    assert [wal.state(group).last_index for group in wal.groups()] == [59] * 8


async def test_a_coroutine_can_await_it(fs: HeldDisk) -> None:
    with Wal.open(PATH, fs=fs) as wal, LogWriter(wal) as writer:
        await asyncio.gather(*(asyncio.wrap_future(writer.submit(batch(g, 1))) for g in range(9)))
        assert len(wal.groups()) == 9


def test_one_callers_mistake_is_its_own(fs: HeldDisk) -> None:
    with Wal.open(PATH, fs=fs) as wal, LogWriter(wal) as writer:
        fs.hold()
        writer.submit(batch(1, 1))
        assert fs.waiting.wait(10)
        wrong = writer.submit(batch(2, 5))
        right = [writer.submit(batch(3, 1)), writer.submit(batch(1, 2))]
        fs.gate.set()
        with pytest.raises(LogMisuse, match="group 2"):
            wrong.result(10)
        for future in right:
            future.result(10)
        assert wal.groups() == [1, 3]


def test_a_full_disk_costs_the_batches_of_that_round(fs: HeldDisk) -> None:
    failures: list[LogFailed] = []
    with Wal.open(PATH, fs=fs) as wal, LogWriter(wal, on_failure=failures.append) as writer:
        fs.fail("append", error=errno.ENOSPC)
        with pytest.raises(LogFull):
            writer.submit(batch(1, 1)).result(10)
        writer.submit(batch(1, 1)).result(10)
    assert failures == []


def test_a_failed_sync_fails_everyone_and_says_so_once(fs: HeldDisk) -> None:
    failures: list[LogFailed] = []
    wal = Wal.open(PATH, fs=fs)
    writer = LogWriter(wal, on_failure=failures.append)
    fs.hold()
    fs.fail("fdatasync")
    first = writer.submit(batch(1, 1))
    assert fs.waiting.wait(10)
    queued = [writer.submit(batch(1, index)) for index in (2, 3)]
    fs.gate.set()
    for future in (first, *queued):
        with pytest.raises(LogFailed):
            future.result(10)
    writer.close()
    with pytest.raises(LogFailed):
        writer.submit(batch(1, 4))
    assert len(failures) == 1


def test_a_callback_that_raises_ends_the_writer_loudly(fs: HeldDisk) -> None:
    """A thread that died silently would leave its callers waiting for ever."""
    failures: list[LogFailed] = []

    def broken(seconds: float, batches: int, size: int) -> None:
        raise RuntimeError("metrics are down")

    writer = LogWriter(Wal.open(PATH, fs=fs), on_sync=broken, on_failure=failures.append)
    writer.submit(batch(1, 1)).result(10)
    writer.close()
    assert "metrics are down" in str(failures[0])
    with pytest.raises(LogFailed):
        writer.submit(batch(1, 2))


def test_a_writer_whose_log_was_closed_fails_its_callers(fs: HeldDisk) -> None:
    wal = Wal.open(PATH, fs=fs)
    writer = LogWriter(wal)
    wal.close()
    with pytest.raises(LogFailed):
        writer.submit(batch(1, 1)).result(10)
    writer.close()


def test_a_full_queue_is_refused_and_drains(fs: HeldDisk) -> None:
    with Wal.open(PATH, fs=fs) as wal, LogWriter(wal, max_bytes=1000) as writer:
        fs.hold()
        futures: list[Future[None]] = [writer.submit(batch(1, 1, size=5000))]
        assert fs.waiting.wait(10)
        with pytest.raises(LogBusy, match="1000 is the limit"):
            writer.submit(batch(1, 2))
        fs.gate.set()
        futures[0].result(10)
        done = False
        while not done:
            try:
                writer.submit(batch(1, 2)).result(10)
                done = True
            except LogBusy:
                continue


def test_closing_writes_what_is_queued_and_refuses_more(fs: HeldDisk) -> None:
    wal = Wal.open(PATH, fs=fs)
    writer = LogWriter(wal)
    futures = [writer.submit(batch(1, index)) for index in range(1, 10)]
    writer.close()
    writer.close()
    assert all(future.done() for future in futures)
    assert wal.state(1).last_index == 9
    with pytest.raises(LogClosed):
        writer.submit(batch(1, 10))


def test_one_groups_mistake_is_its_own(fs: HeldDisk) -> None:
    """Of a batch of several groups those at fault are named, and the others' part is durable."""
    with Wal.open(PATH, fs=fs) as wal, LogWriter(wal) as writer:
        shared = [*batch(1, 1), *batch(2, 5), *batch(3, 1), *batch(4, 9), *batch(2, 1)]
        with pytest.raises(GroupsRefused, match="group 2") as caught:
            writer.submit(shared).result(10)
        assert caught.value.groups == {2, 4}
        after = FaultFileSystem.of({path: bytes(file.device) for path, file in fs._durable_names.items()})
    assert Wal.open(PATH, fs=after).groups() == [1, 3]


def test_a_full_disk_refuses_the_others_of_a_mistaken_batch(fs: HeldDisk) -> None:
    """Then nothing of the batch is written, and that is what everybody in it is told."""
    with Wal.open(PATH, fs=fs) as wal, LogWriter(wal) as writer:
        fs.fail("append", error=errno.ENOSPC)
        with pytest.raises(LogFull):
            writer.submit([*batch(1, 1), *batch(2, 5)]).result(10)
        assert wal.groups() == []
