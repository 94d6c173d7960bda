"""Small state machines for tests of the host, and hosts over logs on a disk that can fail."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vecdb_replication.host import Host, StorageFull
from vecdb_replication.snapshots import FileSource
from vecdb_replication.wal import Wal

from tests.support.faultfs import FaultFileSystem

FOLDER = Path("/log")
SECONDS = 10.0


class Words:
    """Remembers what was applied. Outlives its host, as files would.

    `full` makes it raise StorageFull, `broken` a RuntimeError; while `hold` is
    set, applying waits. Durable is what a checkpoint has seen.
    """

    def __init__(self) -> None:
        self.applied: list[tuple[int, bytes]] = []
        self.durable = 0
        self.full = False
        self.broken = False
        self.hold = threading.Event()
        self.hold.set()
        self.applying = threading.Event()
        self.batches: list[int] = []
        self.threads: set[int] = set()

    @property
    def applied_index(self) -> int:
        return self.applied[-1][0] if self.applied else 0

    @property
    def durable_index(self) -> int:
        return self.durable

    @property
    def words(self) -> list[bytes]:
        return [data for _, data in self.applied]

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> list[object]:
        self.threads.add(threading.get_ident())
        self.applying.set()
        assert self.hold.wait(SECONDS)
        if self.full:
            raise StorageFull("no room in the state")
        if self.broken:
            raise RuntimeError("the state is broken")
        assert entries[0][0] > self.applied_index
        self.batches.append(len(entries))
        self.applied.extend(entries)
        return [data.upper() for _, data in entries]

    def checkpoint(self) -> int:
        self.durable = self.applied_index
        return self.durable


@asynccontextmanager
async def hosting(
    fs: FaultFileSystem, machines: dict[int, Any], *, segment_bytes: int = 1 << 20, **settings: Any
) -> AsyncIterator[tuple[Host, Wal]]:
    """A host with these groups over the log on `fs`; closed in order at the end."""
    wal = Wal.open(FOLDER, fs=fs, segment_bytes=segment_bytes)
    try:
        host = Host(wal, retry_seconds=0.01, **settings)
        try:
            for group, machine in machines.items():
                await host.add(group, machine)
            yield host, wal
        finally:
            await host.close()
    finally:
        wal.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait, giving the loop its turns; AssertionError where it takes too long."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        await asyncio.sleep(0.001)


class Notes(Words):
    """Words that can be handed over as a snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.base = 0
        self.staged: dict[int, list[tuple[int, bytes]]] = {}
        self.installed: list[int] = []

    @property
    def applied_index(self) -> int:
        return max(self.base, super().applied_index)

    def prepare(self, stopped: Callable[[], bool] = lambda: False) -> None:
        self.checkpoint()

    def capture(self) -> tuple[int, bytes]:
        if not self.durable:
            raise LookupError("no checkpoint yet")
        kept = [(index, data.decode()) for index, data in self.applied if index <= self.durable]
        return self.durable, json.dumps(kept).encode()

    def stage(self, index: int, data: bytes) -> None:
        self.staged[index] = [(at, text.encode()) for at, text in json.loads(data)]

    def install(self, index: int) -> None:
        if index not in self.staged:
            raise LookupError(f"no snapshot of {index}")
        self.applied = list(self.staged[index])
        self.installed.append(index)
        self.durable = self.base = index


class Pages(Notes):
    """Notes whose snapshots come by `fetch`: what it does is up to the test.

    `fetching` has (data, source) of each call; `go` lets one come to its end,
    with the error in `errors`, if one is left there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fetching: list[tuple[bytes, FileSource]] = []
        self.go = asyncio.Event()
        self.errors: list[Exception] = []
        self.sending = False
        self.tidied = 0

    async def fetch(self, data: bytes, source: FileSource) -> None:
        self.fetching.append((data, source))
        await self.go.wait()
        if self.errors:
            raise self.errors.pop(0)

    def open_file(self, snapshot: str, name: str) -> BinaryIO:
        raise LookupError(snapshot)

    def is_sending(self) -> bool:
        return self.sending

    def tidy(self) -> None:
        self.tidied += 1
