"""Positions: what a reply tells of the logs, and what a read waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

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

    Raises RequestError: FAILED_PRECONDITION for a token of another epoch,
    UNAVAILABLE where a shard stays behind the session.
    """
    if wanted.level is Level.EVENTUAL or (wanted.session is None and wanted.level is not Level.LINEARIZABLE):
        return
    if wanted.session is not None and wanted.session.epoch not in (0, epoch):
        raise RequestError(
            "FAILED_PRECONDITION",
            "STALE_SESSION",
            "the session token is of another epoch: the data was restored since; begin a new session",
        )
    for shard in shards:
        if wanted.level is Level.LINEARIZABLE:
            await host.barrier(shard)
        elif wanted.session is not None and (index := wanted.session.shards.get(shard, 0)):
            try:
                await asyncio.wait_for(host.wait_applied(shard, index), _BEHIND_SECONDS)
            except TimeoutError:
                raise RequestError(
                    "UNAVAILABLE",
                    "STALE_SESSION",
                    f"shard {shard} has not reached position {index} of the session",
                    retry_after=1.0,
                ) from None
