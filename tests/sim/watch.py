"""Who looks at everything that happens, knows what no node knows, and calls out what must not be.

Invariants are evaluated where something that they speak of has changed: what a sync made durable, what
leaves, what was applied, and whatever a replica has after a step that it had not before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from vecdb_replication import raft, wal
from vecdb_replication.host import Envelope
from vecdb_replication.host.group import Group

from tests.sim.facts import DurableLog, GroupFacts, Look, fail
from tests.sim.invariants import (
    durable_cause,
    durable_quorum,
    election_safety,
    leader_completeness,
    log_matching,
    membership,
    monotone,
    recovered_log,
    state_machine_safety,
)
from tests.sim.machine import Registers
from tests.sim.node import SimNode


class Watch:
    """The facts of each group, from its founders on. `note`, if given, gets lines of the trace."""

    def __init__(
        self, founders: Mapping[int, Sequence[int]], counts: Counter[str], note: Callable[..., None] | None
    ) -> None:
        self.facts = {
            group: GroupFacts(raft.ConfState(tuple(voters)), {voter: DurableLog() for voter in voters})
            for group, voters in founders.items()
        }
        self.counts = counts
        self._note = note
        self._seen: dict[Group, tuple[object, ...]] = {}

    def placed(self, group: int, replica: int) -> None:
        """A replica has an empty disk now."""
        self.facts[group].disks[replica] = DurableLog()

    # What becomes durable

    def synced(self, node: SimNode, updates: Sequence[wal.GroupUpdate]) -> None:
        """A record is on a disk for good."""
        for update in updates:
            replica = node.replicas.get(update.group)
            if update.tombstone is not None or replica is None:
                continue
            self._durable(replica, update)
        if self._note is not None:
            self._note(node.number, "synced", [(update.group, len(update.entries)) for update in updates])

    def _durable(self, replica: int, update: wal.GroupUpdate) -> None:
        facts = self.facts[update.group]
        disk = facts.disks[replica]
        log_matching.check(update.group, facts, disk, update)
        durable_quorum.check_overwriting(update.group, facts, disk, update)
        before = (disk.term, disk.vote)
        disk.apply(update)
        monotone.check_disk(update.group, replica, before, disk)
        self.counts["checks"] += 3

    def reopened(self, node: SimNode, group: int, replica: int) -> None:
        """A log was opened again."""
        assert node.log is not None
        disks = self.facts[group].disks
        mine = [[u for u in record if u.group == group and u.tombstone is None] for record in node.unsynced]
        for update in recovered_log.check(group, disks[replica], mine, node.log):
            self._durable(replica, update)
        self.counts["checks"] += 1

    # What leaves

    def leaving(self, node: SimNode, envelope: Envelope) -> None:
        """Before anything leaves: it must not vouch for what a power cut could take back."""
        assert node.core is not None
        for group, message in envelope.messages:
            facts = self.facts[group]
            if message.type in durable_cause.VOUCHING:
                held, index = node.core.groups.get(group), message.index
                # What a replica had to say when it was removed may leave after it has gone.
                here = held is not None and held.replica.id == message.from_
                believed = held.replica.node.term_of(index) if held and here and index else 0
                durable_cause.check(group, facts, message, believed)
                self.counts["checks"] += 1
            if message.snapshot is not None:
                membership.check_snapshot(group, facts, message.snapshot)
                self.counts["snapshots"] += 1
            if self._note is not None:
                m = message
                numbers = (m.from_, m.to, m.term, m.index, len(m.entries), m.commit, int(m.reject))
                self._note(node.number, "->", group, m.type.value, *numbers)

    # What is applied

    def applied(self, group: int, entries: Sequence[tuple[int, bytes]], digests: Sequence[object]) -> None:
        """Entries were applied somewhere."""
        facts = self.facts[group]
        for (index, data), digest in zip(entries, digests, strict=True):
            state_machine_safety.check(group, facts, index, data, digest)
        self.counts["checks"] += len(entries)

    def installed(self, node: SimNode, group: int, machine: Registers) -> None:
        """A snapshot took the place of a state."""
        index, digest = machine.applied_index, machine.state.checksums
        state_machine_safety.check_snapshot(group, self.facts[group], index, digest)
        self.counts["checks"] += 1
        if self._note is not None:
            self._note(node.number, "installed", group, index)

    def acknowledged(self, group: int, index: int, data: bytes) -> None:
        """A client was told that its write is done: it is where it was said to be.

        It stays there, for no committed entry changes and all apply the same.
        """
        self.counts["writes"] += 1
        known = self.facts[group].applied.get(index)
        if known is None or known[0] != data:
            fail(f"group {group}: {data!r} was acknowledged at {index}, where {known} is")

    # What a replica has

    def look(self, node: SimNode, group: int, held: Group) -> None:
        """Look at a replica, if anything about it is new."""
        replica = held.replica
        core = replica.node._raft
        log = core.log
        now = (
            replica.epoch,
            core.term,
            log.committed,
            log.applied,
            core.role,
            replica.storage.memberships.newest,
            replica.applied,
        )
        if self._seen.get(held) == now:
            return
        self._seen[held] = now
        facts = self.facts[group]
        look = Look(group, node.life * 1000 + replica.epoch, replica, facts)
        monotone.check(look)
        durable_quorum.check(look)
        if replica.applied > facts.commit:
            fail(f"{look} applied {replica.applied}, which is not committed")
        membership.check(look)
        leader_completeness.check(look)
        if core.role is raft.Role.LEADER and core.term not in facts.leaders:
            self.counts["elections"] += 1
            if self._note is not None:
                self._note("leader", group, replica.id, core.term)
        election_safety.check(look)
        facts.seen[replica.id] = (look.life, core.term, log.committed, log.applied)
        self.counts["checks"] += 6
