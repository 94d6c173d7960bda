"""What a group replicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


class StateMachine(Protocol):
    """The state behind one group. Called from one thread at a time, and never from the event loop.

    Applying is a function of the entries and the state alone: no clock, no
    configuration, nothing that another replica could see differently.
    """

    @property
    def applied_index(self) -> int:
        """The index of the last entry whose effect is there."""
        ...

    @property
    def durable_index(self) -> int:
        """The index up to which no power loss can take effects back. The log is kept above it."""
        ...

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> Sequence[object]:
        """Apply entries (index, data), in order, all or none; one result an entry.

        Raises StorageFull where trying again later may help. Anything else
        stops the group.
        """
        ...

    def checkpoint(self) -> int:
        """Make what is applied durable; returns the durable index."""
        ...


@runtime_checkable
class SnapshotMachine(StateMachine, Protocol):
    """A state that can be handed to another replica. A group of several replicas needs one.

    A snapshot comes in three steps, so that a crash between any two of them
    leaves either the old state or the new one: `stage` keeps it beside the
    state, the log records that it replaces everything up to its index, and
    `install` puts it in the state's place. The last is done again at the next
    start where a crash came before it.
    """

    def capture(self) -> tuple[int, bytes]:
        """A durable state: its index, which is the durable index or below, and the snapshot's content.

        Called on the loop: it must not take long. Raises LookupError while there is none to give:
        the state is then checkpointed, and this called again.
        """
        ...

    def stage(self, index: int, data: bytes) -> None:
        """Keep a received snapshot, durably, beside the state. Staging it again does no harm."""
        ...

    def install(self, index: int) -> None:
        """Put the staged snapshot of this index in the place of the state, durably.

        From then on `applied_index` and `durable_index` are this index.

        Raises LookupError where no such snapshot was staged.
        """
        ...
