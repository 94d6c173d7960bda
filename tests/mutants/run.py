"""Applying a mutant to a copy of the package, and finding out who notices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.changes import Mutant

ROOT = Path(__file__).parents[2]
_SIMULATION = ("-m", "tests.sim", "--seed", "100", "--seeds", "12", "--seconds", "60")
_SECONDS = 240


@dataclass(frozen=True, slots=True)
class Death:
    """What killed a mutant, in a line; empty where it lives."""

    by: str


def mutate(mutant: Mutant, package: Path) -> None:
    """Change the copy. ValueError where the line is not there exactly once."""
    path = package / "vecdb_replication" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.old!r} is {text.count(mutant.old)} times in {path.name}")
    path.write_text(text.replace(mutant.old, mutant.new))


def hunt(mutant: Mutant | None) -> Death:
    """Try to kill a mutant: simulation first, then unit tests. None is the package as it is."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "replication"
        shutil.copytree(ROOT / "replication", package, ignore=shutil.ignore_patterns("__pycache__"))
        if mutant is not None:
            mutate(mutant, package)
        area = mutant.area if mutant else "host"
        tests = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/unit/replication/{area}")
        # The files of snapshots and real connections are not simulated.
        for arguments in (tests,) if area in {"snapshots", "transport"} else (_SIMULATION, tests):
            if killed := _run(arguments, package):
                return Death(killed)
    return Death("")


def _run(arguments: tuple[str, ...], package: Path) -> str:
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
        return f"{arguments[1]}: it does not come to an end"
    if done.returncode == 0:
        return ""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("seed ", "FAILED ", "ERROR "))]
    return f"{arguments[1]}: {(told or lines or ['no word'])[0][:160]}"
