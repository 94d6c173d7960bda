"""A log that was opened holds what was durable, and of the rest a beginning (Raft paper, 5.1: persistent
state survives; docs/log.md: one append, one record)."""

from __future__ import annotations

from collections.abc import Sequence

from vecdb_replication import wal

from tests.sim.facts import DurableLog, after, fail, recovered


def check(
    group: int, disk: DurableLog, unsynced: Sequence[Sequence[wal.GroupUpdate]], log: wal.Wal
) -> Sequence[wal.GroupUpdate]:
    """Find out which of the records that were not synced survived; gives what they say."""
    state = log.state(group)
    found = recovered(state, log.term(group, state.last_index) if state.last_index else 0)
    survived: list[wal.GroupUpdate] = []
    tried = [disk.shape]
    for record in unsynced:
        if tried[-1] == found:
            break
        survived += record
        tried.append(after(disk, survived).shape)
    if tried[-1] != found:
        fail(f"the log of group {group} came back as {found}; it may be one of {tried}")
    return survived
