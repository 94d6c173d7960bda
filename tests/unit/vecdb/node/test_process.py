"""A node as a process: it stops in good order under load, and survives being killed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from vecdb_client import RetryPolicy, VecdbError

from tests.support.node import Node

DIM = 32
ONCE = RetryPolicy(attempts=1)


class Load:
    """Writers and readers that go on until the node is gone, and remember what was acknowledged."""

    def __init__(self, node: Node, threads: int = 3) -> None:
        self._node = node
        self.acknowledged: list[str] = []
        self.failures: list[BaseException] = []
        self.refusals: list[VecdbError] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def _write(self, writer: int) -> None:
        try:
            with self._node.client(retry=ONCE, timeout=20) as db:
                for at in range(100_000):
                    ids = [f"{writer}-{at}-{n}" for n in range(3)]
                    try:
                        db.upsert("c", ids=ids, vectors=[[1.0] * DIM] * 3)
                        with self._lock:
                            self.acknowledged += ids
                        db.search("c", vector=[1.0] * DIM, k=3)
                    except VecdbError as error:
                        with self._lock:
                            self.refusals.append(error)
                        return
        except BaseException as error:
            with self._lock:
                self.failures.append(error)

    def wait(self, count: int) -> None:
        """Until so many documents were acknowledged."""
        deadline = time.monotonic() + 30
        while len(self.acknowledged) < count:
            assert time.monotonic() < deadline
            assert not self.failures
            time.sleep(0.005)

    def join(self) -> None:
        """Until everyone has been refused."""
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        assert self.failures == []


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_was_acknowledged_under_load_is_there_afterwards(tmp_path: Path, end: str) -> None:
    """SIGTERM: requests under way are answered, new ones are UNAVAILABLE, exit code 0. SIGKILL: connections
    break. The next start has everything that was acknowledged, and each write whole or not at all."""
    with Node(tmp_path) as node:
        with node.client() as db:
            db.create_collection("c", dim=DIM)
        load = Load(node)
        load.wait(150)
        getattr(node, end)()
        load.join()
        assert {error.code.name for error in load.refusals} <= {"UNAVAILABLE", "CANCELLED"}
        if end == "stop":
            assert "stopped" in node.log_tail()
            assert "Traceback" not in node.log_tail()
        node.start()
        with node.client() as db:
            stored = {document.id for document in db.scroll("c")}
            assert set(load.acknowledged) <= stored
            assert all(f"{each.rpartition('-')[0]}-{n}" in stored for each in stored for n in range(3))


def test_a_second_process_on_the_same_data_is_refused(tmp_path: Path) -> None:
    """The folder's lock holds between processes: the second ends with its reason, the first serves on."""
    with Node(tmp_path) as node:
        other = Node(tmp_path)
        other.log_path = tmp_path / "other.log"
        with pytest.raises(AssertionError, match="ended with code 69"):
            other.start()
        assert "in use by another vecdb process" in other.log_tail()
        with node.client() as db:
            assert db.list_collections() == []
