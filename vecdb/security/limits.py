"""What a token may ask for at a time, and in a time."""

from __future__ import annotations

from time import monotonic

# A request that finds its token busy may find it free as soon as another one ends.
_BUSY_SECONDS = 0.1
# What floats lose when a second is cut into parts and put together again.
_SLACK = 1e-9


class LimitReached(Exception):
    """A token has asked for too much; `str()` says what its limit is.

    `limit` is the field of the token, `retry_after` when it is worth trying again, in seconds.
    """

    def __init__(self, message: str, limit: str, retry_after: float) -> None:
        super().__init__(message)
        self.limit = limit
        self.retry_after = retry_after


class Throttle:
    """Requests of one token on this node. Belongs to the node's loop.

    The rate is kept by the generic cell rate algorithm (ITU-T I.371, annex A, virtual scheduling): one
    number, the time at which a steady sender's next request were due. A second's worth of requests may come
    at once. 0 is no limit.
    """

    __slots__ = ("_concurrent", "_due", "_interval", "_rate", "_running")

    def __init__(self, requests_per_second: int, concurrent_requests: int) -> None:
        self._rate = requests_per_second
        self._interval = 1.0 / requests_per_second if requests_per_second else 0.0
        self._concurrent = concurrent_requests
        self._due = 0.0
        self._running = 0

    def enter(self) -> None:
        """A request begins; LimitReached where it may not. `leave` when it ends."""
        if self._concurrent and self._running >= self._concurrent:
            message = f"the token has {self._running} requests in progress, which is its limit"
            raise LimitReached(message, "concurrent_requests", _BUSY_SECONDS)
        now = monotonic()
        wait = self._early(now)
        if wait:
            message = f"the token may make {self._rate} requests a second; try again in {wait:.3f} s"
            raise LimitReached(message, "requests_per_second", wait)
        self._count(now)
        self._running += 1

    def leave(self) -> None:
        """A request that had entered has ended."""
        self._running -= 1

    def turn(self) -> float:
        """Count a request that waits for its turn; how many seconds that is from now."""
        now = monotonic()
        wait = self._early(now)
        self._count(now)
        return wait

    def _early(self, now: float) -> float:
        """Seconds until another request may come."""
        early = max(self._due, now) + self._interval - 1.0 - now
        return early if self._rate and early > _SLACK else 0.0

    def _count(self, now: float) -> None:
        self._due = max(self._due, now) + self._interval
