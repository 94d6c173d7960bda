"""The state that is replicated in the simulator: registers, with a disk of its own that forgets.

An entry is the bytes "w REGISTER VALUE PADDING". Beside the registers the state keeps two checksums, over
everything that was ever applied, and over what the registers hold: replicas at the same index have the same.
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
    history: int = 0
    content: int = 0
    """Of no order, so that it can be kept up as registers change."""
    registers: dict[str, str] = field(default_factory=dict)

    def copy(self) -> State:
        return State(self.index, self.history, self.content, dict(self.registers))

    def apply(self, index: int, data: bytes) -> tuple[int, int]:
        """One more entry; gives both checksums behind it."""
        assert index > self.index, f"entry {index} was applied behind {self.index}"
        _, register, value, _ = data.decode().split(" ")
        self.index = index
        self.history = zlib.crc32(b"%d " % index + data, self.history)
        self.content ^= _check(register, self.registers.get(register, "")) ^ _check(register, value)
        self.registers[register] = value
        return self.history, self.content

    @property
    def checksums(self) -> tuple[int, int]:
        """Both, that of the content taken anew from what the registers hold."""
        content = 0
        for register, value in self.registers.items():
            content ^= _check(register, "") ^ _check(register, value)
        return self.history, content


def _check(register: str, value: str) -> int:
    return zlib.crc32(f"{register}={value}".encode())


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
        """The result of an entry is the checksums behind it."""
        if self.full:
            raise StorageFull("no room")
        return [self.state.apply(index, data) for index, data in entries]

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
        return taken.index, json.dumps([taken.history, taken.content, taken.registers]).encode()

    async def fetch(self, data: bytes, source: FileSource) -> None:
        raise NotImplementedError

    def open_file(self, snapshot: str, name: str) -> BinaryIO:
        raise NotImplementedError

    def is_sending(self) -> bool:
        return False

    def tidy(self) -> None:
        raise NotImplementedError

    def stage(self, index: int, data: bytes) -> None:
        self._staged[index] = State(index, *json.loads(data))

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
