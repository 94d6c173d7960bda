"""After every storm: all that is broken is mended, and then the cluster has to make progress."""

from __future__ import annotations

from vecdb_replication.host import GroupError, NotLeader, Proposal

from tests.sim.facts import fail
from tests.sim.machine import writing
from tests.sim.network import Weather
from tests.sim.world import World

# How long it may take until a write goes through, all voters have it, and everybody has an answer.
_SECONDS = 40.0
_STEP = 0.25


def heal(world: World) -> None:
    """Everything works again; then every group has to take a write, and its voters to catch up.

    And whoever asked for something before that has to be answered, however long ago.
    """
    mended = world.now
    world.network.cut.clear()
    world.network.weather = Weather()
    for node in world.nodes.values():
        node.mend()
        world.revive(node)
    for group in world.groups:
        _heal(world, group, mended + _SECONDS)
    while waiting := world.waiting(mended):
        waiting = [call for call in waiting if _is_member(world, call.group, call.node.replicas[call.group])]
        if not waiting:
            break
        if world.now >= mended + _SECONDS:
            fail(f"never answered, though all was mended: {waiting[0]}")
        world.run(world.now + _STEP)
    world.counts["healings"] += 1


def _is_member(world: World, group: int, replica: int) -> bool:
    found = world.leader(group)
    if found is None:
        return True
    conf = found[1].replica.conf
    return replica in {*conf.voters, *conf.voters_outgoing, *conf.learners, *conf.learners_next}


def _heal(world: World, group: int, deadline: float) -> None:
    written: list[int] = []
    while not written:
        if world.now >= deadline:
            fail(f"group {group} takes no write after everything was mended")
        found = world.leader(group)
        if found is not None:
            core = found[0].core
            assert core is not None
            data = writing(f"heal{group}", f"{world.now:.3f}")
            try:
                core.propose(group, Proposal(data, lambda index, _: written.append(index), lambda _: None))
            except (NotLeader, GroupError):
                world.note("healing is refused", group)
            found[0].touch()
        world.run(world.now + _STEP)
    while not _all_have(world, group, written[0]):
        if world.now >= deadline:
            fail(f"group {group}: not all members caught up after all was mended")
        world.run(world.now + _STEP)


def _all_have(world: World, group: int, index: int) -> bool:
    found = world.leader(group)
    if found is None:
        return False
    conf = found[1].replica.conf
    for voter in {*conf.voters, *conf.voters_outgoing}:
        home = world.placement[group].get(voter)
        if home is None:
            continue
        core = world.nodes[home].core
        held = core.groups.get(group) if core else None
        if held is None or held.replica.applied < index:
            return False
    return True
