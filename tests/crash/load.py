"""Clients that write while the node is killed, and know what they were promised."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from vecdb_client import Client, NotFoundError, RetryPolicy

from tests.crash.ledger import State, Track, Write, payload_of, text_of, vector_of

# A node may be away for as long as a restart takes, several times in a row.
PATIENT = RetryPolicy(attempts=10_000, initial=0.05, maximum=0.25)
TIMEOUT = 120.0
SIZES = (1, 3, 17, 60, 250)


class Worker(threading.Thread):
    """Does one thing after the other until told to stop. Whoever holds `turn` keeps it from the next."""

    def __init__(self, name: str, address: str, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.turn = threading.Lock()
        self.random = random.Random(seed)
        self.db = Client(address, retry=PATIENT, timeout=TIMEOUT)
        self.error: BaseException | None = None
        self.done = 0
        self._ended = threading.Event()

    def run(self) -> None:
        try:
            while not self._ended.wait(self.random.uniform(0.0, 0.02)):
                with self.turn:
                    self.step()
                    self.done += 1
        except BaseException as error:
            self.error = error
        finally:
            self.db.close()

    def step(self) -> None:
        """One thing."""
        raise NotImplementedError

    def end(self) -> None:
        """Stop after what is being done; raises what went wrong."""
        self._ended.set()
        self.join(TIMEOUT)
        self.check()
        assert not self.is_alive(), f"{self.name} does not end"

    def check(self) -> None:
        """Raise what ended it before its time."""
        if self.error is not None:
            raise AssertionError(f"{self.name} failed: {self.error!r}") from self.error


class Writer(Worker):
    """Upserts, rewrites, updates and deletes documents of its own in several collections."""

    def __init__(self, name: str, address: str, seed: int, tracks: Sequence[Track]) -> None:
        super().__init__(name, address, seed)
        self.tracks = tracks
        self._stamp = 0

    def step(self) -> None:
        self._stamp += 1
        track = self.random.choice(self.tracks)
        living = track.living()
        kind = self.random.choices(("upsert", "update", "delete"), (7, 2, 1))[0]
        size = self.random.choice(SIZES)
        if kind == "upsert" or not living:
            keys = self.random.sample(track.keys, min(size, len(track.keys)))
            self._upsert(track, Write("upsert", tuple(keys), self._stamp), living)
            return
        write = Write(
            "update" if kind == "update" else "delete",
            tuple(self.random.sample(sorted(living), min(size, len(living)))),
            self._stamp,
        )
        track.attempt(write)
        if write.kind == "update":
            result = self.db.update(track.collection, write.keys, payload={"mark": write.stamp})
        else:
            result = self.db.delete(track.collection, ids=write.keys)
        # A retry that was applied twice would find nothing left to delete.
        assert result.count == len(write.keys), f"{write.kind} changed {result.count} of {len(write.keys)}"
        track.acknowledge(result.positions)

    def _upsert(self, track: Track, write: Write, living: dict[str, State]) -> None:
        new = State(write.stamp, write.stamp, None)
        versions: list[int | None] | None = None
        if self.random.random() < 0.3:
            # A retry that was applied twice would meet its own version and fail.
            versions = [living[key].version if key in living else 0 for key in write.keys]
        track.attempt(write)
        result = self.db.upsert(
            track.collection,
            ids=write.keys,
            vectors=np.stack([vector_of(key, write.stamp, track.dim) for key in write.keys]),
            payloads=[payload_of(key, new) for key in write.keys],
            texts=[text_of(key, write.stamp) for key in write.keys],
            if_versions=versions,
        )
        assert result.count == len(write.keys), f"upsert wrote {result.count} of {len(write.keys)}"
        track.acknowledge(result.positions)


@dataclass(frozen=True, slots=True)
class Made:
    """A collection that exists, and the write that filled it (0: it is empty)."""

    stamp: int
    keys: tuple[str, ...] = ()


class Churner(Worker):
    """Creates, fills and drops collections, the same names again and again."""

    DIM = 4
    NAMES = ("passing-1", "passing-2")

    def __init__(self, name: str, address: str, seed: int) -> None:
        super().__init__(name, address, seed)
        self._stamp = 0
        self.there: dict[str, Made] = {}

    def step(self) -> None:
        name = self.random.choice(self.NAMES)
        made = self.there.get(name)
        if made is None:
            self.db.create_collection(name, dim=self.DIM, metric="l2", shards=2, if_not_exists=True)
            self.there[name] = Made(0)
        elif made.stamp == 0:
            self._stamp += 1
            keys = tuple(f"{name}-{self._stamp}-{number}" for number in range(20))
            vectors = np.stack([vector_of(key, self._stamp, self.DIM) for key in keys])
            self.db.upsert(name, ids=keys, vectors=vectors)
            self.there[name] = Made(self._stamp, keys)
        else:
            with suppress(NotFoundError):  # dropped by a try whose answer was lost
                self.db.drop_collection(name)
            del self.there[name]

    def verify(self, db: Client) -> None:
        """Whether just the collections are there that should be, with just their documents. Hold its turn."""
        names = {info.name for info in db.list_collections()}
        assert names & set(self.NAMES) == set(self.there)
        for name, made in self.there.items():
            found = {document.id: document.vector for document in db.scroll(name, with_vector=True)}
            assert set(found) == set(made.keys)
            for key, vector in found.items():
                assert vector is not None
                assert vector.tobytes() == vector_of(key, made.stamp, self.DIM).tobytes()


@contextmanager
def paused(workers: Sequence[Worker]) -> Iterator[None]:
    """Nobody has anything under way, and all that was begun is acknowledged."""
    with ExitStack() as stack:
        for worker in workers:
            assert worker.turn.acquire(timeout=TIMEOUT), f"{worker.name} does not come to an end"
            stack.callback(worker.turn.release)
            worker.check()
        yield


def wait_until(condition: Callable[[], bool], what: str, seconds: float = TIMEOUT) -> None:
    """Poll; AssertionError naming `what` when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.01)
