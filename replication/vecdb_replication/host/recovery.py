"""Bringing a group up from its log."""

from __future__ import annotations

import asyncio

from vecdb_replication.host.errors import GroupDamaged
from vecdb_replication.host.machine import StateMachine
from vecdb_replication.wal import Entry, GroupUpdate, HardState, LogWriter, Wal

KIND_NORMAL = 0
_REPLAY_BYTES = 32 << 20
_SELF = 1  # the id of a group's first replica


def replay(wal: Wal, group: int, machine: StateMachine) -> None:
    """Apply the entries beyond the machine's state. All of them are committed: this replica is the quorum.

    Raises GroupDamaged where the state is older than the log's beginning, or
    newer than its end: an effect without its entry means that the log lost
    what it had acknowledged.
    """
    state = wal.state(group)
    applied = machine.applied_index
    if state.tombstone is not None:
        raise GroupDamaged(f"group {group} was removed from this node; its data must not be opened again")
    if applied < state.first_index - 1:
        raise GroupDamaged(
            f"the state of group {group} ends at entry {applied}, and its log begins at {state.first_index}"
        )
    if applied > state.last_index:
        raise GroupDamaged(
            f"the state of group {group} has entry {applied}, and its log ends at {state.last_index}"
        )
    while applied < state.last_index:
        entries = wal.entries(group, applied + 1, state.last_index + 1, max_bytes=_REPLAY_BYTES)
        # An empty entry begins a term and has no effect.
        if wanted := [(entry.index, entry.data) for entry in entries if entry.data]:
            machine.apply(wanted)
        applied = entries[-1].index


async def begin_term(wal: Wal, writer: LogWriter, group: int) -> tuple[int, int]:
    """Vote for oneself in a new term and open it with an empty entry; returns the term and its index."""
    state = wal.state(group)
    term, index = state.hard_state.term + 1, state.last_index + 1
    update = GroupUpdate(
        group,
        entries=(Entry(term, index, KIND_NORMAL, b""),),
        hard_state=HardState(term, vote=_SELF, commit=state.last_index),
    )
    await asyncio.wrap_future(writer.submit([update]))
    return term, index
