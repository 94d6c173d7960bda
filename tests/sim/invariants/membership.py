"""Membership is what the committed entries say, everywhere (Raft paper, 6; thesis, 4.1 and 4.3).

The configuration as of an index is a function of the log up to it: in the host's memory, in the core
that has applied so far, and in a snapshot of that index, whoever took it.
"""

from __future__ import annotations

from functools import cache

from vecdb_replication import raft
from vecdb_replication.host.storage import changed
from vecdb_replication.raft.tracker import TrackerConfig

from tests.sim.facts import GroupFacts, Look, fail


@cache
def _conf_state(config: TrackerConfig) -> raft.ConfState:
    return config.conf_state()


def _same(one: raft.ConfState, other: raft.ConfState) -> bool:
    return one is other or one == other or one.equivalent(other)


def committed(facts: GroupFacts, index: int, kind: int, data: bytes) -> None:
    """An entry was committed, the one behind the last that was: note where it leads to."""
    if kind != raft.EntryType.NORMAL:
        change = raft.from_entry(raft.Entry(0, index, raft.EntryType(kind), data))
        facts.changes.append((index, changed(facts.conf_at(index), change, index)))


def check(look: Look) -> None:
    """What host and core of a replica take for the configuration."""
    facts, storage, core = look.facts, look.replica.storage, look.node._raft
    since = storage.memberships.since
    known, wanted = storage.memberships.newest, facts.conf_at(since)
    if not _same(known, wanted):
        fail(f"{look} has {known} as of entry {since}; the log says {wanted}")
    if core.log.restoring:
        # It goes by a snapshot that is not stored yet, and has nothing applied of it.
        return
    active, wanted = _conf_state(core.tracker.config), facts.conf_at(core.log.applied)
    if not _same(active, wanted):
        fail(f"the core of {look} goes by {active} at entry {core.log.applied}; the log says {wanted}")


def check_snapshot(group: int, facts: GroupFacts, snapshot: raft.Snapshot) -> None:
    """A snapshot leaves its node: it brings the configuration as of its index."""
    wanted = facts.conf_at(snapshot.index)
    if not _same(snapshot.conf_state, wanted):
        fail(f"a snapshot of entry {snapshot.index} of group {group} has {snapshot.conf_state}, not {wanted}")
