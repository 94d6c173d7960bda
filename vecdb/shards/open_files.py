"""How many files the process may hold open, and whether more shards fit.

A shard holds about six files open, and some more while it seals or merges. A process that runs out of them
can accept no connection and write no file, so shards stop well before that.
"""

from __future__ import annotations

import errno
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

A_SHARD: Final = 8
RESERVE: Final = 64
_SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE})
_OPEN: Final = Path("/proc/self/fd")


def raise_limit() -> None:
    """Take all that the system grants: the soft limit is low for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        log.debug("raised the limit of open files", soft=hard, was=soft)


def why_not(shards: int) -> str:
    """Why there is no room for so many more shards; empty where there is."""
    used, limit = _used(), _limit()
    needed = shards * A_SHARD + RESERVE
    if limit is None or used + needed <= limit:
        return ""
    return (
        f"{shards} more shards need about {shards * A_SHARD} open files, and {used} of the {limit} that the "
        f"process may have (ulimit -n) are in use, with {RESERVE} kept back"
    )


def are_short(error: BaseException) -> bool:
    """Whether an error of opening a shard came of too many open files."""
    chain = list(_chain(error))
    if any(isinstance(each, OSError) and each.errno in _SHORT for each in chain):
        return True
    # SQLite does not tell why it could not open a file.
    could_not_open = any(isinstance(each, sqlite3.OperationalError) for each in chain)
    limit = _limit()
    return could_not_open and limit is not None and limit - _used() < A_SHARD


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _limit() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _used() -> int:
    try:
        return sum(1 for _ in _OPEN.iterdir())
    except OSError as error:
        # To count them takes one more. Where the system does not tell there is nothing to go by.
        return (_limit() or 0) if error.errno in _SHORT else 0
