"""The shards that this node holds: opened, created and dropped as the catalogue says."""

from vecdb.shards.machine import ShardMachine
from vecdb.shards.shard_set import ShardSet, UnknownShard
from vecdb.shards.watch import Watch

__all__ = ["ShardMachine", "ShardSet", "UnknownShard", "Watch"]
