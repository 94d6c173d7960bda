"""Whether a group's log and its state fit together."""

from __future__ import annotations

from vecdb_replication.host.errors import GroupDamaged
from vecdb_replication.host.machine import SnapshotMachine, StateMachine
from vecdb_replication.wal import Wal


def needs_burial(log: Wal, group: int, replica_id: int) -> bool:
    """Whether the log may still hold an older replica of the group, whose votes and entries are not ours.

    The log does not say whose its entries are. So every replica but the first
    begins with a tombstone for the ids before its own, and what follows a
    tombstone is known to be its successor's.
    """
    stone = log.state(group).tombstone
    return (stone.replica_id if stone is not None else 0) < replica_id - 1


def check(log: Wal, group: int, replica_id: int, machine: StateMachine) -> None:
    """Raise GroupDamaged unless the replica can go on from its log and state.

    A state that is older than the log's beginning lacks entries, unless it is
    a snapshot that is still to be put in place. One newer than the log's end
    has an effect without its entry: the log lost what it had acknowledged.
    """
    state = log.state(group)
    if state.tombstone is not None and replica_id <= state.tombstone.replica_id:
        raise GroupDamaged(f"group {group} was removed from this node; its data must not be opened again")
    applied = machine.applied_index
    if applied < state.first_index - 1:
        _install(group, state.first_index - 1, machine)
        applied = machine.applied_index
    if applied > state.last_index:
        raise GroupDamaged(
            f"the state of group {group} has entry {applied}, and its log ends at {state.last_index}"
        )


def _install(group: int, index: int, machine: StateMachine) -> None:
    ends = f"the state of group {group} ends at entry {machine.applied_index}"
    if not isinstance(machine, SnapshotMachine):
        raise GroupDamaged(f"{ends}, and its log begins at {index + 1}")
    try:
        machine.install(index)
    except LookupError as none:
        raise GroupDamaged(f"{ends}, its log begins at {index + 1}, and no snapshot lies between") from none
