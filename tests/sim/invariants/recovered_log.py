"""A log that was opened holds what was durable, and of the rest a beginning (Raft paper, 5.1: persistent
state survives; docs/log.md: one append, one record)."""

from __future__ import annotations

from collections.abc import Sequence

from vecdb_replication import wal

from tests.sim.facts import DurableLog, after, fail, recovered


def check(
    group: int, disk: DurableLog, unsynced: Sequence[Sequence[wal.GroupUpdate]], log: wal.Wal
) -> DurableLog:
    """Find which of the records that were not synced survived; gives the disk as it is now."""
    state = log.state(group)
    last_term = log.term(group, state.last_index) if state.last_index else 0
    found = recovered(state, last_term)
    tried = []
    for count in range(len(unsynced) + 1):
        survived = after(disk, [update for record in unsynced[:count] for update in record])
        tried.append(survived)
        if survived.shape == found:
            break
    else:
        fail(f"the log of group {group} came back as {found}; it may be one of {[t.shape for t in tried]}")
    return tried[-1]
