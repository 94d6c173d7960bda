"""Telling people when a shard's background work begins to fail, and when it is well again."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from vecdb.shards.shard_set import ShardSet

log = structlog.get_logger(__name__)


class Watch:
    """Compares the shards' troubles with what was told. `on_trouble` is called with each log line of one."""

    def __init__(self, shards: ShardSet, on_trouble: Callable[[], None]) -> None:
        self._shards = shards
        self._on_trouble = on_trouble
        self._told: dict[int, str] = {}

    def look(self) -> None:
        """Log what has changed since the last look."""
        troubles = self._shards.troubles()
        for shard, why in troubles.items():
            if self._told.get(shard) != why:
                log.error("a shard is failing", collection=self._shards.owner(shard), shard=shard, reason=why)
                self._on_trouble()
        for shard in self._told.keys() - troubles.keys():
            if shard in self._shards:
                log.info("a shard is well again", collection=self._shards.owner(shard), shard=shard)
        self._told = troubles
