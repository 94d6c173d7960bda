"""Linearizable reads without writing to the log (Raft thesis 6.4, ReadIndex).

Reads wait in a queue in the order they came. Each heartbeat carries, as its context, the position
of the last of them; a follower that answers acknowledges that the sender was still the leader when
all up to that position had come. The position that a quorum has acknowledged is found just like a
commit index. Positions only rise within a term, so a context never means two different reads, and
a read that is asked for again cannot be answered by an acknowledgement of its first try.
"""

from collections import deque
from dataclasses import dataclass

from .messages import Message
from .quorum import joint_commit
from .tracker import TrackerConfig

_CONTEXT_BYTES = 8


@dataclass(frozen=True, slots=True)
class PendingRead:
    """A read and the commit index that it has to see."""

    request: Message
    index: int


class ReadQueue:
    """The reads of one term that the leader has not confirmed yet."""

    __slots__ = ("_acks", "_confirmed", "_waiting")

    def __init__(self) -> None:
        self._acks: dict[int, int] = {}
        self._waiting: deque[PendingRead] = deque()
        self._confirmed = 0

    @property
    def _last_position(self) -> int:
        return self._confirmed + len(self._waiting)

    def add(self, request: Message, commit: int) -> None:
        """Queue a read that has to see everything up to `commit`."""
        self._waiting.append(PendingRead(request, commit))

    def context(self) -> bytes:
        """What the next heartbeat has to carry: 8 bytes, little-endian, or nothing if none waits."""
        return self._last_position.to_bytes(_CONTEXT_BYTES, "little") if self._waiting else b""

    def acknowledge(self, peer: int, context: bytes) -> None:
        """Note a heartbeat's answer. A context that was never sent tells nothing."""
        position = int.from_bytes(context, "little")
        if len(context) == _CONTEXT_BYTES and position <= self._last_position:
            self._acks[peer] = max(self._acks.get(peer, 0), position)

    def advance(self, config: TrackerConfig) -> list[PendingRead]:
        """Take out, in order, the reads that a quorum has confirmed by now."""
        confirmed = joint_commit(config.voters, config.outgoing, self._acks)
        ready = [self._waiting.popleft() for _ in range(min(confirmed - self._confirmed, len(self._waiting)))]
        self._confirmed += len(ready)
        return ready
