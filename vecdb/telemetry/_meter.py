"""Counting one method's RPCs at next to no cost.

prometheus-client's counters and histograms take several microseconds a call
together; a search has a few hundred in all. So the hot path adds to plain
integers under one lock, and the metrics are made when they are scraped.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from threading import Lock

#: Upper bounds in seconds, 0.5 ms to 10 s; one more bucket takes the rest.
RPC_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RpcCounts:
    """A meter at one moment. `codes` holds those that occurred; `buckets` are not cumulative."""

    codes: dict[str, int]
    buckets: list[int]
    seconds: float
    in_flight: int


class RpcMeter:
    """Counts one method: `begin`, then exactly one `done`. From any thread."""

    __slots__ = ("_buckets", "_codes", "_in_flight", "_lock", "_seconds")

    def __init__(self) -> None:
        self._lock = Lock()
        # Every code has its place from the start: a new label cannot appear,
        # whatever name a caller makes up.
        self._codes = dict.fromkeys(_CODES, 0)
        self._buckets = [0] * (len(RPC_BOUNDS) + 1)
        self._seconds = 0.0
        self._in_flight = 0

    def begin(self) -> None:
        """An RPC has begun."""
        with self._lock:
            self._in_flight += 1

    def done(self, code: str, seconds: float) -> None:
        """It has ended with a gRPC status (its name, e.g. "OK") after `seconds`.

        A name that gRPC does not have counts as "UNKNOWN".
        """
        bucket = bisect_left(RPC_BOUNDS, seconds)
        with self._lock:
            self._codes[code if code in self._codes else "UNKNOWN"] += 1
            self._buckets[bucket] += 1
            self._seconds += seconds
            self._in_flight -= 1

    def read(self) -> RpcCounts:
        """All counts, as of one moment."""
        with self._lock:
            codes = {code: count for code, count in self._codes.items() if count}
            return RpcCounts(codes, list(self._buckets), self._seconds, self._in_flight)
