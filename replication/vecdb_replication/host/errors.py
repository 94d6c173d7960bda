"""What can go wrong between a proposal and its effect."""

from __future__ import annotations

from vecdb_replication import wal


class GroupError(Exception):
    """The base of what a group answers a proposal with."""


class EntryTooLarge(GroupError):
    """What was proposed is larger than an entry may be; nothing was written. `limit` is in bytes."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"an entry of {size} bytes, and {limit} is the limit")
        self.limit = limit


class UnknownGroup(GroupError):
    """This node holds no replica of the group."""


class HostClosed(GroupError):
    """The node is shutting down; nothing was written."""


class GroupDamaged(GroupError):
    """The group's log and its state do not fit together; the message says how."""


class GroupStopped(GroupError):
    """The group's state machine failed and applies nothing any more, until the node is started again."""


class GroupBlocked(GroupError):
    """The disk is full, or the log is catching up after it was: the group takes no writes for now.

    `durable` says whether the entry that this answers is in the log: it will be
    applied when there is room, unless the node's data is thrown away.
    """

    def __init__(self, message: str, *, durable: bool = False) -> None:
        super().__init__(message)
        self.durable = durable


class NotLeader(GroupError):
    """The replica here does not lead; nothing was written. `leader` is the one that does, 0 if unknown."""

    def __init__(self, message: str, leader: int) -> None:
        super().__init__(message)
        self.leader = leader


class ProposalLost(GroupError):
    """Another leader's entry took the proposal's place in the log: it never takes effect."""


class ChangeRefused(GroupError):
    """Another change of membership is under way, or there is none to leave: nothing was changed."""


class OutcomeUnknown(GroupError):
    """The entry left this replica, but whether it takes effect cannot be found out here."""


class StorageFull(Exception):
    """Raised by a state machine that had no room to apply: nothing was, and it may be tried again."""


def refusal(error: Exception | None) -> GroupBlocked:
    """What a proposal is told that the log refused."""
    if isinstance(error, wal.LogFull):
        return GroupBlocked(f"the disk of the log is full: {error}")
    return GroupBlocked(f"not written: {error}")
