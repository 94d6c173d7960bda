"""The linearizable reads of one replica that wait to hear from which index on they may be served."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vecdb_replication import raft
from vecdb_replication.host.work import Reader


@dataclass(slots=True, eq=False)
class _Round:
    """Readers that were asked for together: one question to the others answers them all."""

    readers: dict[Reader, None]
    ticks: int


class Reads:
    """`boot` is unique to this start of the node; after `ticks` without an answer a read is asked again."""

    __slots__ = ("_boot", "_count", "_new", "_round_of", "_rounds", "_ticks")

    def __init__(self, boot: bytes, ticks: int) -> None:
        self._boot = boot
        self._ticks = ticks
        self._count = 0
        self._new: dict[Reader, None] = {}
        self._rounds: dict[bytes, _Round] = {}
        self._round_of: dict[Reader, _Round] = {}

    def add(self, reader: Reader) -> None:
        """Somebody waits. All that come until the next `ask` share its round."""
        self._new[reader] = None

    def ask(self, node: raft.RawNode) -> None:
        """Ask the core for those that are new."""
        new, self._new = self._new, {}
        self._ask(node, new)

    def _ask(self, node: raft.RawNode, readers: dict[Reader, None]) -> None:
        if not readers:
            return
        self._count += 1
        # Never the same twice, also across restarts: an answer to a context of an earlier life would
        # let the read of this one see less than it must.
        context = self._boot + node.term.to_bytes(8, "little") + self._count.to_bytes(8, "little")
        asked = self._rounds[context] = _Round(readers, self._ticks)
        self._round_of.update(dict.fromkeys(readers, asked))
        node.read_index(context)

    def again(self, node: raft.RawNode) -> None:
        """Ask for all that wait: what was asked before went nowhere."""
        rounds, self._rounds = self._rounds, {}
        self._ask(node, _together(rounds.values()))

    def tick(self, node: raft.RawNode) -> None:
        """Some time has passed."""
        late = []
        for context, asked in self._rounds.items():
            asked.ticks -= 1
            if asked.ticks <= 0:
                late.append(context)
        if late:
            self._ask(node, _together(self._rounds.pop(context) for context in late))

    def answered(self, state: raft.ReadState) -> Iterable[Reader]:
        """Who asked and still waits; their index is set."""
        asked = self._rounds.pop(state.context, None)
        readers = asked.readers if asked is not None else {}
        for reader in readers:
            del self._round_of[reader]
            reader.index = state.index
        return readers

    def forget(self, reader: Reader) -> None:
        """Somebody has stopped waiting."""
        self._new.pop(reader, None)
        asked = self._round_of.pop(reader, None)
        if asked is not None:
            del asked.readers[reader]

    def abandon(self, failure: Exception) -> None:
        """Tell all who wait that they do so in vain."""
        readers = [*_together(self._rounds.values()), *self._new]
        self._rounds, self._round_of, self._new = {}, {}, {}
        for reader in readers:
            reader.failed(failure)


def _together(rounds: Iterable[_Round]) -> dict[Reader, None]:
    return {reader: None for each in rounds for reader in each.readers}
