"""Positions: what a reply tells of the logs, and what a read waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from vecdb_replication.host import Host

from vecdb.catalog import CATALOG_GROUP
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
    """Wait until the catalogue and the shards are as fresh as the read demands.

    Raises RequestError: FAILED_PRECONDITION for a token of another epoch, with
    a shard that there never was, or with a position that no log has got to;
    UNAVAILABLE where the catalogue or a shard stays behind.
    """
    session = wanted.session
    if wanted.level is Level.EVENTUAL or (session is None and wanted.level is not Level.LINEARIZABLE):
        return
    seen: Mapping[int, int] = {}
    if session is not None:
        _refuse_strange(host, epoch, session)
        seen = {**session.shards, CATALOG_GROUP: session.catalogue}
    for group in (CATALOG_GROUP, *shards):
        index = seen.get(group, 0)
        # Nearly always the session has seen nothing that is not applied here: a comparison tells.
        behind = index > 0 and index > host.applied_index(group)
        if behind:
            _refuse_beyond(host, group, index)
        if wanted.level is Level.LINEARIZABLE:
            await _in_time(group, host.barrier(group))
        elif behind:
            await _in_time(group, host.wait_applied(group, index))


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


def _refuse_beyond(host: Host, group: int, index: int) -> None:
    """A position that nobody can have seen: this replica is the only one, so its log has all there is."""
    last = host.status(group).last_index
    if index > last:
        raise RequestError(
            "FAILED_PRECONDITION",
            "STALE_SESSION",
            f"the session token has entry {index} of {_title(group)}, whose log ends at {last}: it is "
            "of other data; begin a new session",
            metadata={"shard": str(group)},
        )


async def _in_time(group: int, reached: Coroutine[Any, Any, object]) -> None:
    try:
        await asyncio.wait_for(reached, _BEHIND_SECONDS)
    except TimeoutError:
        raise RequestError(
            "UNAVAILABLE",
            "STALE_SESSION",
            f"{_title(group)} has not applied what the read must see",
            metadata={"shard": str(group)},
            retry_after=1.0,
        ) from None


def _title(group: int) -> str:
    return "the catalogue" if group == CATALOG_GROUP else f"shard {group}"
