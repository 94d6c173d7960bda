"""What the transport needs from the rest of the node."""

from __future__ import annotations

from typing import BinaryIO, Protocol

from vecdb_replication.host import Envelope


class Receiver(Protocol):
    """Who takes in what peers say: a `Host`. Called on the event loop; never blocks."""

    @property
    def max_entry_bytes(self) -> int:
        """The largest entry that may come to be sent."""
        ...

    def receive(self, sender: str, envelope: Envelope) -> None:
        """Take in an envelope. `sender` is who the peer was proven to be."""
        ...

    def unreachable(self, peer: str) -> None:
        """What was sent to a peer lately is probably lost."""
        ...

    def report_snapshot(self, group: int, replica: int, *, failed: bool) -> None:
        """A snapshot that was to be sent to a replica did not arrive (`failed`), or did."""
        ...


class SnapshotSource(Protocol):
    """Where the files of this node's snapshots lie, for peers that fetch them."""

    def open(self, peer: str, group: int, snapshot: str, name: str) -> BinaryIO:
        """A file of a snapshot, at its beginning; the caller closes it. Called in a thread of its own.

        The names are a peer's, and may be anything. What is given out must
        stay readable until it is closed, also when the snapshot is dropped.
        Raises LookupError where there is no such snapshot (any more) or no
        such file in it, and PermissionError where `peer` holds no replica of
        the group.
        """
        ...


class NoSnapshots:
    """The source of a node that keeps none."""

    def open(self, peer: str, group: int, snapshot: str, name: str) -> BinaryIO:
        """See `SnapshotSource.open`."""
        raise LookupError(f"no snapshot {snapshot!r} of group {group} is here")
