"""The state that is replicated in the simulator: registers, with a disk of its own that forgets.

An entry is the bytes "w REGISTER VALUE PADDING". Beside the registers the state keeps a checksum over
everything that was ever applied, which travels in snapshots: replicas at the same index have the same.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from vecdb_replication.host import StorageFull
from vecdb_replication.snapshots import FileSource


@dataclass(slots=True)
class State:
    """As of an index."""

    index: int = 0
    digest: int = 0
    registers: dict[str, str] = field(default_factory=dict)

    def copy(self) -> State:
        return State(self.index, self.digest, dict(self.registers))


def writing(register: str, value: str, padding: int = 0) -> bytes:
    """The entry that gives a register a value."""
    return f"w {register} {value} {'x' * padding}".encode()


class Registers:
    """Registers by name. What `checkpoint` has not seen is lost in a crash, unless the process alone died.

    `full` makes it refuse what it is given, as a disk without room would. To the host these are files, so a
    snapshot's message waits for them. How long they take, and whether they come, is the node's business:
    nothing calls `fetch`.
    """

    def __init__(self) -> None:
        self.state = State()
        self.full = False
        self._durable = State()
        self._taken: State | None = None
        self._staged: dict[int, State] = {}

    @property
    def applied_index(self) -> int:
        return self.state.index

    @property
    def durable_index(self) -> int:
        return self._durable.index

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> list[object]:
        """The result of an entry is the checksum behind it."""
        if self.full:
            raise StorageFull("no room")
        state, digests = self.state, []
        for index, data in entries:
            assert index > state.index, f"entry {index} was applied behind {state.index}"
            state.index = index
            state.digest = zlib.crc32(b"%d " % index + data, state.digest)
            digests.append(state.digest)
            _, register, value, _ = data.decode().split(" ")
            state.registers[register] = value
        return list(digests)

    def read(self, name: str) -> str:
        return self.state.registers.get(name, "")

    def checkpoint(self) -> int:
        if self._durable.index != self.state.index:
            self._durable = self.state.copy()
        return self.durable_index

    def prepare(self) -> None:
        self.checkpoint()
        self._taken = self._durable

    def capture(self) -> tuple[int, bytes]:
        if (taken := self._taken) is None:
            raise LookupError("no snapshot was taken yet")
        return taken.index, json.dumps([taken.digest, taken.registers], sort_keys=True).encode()

    async def fetch(self, data: bytes, source: FileSource) -> None:
        raise NotImplementedError

    def open_file(self, snapshot: str, name: str) -> BinaryIO:
        raise NotImplementedError

    def is_sending(self) -> bool:
        return False

    def tidy(self) -> None:
        raise NotImplementedError

    def stage(self, index: int, data: bytes) -> None:
        digest, registers = json.loads(data)
        self._staged[index] = State(index, digest, registers)

    def install(self, index: int) -> None:
        if index not in self._staged:
            raise LookupError(f"no snapshot of {index} was staged")
        self.state = self._staged[index].copy()
        self._durable = self.state.copy()
        self._staged = {at: state for at, state in self._staged.items() if at > index}

    def crash(self, *, power: bool) -> None:
        """The process ends. Without power, what was not made durable is gone."""
        self.full = False
        if power:
            self.state = self._durable.copy()
