"""What operators do while everything goes wrong: compaction, moving leadership, changing who belongs."""

from __future__ import annotations

import random

from vecdb_replication import wal
from vecdb_replication.host import GroupError, Proposal
from vecdb_replication.host.group import Group
from vecdb_replication.raft import Change, ChangeType, ConfChange, Transition

from tests.sim.node import SimNode
from tests.sim.world import World


class Operators:
    """Their acts, each of which does one thing to some group of a world, or nothing."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world = world
        self.dice = dice

    def _group(self) -> int:
        return self.dice.choice(self.world.groups)

    def compact(self) -> None:
        """Shorten a log."""
        self.dice.choice(list(self.world.nodes.values())).compact(self._group())
        self.world.counts["compactions"] += 1

    def transfer(self) -> None:
        """Ask a leader to hand over to somebody."""
        group = self._group()
        found = self.world.leader(group)
        if found is not None:
            node, held = found
            heir = self.dice.choice(held.replica.conf.voters)
            self.world.note("transfer", group, heir)
            self.world.counts["transfers"] += 1
            assert node.core is not None
            node.core.transfer(group, heir)
            node.touch()

    def reconfigure(self) -> None:
        """One step towards as many voters as a group has, on nodes that are there, or any other allowed."""
        group = self._group()
        found = self.world.leader(group)
        if found is None:
            return
        node, held = found
        change = self._change(group, held)
        if change is not None:
            self._propose(group, node, change)
        self._reap(group, held)

    def _change(self, group: int, held: Group) -> ConfChange | None:
        world, dice, size = self.world, self.dice, self.world.sizes[group]
        conf, placed = held.replica.conf, world.placement[group]
        if conf.voters_outgoing:
            return None if conf.auto_leave else ConfChange()
        members = {*conf.voters, *conf.learners}
        dead = sorted(member for member in members if member not in placed)
        if dead and (dead[0] not in conf.voters or len(conf.voters) > 1):
            return ConfChange((Change(ChangeType.REMOVE, dead[0]),))
        free = [node for node in world.nodes.values() if node.up and group not in node.replicas]
        if len(members) <= size and free and not conf.learners:
            return self._add_learner(group, dice.choice(free))
        ready = [peer for peer in conf.learners if self._has_caught_up(held, peer)]
        if ready and (len(conf.voters) < size or dice.random() < 0.3):
            return ConfChange((Change(ChangeType.ADD_VOTER, ready[0]),))
        if ready:
            swap = Change(ChangeType.ADD_VOTER, ready[0]), Change(ChangeType.REMOVE, dice.choice(conf.voters))
            return ConfChange(swap, dice.choice(list(Transition)))
        if len(conf.voters) > size:
            return ConfChange((Change(ChangeType.REMOVE, dice.choice(conf.voters)),))
        return None

    def _add_learner(self, group: int, home: SimNode) -> ConfChange | None:
        try:
            added = self.world.allot(group, home)
        except wal.LogFailed as failed:
            self.world.died(home, str(failed))
            return None
        except wal.LogError:
            return None
        return ConfChange((Change(ChangeType.ADD_LEARNER, added),))

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
