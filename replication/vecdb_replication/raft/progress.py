"""What a leader knows of one follower's log, and what it may send it.

A follower is *probed* (one append at a time, until one is accepted), *replicated* to (appends
are pipelined: `next` runs ahead of what is acknowledged, within the in-flight window), or waits
for a *snapshot* (nothing is sent until it arrived).
"""

from enum import Enum

from .inflights import Inflights


class ProgressState(Enum):
    """How a leader treats a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """One follower in the eyes of the leader.

    Invariants: `match < next`; in SNAPSHOT, `next == pending_snapshot + 1`. `match` is where the
    logs are known to agree and never falls within a term. `sent_commit` is the highest commit
    index that is on its way.
    """

    __slots__ = (
        "_sent_commit",
        "inflights",
        "is_learner",
        "match",
        "next",
        "paused_flow",
        "pending_snapshot",
        "recent_active",
        "state",
    )

    def __init__(
        self,
        match: int,
        next_index: int,
        inflights: Inflights,
        *,
        is_learner: bool = False,
        recent_active: bool = False,
    ) -> None:
        self.match = match
        self.next = next_index
        self.inflights = inflights
        self.is_learner = is_learner
        self.recent_active = recent_active
        self.state = ProgressState.PROBE
        self.pending_snapshot = 0
        self.paused_flow = False
        self._sent_commit = 0

    def clone(self) -> "Progress":
        """A copy whose role may be changed; the window of in-flight messages is shared."""
        other = Progress(
            self.match,
            self.next,
            self.inflights,
            is_learner=self.is_learner,
            recent_active=self.recent_active,
        )
        other.state = self.state
        other.pending_snapshot = self.pending_snapshot
        other.paused_flow = self.paused_flow
        other._sent_commit = self._sent_commit
        return other

    @property
    def paused(self) -> bool:
        """Whether appends are held back: a probe is out, the window is full, or a snapshot is."""
        return self.state is ProgressState.SNAPSHOT or self.paused_flow

    def _enter(self, state: ProgressState) -> None:
        self.paused_flow = False
        self.pending_snapshot = 0
        self.state = state
        self.inflights.reset()

    def become_probe(self) -> None:
        """Probe from the snapshot that was sent, if one was, else from what is known to match."""
        base = max(self.match, self.pending_snapshot)
        self._enter(ProgressState.PROBE)
        self.next = base + 1
        self._sent_commit = min(self._sent_commit, base)

    def become_replicate(self) -> None:
        """Pipeline from what is known to match."""
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """Wait for the snapshot at `index`, which carries its commit index too."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self._sent_commit = index

    def sent_entries(self, count: int, size: int) -> None:
        """Account for an append of `count` entries with `size` payload bytes that was just sent.

        Once the window is full, or while probing, the flow pauses: the next append waits for a
        response, or for a heartbeat's (then an empty one finds out whether the others got lost).
        """
        if self.state is ProgressState.REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1, size)
            self.paused_flow = self.inflights.full
        elif count:
            self.paused_flow = True

    def sent_commit(self, commit: int) -> None:
        """Note the commit index that the last message carried."""
        self._sent_commit = commit

    def can_bump_commit(self, commit: int) -> bool:
        """Whether sending `commit` now could move the follower's commit index.

        It moves no further than the entries sent, so once they are covered there is no use.
        """
        return commit > self._sent_commit and self._sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """Take in an acknowledgement up to `index`; false if it tells nothing new."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.paused_flow = False
        return True

    def maybe_decrease(self, rejected: int, hint: int) -> bool:
        """Take in a rejection of the append after `rejected`; false if it is a stale one.

        `hint` is the highest index at which the logs may agree.
        """
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            # Only one probe is out at a time, so a rejection of another one is an old one.
            if self.next - 1 != rejected:
                return False
            self.next = max(min(rejected, hint + 1), self.match + 1)
            self.paused_flow = False
        self._sent_commit = min(self._sent_commit, self.next - 1)
        return True
