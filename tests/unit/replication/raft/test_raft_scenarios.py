"""Scenarios played against the driver, each compared with its record line by line.

Most re-express scenarios of etcd-io/raft's interaction tests, and their records were checked
against those. To record a new one, write its commands and run this file with RAFT_RECORD=1; then
read the record, since nothing else will.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from vecdb_replication.driver.session import Session

from tests.unit.replication.raft.interaction import Json, commands_of, play

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_goes_as_recorded(path: Path) -> None:
    """States, hard states, entries, syncs and messages are the recorded ones, in their order."""
    session = Session()

    def call(request: Json) -> Json:
        return json.loads(session.answer(json.dumps(request).encode()))

    text = path.read_text()
    played = play(text, call)
    if os.environ.get("RAFT_RECORD"):
        path.write_text(played)
    assert played == text


def test_a_scenario_goes_the_same_way_through_a_process() -> None:
    """What runs behind the pipe is what runs in these tests."""
    path = next(path for path in SCENARIOS if path.stem == "confchange_v2_replace_leader")
    with subprocess.Popen(
        [sys.executable, "-m", "vecdb_replication.driver"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout

        def call(request: Json) -> Json:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        assert play(path.read_text(), call) == path.read_text()
        process.stdin.close()
        assert process.wait(timeout=10) == 0


def test_every_scenario_does_something() -> None:
    """No record is empty: each scenario has commands, and at least one of them leaves a trace."""
    assert SCENARIOS
    for path in SCENARIOS:
        text = path.read_text()
        assert commands_of(text)
        assert any(line.startswith("  ") for line in text.splitlines()), path
