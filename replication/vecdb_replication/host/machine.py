"""What a group replicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO, Protocol, runtime_checkable

from vecdb_replication.snapshots import FileSource


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

    It is given in two steps: `prepare` makes a snapshot, in a worker, and
    `capture` says on the loop what there is. It is taken in three, so that a
    crash between any two of them leaves either the old state or the new one:
    `stage` keeps it beside the state, the log records that it replaces
    everything up to its index, and `install` puts it in the state's place. The
    last is done again at the next start where a crash came before it.
    """

    def prepare(self, stopped: Callable[[], bool]) -> None:
        """Make a snapshot of all that is applied now, durably. It may take long: entries go on being applied.

        Once `stopped()` is true nobody wants it any more: it is given up by raising whatever suits.

        Called when `capture` had none, or one that is too old. What it raises is tried again later.
        """
        ...

    def capture(self) -> tuple[int, bytes]:
        """The newest snapshot: the last entry in it, and what the message to the other replica carries.

        Called on the loop: it must not take long. Raises LookupError while there is none to give.
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


@runtime_checkable
class FileMachine(SnapshotMachine, Protocol):
    """A state whose snapshots are files: `capture` gives a manifest, and who gets it fetches the files.

    `fetch` comes before the message is believed, so before `stage`.
    """

    async def fetch(self, data: bytes, source: FileSource) -> None:
        """Bring the files of a snapshot here and look whether they are what they should be.

        One call at a time, on the loop; long work goes to other threads.
        LookupError (the source has it not), SnapshotDamaged and ValueError (a
        manifest that is none) say that this snapshot is no use; after anything else it is called
        again, and goes on where it was.
        """
        ...

    def open_file(self, snapshot: str, name: str) -> BinaryIO:
        """A file of a snapshot that was captured here, to be closed. On any thread. LookupError, OSError."""
        ...

    def is_sending(self) -> bool:
        """Whether somebody fetches a snapshot from here: cheap, and asked on the loop."""
        ...

    def tidy(self) -> None:
        """Remove snapshots that nobody needs any more. Called every few seconds, in a worker. OSError."""
        ...
