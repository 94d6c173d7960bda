"""What the host tells of an entry and of a group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vecdb_replication.host.group import Group


@dataclass(frozen=True, slots=True)
class Committed:
    """A proposal that is durable and applied: its log index, and what the state machine said."""

    index: int
    result: Any


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """How a group stands. `problem` is empty where all is well; `leader` is 0 while none is known."""

    group: int
    term: int
    last_index: int
    applied_index: int
    durable_index: int
    log_bytes: int
    problem: str
    replica: int = 0
    leader: int = 0
    commit_index: int = 0

    @classmethod
    def of(cls, held: Group, log_bytes: int, problem: str) -> GroupStatus:
        """The group as of now."""
        node, machine = held.replica.node.status(), held.machine
        return cls(
            held.id,
            node.term,
            node.last_index,
            machine.applied_index,
            machine.durable_index,
            log_bytes,
            problem,
            node.id,
            node.lead,
            node.commit,
        )
