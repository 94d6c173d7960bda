"""Transports of real servers on 127.0.0.1, over real TLS: what arrives, what is lost, who is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from vecdb_replication import raft
from vecdb_replication.transport import FileTrust, Transport, TransportError, TransportOptions
from vecdb_replication.transport.codec import Decoder, encode_hello
from vecdb_replication.transport.link import Link
from vecdb_replication.transport.wire import open_channel, open_stream

from tests.unit.replication.host.machines import until
from tests.unit.replication.transport.peers import (
    CLUSTER,
    PEERS,
    QUICK,
    SECONDS,
    Certificates,
    Recorder,
    append,
    free_port,
    heartbeat,
    join,
    node,
    pair,
    said,
    snapshot,
)

ROOM = Recorder.max_entry_bytes


async def test_messages_arrive_in_order_from_whom_the_certificate_names(certificates: Certificates) -> None:
    """Both ways over the one stream, whoever opened it."""
    async with pair(certificates) as (one, two):
        for index in range(200):
            one.transport.send("n2", said(append(index, b"to two"), group=index + 1))
            two.transport.send("n1", said(append(index, b"to one"), group=index + 1))
        await one.recorder.until(lambda: len(one.recorder.received) == 200)
        await two.recorder.until(lambda: len(two.recorder.received) == 200)
        assert one.recorder.received == [("n2", n + 1, append(n, b"to one")) for n in range(200)]
        assert two.recorder.received == [("n1", n + 1, append(n, b"to two")) for n in range(200)]
        for status, dials in (one.transport.status()[0], True), (two.transport.status()[0], False):
            assert (status.dials, status.connected, status.connects, status.problem) == (dials, True, 1, "")
            assert status.sent_messages == status.received_messages == 200
            assert status.sent_bytes > 0
            assert status.queued_messages == status.dropped_messages == 0


async def test_what_one_turn_of_the_loop_says_shares_a_frame(certificates: Certificates) -> None:
    """A thousand heartbeats are one message of gRPC, not a thousand."""
    async with pair(certificates) as (one, two):
        for group in range(1, 1001):
            one.transport.send("n2", said(heartbeat(), group=group))
        await two.recorder.until(lambda: len(two.recorder.received) == 1000)
        assert one.transport.status()[0].sent_frames == 1


@pytest.mark.parametrize("urgent", [heartbeat(3, context=b"read"), append(3, b"x")])
async def test_heartbeats_wait_for_company(certificates: Certificates, urgent: raft.Message) -> None:
    """For a moment: what is more urgent takes them along at once, so does one that a read waits for."""
    async with pair(certificates, linger_seconds=60) as (one, two):
        one.transport.send("n2", said(heartbeat(1)))
        one.transport.send("n2", said(replace(heartbeat(2), type=raft.MessageType.HEARTBEAT_RESP)))
        await asyncio.sleep(0.05)
        assert one.transport.status()[0].sent_frames == 0
        one.transport.send("n2", said(urgent))
        await two.recorder.until(lambda: len(two.recorder.received) == 3)
        assert one.transport.status()[0].sent_frames == 1
        # Alone again, and closing does not wait for company either.
        one.transport.send("n2", said(heartbeat(4)))
        await one.transport.close()
        await two.recorder.until(lambda: len(two.recorder.received) == 4)


async def test_heartbeats_wait_for_a_moment_only(certificates: Certificates) -> None:
    """Without company they leave alone, each time anew."""
    async with pair(certificates, linger_seconds=0.01) as (one, two):
        for count in (1, 2):
            one.transport.send("n2", said(heartbeat(count)))
            await two.recorder.until(lambda count=count: len(two.recorder.received) == count)


async def test_entries_of_eight_megabytes_come_through(certificates: Certificates) -> None:
    """Every byte of several of them, and what is urgent overtakes them."""
    large = [append(index, bytes([index]) * (8 << 20)) for index in range(4)]
    async with pair(certificates) as (one, two):
        one.transport.send("n2", said(*large, heartbeat(3)))
        await two.recorder.until(lambda: len(two.recorder.received) == 5)
        received = [message for _, _, message in two.recorder.received]
        assert received == [heartbeat(3), *large]


async def test_a_full_queue_drops_what_comes_later_and_says_so_once(certificates: Certificates) -> None:
    """The host hears of it, and of each snapshot; what was queued before arrives."""
    async with pair(certificates, max_queued_messages=2) as (one, two):
        one.transport.send("n2", said(*(append(index, b"x") for index in range(5)), snapshot(9)))
        one.transport.send("n2", said(append(6, b"x")))
        await one.recorder.until(lambda: one.recorder.lost and one.recorder.snapshots)
        assert one.recorder.lost == ["n2"]
        assert one.recorder.snapshots == [(7, 2, True)]
        assert one.transport.status()[0].dropped_messages == 5
        await two.recorder.until(lambda: len(two.recorder.received) == 2)
        assert [message.index for _, _, message in two.recorder.received] == [0, 1]
        # Once there is room again, losing more is news again.
        one.transport.send("n2", said(*(append(index, b"x") for index in range(5))))
        await one.recorder.until(lambda: len(one.recorder.lost) == 2)


async def test_what_is_urgent_waits_for_a_piece_only(certificates: Certificates) -> None:
    """An entry of 100 pieces: a heartbeat that comes with the first of them arrives before the last."""
    link = Link("n2", Recorder(), replace(QUICK, frame_bytes=1_000), dials=True)
    decoder, seen = Decoder(ROOM), list[raft.Message | None]()

    class Stream(Untouched):
        async def read(self) -> bytes | None:
            return await asyncio.Future()

        async def write(self, frame: bytes) -> None:
            envelope = decoder.decode(frame)
            seen.extend([message for _, message in envelope.messages] if envelope else [None])
            if len(seen) in (1, 50):
                link.send(said(heartbeat(len(seen), context=b"read")).messages)
            await asyncio.sleep(0)

    run = asyncio.create_task(link.run(Stream()))
    async with asyncio.timeout(SECONDS):
        await link.connected()
        large = append(1, bytes(range(100)) * 1_000)
        link.send(said(append(0, b"before"), large).messages)
        await until(lambda: large in seen)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert [message for message in seen if message is not None] == [
        append(0, b"before"),
        heartbeat(1, context=b"read"),
        heartbeat(50, context=b"read"),
        large,
    ]
    assert seen.count(None) == 99


async def test_entries_larger_than_a_frame_come_through(certificates: Certificates) -> None:
    """In pieces, over a real connection; so do those that wait behind them."""
    large = [append(index, bytes([index]) * (300_000 + index), b"with it") for index in range(3)]
    async with pair(certificates, frame_bytes=10_000, max_frame_bytes=20_000) as (one, two):
        one.transport.send("n2", said(*large, append(4, b"small")))
        await two.recorder.until(lambda: len(two.recorder.received) == 4)
        assert [message for _, _, message in two.recorder.received] == [*large, append(4, b"small")]


async def test_a_host_whose_entries_could_not_be_sent_is_not_served(certificates: Certificates) -> None:
    """Such an entry would hold up its group for good: the two limits are compared before anything begins."""
    trust = FileTrust(certificates.peers["n1"], PEERS)
    transport = Transport("n1", CLUSTER, trust, options=replace(QUICK, max_entry_bytes=ROOM - 1))
    with pytest.raises(ValueError, match=f"entries of {ROOM} bytes, and {ROOM - 1} is what can be sent"):
        await transport.start(Recorder(), "127.0.0.1:0")
    await transport.close()


async def test_a_message_too_large_to_be_sent_is_named_and_dropped(certificates: Certificates) -> None:
    """It could never be sent: the stream lives on without it, and the log has one line of it."""
    with capture_logs() as logs:
        async with pair(certificates) as (one, two):
            for _ in range(3):
                one.transport.send("n2", said(append(1, b"", bytes(4 << 20)), heartbeat(8)))
            await two.recorder.until(lambda: len(two.recorder.received) == 3)
            assert {message for _, _, message in two.recorder.received} == {heartbeat(8)}
            assert one.transport.status()[0].dropped_messages == 3
    assert [line["group"] for line in logs if line["event"] == "message too large"] == [7]


async def test_without_a_stream_everything_is_dropped(certificates: Certificates) -> None:
    """Also what is for a stranger. A snapshot that went nowhere is reported."""
    async with node(certificates.peers["n1"], "n1") as one:
        one.transport.add("n2", f"127.0.0.1:{free_port()}")
        one.transport.send("n2", said(heartbeat(), snapshot(3)))
        one.transport.send("n9", said(heartbeat(), snapshot(3)))
        await one.recorder.until(lambda: one.recorder.snapshots)
        assert one.recorder.snapshots == [(7, 2, True)]
        assert one.transport.status()[0].dropped_messages == 2


async def test_the_stream_is_opened_again_when_the_server_comes_back(certificates: Certificates) -> None:
    """The host hears that it broke; messages flow again over the next."""
    files, port = certificates.peers, free_port()
    async with node(files["n1"], "n1") as one:
        async with node(files["n2"], "n2", port=port) as two:
            await join(one, two)
            one.transport.send("n2", said(snapshot(3)))
            await two.recorder.until(lambda: two.recorder.received)
        await one.recorder.until(lambda: one.recorder.lost and one.recorder.snapshots)
        assert one.recorder.lost == ["n2"]
        assert one.recorder.snapshots == [(7, 2, True)]
        assert not one.transport.status()[0].connected
        assert one.transport.status()[0].problem
        async with node(files["n2"], "n2", port=port) as two:
            two.transport.add("n1", f"127.0.0.1:{one.port}")
            async with asyncio.timeout(SECONDS):
                await one.transport.connected("n2")
            one.transport.send("n2", said(heartbeat(1)))
            await two.recorder.until(lambda: two.recorder.received)
            assert two.recorder.received == [("n1", 7, heartbeat(1))]
            assert one.transport.status()[0].connects == 2


async def test_the_stream_is_opened_again_when_the_dialler_comes_back(certificates: Certificates) -> None:
    """The other end of the same: whoever accepts hears that it broke, and accepts again."""
    files = certificates.peers
    async with node(files["n2"], "n2") as two:
        async with node(files["n1"], "n1") as one:
            await join(one, two)
        await two.recorder.until(lambda: two.recorder.lost)
        assert two.recorder.lost == ["n1"]
        async with node(files["n1"], "n1") as one:
            one.transport.add("n2", f"127.0.0.1:{two.port}")
            async with asyncio.timeout(SECONDS):
                await two.transport.connected("n1")
            two.transport.send("n1", said(heartbeat(2)))
            await one.recorder.until(lambda: one.recorder.received)


async def test_a_peer_that_reads_nothing_holds_up_nobody_else(certificates: Certificates) -> None:
    """Its queue fills and drops; another peer gets everything meanwhile."""
    files = certificates.peers
    options = TransportOptions(max_queued_bytes=4 << 20)
    async with (
        node(files["n3"], "n3", options=options) as three,
        node(files["n2"], "n2") as two,
    ):
        two.transport.add("n3", f"127.0.0.1:{three.port}")
        three.transport.add("n2", f"127.0.0.1:{two.port}")
        three.transport.add("n1", "127.0.0.1:1")
        trust = FileTrust(files["n1"], PEERS)
        async with open_channel(f"127.0.0.1:{three.port}", "n3", trust, options) as channel:
            call = open_stream(channel)
            await call.write(encode_hello(CLUSTER, "n1"))
            async with asyncio.timeout(SECONDS):
                await call.read()
                await three.transport.connected("n1")
                await three.transport.connected("n2")
            for index in range(64):
                three.transport.send("n1", said(append(index, bytes(1 << 20))))
                three.transport.send("n2", said(append(index, b"small")))
                await asyncio.sleep(0)
            await two.recorder.until(lambda: len(two.recorder.received) == 64)
            await three.recorder.until(lambda: three.recorder.lost)
            assert set(three.recorder.lost) == {"n1"}
            status = {status.peer: status for status in three.transport.status()}
            assert status["n1"].queued_bytes <= 4 << 20
            assert status["n1"].dropped_messages > 0
            assert status["n2"].dropped_messages == 0


async def test_a_newer_stream_takes_the_place_of_the_old(certificates: Certificates) -> None:
    """A peer that comes again has given the old one up, whatever this end still believes."""
    files = certificates.peers
    async with node(files["n2"], "n2") as two, node(files["n1"], "n1") as one:
        await join(one, two)
        async with node(files["n1"], "n1") as again:
            again.transport.add("n2", f"127.0.0.1:{two.port}")
            async with asyncio.timeout(SECONDS):
                await again.transport.connected("n2")
            await two.recorder.until(lambda: two.recorder.lost)
            # The first one dials again, too, so that the two take turns: both are told why.
            await one.recorder.until(lambda: one.recorder.lost)


class Wire:
    """A way to a port for TCP connections; bytes pass until it is `frozen`, and nobody hears of that."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._passing: set[asyncio.Task[None]] = set()
        self.frozen = False

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._passing |= {
            asyncio.create_task(self._pass(reader, back)),
            asyncio.create_task(self._pass(there, writer)),
        }

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                if not self.frozen:
                    writer.write(data)
        finally:
            writer.close()

    async def close(self) -> None:
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)


async def test_a_connection_that_went_silent_is_found_out(certificates: Certificates) -> None:
    """No packet says that the other end is gone: both ends ping, hear nothing, and give the stream up."""
    files = certificates.peers
    options = replace(QUICK, keepalive_seconds=0.2, keepalive_timeout_seconds=0.2)
    async with (
        node(files["n1"], "n1", options=options) as one,
        node(files["n2"], "n2", options=options) as two,
    ):
        wire = Wire(two.port)
        server = await asyncio.start_server(wire.accept, "127.0.0.1", 0)
        one.transport.add("n2", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        two.transport.add("n1", f"127.0.0.1:{one.port}")
        async with asyncio.timeout(SECONDS):
            await one.transport.connected("n2")
            await two.transport.connected("n1")
        await asyncio.sleep(1)
        assert one.transport.status()[0].connects == two.transport.status()[0].connects == 1
        wire.frozen = True
        await one.recorder.until(lambda: one.recorder.lost)
        await two.recorder.until(lambda: two.recorder.lost)
        server.close()
        await wire.close()


async def test_what_is_queued_leaves_before_the_transport_closes(certificates: Certificates) -> None:
    """A last word, such as handing over leadership, is not lost by closing at once."""
    files = certificates.peers
    last = raft.Message(raft.MessageType.TIMEOUT_NOW, 2, 1, 5)
    async with node(files["n2"], "n2") as two:
        async with node(files["n1"], "n1") as one:
            await join(one, two)
            one.transport.send("n2", said(append(1, bytes(1 << 20)), last))
        await two.recorder.until(lambda: two.recorder.lost)
        assert [message.type for _, _, message in two.recorder.received] == [last.type, raft.MessageType.APP]


async def test_a_removed_peer_is_cut_off_and_not_taken_back(certificates: Certificates) -> None:
    """Its open stream ends at once, and its next is refused, though its certificate is good."""
    with capture_logs() as logs:
        async with pair(certificates) as (one, two):
            await two.transport.remove("n1")
            assert two.transport.status() == ()
            await one.recorder.until(lambda: one.recorder.lost)
            await until(lambda: one.transport.status()[0].problem.endswith("it is no peer of this node"))
            assert "n1" in {line["peer"] for line in logs if line["event"] == "peer refused"}
            await one.transport.remove("n2")
            one.transport.send("n2", said(heartbeat()))
            assert one.transport.status() == ()


async def test_a_link_that_was_closed_takes_no_stream_that_was_on_its_way() -> None:
    """A peer may be removed between its admission and its hello: that is too late for it."""
    link = Link("n3", Recorder(), QUICK, dials=False)
    link.close("it was removed")
    assert await link.run(Untouched()) == "it was removed"
    assert link.status().connects == 0


class Silent:
    """A stream on which nothing comes. Ended, it waits for a few turns before it lets go of its reader."""

    async def read(self) -> bytes | None:
        try:
            return await asyncio.Future()
        finally:
            for _ in range(20):
                await asyncio.sleep(0)

    async def write(self, frame: bytes) -> None:
        raise AssertionError("it was written to")


async def test_of_two_streams_that_wait_the_newer_counts() -> None:
    """The older one is dead to the peer, which has opened another since."""
    link = Link("n3", Recorder(), QUICK, dials=False)
    runs = [asyncio.create_task(link.run(Silent()))]
    await link.connected()
    for _ in range(2):
        runs.append(asyncio.create_task(link.run(Silent())))
        await asyncio.sleep(0)
    *older, last = runs
    await until(lambda: sum(run.done() for run in runs) == 2)
    assert {run.result() for run in older} == {"the peer has opened a newer stream"}
    await link.connected()
    link.close("enough")
    assert await last == "enough"
    assert link.status().connects == 2


async def test_what_a_stream_takes_with_it_is_told_however_often_it_is_cancelled() -> None:
    """The host hears that it is down, and the link takes the next."""
    recorder = Recorder()
    link = Link("n3", recorder, QUICK, dials=False)
    run = asyncio.create_task(link.run(Silent()))
    await link.connected()
    for _ in range(2):
        run.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(run, return_exceptions=True)
    await recorder.until(lambda: recorder.lost == ["n3"])
    assert not link.status().connected


class Untouched:
    """A stream that nobody reads or writes."""

    async def read(self) -> bytes | None:
        raise AssertionError("it was read")

    async def write(self, frame: bytes) -> None:
        raise AssertionError("it was written to")


async def test_a_port_that_is_taken_is_an_error(certificates: Certificates) -> None:
    """Two nodes never share a port, however much gRPC would let them."""
    async with node(certificates.peers["n1"], "n1") as one:
        with pytest.raises(TransportError, match="cannot listen"):
            async with node(certificates.peers["n2"], "n2", port=one.port):
                pass


async def test_a_transport_is_used_in_order(certificates: Certificates) -> None:
    """Peers are added after the start, each once, and never itself."""
    trust = FileTrust(certificates.peers["n1"], PEERS)
    early = Transport("n1", CLUSTER, trust)
    with pytest.raises(ValueError, match="not been started"):
        early.add("n2", "127.0.0.1:1")
    await early.close()
    async with node(certificates.peers["n2"], "n2") as two:
        two.transport.add("n1", "127.0.0.1:1")
        for peer in ("n1", "n2"):
            with pytest.raises(ValueError, match="known already"):
                two.transport.add(peer, "127.0.0.1:1")
        with pytest.raises(ValueError, match="started already"):
            await two.transport.start(two.recorder, "127.0.0.1:0")
        await two.transport.remove("n9")
