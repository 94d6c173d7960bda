"""What goes wrong, and what operators do meanwhile; and the time to heal in between."""

from __future__ import annotations

import random
from collections.abc import Callable

from vecdb_replication import wal
from vecdb_replication.host import GroupError, NotLeader, Proposal
from vecdb_replication.host.group import Group
from vecdb_replication.raft import Change, ChangeType, ConfChange, Transition

from tests.sim.facts import demand
from tests.sim.network import Weather
from tests.sim.node import SimNode
from tests.sim.world import GROUPS, NODES, World

_STORM_SECONDS = 20.0
_HEAL_SECONDS = 40.0
_MOST_DOWN = 2


class Chaos:
    """Storms of faults on a world, each followed by healing, in which the cluster has to make progress."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dice = random.Random(world.dice.randrange(1 << 30))
        self.raging = False
        acts: list[tuple[float, Callable[[], None]]] = [
            (1.2, self._crash),
            (4.0, self._cut),
            (5.0, self._pause),
            (6.0, self._fill),
            (8.0, self._fail),
            (3.0, self._weather),
            (2.0, self._compact),
            (3.0, self._transfer),
            (2.5, self._reconfigure),
        ]
        for mean, act in acts:
            self._plan(mean, act)

    def _plan(self, mean: float, act: Callable[[], None]) -> None:
        def again() -> None:
            if self.raging:
                act()
            self._plan(mean, act)

        self.world.later(self.dice.expovariate(1 / mean), again)

    def run(self, seconds: float) -> None:
        """Storms and healing until so much time has passed."""
        world = self.world
        end = world.now + seconds
        while world.now < end:
            self.raging = True
            world.run(min(end, world.now + _STORM_SECONDS * (0.5 + self.dice.random())))
            self.raging = False
            if world.now < end:
                self.heal()
            world.judge()

    # Faults

    def _node(self) -> SimNode:
        return self.dice.choice(list(self.world.nodes.values()))

    def _crash(self) -> None:
        world, node = self.world, self._node()
        if not node.up or sum(not n.up for n in world.nodes.values()) >= _MOST_DOWN:
            return
        keep = self.dice.choice(("none", "torn", "torn", "all", None))
        world.counts["crashes"] += 1
        world.counts["lost syncs"] += bool(node.unsynced) and keep in ("none", "torn")
        world.note("crash", node.number, keep)
        node.die(keep)  # type: ignore[arg-type]
        if self.dice.random() < 0.15 and self._is_spare(node) and node.flip():
            world.counts["flipped bits"] += 1
            self._replace(node)
        world.later(self.dice.random() * 3, world.revive, node)

    def _is_spare(self, node: SimNode) -> bool:
        """Whether nothing hangs on what a disk that is about to be lost has acknowledged.

        Raft survives crashes, not disks that forget: a replica may be lost only once all that it
        acknowledged is on every other voter's disk, and nothing more of it is on its way.
        """
        for group, replica in node.replicas.items():
            found = self.world.leader(group)
            if found is None:
                return False
            conf, disks = found[1].replica.conf, self.world.facts[group].disks
            if conf.voters == (replica,):
                return False
            mine = disks[replica]
            for voter in {*conf.voters, *conf.voters_outgoing} - {replica}:
                home = self.world.placement[group].get(voter)
                if home is None or voter not in self.world.nodes[home].replicas.values():
                    return False
                if not disks[voter].has(mine.last, mine.term_at(mine.last) or 0):
                    return False
        return True

    def _replace(self, node: SimNode) -> None:
        """A damaged log ends its replicas: their ids are given up, and the node begins anew."""
        world = self.world
        node.start_damaged()
        world.network.silence(node.number)
        for group, replica in node.replicas.items():
            del world.placement[group][replica]
        world.note("replaced", node.number)
        node.wipe()

    def _cut(self) -> None:
        """Lose what goes between some nodes, one way or both, for a while."""
        world, dice = self.world, self.dice
        nodes = list(world.nodes)
        side = set(dice.sample(nodes, dice.randrange(1, NODES)))
        both = dice.random() < 0.5
        links = {(a, b) for a in nodes for b in nodes if a in side and b not in side}
        if both:
            links |= {(b, a) for a, b in links}
        world.network.cut |= links
        world.counts["partitions"] += 1
        world.note("cut", sorted(side), both)
        world.later(1 + dice.random() * 6, self._mend, links)

    def _mend(self, links: set[tuple[int, int]]) -> None:
        self.world.network.cut -= links
        self.world.note("mended", len(links))

    def _pause(self) -> None:
        """A process that does not run for a while, or whose clock is off."""
        world, node = self.world, self._node()
        node.paused_until = world.now + self.dice.random() * 4
        world.counts["pauses"] += 1
        world.note("paused", node.number)

    def _fill(self) -> None:
        node = self._node()
        if node.up:
            node.fill(self.dice.randrange(3000))
            self.world.counts["full disks"] += 1
            self.world.note("full", node.number)
            self.world.later(self.dice.random() * 3, self._empty, node)

    def _empty(self, node: SimNode) -> None:
        node.disk.capacity = None

    def _fail(self) -> None:
        node = self._node()
        if node.up:
            op = self.dice.choice(("append", "append", "fdatasync", "pread"))
            node.fail(op)
            self.world.counts["failed I/O"] += 1
            self.world.note("EIO", node.number, op)

    def _weather(self) -> None:
        dice = self.dice
        self.world.network.weather = Weather(
            drop=dice.choice((0.0, 0.02, 0.2)),
            repeat=dice.choice((0.0, 0.05, 0.3)),
            delay=dice.choice((0.001, 0.01, 0.05)),
            slow=dice.choice((0.0, 0.05, 0.3)),
        )

    # What operators do

    def _compact(self) -> None:
        node, group = self._node(), self.dice.choice(self.world.groups)
        node.compact(group)
        self.world.counts["compactions"] += 1

    def _transfer(self) -> None:
        group = self.dice.choice(GROUPS)
        found = self.world.leader(group)
        if found is not None and found[0].core is not None:
            node, held = found
            heir = self.dice.choice(held.replica.conf.voters)
            self.world.note("transfer", group, heir)
            self.world.counts["transfers"] += 1
            node.core.transfer(group, heir)  # type: ignore[union-attr]
            node.touch()

    def _reconfigure(self) -> None:
        """One step towards three or four voters on nodes that are there, or any other allowed step."""
        group = self.dice.choice(GROUPS)
        found = self.world.leader(group)
        if found is None:
            return
        node, held = found
        change = self._change(group, held)
        if change is not None:
            self._propose(group, node, change)
        self._reap(group, held)

    def _change(self, group: int, held: Group) -> ConfChange | None:
        world, dice = self.world, self.dice
        conf, placed = held.replica.conf, world.placement[group]
        if conf.voters_outgoing:
            return None if conf.auto_leave else ConfChange()
        members = {*conf.voters, *conf.learners}
        dead = sorted(member for member in members if member not in placed)
        if dead and (dead[0] not in conf.voters or len(conf.voters) > 1):
            return ConfChange((Change(ChangeType.REMOVE, dead[0]),))
        free = [node for node in world.nodes.values() if node.up and group not in node.replicas]
        if len(members) < 4 and free and not conf.learners:
            home = dice.choice(free)
            try:
                added = world.allot(group, home)
            except wal.LogFailed as failed:
                world.died(home, str(failed))
                return None
            except wal.LogError:
                return None
            return ConfChange((Change(ChangeType.ADD_LEARNER, added),))
        ready = [peer for peer in conf.learners if self._has_caught_up(held, peer)]
        if ready:
            leaver = dice.choice(conf.voters)
            if len(conf.voters) < 3:
                return ConfChange((Change(ChangeType.ADD_VOTER, ready[0]),))
            joint = dice.choice(list(Transition))
            return ConfChange(
                (Change(ChangeType.ADD_VOTER, ready[0]), Change(ChangeType.REMOVE, leaver)), joint
            )
        if len(conf.voters) > 3:
            return ConfChange((Change(ChangeType.REMOVE, dice.choice(conf.voters)),))
        return None

    def _has_caught_up(self, held: Group, peer: int) -> bool:
        progress = held.replica.node.status().progress.get(peer)
        return progress is not None and progress.match + 20 >= held.replica.node.committed

    def _propose(self, group: int, node: SimNode, change: ConfChange) -> None:
        world = self.world

        def resolved(_: int, conf: object) -> None:
            world.counts["changes"] += 1
            world.note("changed", group, conf)

        def rejected(error: Exception) -> None:
            world.note("not changed", group, type(error).__name__)

        assert node.core is not None
        try:
            node.core.propose(group, Proposal(b"", resolved, rejected, change))
        except GroupError as error:
            rejected(error)
        node.touch()

    def _reap(self, group: int, held: Group) -> None:
        """Remove from their nodes replicas that the leader knows to be out.

        An id that was allotted a while ago and is no member may only have been proposed: it is left.
        """
        world, conf = self.world, held.replica.conf
        members = {*conf.voters, *conf.voters_outgoing, *conf.learners, *conf.learners_next}
        known = world.removed.setdefault(group, set())
        for entry_conf in held.replica.storage.memberships.all():
            known |= {*entry_conf.voters, *entry_conf.voters_outgoing, *entry_conf.learners}
        if not held.replica.node._raft.committed_in_term:
            return
        for replica, number in sorted(world.placement[group].items()):
            node = world.nodes[number]
            if replica in known and replica not in members and node.up and held.replica.id != replica:
                world.note("buried", group, replica, number)
                world.counts["removals"] += 1
                del world.placement[group][replica]
                node.bury(group)

    # Healing

    def heal(self) -> None:
        """Everything works again; then every group has to take a write, and its voters to catch up."""
        world = self.world
        world.network.cut.clear()
        world.network.weather = Weather()
        for node in world.nodes.values():
            node.disk.capacity = None
            node.disk._faults.clear()
            node.paused_until = 0.0
            world.revive(node)
        for group in world.groups:
            self._heal(group, world.now + _HEAL_SECONDS)
        world.counts["healings"] += 1

    def _heal(self, group: int, deadline: float) -> None:
        world = self.world
        written: list[int] = []
        while not written:
            demand(world.now < deadline, f"group {group} takes no write after everything was mended")
            found = world.leader(group)
            if found is not None:
                node, held = found
                assert node.core is not None
                data = f'["w", "heal{group}", "{world.now:.3f}"]'.encode()
                try:
                    node.core.propose(group, Proposal(data, lambda i, _: written.append(i), lambda _: None))
                except (NotLeader, GroupError):
                    held.release()
                node.touch()
            world.run(world.now + 0.5)
        while not self._all_have(group, written[0]):
            demand(world.now < deadline, f"group {group}: not all members caught up after all was mended")
            world.run(world.now + 0.5)

    def _all_have(self, group: int, index: int) -> bool:
        found = self.world.leader(group)
        if found is None:
            return False
        conf = found[1].replica.conf
        for voter in {*conf.voters, *conf.voters_outgoing}:
            home = self.world.placement[group].get(voter)
            if home is None:
                continue
            core = self.world.nodes[home].core
            held = core.groups.get(group) if core else None
            if held is None or held.replica.applied < index:
                return False
        return True
