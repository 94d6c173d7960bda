"""What an operator ought to hear of, and how often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import structlog

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Incident:
    """A replica ended, or a `peer` said what makes no sense, `count` times by now.

    `error` is what ended it, where that is nothing that a replica is known to end with.
    """

    group: int
    problem: str
    error: Exception | None = None
    peer: str = ""
    count: int = 0

    def log(self) -> None:
        """Write a line to the log of the process."""
        if self.peer:
            _log.warning(
                "message makes no sense",
                peer=self.peer,
                group=self.group,
                problem=self.problem,
                count=self.count,
            )
        else:
            _log.error("replica ended", group=self.group, problem=self.problem, exc_info=self.error)


class Incidents:
    """Those of one core, until somebody takes them. Does no I/O: the core is a function of its inputs."""

    def __init__(self) -> None:
        self.nonsense: Counter[str] = Counter()
        """How many messages were dropped because they made no sense, by the peer they came from."""
        self._new: list[Incident] = []

    def ended(self, group: int, problem: str, error: Exception | None) -> None:
        """A replica can go on no more."""
        self._new.append(Incident(group, problem, error))

    def made_no_sense(self, group: int, peer: str, problem: str) -> None:
        """Twice as rarely told of each time: who has a bug says it again and again."""
        self.nonsense[peer] += 1
        count = self.nonsense[peer]
        if count & (count - 1) == 0:
            self._new.append(Incident(group, problem, peer=peer, count=count))

    def take(self) -> list[Incident]:
        """What is new."""
        new, self._new = self._new, []
        return new
