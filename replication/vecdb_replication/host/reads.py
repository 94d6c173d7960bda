"""The linearizable reads of one replica that wait to hear from which index on they may be served."""

from __future__ import annotations

from dataclasses import dataclass

from vecdb_replication import raft
from vecdb_replication.host.work import Reader


@dataclass(slots=True)
class _Asked:
    reader: Reader
    ticks: int


class Reads:
    """`boot` is unique to this start of the node; after `ticks` without an answer a read is asked again."""

    __slots__ = ("_asked", "_boot", "_count", "_ticks")

    def __init__(self, boot: bytes, ticks: int) -> None:
        self._boot = boot
        self._ticks = ticks
        self._count = 0
        self._asked: dict[bytes, _Asked] = {}

    def ask(self, node: raft.RawNode, reader: Reader) -> None:
        """Ask the core."""
        self._count += 1
        # Never the same twice, also across restarts: an answer to a context of an earlier life would
        # let the read of this one see less than it must.
        context = self._boot + node.term.to_bytes(8, "little") + self._count.to_bytes(8, "little")
        self._asked[context] = _Asked(reader, self._ticks)
        node.read_index(context)

    def again(self, node: raft.RawNode) -> None:
        """Ask for all that wait: what was asked before went nowhere."""
        asked, self._asked = self._asked, {}
        for each in asked.values():
            self.ask(node, each.reader)

    def tick(self, node: raft.RawNode) -> None:
        """Some time has passed."""
        late = []
        for context, asked in self._asked.items():
            asked.ticks -= 1
            if asked.ticks <= 0:
                late.append(context)
        for context in late:
            self.ask(node, self._asked.pop(context).reader)

    def answered(self, state: raft.ReadState) -> Reader | None:
        """Who asked, if anybody still waits; its index is set."""
        asked = self._asked.pop(state.context, None)
        if asked is None:
            return None
        asked.reader.index = state.index
        return asked.reader

    def forget(self, reader: Reader) -> None:
        """Somebody has stopped waiting."""
        for context in [context for context, asked in self._asked.items() if asked.reader is reader]:
            del self._asked[context]

    def abandon(self, failure: Exception) -> None:
        """Tell all who wait that they do so in vain."""
        asked, self._asked = self._asked, {}
        for each in asked.values():
            each.reader.failed(failure)
