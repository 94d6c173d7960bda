"""What durability costs: the log against bare write and fdatasync of the same bytes, side by side.

    python -m bench.wal [--path DIR] [--seconds 3]

Rows: batches of 800 KB (256 vectors of 784 dimensions), 64 KB and 1 KB, from 1, 4 and 16 writers, each
of which waits for its acknowledgement before it submits again. `bare` is one thread that writes and
syncs the same batch to a file; `log` the same through the log, `group commit` through its writer.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vecdb_replication.wal import Entry, GroupUpdate, HardState, LogWriter, Wal


@dataclass(frozen=True, slots=True)
class Rate:
    """Batches a second, syncs a second, megabytes a second."""

    batches: float
    syncs: float
    megabytes: float


def _timed(step: Callable[[], None], seconds: float, size: int) -> Rate:
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        step()
        done += 1
    return Rate(done / passed, done / passed, done * size / passed / 1e6)


def bare(path: Path, size: int, seconds: float) -> Rate:
    """One thread, one file, nothing but the bytes."""
    data = os.urandom(size)
    fd = os.open(path / "bare", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    written = 0

    def step() -> None:
        nonlocal written
        if written > 64 << 20:
            os.ftruncate(fd, 0)
            written = 0
        written += os.pwrite(fd, data, written)
        os.fdatasync(fd)

    try:
        return _timed(step, seconds, size)
    finally:
        os.close(fd)
        (path / "bare").unlink()


def log(path: Path, size: int, seconds: float, *, sync: bool = True) -> Rate:
    """One thread straight on the log: append, sync, and compaction as it goes."""
    data = os.urandom(size)
    index = 0
    with Wal.open(path / f"log-{size}-{sync}") as wal:

        def step() -> None:
            nonlocal index
            index += 1
            wal.append([GroupUpdate(1, [Entry(1, index, 0, data)], HardState(1, 1, index - 1))])
            if sync:
                wal.sync()
            if index % max(1, (64 << 20) // size) == 0:
                wal.compact(1, index, conf=b"")
                wal.drop_segments()

        return _timed(step, seconds, size)


def group_commit(path: Path, size: int, writers: int, seconds: float) -> Rate:
    """Many threads, one group each, through the log's writer."""
    data = os.urandom(size)
    syncs: list[int] = []
    counts = [0] * writers
    with (
        Wal.open(path / f"group-{size}-{writers}") as wal,
        LogWriter(wal, on_sync=lambda took, batches, written: syncs.append(batches)) as writer,
    ):
        until = time.perf_counter() + seconds

        def work(number: int) -> None:
            index = 0
            while time.perf_counter() < until:
                index += 1
                updates = [GroupUpdate(number, [Entry(1, index, 0, data)], HardState(1, 1, index - 1))]
                writer.submit(updates).result()
                if index % max(1, (32 << 20) // size) == 0:
                    wal.compact(number, index, conf=b"")
                    wal.drop_segments()
            counts[number] = index

        threads = [threading.Thread(target=work, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    total = sum(counts)
    return Rate(total / seconds, len(syncs) / seconds, total * size / seconds / 1e6)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--path", type=Path, default=None, help="a directory on the disk to measure")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row")
    options = parser.parse_args()
    print(f"{'batch':>8}  {'how':<24} {'batches/s':>10} {'syncs/s':>9} {'MB/s':>8} {'to bare':>8}")
    with tempfile.TemporaryDirectory(dir=options.path) as directory:
        path = Path(directory)
        for size in (800_000, 64_000, 1_000):
            base = bare(path, size, options.seconds)
            rows = {"bare write + fdatasync": base, "log": log(path, size, options.seconds)}
            for writers in (1, 4, 16):
                name = f"group commit, {writers} writers"
                rows[name] = group_commit(path, size, writers, options.seconds)
            rows["log, never synced"] = log(path, size, options.seconds, sync=False)
            for how, rate in rows.items():
                numbers = f"{rate.batches:>10.0f} {rate.syncs:>9.0f} {rate.megabytes:>8.1f}"
                print(f"{size:>8}  {how:<24} {numbers} {rate.batches / base.batches:>8.2f}")


if __name__ == "__main__":
    main()
