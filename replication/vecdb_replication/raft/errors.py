"""What can go wrong, each kind with a type of its own."""


class RaftError(Exception):
    """Base of every refusal that leaves the core as it was."""


class ProposalDroppedError(RaftError):
    """The proposal was not appended: no leader, a transfer under way, a limit reached, or no member."""


class UnknownPeerError(RaftError):
    """A response came from a peer that the configuration does not track."""


class LocalMessageError(RaftError):
    """A message that only the node itself may produce came from outside."""


class CompactedError(RaftError):
    """The log no longer holds the index that was asked for."""


class UnavailableError(RaftError):
    """The log does not hold the index that was asked for yet."""


class SnapshotUnavailableError(RaftError):
    """The storage has no snapshot to give right now; the core asks again later."""


class SnapshotOutOfDateError(RaftError):
    """A snapshot at or below the one that the storage already has."""


class ConfigError(RaftError):
    """The configuration of the core contradicts itself."""


class ConfChangeError(RaftError):
    """A change of membership that the current configuration does not allow."""


class RaftFatal(Exception):
    """An invariant is broken: the core must not be used any further.

    Raised where continuing could contradict what this replica has promised: a commit index beyond
    the log, a conflict below the commit index, a configuration that cannot be applied. The host
    drops the core and starts a new one from what is durable, or gives the replica up.
    """
