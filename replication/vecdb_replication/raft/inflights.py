"""The window of append messages that were sent and not yet acknowledged."""

from collections import deque

from .errors import RaftFatal


class Inflights:
    """Bounds the appends on their way to one follower, in messages and in payload bytes.

    `max_messages` is at least 1. `max_bytes` bounds where the window closes, not the size of the
    message that closes it: a message larger than the whole bound can still be sent, alone.
    """

    __slots__ = ("_bytes", "_max_bytes", "_max_messages", "_sent")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._sent: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def full(self) -> bool:
        """Whether nothing more may be sent until something is acknowledged."""
        return len(self._sent) >= self._max_messages or self._bytes >= self._max_bytes

    def add(self, index: int, size: int) -> None:
        """Note a message whose last entry has this index; indexes must rise.

        Raises RaftFatal when the window is full: the sender must ask first.
        """
        if self.full:
            raise RaftFatal("an append was sent into a full window")
        self._sent.append((index, size))
        self._bytes += size

    def free_to(self, index: int) -> None:
        """Forget every message whose last entry is at or below `index`."""
        while self._sent and self._sent[0][0] <= index:
            self._bytes -= self._sent.popleft()[1]

    def reset(self) -> None:
        """Forget all."""
        self._sent.clear()
        self._bytes = 0
