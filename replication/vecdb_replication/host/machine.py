"""What a group replicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


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
