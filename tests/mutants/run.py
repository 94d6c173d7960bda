"""Applying a mutant to a copy of the package, and finding out who notices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.mutants.mutant import Mutant

ROOT = Path(__file__).parents[2]
_SIMULATION = ("-m", "tests.sim", "--seed", "100", "--seeds", "12", "--seconds", "60", "--stop")
_PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout", "60")
_UNIT_TESTS = {
    "raft": ("tests/unit/replication/raft",),
    "host": ("tests/unit/replication/host",),
    "wal": ("tests/unit/replication/wal",),
    "snapshots": ("tests/unit/replication/snapshots",),
    "transport": ("tests/unit/replication/transport",),
    "vecdb_index": ("tests/unit/index/test_apply.py", "tests/unit/index/test_recovery.py"),
}
# The files of snapshots are not simulated, nor real connections, nor a shard.
_SIMULATED = frozenset({"raft", "host", "wal"})
_SECONDS = 300


class Fate(Enum):
    """What became of a mutant. Only a test that failed has killed it."""

    KILLED = "killed"
    LIVES = "LIVES"
    UNDECIDED = "UNDECIDED"
    """Tests did not come to an end, which a machine with too much to do may cause as well."""
    BROKEN = "BROKEN"
    """Nothing ran: this is no mutant."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`by` is what killed it, or why it is not known."""

    fate: Fate
    by: str = ""


def mutated(mutant: Mutant, text: str) -> str:
    """The file with the change. ValueError where the line is not there exactly once, or nothing changes."""
    found = text.count(mutant.old)
    if found != 1 or mutant.old == mutant.new:
        raise ValueError(f"{mutant.name}: {mutant.old!r} is {found} times in {mutant.file}")
    changed = text.replace(mutant.old, mutant.new)
    compile(changed, mutant.file, "exec")
    return changed


def hunt(mutant: Mutant) -> Verdict:
    """Try to kill a mutant: by simulation first, then by unit tests."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / mutant.package
        shutil.copytree(ROOT / mutant.package, package, ignore=shutil.ignore_patterns("__pycache__"))
        path = package / mutant.path
        path.write_text(mutated(mutant, path.read_text()))
        verdicts = []
        for arguments in suites(mutant.area):
            verdicts.append(_run(arguments, package))
            if verdicts[-1].fate in (Fate.KILLED, Fate.BROKEN):
                return verdicts[-1]
        return next((v for v in verdicts if v.fate is Fate.UNDECIDED), Verdict(Fate.LIVES))


def check(areas: Iterable[str]) -> str:
    """Run what kills mutants without one; what fails all the same, or nothing."""
    needed = dict.fromkeys(suite for area in sorted(areas) for suite in suites(area))
    for arguments in needed:
        verdict = _run(arguments, ROOT / "replication")
        if verdict.fate is not Fate.LIVES:
            return verdict.by
    return ""


def suites(area: str) -> list[tuple[str, ...]]:
    """The commands that may kill a mutant of this area, without the interpreter."""
    tests = (*_PYTEST, *_UNIT_TESTS[area])
    return [_SIMULATION, tests] if area in _SIMULATED else [tests]


def _run(arguments: tuple[str, ...], package: Path) -> Verdict:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), *sys.path[1:]])}
    try:
        done = subprocess.run(
            (sys.executable, *arguments),
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Verdict(Fate.UNDECIDED, f"{arguments[1]} does not come to an end in {_SECONDS} s")
    if done.returncode == 0:
        return Verdict(Fate.LIVES)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("seed ", "FAILED "))]
    if done.returncode == 1 and told:
        return Verdict(Fate.KILLED, f"{arguments[1]}: {told[0][:200]}")
    return Verdict(
        Fate.BROKEN, f"{arguments[1]} ended with {done.returncode}: {(lines or ['no word'])[-1][:200]}"
    )
