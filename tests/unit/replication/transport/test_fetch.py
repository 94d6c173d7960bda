"""Files of snapshots, fetched over real connections."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from contextlib import aclosing
from dataclasses import replace
from typing import Any, BinaryIO

import pytest
from vecdb_replication.snapshots import SnapshotGone
from vecdb_replication.transport import FetchFailed, Transport

from tests.unit.replication.host.machines import until
from tests.unit.replication.transport.peers import (
    QUICK,
    SECONDS,
    Certificates,
    Node,
    free_port,
    join,
    node,
    said,
    snapshot,
)

DATA = os.urandom(2_500_000)


class Shelf:
    """A source with one file, `data` of snapshot `s1` of group 7, for n1 alone."""

    def __init__(self) -> None:
        self.opened: list[BinaryIO] = []
        self.broken = False
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()

    def open(self, peer: str, group: int, snapshot: str, name: str) -> BinaryIO:
        if (group, snapshot, name) != (7, "s1", "data"):
            raise LookupError(f"no {name!r} in {snapshot!r} of group {group}")
        if peer != "n1":
            raise PermissionError(f"{peer} holds no replica of group {group}")
        self.asked += 1
        assert self.gate.wait(SECONDS)
        if self.broken:
            raise OSError("the disk is gone")
        file = io.BytesIO(DATA)
        self.opened.append(file)
        return file


async def fetched(transport: Transport, peer: str = "n2", **asked: Any) -> list[bytes]:
    wanted = {"snapshot": "s1", "name": "data", **asked}
    return [chunk async for chunk in transport.fetch(peer, 7, **wanted)]


def meet(one: Node, two: Node) -> None:
    one.transport.add("n2", f"127.0.0.1:{two.port}")
    two.transport.add("n1", f"127.0.0.1:{one.port}")


async def test_a_file_comes_in_chunks_from_any_offset(certificates: Certificates) -> None:
    """All of it, its rest, its last byte, and nothing from its end on; every file is closed again."""
    shelf, files = Shelf(), certificates.peers
    async with node(files["n1"], "n1") as one, node(files["n2"], "n2", source=shelf) as two:
        meet(one, two)
        chunks = await fetched(one.transport)
        assert b"".join(chunks) == DATA
        assert [len(chunk) for chunk in chunks] == [1 << 20, 1 << 20, len(DATA) - (2 << 20)]
        for offset in (1, 1 << 20, len(DATA) - 1, len(DATA)):
            assert b"".join(await fetched(one.transport, offset=offset)) == DATA[offset:]
        await until(lambda: all(file.closed for file in shelf.opened))
        assert len(shelf.opened) == 5


async def test_either_of_two_peers_may_fetch(certificates: Certificates) -> None:
    """It has nothing to do with who dials the stream."""
    shelf, files = Shelf(), certificates.peers
    async with node(files["n1"], "n1") as one, node(files["n0"], "n0", source=shelf) as zero:
        one.transport.add("n0", f"127.0.0.1:{zero.port}")
        zero.transport.add("n1", f"127.0.0.1:{one.port}")
        assert b"".join(await fetched(one.transport, peer="n0")) == DATA


async def test_what_is_not_there_or_not_for_this_peer_is_gone(certificates: Certificates) -> None:
    """Asking again would be of no use, and the error says so by its type."""
    shelf, files = Shelf(), certificates.peers
    async with (
        node(files["n1"], "n1") as one,
        node(files["n2"], "n2", source=shelf) as two,
        node(files["n3"], "n3") as three,
    ):
        meet(one, two)
        two.transport.add("n3", f"127.0.0.1:{three.port}")
        three.transport.add("n2", f"127.0.0.1:{two.port}")
        large = len(DATA) + 1
        for asking, asked, words in (
            (one, {"snapshot": "s2"}, "NOT_FOUND: no 'data' in 's2' of group 7"),
            (one, {"offset": large}, f"OUT_OF_RANGE: the file has {len(DATA)} bytes"),
            (one, {"name": "x" * 256}, "INVALID_ARGUMENT: a name that is too long"),
            (one, {"snapshot": "x" * 129}, "INVALID_ARGUMENT: a name that is too long"),
            (three, {}, "PERMISSION_DENIED: n3 holds no replica"),
        ):
            with pytest.raises(SnapshotGone, match=words):
                await fetched(asking.transport, **asked)
        with pytest.raises(SnapshotGone, match="no snapshot 's1' of group 7 is here"):
            await fetched(two.transport, peer="n1")


class Endless(io.RawIOBase):
    """A file without an end."""

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset if whence == 0 else 1 << 40

    def read(self, size: int = -1) -> bytes:
        return bytes(size)


class EndlessShelf(Shelf):
    """Every file is one without an end."""

    def open(self, peer: str, group: int, snapshot: str, name: str) -> BinaryIO:
        self.opened.append(Endless())  # type: ignore[arg-type]
        return self.opened[-1]


async def test_a_removed_peer_gets_no_more_of_a_file(certificates: Certificates) -> None:
    """What it is fetching ends, and is gone for it: it is none of its business any more."""
    shelf, files = EndlessShelf(), certificates.peers
    async with node(files["n1"], "n1") as one, node(files["n2"], "n2", source=shelf) as two:
        meet(one, two)
        async with asyncio.timeout(SECONDS), aclosing(one.transport.fetch("n2", 7, "s1", "data")) as chunks:
            await anext(chunks)
            await two.transport.remove("n1")
            with pytest.raises(SnapshotGone, match="no peer of this node any more"):
                async for _ in chunks:
                    pass
        await until(lambda: shelf.opened[0].closed)


async def test_nothing_more_is_taken_from_a_removed_peer(certificates: Certificates) -> None:
    """A fetch from it ends, however much it would still give."""
    shelf, files = EndlessShelf(), certificates.peers
    async with node(files["n1"], "n1") as one, node(files["n2"], "n2", source=shelf) as two:
        meet(one, two)
        async with asyncio.timeout(SECONDS), aclosing(one.transport.fetch("n2", 7, "s1", "data")) as chunks:
            await anext(chunks)
            await one.transport.remove("n2")
            with pytest.raises(FetchFailed, match="'n2' is no peer of this node any more"):
                async for _ in chunks:
                    pass


async def test_a_snapshot_whose_files_are_fetched_is_not_lost_with_the_stream(
    certificates: Certificates,
) -> None:
    """Its message has arrived, and the files come over connections of their own; another group's is lost."""
    shelf, files, port = Shelf(), certificates.peers, free_port()
    async with node(files["n2"], "n2", port=port, source=shelf) as two:
        async with node(files["n1"], "n1") as one:
            await join(one, two)
            two.transport.send("n1", said(snapshot(5), group=7))
            two.transport.send("n1", said(snapshot(5), group=8))
            await one.recorder.until(lambda: len(one.recorder.received) == 2)
            await fetched(one.transport)
        await two.recorder.until(lambda: two.recorder.lost and two.recorder.snapshots)
        assert two.recorder.snapshots == [(8, 2, True)]


async def test_trouble_that_may_pass_is_a_failed_fetch(certificates: Certificates) -> None:
    """A peer that is away or unknown, a disk that does not read, a stranger."""
    shelf, files = Shelf(), certificates.peers
    async with node(files["n1"], "n1") as one, node(files["n2"], "n2", source=shelf) as two:
        meet(one, two)
        one.transport.add("n3", f"127.0.0.1:{free_port()}")
        shelf.broken = True
        with pytest.raises(FetchFailed, match="the file cannot be read"):
            await fetched(one.transport)
        with pytest.raises(FetchFailed, match="UNAVAILABLE"):
            await fetched(one.transport, peer="n3")
        with pytest.raises(FetchFailed, match="'n9' is no peer"):
            await fetched(one.transport, peer="n9")
        one.transport.add("n9", "127.0.0.1:1")
        with pytest.raises(FetchFailed, match="nothing is known of a certificate"):
            await fetched(one.transport, peer="n9")


async def test_a_fetch_that_breaks_goes_on_where_it_stopped(certificates: Certificates) -> None:
    """The server dies in the middle; the next fetch brings the rest."""
    shelf, files, port = Shelf(), certificates.peers, free_port()
    got = b""
    async with node(files["n1"], "n1") as one:
        async with node(files["n2"], "n2", port=port, source=shelf) as two:
            meet(one, two)
            async with aclosing(one.transport.fetch("n2", 7, "s1", "data")) as chunks:
                got += await anext(chunks)
        async with node(files["n2"], "n2", port=port, source=shelf) as two:
            two.transport.add("n1", f"127.0.0.1:{one.port}")
            got += b"".join(await fetched(one.transport, offset=len(got)))
    assert got == DATA


async def test_a_peer_may_fetch_a_few_files_at_a_time(certificates: Certificates) -> None:
    """More are refused for the moment, and taken once one is done."""
    shelf, files = Shelf(), certificates.peers
    async with node(files["n1"], "n1") as one, node(files["n2"], "n2", source=shelf) as two:
        meet(one, two)
        shelf.gate.clear()
        held = [asyncio.create_task(fetched(one.transport)) for _ in range(QUICK.max_fetches_per_peer)]
        await until(lambda: shelf.asked == len(held))
        with pytest.raises(FetchFailed, match="too many fetches"):
            await fetched(one.transport)
        shelf.gate.set()
        for chunks in await asyncio.gather(*held):
            assert b"".join(chunks) == DATA
        assert b"".join(await fetched(one.transport)) == DATA


async def test_a_fetch_that_brings_nothing_fails(certificates: Certificates) -> None:
    """A disk that hangs at the other end does not hold whoever waits for the file for ever."""
    shelf, files = Shelf(), certificates.peers
    hasty = replace(QUICK, chunk_seconds=0.1)
    async with node(files["n1"], "n1", options=hasty) as one, node(files["n2"], "n2", source=shelf) as two:
        meet(one, two)
        shelf.gate.clear()
        with pytest.raises(FetchFailed, match=r"nothing for 0\.1 s"):
            await fetched(one.transport)
        shelf.gate.set()
