"""What workers do with a state machine."""

from __future__ import annotations

from collections.abc import Sequence

from vecdb_replication.host.machine import SnapshotMachine, StateMachine
from vecdb_replication.host.work import Staging, Task


def perform(task: Task) -> Sequence[object]:
    """Apply entries, or install a snapshot; a result for each entry. Raises what the machine raises."""
    if task.install:
        _snapshots(task.machine).install(task.install)
        return ()
    return task.machine.apply(task.entries) if task.entries else ()


def stage(staging: Staging) -> None:
    """Keep a snapshot beside the state. Raises what the machine raises."""
    _snapshots(staging.machine).stage(staging.snapshot.index, staging.snapshot.data)


def _snapshots(machine: StateMachine) -> SnapshotMachine:
    if not isinstance(machine, SnapshotMachine):
        raise TypeError(f"{type(machine).__name__} takes no snapshots, and its group has several replicas")
    return machine
