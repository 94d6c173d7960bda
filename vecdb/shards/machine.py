"""A shard as the state machine of its group."""

from __future__ import annotations

from collections.abc import Sequence

from vecdb_index import ApplyResult, Shard, StorageFailed
from vecdb_replication.host import StorageFull


class ShardMachine:
    """Gives the engine the face that the host expects."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard

    @property
    def applied_index(self) -> int:
        """See `Shard.applied_index`."""
        return self.shard.applied_index

    @property
    def durable_index(self) -> int:
        """See `Shard.durable_index`."""
        return self.shard.durable_index

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> list[ApplyResult]:
        """See `Shard.apply`. A disk that refuses a write may take it later: StorageFull."""
        try:
            return self.shard.apply(entries)
        except StorageFailed as failed:
            raise StorageFull(str(failed)) from failed

    def checkpoint(self) -> int:
        """See `Shard.checkpoint`; a disk without room leaves the durable index where it was."""
        try:
            return self.shard.checkpoint()
        except StorageFailed:
            return self.shard.durable_index
