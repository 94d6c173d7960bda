"""The state that is replicated in the simulator: registers, with a disk of its own that forgets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import BinaryIO

from vecdb_replication.snapshots import FileSource

State = tuple[int, dict[str, str]]


class Registers:
    """Registers by name. An entry is JSON: [operation, register, value].

    What `checkpoint` has not seen is lost in a crash, unless the process alone died.
    To the host these are files, so a snapshot's message waits for them. How long
    they take, and whether they come, is the node's business: nothing calls `fetch`.
    """

    def __init__(self) -> None:
        self.state: State = (0, {})
        self._durable: State = (0, {})
        self._staged: dict[int, State] = {}
        self.applied: list[tuple[int, bytes]] = []
        """What was applied since the simulator looked last."""

    @property
    def applied_index(self) -> int:
        return self.state[0]

    @property
    def durable_index(self) -> int:
        return self._durable[0]

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> list[object]:
        index, registers = self.state
        registers = dict(registers)
        for at, data in entries:
            assert at > index, f"entry {at} was applied behind {index}"
            index = at
            _, name, value = json.loads(data)
            registers[name] = value
        self.state = (index, registers)
        self.applied += entries
        return [None] * len(entries)

    def read(self, name: str) -> str:
        return self.state[1].get(name, "")

    def checkpoint(self) -> int:
        self._durable = self.state
        return self.durable_index

    def prepare(self) -> None:
        self.checkpoint()

    def capture(self) -> tuple[int, bytes]:
        if not self.durable_index:
            raise LookupError("nothing is durable yet")
        return self.durable_index, json.dumps(self._durable[1], sort_keys=True).encode()

    def stage(self, index: int, data: bytes) -> None:
        self._staged[index] = (index, json.loads(data))

    def install(self, index: int) -> None:
        if index not in self._staged:
            raise LookupError(f"no snapshot of {index} was staged")
        self.state = self._durable = self._staged[index]
        self._staged = {at: state for at, state in self._staged.items() if at > index}

    async def fetch(self, data: bytes, source: FileSource) -> None:
        raise NotImplementedError

    def open_file(self, snapshot: str, name: str) -> BinaryIO:
        raise NotImplementedError

    def is_sending(self) -> bool:
        return False

    def tidy(self) -> None:
        raise NotImplementedError

    def crash(self, *, power: bool) -> None:
        """The process ends. Without power, what was not made durable is gone."""
        if power:
            self.state = self._durable
        self.applied.clear()
