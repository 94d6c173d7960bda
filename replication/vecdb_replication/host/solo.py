"""Entries of a leader that is its whole group: on its disk they are committed.

They go to the log without the core. The rules are the core's, which would come
to the same after a dozen steps; it hears of them by `RawNode.commit_alone` once
they are durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from vecdb_replication import raft, wal
from vecdb_replication.host.storage import to_log
from vecdb_replication.host.work import Append, Batch, Item, Proposal


class Solo:
    """What is on its way to the log so. `max_bytes` is what one batch may hand to the state."""

    __slots__ = ("_alone", "_group", "_max_bytes")

    def __init__(self, group: int, max_bytes: int) -> None:
        self._group = group
        self._max_bytes = max_bytes
        self._alone: deque[Batch] = deque()

    def __len__(self) -> int:
        return len(self._alone)

    def append(
        self, node: raft.RawNode, hard: raft.HardState, epoch: int, proposals: Sequence[Proposal]
    ) -> Append:
        """The record of these proposals, behind all that was handed out before."""
        last = self._alone[-1].last if self._alone else node.last_index
        batches: list[Batch] = []
        items: list[Item] = []
        size = 0
        for index, proposal in enumerate(proposals, last + 1):
            size += len(proposal.data)
            if items and size > self._max_bytes:
                batches.append(Batch(epoch, index - 1, items, alone=True))
                items, size = [], len(proposal.data)
            items.append(Item(raft.Entry(node.term, index, data=proposal.data), proposal))
        batches.append(Batch(epoch, last + len(proposals), items, alone=True))
        self._alone.extend(batches)
        entries = [to_log(item.entry) for batch in batches for item in batch.items]
        hard_state = wal.HardState(hard.term, hard.vote, hard.commit)
        # A leader's last entry is of its term, for it began with one.
        update = wal.GroupUpdate(self._group, entries, hard_state, after=(last, node.term))
        return Append(self._group, epoch, update, batches=batches)

    def written(self, batches: Sequence[Batch]) -> None:
        """They came back from the log, durable or refused. The core knows nothing of those, and goes on."""
        for batch in batches:
            ours = self._alone.popleft()
            assert ours is batch, "writes come back in the order they went"

    def abandon(self, failure: Exception) -> None:
        """Tell whoever waits for what is on its way."""
        while self._alone:
            self._alone.popleft().reject(failure)
