"""Positions: what a reply tells of the logs, and what a read waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from vecdb_replication.host import Host

from vecdb.query.errors import RequestError

# How long a read waits for a replica that is behind the session before it gives up.
_BEHIND_SECONDS = 5.0


class Level(IntEnum):
    """How fresh a read must be; numbers as on the wire."""

    UNSPECIFIED = 0
    EVENTUAL = 1
    SESSION = 2
    LINEARIZABLE = 3


@dataclass(frozen=True, slots=True)
class Positions:
    """A session token: log indexes that were seen, by shard, and of the catalogue."""

    epoch: int = 0
    catalogue: int = 0
    shards: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a read demands."""

    level: Level = Level.UNSPECIFIED
    session: Positions | None = None
    require_all: bool = False


ANY = Freshness()


async def await_fresh(host: Host, epoch: int, shards: Iterable[int], wanted: Freshness) -> None:
    """Wait until the shards are as fresh as the read demands.

    Raises RequestError: FAILED_PRECONDITION for a token of another epoch or
    with a shard that there never was, UNAVAILABLE where a shard stays behind.
    """
    session = wanted.session
    if wanted.level is Level.EVENTUAL or (session is None and wanted.level is not Level.LINEARIZABLE):
        return
    if session is not None:
        _refuse_strange(host, epoch, session)
    for shard in shards:
        if wanted.level is Level.LINEARIZABLE:
            await _in_time(shard, host.barrier(shard))
        elif session is not None and (index := session.shards.get(shard, 0)):
            await _in_time(shard, host.wait_applied(shard, index))


def _refuse_strange(host: Host, epoch: int, session: Positions) -> None:
    """A token that this data cannot have given out."""
    if session.epoch not in (0, epoch):
        raise RequestError(
            "FAILED_PRECONDITION",
            "STALE_SESSION",
            "the session token is of another epoch: the data was restored since; begin a new session",
        )
    for shard in session.shards:
        # Of a shard that was dropped the tombstone is left, so it is told from one that there never was.
        if not host.has_known(shard):
            raise RequestError(
                "FAILED_PRECONDITION",
                "UNKNOWN_SHARD",
                f"the session token names shard {shard}, which there never was here",
                metadata={"shard": str(shard)},
            )


async def _in_time(shard: int, reached: Coroutine[Any, Any, object]) -> None:
    try:
        await asyncio.wait_for(reached, _BEHIND_SECONDS)
    except TimeoutError:
        raise RequestError(
            "UNAVAILABLE",
            "STALE_SESSION",
            f"shard {shard} has not applied what the read must see",
            metadata={"shard": str(shard)},
            retry_after=1.0,
        ) from None
