"""What a writing client knows of its documents, and what a reader may therefore find.

A writer owns its keys and writes one thing at a time, so the documents of its keys in one shard are those
after some prefix of its writes: at least all that were acknowledged before the reading began, at most all
that were attempted before it ended. A batch is one write, so a half one is no prefix.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from zlib import crc32

import numpy as np
import numpy.typing as npt
from vecdb_client import StoredDocument

from vecdb.query.slots import shard_of


@dataclass(frozen=True, slots=True)
class Write:
    """One request. `stamp` grows with each write of a writer."""

    kind: Literal["upsert", "update", "delete"]
    keys: tuple[str, ...]
    stamp: int


@dataclass(frozen=True, slots=True)
class State:
    """A document: the write that gave it vector and text, the one that last touched its payload, its version.

    The version is None where the write was not acknowledged: nobody has told it.
    """

    stamp: int
    mark: int
    version: int | None


States = dict[str, State]


def vector_of(key: str, stamp: int, dim: int) -> npt.NDArray[np.float32]:
    """The vector that a write gives a document: different for every key and write."""
    return np.random.default_rng([crc32(key.encode()), stamp]).standard_normal(dim).astype(np.float32)


def text_of(key: str, stamp: int) -> str:
    """The text that a write gives a document, of very different lengths."""
    return f"{key} as of {stamp}. " + "More words. " * (crc32(key.encode()) % 7 * (stamp % 11))


def payload_of(key: str, state: State) -> dict[str, Any]:
    """The payload of a document."""
    return {"stamp": state.stamp, "mark": state.mark, "owner": key.partition("-")[0]}


class Track:
    """One writer's documents in one collection. Its writer and one reader may use it at the same time."""

    def __init__(self, collection: str, keys: Sequence[str], dim: int, shards: Sequence[int]) -> None:
        self.collection = collection
        self.keys = tuple(keys)
        self.dim = dim
        self._shard_of = {key: shard_of(key, shards) for key in keys}
        self._lock = threading.Lock()
        self._acknowledged: States = {}
        self._writes: list[Write] = []
        self._positions: list[Mapping[int, int]] = []

    # --- the writer ----------------------------------------------------------

    def living(self) -> States:
        """The documents, as acknowledged."""
        with self._lock:
            return dict(self._acknowledged)

    def attempt(self, write: Write) -> None:
        """About to be sent."""
        with self._lock:
            assert len(self._writes) == len(self._positions), "a writer does one thing at a time"
            self._writes.append(write)

    def acknowledge(self, positions: Mapping[int, int]) -> None:
        """The write attempted last is done, at these log indexes of its shards."""
        with self._lock:
            write = self._writes[-1]
            assert set(positions) == {self._shard_of[key] for key in write.keys}
            self._positions.append(positions)
            self._perform(self._acknowledged, len(self._positions) - 1, None)

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged."""
        return len(self._positions)

    # --- the reader ----------------------------------------------------------

    def before(self) -> tuple[int, States]:
        """To be taken before reading: what was acknowledged, and after how many writes."""
        with self._lock:
            return len(self._positions), dict(self._acknowledged)

    def check(self, before: tuple[int, States], documents: Iterable[StoredDocument]) -> None:
        """Whether documents that were read, one moment a shard, are those of an allowed prefix."""
        found: dict[str, StoredDocument] = {}
        for document in documents:
            assert document.id not in found, f"{document.id} is there twice"
            found[document.id] = document
        with self._lock:
            begun = len(self._writes)
            for shard in sorted(set(self._shard_of.values())):
                self._check_shard(shard, before, found, begun)

    def _check_shard(
        self, shard: int, before: tuple[int, States], found: Mapping[str, StoredDocument], begun: int
    ) -> None:
        keys = [key for key in self.keys if self._shard_of[key] == shard]
        done, states = before[0], dict(before[1])
        floor = max((states[key].version or 0 for key in keys if key in states), default=0)
        wrong = [self._difference(keys, states, found, floor)]
        for number in range(done, begun):
            if not wrong[-1]:
                return
            self._perform(states, number, shard)
            wrong.append(self._difference(keys, states, found, floor))
        assert not wrong[-1], (
            f"{self.collection}, shard {shard}: of {begun - done} writes under way no prefix fits; "
            f"without them: {wrong[0]}; with all: {wrong[-1]}"
        )

    def _perform(self, states: States, number: int, shard: int | None) -> None:
        """Do a write to the states, of one shard or of all."""
        write = self._writes[number]
        positions = self._positions[number] if number < len(self._positions) else {}
        for key in write.keys:
            at = self._shard_of[key]
            if shard is not None and at != shard:
                continue
            version = positions.get(at)
            if write.kind == "upsert":
                states[key] = State(write.stamp, write.stamp, version)
            elif write.kind == "update":
                states[key] = replace(states[key], mark=write.stamp, version=version)
            else:
                del states[key]

    def _difference(
        self, keys: Sequence[str], states: States, found: Mapping[str, StoredDocument], floor: int
    ) -> str:
        """The first document that is not as the states say; empty where all are."""
        unknown: dict[int, int] = {}
        for key in keys:
            state, document = states.get(key), found.get(key)
            if state is None or document is None:
                if state is not None or document is not None:
                    return f"{key} is {'missing' if document is None else 'there'}, not {state}"
                continue
            if fault := self._fault(key, state, document):
                return f"{key}: {fault}, not {state}"
            if state.version is None:
                # One write is one log entry: one version, later than all before it.
                first = unknown.setdefault(state.mark, document.version)
                if document.version != first or first <= floor:
                    return f"{key} has version {document.version}, others {first}, before it {floor}"
        return ""

    def _fault(self, key: str, state: State, document: StoredDocument) -> str:
        if document.payload != payload_of(key, state):
            return f"payload {document.payload}"
        if document.text != text_of(key, state.stamp):
            return f"text {document.text!r}"
        if document.vector is None or document.vector.tobytes() != self.vector(key, state).tobytes():
            return "another vector"
        if state.version is not None and document.version != state.version:
            return f"version {document.version}"
        return ""

    def vector(self, key: str, state: State) -> npt.NDArray[np.float32]:
        """The vector of a document in a state."""
        return vector_of(key, state.stamp, self.dim)
