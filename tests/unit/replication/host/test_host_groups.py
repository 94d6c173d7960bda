"""Groups of several replicas on hosts in one process: the same rules over a network."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from vecdb_replication.host import (
    ChangeRefused,
    GroupBlocked,
    Host,
    MemoryNetwork,
    NotLeader,
    Options,
    OutcomeUnknown,
    ProposalLost,
)
from vecdb_replication.raft import Change, ChangeType, ConfChange
from vecdb_replication.wal import Wal

from tests.support.faultfs import FaultFileSystem
from tests.unit.replication.host.machines import FOLDER, SECONDS, Notes, Words, until

G = 7
QUICK = Options(tick_seconds=0.01, snapshot_ticks=60)


class Cluster:
    """Hosts named n1, n2...; replica i of every group is on ni."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.hosts: dict[int, Host] = {}
        self.wals: dict[int, Wal] = {}
        self.disks: dict[int, FaultFileSystem] = {}
        self.notes: dict[int, Notes] = {}

    async def start(self, node: int, founders: tuple[int, ...]) -> Host:
        disk = self.disks.setdefault(node, FaultFileSystem(node))
        wal = self.wals[node] = Wal.open(FOLDER, fs=disk)
        peer = f"n{node}"
        host = self.hosts[node] = Host(
            wal,
            outbox=self.network.outbox(peer),
            locate=lambda _, replica: f"n{replica}",
            options=QUICK,
            compact_bytes=0,
            retry_seconds=0.01,
        )
        self.network.attach(
            peer, host.receive, lambda group, to, failed: host.report_snapshot(group, to, failed=failed)
        )
        notes = self.notes.setdefault(node, Notes())
        await host.add(G, notes, replica=node, founders=founders)
        return host

    async def stop(self, node: int) -> None:
        self.network.detach(f"n{node}")
        await self.hosts.pop(node).close()
        self.wals.pop(node).close()

    async def leader(self) -> int:
        """Who leads, with a majority's consent."""

        def known() -> int:
            leads = [host.status(G).leader for host in self.hosts.values()]
            return max((lead for lead in leads if lead in self.hosts), key=leads.count, default=0)

        def settled() -> bool:
            lead = known()
            return bool(lead) and self.hosts[lead].status(G).leader == lead

        await until(settled)
        return known()

    async def write(self, data: bytes) -> int:
        """Write by way of whoever leads."""
        while True:
            try:
                return (await self.hosts[await self.leader()].propose(G, data)).index
            except NotLeader:
                await asyncio.sleep(0.01)

    async def change(self, change: ConfChange) -> None:
        """Change the membership by way of whoever leads."""
        while True:
            try:
                await self.hosts[await self.leader()].change(G, change)
                return
            except NotLeader:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def cluster(size: int = 3) -> AsyncIterator[Cluster]:
    found = Cluster()
    try:
        for node in range(1, size + 1):
            await found.start(node, tuple(range(1, size + 1)))
        yield found
    finally:
        nonsense = [host.nonsense for host in found.hosts.values()]
        for node in list(found.hosts):
            await found.stop(node)
        assert not any(nonsense), "replicas of one version make sense to each other"


async def test_what_is_acknowledged_is_on_a_quorum_and_everywhere_soon() -> None:
    """A write is answered by the leader alone, and every replica applies the same history."""
    async with cluster() as c:
        lead = await c.leader()
        index = (await c.hosts[lead].propose(G, b"one")).index
        logs = [wal.state(G).last_index >= index for wal in c.wals.values()]
        assert sum(logs) >= 2
        other = next(node for node in c.hosts if node != lead)
        with pytest.raises(NotLeader) as caught:
            await c.hosts[other].propose(G, b"no")
        assert caught.value.leader == lead
        await c.hosts[other].wait_applied(G, index)
        assert c.notes[other].words == [b"one"]


async def test_a_barrier_on_a_follower_sees_what_was_acknowledged() -> None:
    """A linearizable read at any replica waits for every write that was answered before it."""
    async with cluster() as c:
        for number in range(10):
            await c.write(b"%d" % number)
            for node, host in c.hosts.items():
                await asyncio.wait_for(host.barrier(G), 5)
                assert c.notes[node].words[-1] == b"%d" % number


async def test_the_group_outlives_its_leader() -> None:
    """With the leader gone another takes over; coming back, the old one catches up from the log."""
    async with cluster() as c:
        await c.write(b"before")
        gone = await c.leader()
        await c.stop(gone)
        await c.write(b"after")
        await c.start(gone, (1, 2, 3))
        await until(lambda: c.notes[gone].words == [b"before", b"after"])


async def test_a_leader_without_a_quorum_steps_down_and_its_entry_gives_way() -> None:
    """An isolated leader acknowledges nothing; its entry is replaced, and whoever waits is told."""
    async with cluster() as c:
        await c.write(b"before")
        alone = await c.leader()
        for node in c.hosts:
            if node != alone:
                c.network.cut(f"n{alone}", f"n{node}")
        lost = asyncio.create_task(c.hosts[alone].propose(G, b"lost"))
        await until(lambda: c.hosts[alone].status(G).leader == 0)
        rest = {node: host for node, host in c.hosts.items() if node != alone}
        await until(lambda: any(host.status(G).leader in rest for host in rest.values()))
        await c.write(b"after")
        c.network.mend()
        with pytest.raises(Exception, match="another leader's"):
            await lost
        await until(lambda: c.notes[alone].words == [b"before", b"after"])


async def test_nobody_waits_for_what_a_deposed_leader_proposed() -> None:
    """All that an isolated leader took is answered, also what lies beyond the log of the new one."""
    async with cluster() as c:
        await c.write(b"before")
        alone = await c.leader()
        host = c.hosts[alone]
        rest = {node: other for node, other in c.hosts.items() if node != alone}
        for node in rest:
            c.network.cut(f"n{alone}", f"n{node}")
        early = [asyncio.create_task(host.propose(G, b"lost%d" % n)) for n in range(8)]
        await until(lambda: any(other.status(G).leader in rest for other in rest.values()))
        c.network.mend()
        await c.write(b"after")
        answers = await asyncio.wait_for(asyncio.gather(*early, return_exceptions=True), 5)
        assert {type(answer) for answer in answers} <= {ProposalLost, OutcomeUnknown, NotLeader}
        await until(lambda: c.notes[alone].words == [b"before", b"after"])
        assert host._queued_bytes == 0

        lead = await c.leader()
        for node in c.hosts:
            c.network.cut(f"n{lead}", f"n{node}")
        with pytest.raises(OutcomeUnknown, match="leads no more"):
            await asyncio.wait_for(c.hosts[lead].propose(G, b"unheard"), 5)


async def test_a_new_member_comes_by_snapshot_and_takes_part() -> None:
    """A learner whose entries are dropped already gets the state, then votes; the old ones can leave."""
    async with cluster() as c:
        for number in range(5):
            await c.write(b"%d" % number)
        for host in c.hosts.values():
            await host.wait_applied(G, 6)
            await host.compact()
        await c.start(4, (1, 2, 3))
        lead = await c.leader()
        await c.hosts[lead].change(G, ConfChange((Change(ChangeType.ADD_LEARNER, 4),)))
        await until(lambda: len(c.notes[4].words) == 5)
        # It knows the newcomer, and thus lies behind the change that let it in.
        assert c.notes[4].installed > [6]
        swap = ConfChange((Change(ChangeType.ADD_VOTER, 4), Change(ChangeType.REMOVE, lead % 3 + 1)))
        conf = (await c.hosts[lead].change(G, swap)).result
        assert 4 in conf.voters
        await c.write(b"last")
        await until(lambda: c.notes[4].words[-1] == b"last")
        # The configuration is found again from the mark and the log behind it.
        await c.stop(4)
        await c.start(4, (1, 2, 3))
        assert 4 in c.hosts[4]._groups[G].replica.conf.voters


async def test_a_snapshot_on_its_way_to_the_disk_holds_up_no_other_group() -> None:
    """While one is being staged, and when it cannot be, other groups of the node write on in their terms."""
    async with cluster() as c:
        index = await c.write(b"x")
        for each in c.hosts.values():
            await each.wait_applied(G, index)
            await each.compact()
        host = await c.start(4, (1, 2, 3))
        other = Words()
        await host.add(99, other)
        held, fails = threading.Event(), [True]
        stage = c.notes[4].stage

        def slow(index: int, data: bytes) -> None:
            assert held.wait(SECONDS)
            if fails.pop():
                fails.append(False)
                raise OSError(errno.EIO, "cannot stage")
            fails.append(False)
            stage(index, data)

        c.notes[4].stage = slow  # type: ignore[method-assign]
        await c.change(ConfChange((Change(ChangeType.ADD_LEARNER, 4),)))
        await until(lambda: host._core.groups[G].held_back is not None)
        for number in range(5):
            await host.propose(99, b"%d" % number)
        assert host._core.groups[G].held_back is not None
        held.set()
        await until(lambda: c.notes[4].words == [b"x"])
        assert len((await host.propose(99, b"last")).result) == 4
        assert host.status(99).term == 1


@pytest.mark.parametrize("founders", [(1,), (1, 2)])
async def test_whoever_is_left_alone_leads(founders: tuple[int, ...]) -> None:
    """The only replica moves to another node, or the leader of two is removed: the one that stays goes on."""
    async with cluster(0) as c:
        for node in (1, 2):
            await c.start(node, founders)
        await c.write(b"x")
        lead = await c.leader()
        heir = 3 - lead
        changes = [Change(ChangeType.REMOVE, lead)]
        if len(founders) == 1:
            await c.hosts[1].change(G, ConfChange((Change(ChangeType.ADD_LEARNER, 2),)))
            changes.append(Change(ChangeType.ADD_VOTER, 2))
        await until(lambda: c.notes[heir].words == [b"x"])
        with suppress(OutcomeUnknown, NotLeader):
            await asyncio.wait_for(c.hosts[lead].change(G, ConfChange(tuple(changes))), 5)
        await until(lambda: c.hosts[heir].status(G).leader == heir)
        await asyncio.wait_for(c.hosts[heir].propose(G, b"y"), 5)
        await asyncio.wait_for(c.hosts[heir].barrier(G), 5)
        assert c.notes[heir].words == [b"x", b"y"]


async def test_a_group_of_one_opens_over_a_change_that_is_not_applied() -> None:
    """Its last entry removed its learner: it stands for election once that is applied."""
    async with cluster(0) as c:
        await c.start(1, (1,))
        for kind in (ChangeType.ADD_LEARNER, ChangeType.REMOVE):
            await c.hosts[1].change(G, ConfChange((Change(kind, 2),)))
        await c.stop(1)
        await asyncio.wait_for(c.start(1, (1,)), 5)
        assert (await asyncio.wait_for(c.hosts[1].propose(G, b"x"), 5)).index > 3


async def test_a_second_change_at_once_is_refused() -> None:
    """One change of membership at a time: the second is told, and changes nothing."""
    async with cluster() as c:
        lead = await c.leader()
        await c.write(b"x")
        changes = [ConfChange((Change(ChangeType.ADD_LEARNER, 8 + n),)) for n in range(2)]
        answers = await asyncio.gather(
            *(c.hosts[lead].change(G, change) for change in changes), return_exceptions=True
        )
        assert [type(answer) is ChangeRefused for answer in answers] == [False, True]
        assert c.hosts[lead]._groups[G].replica.conf.learners == (8,)


async def test_leadership_moves_on_request() -> None:
    """transfer hands over; writes go on at the heir."""
    async with cluster() as c:
        await c.write(b"x")
        lead = await c.leader()
        heir = lead % 3 + 1
        c.hosts[lead].transfer(G, heir)
        await until(lambda: c.hosts[heir].status(G).leader == heir)
        await c.write(b"y")
        assert await c.leader() == heir


async def test_a_leader_that_cannot_write_hands_over() -> None:
    """A leader whose disk is full says that it does not know, and another leads from then on."""
    async with cluster() as c:
        await c.write(b"x")
        full = await c.leader()
        disk = c.disks[full]
        disk.capacity = sum(map(len, disk.image().values()))
        with pytest.raises(OutcomeUnknown):
            await c.hosts[full].propose(G, b"y")
        await c.write(b"z")
        assert await c.leader() != full
        disk.capacity = None
        await until(lambda: c.notes[full].words[-1] == b"z")


@pytest.mark.parametrize("late", [False, True])
async def test_a_leader_whose_disk_does_not_answer_hands_over(late: bool) -> None:
    """A sync that hangs is no refusal: another leads all the same, whether or not it is asked to."""
    async with cluster() as c:
        await c.write(b"x")
        hung = await c.leader()
        rest = {node: host for node, host in c.hosts.items() if node != hung}
        answers = threading.Event()
        c.disks[hung].on_op = lambda op, _: op == "fdatasync" and answers.wait(SECONDS)  # type: ignore[assignment]
        try:
            if late:
                c.hosts[hung]._core.groups[G].replica._hand_over = lambda: None  # type: ignore[method-assign]
            waits = asyncio.create_task(c.hosts[hung].propose(G, b"y"))
            await until(lambda: any(host.status(G).leader in rest for host in rest.values()))
            lead = next(host.status(G).leader for host in rest.values() if host.status(G).leader in rest)
            await until(lambda: c.hosts[lead].status(G).leader == lead)
            await asyncio.wait_for(c.hosts[lead].propose(G, b"z"), 5)
            assert c.notes[lead].words == [b"x", b"y", b"z"]
            with pytest.raises((OutcomeUnknown, NotLeader)):
                await asyncio.wait_for(waits, 5)
        finally:
            answers.set()
        await until(lambda: c.notes[hung].words == [b"x", b"y", b"z"])


async def test_a_leader_whose_state_has_no_room_hands_over() -> None:
    """It could answer nobody; the others have room."""
    async with cluster() as c:
        await c.write(b"x")
        full = await c.leader()
        c.notes[full].full = True
        with pytest.raises(GroupBlocked):
            await c.hosts[full].propose(G, b"y")
        await until(lambda: c.hosts[full].status(G).leader not in (0, full))
        await c.write(b"z")
        c.notes[full].full = False
        await until(lambda: c.notes[full].words == [b"x", b"y", b"z"])


async def test_a_stranger_is_not_heard() -> None:
    """What comes from a peer that does not hold the sending replica changes nothing."""
    async with cluster() as c:
        await c.write(b"x")
        lead = await c.leader()
        seen: list[object] = []
        await until(lambda: c.notes[lead % 3 + 1].words == [b"x"])
        receive = c.hosts[lead % 3 + 1].receive
        c.network.attach(f"n{lead % 3 + 1}", lambda _, envelope: seen.append(envelope), lambda *_: None)
        await c.write(b"y")
        await until(lambda: bool(seen))
        for envelope in seen:
            receive("n9", envelope)  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        assert c.notes[lead % 3 + 1].words == [b"x"]


async def test_closing_answers_those_who_wait_for_a_quorum() -> None:
    """A proposal without a quorum is told that its outcome is unknown when the host closes."""
    async with cluster() as c:
        await c.write(b"x")
        lead = await c.leader()
        for node in list(c.hosts):
            if node != lead:
                await c.stop(node)
        waiting = asyncio.create_task(c.hosts[lead].propose(G, b"y"))
        await asyncio.sleep(0)
        await c.stop(lead)
        with pytest.raises(OutcomeUnknown):
            await waiting
