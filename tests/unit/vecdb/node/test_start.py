"""Starting a node: what is damaged, too new or taken keeps it from serving, in one line and with a code."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
from structlog.testing import capture_logs
from vecdb_client import DataLossError

from tests.support.inprocess import InProcessNode
from vecdb.exit_code import ExitCode
from vecdb.node import run

DOCUMENTS = 40


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a node that was stopped in good order, with documents in it."""
    folder = tmp_path_factory.mktemp("written")
    with InProcessNode(folder) as node, node.client() as db:
        db.create_collection("other", dim=2)
        db.upsert("other", ids=["a"], vectors=[[1, 2]])
        db.create_collection("c", dim=2)
        db.upsert("c", ids=[str(n) for n in range(DOCUMENTS)], vectors=[[1, n] for n in range(DOCUMENTS)])
    return folder / "data"


@pytest.fixture
def stopped(written: Path, tmp_path: Path) -> InProcessNode:
    """A copy of it, to be damaged."""
    node = InProcessNode(tmp_path)
    shutil.copytree(written, node.data_dir)
    return node


def refused(node: InProcessNode) -> tuple[int, str]:
    """The exit code of a start that must fail, and the line it logs."""
    with capture_logs() as lines:
        code = run(node.settings())
    (line,) = [line for line in lines if line["log_level"] in ("error", "critical")]
    assert "exc_info" not in line
    return code, line["reason"]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def newest(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern))


def _flip_catalogue(data: Path) -> Path:
    path = data / "catalog" / "state"
    flip(path, 40)
    return path


def _newer_catalogue(data: Path) -> Path:
    path = data / "catalog" / "state"
    whole = bytearray(path.read_bytes())
    whole[8] = 9
    path.write_bytes(whole)
    return path


def _flip_log(data: Path) -> Path:
    path = newest(data / "log", "*.log")
    flip(path, path.stat().st_size // 2)
    return path


def _newer_log(data: Path) -> Path:
    path = newest(data / "log", "*.log")
    whole = path.read_bytes()
    assert whole[:1] != b"\0"
    path.write_bytes(whole[:8] + bytes([9]) + whole[9:])
    return path


def _lost_log(data: Path) -> Path:
    shutil.rmtree(data / "log")
    (data / "log").mkdir()
    return data / "log"


def _damaged_shard(data: Path) -> Path:
    path = data / "shards" / "3" / "shard.db"
    whole = bytearray(path.read_bytes())
    whole[: len(whole) // 2] = os.urandom(len(whole) // 2)
    path.write_bytes(whole)
    return path.parent


def _newer_marker(data: Path) -> Path:
    path = data / "NODE"
    path.write_text(path.read_text().replace('"format": 1', '"format": 7'))
    return path


DAMAGES: dict[str, Callable[[Path], Path]] = {
    "a flipped bit in the catalogue": _flip_catalogue,
    "a catalogue of a newer version": _newer_catalogue,
    "a flipped bit in the log": _flip_log,
    "a log of a newer version": _newer_log,
    "a log that is gone": _lost_log,
    "a marker of a newer version": _newer_marker,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_left_as_it_is(stopped: InProcessNode, damage: str) -> None:
    """A node over a damaged or newer file does not serve: one line names the file, nothing is changed, and
    the folder is free again."""
    path = DAMAGES[damage](stopped.data_dir)
    before = {each: each.read_bytes() for each in sorted(path.parent.rglob("*")) if each.is_file()}
    for _ in range(2):
        code, reason = refused(stopped)
        assert code == ExitCode.UNAVAILABLE
        assert str(path) in reason
    after = {each: each.read_bytes() for each in before if each.exists()}
    assert {each: before[each] for each in before if "-wal" not in each.name and "-shm" not in each.name} == {
        each: data for each, data in after.items() if "-wal" not in each.name and "-shm" not in each.name
    }


def test_a_damaged_shard_keeps_nothing_else_from_being_served(stopped: InProcessNode) -> None:
    """Its collection answers DATA_LOSS naming the file, reads and writes alike; the status and the log tell;
    others are served; dropped, it can be made anew, and the next start is in good order."""
    path = str(_damaged_shard(stopped.data_dir) / "shard.db")
    with capture_logs() as lines, stopped, stopped.client() as db:
        for call in (
            lambda: db.count("c"),
            lambda: db.search("c", vector=[1, 2], k=1),
            lambda: db.upsert("c", ids=["new"], vectors=[[1, 2]]),
            lambda: db.describe("c"),
        ):
            with pytest.raises(DataLossError, match=path):
                call()
        assert db.count("other") == 1
        assert [info.name for info in db.list_collections()] == ["c", "other"]
        (member,) = db.cluster_status().members
        assert (member.state, path in member.detail) == ("suspect", True)
        deadline = time.monotonic() + 30
        while not any(path in str(line.get("reason")) for line in list(lines)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        db.drop_collection("c")
        db.create_collection("c", dim=3)
        db.upsert("c", ids=["new"], vectors=[[1, 2, 3]])
    with stopped, stopped.client() as db:
        assert (db.count("c"), db.count("other")) == (1, 1)
        (member,) = db.cluster_status().members
        assert member.state == "up"


def test_what_is_undamaged_serves(stopped: InProcessNode) -> None:
    """The same data, untouched, comes up with every document."""
    with stopped, stopped.client() as db:
        assert db.count("c") == DOCUMENTS


def test_a_torn_last_write_is_cut_and_told(stopped: InProcessNode) -> None:
    """An unfinished record at the log's end is no damage: it is cut with a warning, and the node serves."""
    path = newest(stopped.data_dir / "log", "*.log")
    with path.open("ab") as file:
        file.write(path.read_bytes()[-90:-60])
    with capture_logs() as lines, stopped, stopped.client() as db:
        assert db.count("c") == DOCUMENTS
    (line,) = [line for line in lines if line["log_level"] == "warning"]
    assert "unfinished write" in line["event"]
    assert line["path"] == str(path)


def test_a_data_directory_has_one_node(tmp_path: Path) -> None:
    """A second node on the same folder is refused while the first serves on."""
    with InProcessNode(tmp_path) as node:
        other = InProcessNode(tmp_path)
        code, reason = refused(other)
        assert (code, "in use by another" in reason) == (ExitCode.UNAVAILABLE, True)
        with node.client() as db:
            assert db.list_collections() == []


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    """A port that somebody listens on keeps the node from starting, and is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node = InProcessNode(tmp_path)
        node.port = taken.getsockname()[1]
        code, reason = refused(node)
        assert (code, f"cannot listen on {node.address} (listen)" in reason) == (ExitCode.UNAVAILABLE, True)
        node = InProcessNode(tmp_path, http_listen=f"127.0.0.1:{taken.getsockname()[1]}")
        code, reason = refused(node)
        assert (code, "(http_listen): Address already in use" in reason) == (ExitCode.UNAVAILABLE, True)


def test_a_model_that_is_no_model_is_a_matter_of_configuration(tmp_path: Path) -> None:
    """A bad entry in `models` is told as such, with the code for a bad configuration."""
    code, reason = refused(InProcessNode(tmp_path, models=[{"name": "m", "kind": "telepathy"}]))
    assert code == ExitCode.USAGE
    assert "telepathy" in reason


def test_an_entry_of_a_newer_vecdb_stops_the_start(tmp_path: Path) -> None:
    """A committed command that this version does not know is not skipped: the node does not serve."""
    with InProcessNode(tmp_path) as node:
        db = node.node_database()
        with pytest.raises(Exception, match="fly"):
            node.run(lambda: db.host.propose(1, msgpack.packb([1, "fly"])))
        assert node.node_database().host.groups() == [1]
    code, reason = refused(node)
    assert (code, "fly" in reason) == (ExitCode.UNAVAILABLE, True)


@pytest.mark.parametrize("flag", ["--listen", "--http-listen"])
def test_off_loopback_needs_protection(tmp_path: Path, flag: str) -> None:
    """Listening where others can reach it without TLS and token is refused before anything is made."""
    data = tmp_path / "data"
    command = [sys.executable, "-m", "vecdb", "serve", "--data-dir", str(data), "--init", flag, "0.0.0.0:0"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("VECDB_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert done.returncode == ExitCode.USAGE
    assert "--insecure" in done.stdout + done.stderr
    assert not data.exists()
