"""Simulated clusters under everything that goes wrong: the short version of `python -m tests.sim`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from vecdb_replication.raft import MessageType, RawNode

from tests.sim.facts import Violation
from tests.sim.machine import Registers
from tests.sim.run import attempt, campaign
from tests.sim.world import World

ROOT = Path(__file__).parents[2]


# Together about a minute of one core, of which each test uses two.
_SEEDS, _SECONDS = 10, 120


@pytest.mark.parametrize("first", range(10_000, 10_000 + 6 * _SEEDS, _SEEDS))
def test_seeds_hold_and_get_things_done(first: int) -> None:
    """Every invariant after every step, linearizable histories, answers to all, progress after storms."""
    total: Counter[str] = Counter()
    for verdict in campaign(first, _SEEDS, _SECONDS, 0, 2):
        assert not verdict.violation, verdict.violation
        total += verdict.counts
    assert total["simulated seconds"] >= _SEEDS * _SECONDS
    assert total["operations"] > 8 * _SEEDS * _SECONDS
    assert total["healings"] > 3 * _SEEDS
    for what in ("crashes", "stops", "lost syncs", "elections", "changes", "snapshots", "histories"):
        assert total[what] > _SEEDS, what
    for what in ("partitions", "failed I/O", "full disks", "hung syncs", "failed stagings", "flipped bits"):
        assert total[what], what


def _trace(seed: int, hash_seed: str) -> bytes:
    command = [sys.executable, "-m", "tests.sim", "--seed", str(seed), "--seconds", "40", "--trace"]
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=True).stdout


def test_a_seed_is_one_history_to_the_byte() -> None:
    """Two processes, with hashes of their own, write the same trace; another seed writes another."""
    first, again, other = _trace(7, "1"), _trace(7, "2"), _trace(8, "1")
    assert first == again
    assert first.count(b"\n") > 1000
    assert first != other


def test_a_violation_tells_how_to_see_it_again() -> None:
    """Whatever goes wrong in a step, the error has the seed, the moment and the command that replays it."""
    world = World(5)

    def broken() -> None:
        raise KeyError("x")

    world.later(1.0, broken)
    with pytest.raises(Violation, match=r"seed 5 at 1\.0000 s: KeyError\('x'\)") as caught:
        world.run(2.0)
    assert "python -m tests.sim --seed 5 --seconds 1.001 --trace" in str(caught.value)


def test_a_snapshot_without_its_content_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a snapshot leaves is compared with what the entries left, whoever reads it afterwards."""
    capture = Registers.capture

    def empty(self: Registers) -> tuple[int, bytes]:
        index, data = capture(self)
        return index, json.dumps([*json.loads(data)[:2], {}]).encode()

    monkeypatch.setattr(Registers, "capture", empty)
    told = [verdict.violation for verdict in campaign(10_000, 10, 60, 0, 1) if verdict.violation]
    assert told
    assert all(re.search(r"the snapshot of \d+ is not what entry \d+ led to", each) for each in told)


def test_what_makes_no_sense_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host drops it, and would so hide from the other invariants who says it, and why."""
    beat = RawNode.tick

    def boasting(self: RawNode) -> None:
        beat(self)
        raft = self._raft
        raft.messages = [
            replace(m, commit=m.commit + 1000) if m.type is MessageType.HEARTBEAT else m
            for m in raft.messages
        ]

    monkeypatch.setattr(RawNode, "tick", boasting)
    verdict = attempt(10_000, 10)
    assert re.search(r"makes no sense, by node \d: commit index \d+ beyond the last entry", verdict.violation)
