"""The configuration that is active, and the progress of everyone in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .inflights import Inflights
from .messages import NO_LIMIT, ConfState
from .progress import Progress
from .quorum import VoteResult, joint_commit, joint_vote

_NOBODY: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """Who votes and who learns.

    While joint, `voters` is the incoming majority and `outgoing` the one being left. Learners and
    voters never overlap: a voter that is being demoted waits in `learners_next` until the
    outgoing majority, to which it still belongs, is gone.
    """

    voters: frozenset[int] = _NOBODY
    outgoing: frozenset[int] = _NOBODY
    learners: frozenset[int] = _NOBODY
    learners_next: frozenset[int] = _NOBODY
    auto_leave: bool = False

    @property
    def joint(self) -> bool:
        """Whether decisions need two majorities."""
        return bool(self.outgoing)

    @property
    def all_voters(self) -> frozenset[int]:
        """Members of either majority."""
        return self.voters | self.outgoing

    def conf_state(self) -> ConfState:
        """The same as a snapshot carries it, sorted."""
        return ConfState(
            tuple(sorted(self.voters)),
            tuple(sorted(self.outgoing)),
            tuple(sorted(self.learners)),
            tuple(sorted(self.learners_next)),
            self.auto_leave,
        )


class ProgressTracker:
    """Counts acknowledgements and votes under the active configuration."""

    __slots__ = ("_max_inflight_bytes", "_max_inflight_messages", "_order", "config", "progress", "votes")

    def __init__(self, max_inflight_messages: int = NO_LIMIT, max_inflight_bytes: int = NO_LIMIT) -> None:
        self._max_inflight_messages = max_inflight_messages
        self._max_inflight_bytes = max_inflight_bytes
        self.config = TrackerConfig()
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}
        self._order: tuple[int, ...] = ()

    def switch(self, config: TrackerConfig, progress: Mapping[int, Progress]) -> None:
        """Make this configuration the active one."""
        self.config = config
        self.progress = dict(progress)
        self._order = tuple(sorted(progress))

    def fresh(self) -> "ProgressTracker":
        """A tracker of nobody, with the same limits."""
        return ProgressTracker(self._max_inflight_messages, self._max_inflight_bytes)

    def new_inflights(self) -> Inflights:
        """An empty window with this tracker's limits."""
        return Inflights(self._max_inflight_messages, self._max_inflight_bytes)

    def reset_progress(self, local: int, last_index: int) -> None:
        """Begin a term: nothing is known of anyone's log but one's own."""
        for peer, old in self.progress.items():
            self.progress[peer] = Progress(
                last_index if peer == local else 0,
                last_index + 1,
                self.new_inflights(),
                is_learner=old.is_learner,
            )

    def __iter__(self) -> Iterator[tuple[int, Progress]]:
        """Everyone tracked, by id, so that messages leave in a stable order."""
        progress = self.progress
        for peer in self._order:
            yield peer, progress[peer]

    def others(self, local: int) -> Iterator[int]:
        """Everyone's id but one's own, in order."""
        return (peer for peer in self._order if peer != local)

    @property
    def singleton(self) -> bool:
        """Whether one voter decides alone."""
        return len(self.config.voters) == 1 and not self.config.outgoing

    def committed(self) -> int:
        """The largest index that a quorum has acknowledged."""
        acked = {peer: progress.match for peer, progress in self.progress.items()}
        return joint_commit(self.config.voters, self.config.outgoing, acked)

    def quorum_active(self) -> bool:
        """Whether a quorum has been heard of lately."""
        active = {peer: progress.recent_active for peer, progress in self}
        return joint_vote(self.config.voters, self.config.outgoing, active) is VoteResult.WON

    def record_vote(self, voter: int, granted: bool) -> VoteResult:
        """Count a vote, the first one of each voter, and tell where the election stands."""
        self.votes.setdefault(voter, granted)
        return joint_vote(self.config.voters, self.config.outgoing, self.votes)
