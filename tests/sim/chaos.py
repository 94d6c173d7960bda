"""What goes wrong, and when: storms of faults, and the time to heal in between."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from vecdb_replication import wal

from tests.sim import rot
from tests.sim.healing import heal
from tests.sim.network import Weather
from tests.sim.node import SimNode
from tests.sim.operators import Operators
from tests.sim.world import NODES, World

_STORM_SECONDS = 20.0
_FURIES = (0.15, 0.4, 1.0)
_MOST_DOWN = 2
_FAILING = ("append", "append", "fdatasync", "pread", "open", "rename", "unlink", "fsync_dir", "truncate")


class Chaos:
    """Storms of faults on a world, each followed by healing, in which the cluster has to make progress."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dice = random.Random(world.dice.randrange(1 << 30))
        self.fury = 0.0
        """The share of planned faults that happen: none while all heals, another one in each storm."""
        operators = Operators(world, self.dice)
        acts: list[tuple[float, Callable[[], None]]] = [
            (1.2, self._crash),
            (6.0, self._stop),
            (4.0, self._cut),
            (5.0, self._pause),
            (6.0, self._fill),
            (8.0, self._fail),
            (8.0, self._slow),
            (8.0, self._hang),
            (10.0, self._spoil_staging),
            (3.0, self._weather),
            (2.0, operators.compact),
            (3.0, operators.transfer),
            (2.0, operators.reconfigure),
        ]
        for mean, act in acts:
            self._plan(mean, act)

    def _plan(self, mean: float, act: Callable[[], None]) -> None:
        def again() -> None:
            if self.dice.random() < self.fury:
                act()
            self._plan(mean, act)

        self.world.later(self.dice.expovariate(1 / mean), again)

    def run(self, seconds: float) -> None:
        """Storms and healing until so much time has passed; the end is healed, at rest, and judged whole."""
        world = self.world
        end = world.now + seconds
        while world.now < end:
            self.fury = self.dice.choice(_FURIES)
            world.run(min(end, world.now + _STORM_SECONDS * (0.5 + self.dice.random())))
            self.fury = 0.0
            heal(world)
            world.judge()
        for client in world.clients:
            client.resting = True
        world.run(world.now + 2)
        heal(world)
        world.judge(all_over=True)

    # Nodes

    def _node(self) -> SimNode:
        return self.dice.choice(list(self.world.nodes.values()))

    def _may_end(self, node: SimNode) -> bool:
        return node.up and sum(not each.up for each in self.world.nodes.values()) < _MOST_DOWN

    def _crash(self) -> None:
        """Now, or in the middle of the node's next write, which by chance alone is rarely met."""
        node = self._node()
        if self.dice.random() < 0.5:
            self._crash_now(node)
        else:
            node.doom = partial(self._crash_now, node)

    def _crash_now(self, node: SimNode) -> None:
        world = self.world
        if not self._may_end(node):
            return
        keep = self.dice.choice(("none", "torn", "torn", "all", None))
        world.note("crash", node.number, keep)
        node.die(keep)  # type: ignore[arg-type]
        world.counts["crashes"] += 1
        world.counts["lost syncs"] += bool(node.unsynced) and keep in ("none", "torn")
        self._told(node)
        if self.dice.random() < 0.15 and self._is_spare(node) and rot.flip(node, self.dice):
            world.counts["flipped bits"] += 1
            self._replace(node)
        world.later(self.dice.random() * 3, world.revive, node)

    def _stop(self) -> None:
        """End a process in good order."""
        world, node = self.world, self._node()
        if not self._may_end(node):
            return
        try:
            ended = node.stop()
        except wal.LogFailed as failed:
            world.died(node, str(failed))
            return
        except wal.LogError:
            return
        if ended:
            world.note("stopped", node.number)
            world.counts["stops"] += 1
            self._told(node)
            world.later(self.dice.random(), world.revive, node)

    def _told(self, gone: SimNode) -> None:
        """Half of the others notice that a connection broke."""
        for node in self.world.nodes.values():
            if self.dice.random() < 0.5:
                node.lose(gone.number)

    def _is_spare(self, node: SimNode) -> bool:
        """Whether nothing hangs on what a disk that is about to be lost has acknowledged.

        Raft survives crashes, not disks that forget: a replica may be lost only once all that it
        acknowledged is on every other voter's disk, nothing more of it is on its way, and without
        it there is a quorum, which no change of membership is about to make another.
        """
        for group, replica in node.replicas.items():
            found = self.world.leader(group)
            if found is None:
                return False
            core, conf = found[1].replica.node._raft, found[1].replica.conf
            facts = self.world.watch.facts[group]
            disks = facts.disks
            if core.pending_conf_index > core.log.applied or facts.has_change_under_way():
                return False
            for half in (conf.voters, conf.voters_outgoing):
                if half and len(set(half) - {replica}) <= len(half) // 2:
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
        rot.start_damaged(node)
        world.network.silence(node.number)
        for group, replica in node.replicas.items():
            del world.placement[group][replica]
        world.note("replaced", node.number)
        node.wipe()

    def _pause(self) -> None:
        """A process that does not run for a while."""
        world, node = self.world, self._node()
        node.paused_until = world.now + self.dice.random() * 4
        world.counts["pauses"] += 1
        world.note("paused", node.number)

    # Network

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

    def _weather(self) -> None:
        dice = self.dice
        self.world.network.weather = Weather(
            drop=dice.choice((0.0, 0.02, 0.2)),
            repeat=dice.choice((0.0, 0.05, 0.3)),
            delay=dice.choice((0.001, 0.01, 0.05)),
            slow=dice.choice((0.0, 0.05, 0.3)),
        )

    # Disks

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
            op = self.dice.choice(_FAILING)
            node.fail(op)
            self.world.counts["failed I/O"] += 1
            self.world.note("EIO", node.number, op)

    def _slow(self) -> None:
        """Syncs, applying and checkpoints take long for a while."""
        node = self._node()
        node.slowness = self.dice.choice((5.0, 20.0, 100.0))
        self.world.counts["slow disks"] += 1
        self.world.note("slow", node.number, node.slowness)
        self.world.later(self.dice.random() * 5, self._hurry, node)

    def _hurry(self, node: SimNode) -> None:
        node.slowness = 1.0

    def _hang(self) -> None:
        """No sync comes to its end for a while."""
        world, node = self.world, self._node()
        node.hung_until = world.now + self.dice.random() * 5
        world.counts["hung syncs"] += 1
        world.note("hung", node.number)

    def _spoil_staging(self) -> None:
        node = self._node()
        node.staging_fails = True
        self.world.counts["failed stagings"] += 1
        self.world.later(self.dice.random() * 5, self._stage_again, node)

    def _stage_again(self, node: SimNode) -> None:
        node.staging_fails = False
