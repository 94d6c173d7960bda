"""Which shard a document belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crc32c import crc32c

SLOTS: Final = 4096


def shard_of(id_: str, shards: Sequence[int]) -> int:
    """The shard of a document id: ids hash to slots, and slots are dealt to shards in runs."""
    if len(shards) == 1:
        return shards[0]
    return shards[(crc32c(id_.encode()) % SLOTS) * len(shards) // SLOTS]


def split(ids: Sequence[str], shards: Sequence[int]) -> dict[int, list[int]]:
    """The positions in `ids` that go to each shard, in order; shards without any are left out."""
    if len(shards) == 1:
        return {shards[0]: list(range(len(ids)))}
    parts: dict[int, list[int]] = {}
    for position, id_ in enumerate(ids):
        parts.setdefault(shard_of(id_, shards), []).append(position)
    return parts
