"""The command line as a person meets it: arguments in; exit code, stdout and stderr out."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.clients.scripted import ScriptedServer
from vecdb.cli.app import run


@dataclass(frozen=True)
class Outcome:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr; AssertionError where it is not one."""
        (line,) = self.err.splitlines()
        assert line.startswith("vecdb: error: ")
        return line.removeprefix("vecdb: error: ")


Cli = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("VECDB_"):
            monkeypatch.delenv(name)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """A real gRPC server with written answers, which commands reach by default."""
    server = ScriptedServer()
    monkeypatch.setenv("VECDB_ADDR", server.address)
    yield server
    server.stop()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs one command line in this process; `stdin` is what it reads."""

    def call(*arguments: Any, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
