"""How one core behaves."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from .errors import ConfigError
from .messages import NO_LIMIT, NO_NODE, THREADS
from .storage import Storage


class ReadOnlyOption(Enum):
    """How a read is made linearizable.

    SAFE asks a quorum. LEASE trusts the leader's clock for an election timeout; it exists for
    comparison only, since a paused process breaks it.
    """

    SAFE = "safe"
    LEASE = "lease"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a core is told when it is made. Limits are in bytes unless they say otherwise.

    `draw_timeout` gives the randomized election timeout, in ticks, for a given `election_tick`; it
    is called at every reset, and should draw from [election_tick, 2 * election_tick).
    `max_size_per_msg` 0 means one entry a message; `max_committed_size_per_ready` 0 means
    `max_size_per_msg`; 0 for `max_uncommitted_entries_size` and `max_inflight_bytes` means no limit.
    With `commit_in_rejections` who refuses a vote says what it knows to be committed: without that, a
    voter whose removal the candidate has not heard of can keep it from being elected for ever.
    """

    id: int
    storage: Storage
    draw_timeout: Callable[[int], int]
    election_tick: int = 10
    heartbeat_tick: int = 1
    applied: int = 0
    pre_vote: bool = False
    check_quorum: bool = False
    async_storage_writes: bool = False
    read_only: ReadOnlyOption = ReadOnlyOption.SAFE
    max_inflight_msgs: int = NO_LIMIT
    max_inflight_bytes: int = NO_LIMIT
    max_size_per_msg: int = NO_LIMIT
    max_committed_size_per_ready: int = 0
    max_uncommitted_entries_size: int = NO_LIMIT
    disable_proposal_forwarding: bool = False
    disable_conf_change_validation: bool = False
    step_down_on_removal: bool = False
    commit_in_rejections: bool = False

    @property
    def max_applying_size(self) -> int:
        """Encoded bytes that may be handed out to be applied, at least 1: one entry always is."""
        return self.max_committed_size_per_ready or self.max_size_per_msg or 1

    def validate(self) -> None:
        """Raise ConfigError naming what cannot work."""
        if self.id == NO_NODE or self.id in THREADS:
            raise ConfigError(f"{self.id} cannot be the id of a node")
        if self.heartbeat_tick <= 0:
            raise ConfigError("heartbeat_tick must be greater than 0")
        if self.election_tick <= self.heartbeat_tick:
            raise ConfigError("election_tick must be greater than heartbeat_tick")
        if self.max_inflight_msgs <= 0:
            raise ConfigError("max_inflight_msgs must be greater than 0")
        # Where messages have no limit of their own, a window may still have one.
        if 0 < self.max_inflight_bytes < self.max_size_per_msg < NO_LIMIT:
            raise ConfigError("max_inflight_bytes must not be less than max_size_per_msg")
        if self.read_only is ReadOnlyOption.LEASE and not self.check_quorum:
            raise ConfigError("read_only lease needs check_quorum")
