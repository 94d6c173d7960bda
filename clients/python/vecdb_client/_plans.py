"""What a client method is to do, without saying how it is awaited.

A method's builder turns its arguments into one of these plans; the sync and
the aio client each know how to carry them out. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vecdb_client._errors import VecdbError
from vecdb_client._methods import Method
from vecdb_client._session import Session, WriteCounter

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class Call(Generic[T]):
    """One unary RPC and how its reply becomes a result.

    `timeout` is in seconds, None for the client's default. Not frozen only
    because a search makes one and a frozen dataclass is slower to make.
    """

    method: Method
    request: Any
    parse: Callable[[Any], T]
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Fanout(Generic[R, T]):
    """Calls of which some may be under way at once.

    `calls` is consumed lazily; nothing further is taken once a call has
    failed. `join` gets one outcome for each call made, in order.
    """

    calls: Iterator[Call[R]]
    concurrency: int
    join: Callable[[Sequence[R | VecdbError]], T]


@dataclass(frozen=True, slots=True)
class Pages(Generic[R, T]):
    """Calls that each need the one before: `split` turns a reply into items and the next call."""

    first: Call[R] | None
    split: Callable[[R], tuple[Sequence[T], Call[R] | None]]


def together(outcomes: Sequence[R | VecdbError]) -> list[R]:
    """All outcomes of reads. Raises the first error among them: part of a read is no answer."""
    results: list[R] = []
    for outcome in outcomes:
        if isinstance(outcome, VecdbError):
            raise outcome
        results.append(outcome)
    return results


@dataclass(frozen=True, slots=True)
class Core:
    """What builders need to know of their client: its session, its write counter, its defaults."""

    session: Session
    writes: WriteCounter
    consistency: str
    concurrency: int

    def read(self, consistency: str | None, require_all: bool = False) -> Any:
        """The ReadOptions to send, or None."""
        return self.session.read_options(consistency or self.consistency, require_all)
