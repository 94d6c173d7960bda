"""What can go wrong while a snapshot travels."""

from __future__ import annotations


class SnapshotError(Exception):
    """The base of them."""


class SnapshotGone(SnapshotError, LookupError):
    """The sender has no such snapshot (any more), or it has no such file: ask for a new one."""


class SnapshotDamaged(SnapshotError):
    """What arrived is not what the manifest says, again and again: fetching it once more is no use."""


class SnapshotCut(SnapshotError):
    """The files stopped coming before their end: to be gone on with from there."""


class SnapshotBusy(SnapshotError):
    """Something else is done with what has arrived at this moment: to be tried again."""
