"""The command line as a process: how fast it is there, how it ends, what it says."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import typer

import vecdb.cli.app as app
from tests.clients.scripted import ScriptedServer
from vecdb.config import Settings
from vecdb.exit_code import ExitCode

PAGE = (Path(__file__).parents[4] / "docs" / "cli.md").read_text()
VECDB = [sys.executable, "-m", "vecdb"]


def _run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*VECDB, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False, **options
    )


def _commands(group: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found = {}
    for name, command in getattr(group, "commands", {}).items():
        found[(*path, name)] = command
        found |= _commands(command, (*path, name))
    return found


COMMANDS = _commands(typer.main.get_command(app.build()))


def test_help_imports_nothing_heavy() -> None:
    """Help is there at once: no grpc, no numpy, no pydantic, no rich on the way."""
    code = (
        "import sys\n"
        "from vecdb.cli.app import run\n"
        "code = run(['--help'])\n"
        "heavy = {'grpc', 'numpy', 'pydantic', 'structlog', 'rich', 'faiss', 'google', 'msgpack'}\n"
        "sys.exit(f'{code} {heavy & set(sys.modules)}' if code or heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", sorted(COMMANDS), ids=" ".join)
def test_every_command_has_help(cli: Any, path: tuple[str, ...]) -> None:
    """Each says what it does; each that does something shows examples of itself, and is in docs/cli.md."""
    outcome = cli(*path, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert COMMANDS[path].help
    if not hasattr(COMMANDS[path], "commands"):
        assert "Examples:" in outcome.out
        assert f"vecdb {' '.join(path)}" in outcome.out.partition("Examples:")[2]
        assert f"vecdb {' '.join(path)}" in PAGE


@pytest.mark.parametrize(
    "path", sorted(path for path in COMMANDS if not hasattr(COMMANDS[path], "commands")), ids=" ".join
)
def test_every_option_is_documented(path: tuple[str, ...]) -> None:
    """The options of a command stand in its section of docs/cli.md; shared ones in a section of their own."""
    section = re.search(rf"^### `vecdb {' '.join(path)}\b.*?(?=^##)", PAGE + "\n##", re.MULTILINE | re.DOTALL)
    assert section is not None
    shared = re.search(r"^## Reaching a node.*?(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert shared is not None
    text = section[0] + shared[0]
    options = {
        name for parameter in COMMANDS[path].params for name in parameter.opts if name.startswith("--")
    }
    assert {name for name in options - {"--help"} if f"`{name}" not in text} == set()


def test_exit_codes_are_documented() -> None:
    """The table in docs/cli.md has every exit code."""
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert codes == {int(code) for code in ExitCode}


def test_as_a_process(tmp_path: Path) -> None:
    """Version, a mistake and a node that is not there: exit codes and one line on stderr."""
    done = _run("version", "--json")
    assert json.loads(done.stdout)["vecdb"]
    assert "vecdb" in _run("version").stdout
    done = _run("nonsense")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    done = _run("collections", "list", "--addr", "127.0.0.1:1")
    assert (done.returncode, done.stderr.count("\n")) == (69, 1)
    assert "Traceback" not in done.stderr
    assert _run().returncode == 2


def test_token_and_tls_files(cli: Any, tmp_path: Path, server: ScriptedServer) -> None:
    """Files that cannot be used are named before a node is asked."""
    outcome = cli("collections", "list", "--token-file", tmp_path / "none")
    assert outcome.code == 2
    assert f"token file {tmp_path}/none: cannot be read" in outcome.error
    outcome = cli("collections", "list", "--tls-ca", tmp_path / "none")
    assert (outcome.code, outcome.error) == (2, f"{tmp_path}/none: No such file or directory")
    assert not server.requests


def test_a_token_without_tls_is_warned_about(cli: Any, tmp_path: Path) -> None:
    """The client's warning reaches the operator as a line, without Python around it."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    arguments = ("--addr", "node.invalid:1", "--token-file", token, "--timeout", 0.2)
    outcome = cli("collections", "list", *arguments)
    assert outcome.code == 69
    first = outcome.err.splitlines()[0]
    assert first.startswith("vecdb: warning: the token is sent without TLS")


def test_an_inner_failure(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug is one line and exit code 70; VECDB_DEBUG shows where it is."""
    monkeypatch.setattr("vecdb.telemetry.version.versions", lambda: 1 / 0)
    outcome = cli("version")
    assert outcome.code == 70
    assert outcome.error == "internal: ZeroDivisionError: division by zero (VECDB_DEBUG=1 shows where)"
    monkeypatch.setenv("VECDB_DEBUG", "1")
    assert "Traceback" in cli("version").err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves(unbuffered: str) -> None:
    """`vecdb ... | head` ends quietly, whether the pipe breaks while writing or while flushing."""
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*VECDB, "version"],
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            env=environment,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c(server: ScriptedServer) -> None:
    """An interrupted command ends with 130, without a traceback."""
    # A shell ignores SIGINT for what it starts in the background, tests too, and a process inherits that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*VECDB, "query", "docs", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        _wait_until_reading(process.pid)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


def _wait_until_reading(pid: int) -> None:
    """Until the process has loaded its command and waits for stdin."""
    deadline = time.monotonic() + 60
    while "pipe" not in Path(f"/proc/{pid}/wchan").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestServe:
    """`vecdb serve` hands the node its settings."""

    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
        """Nodes that were started; each ends at once with exit code 0."""
        started: list[Settings] = []

        def run(settings: Settings) -> int:
            started.append(settings)
            return 0

        monkeypatch.setattr("vecdb.node.run", run)
        monkeypatch.setattr("vecdb.telemetry.logs.configure", lambda *_: None)
        return started

    def test_flags(self, cli: Any, started: list[Settings], tmp_path: Path) -> None:
        """Every flag reaches the settings."""
        token = tmp_path / "token"
        token.write_text("0123456789abcdef")
        token.chmod(0o600)
        flags = {
            "--data-dir": tmp_path / "d",
            "--listen": "127.0.0.1:1",
            "--peer-listen": "127.0.0.1:2",
            "--mesh-listen": "127.0.0.1:3",
            "--http-listen": "127.0.0.1:4",
            "--token-file": token,
            "--zone": "z",
            "--log-format": "json",
            "--log-level": "debug",
        }
        arguments = [part for flag in flags.items() for part in flag]
        assert cli("serve", *arguments, "--init", "--insecure").code == 0
        (settings,) = started
        for flag, value in flags.items():
            assert str(getattr(settings, flag[2:].replace("-", "_"))) == str(value)
        assert settings.init
        assert settings.insecure

    def test_environment_and_file(
        self, cli: Any, started: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A flag that is left out leaves the environment and the file in force, booleans too."""
        config = tmp_path / "vecdb.toml"
        config.write_text(f'data_dir = "{tmp_path}"\nzone = "file"\ninit = true\n')
        monkeypatch.setenv("VECDB_ZONE", "environment")
        assert cli("serve", "--config", config).code == 0
        assert (started[0].zone, started[0].init, started[0].insecure) == ("environment", True, False)

    def test_refusals(self, cli: Any, started: list[Settings], tmp_path: Path) -> None:
        """A configuration that must not run is one line and exit code 2; no node is started."""
        for arguments, words in (
            ((), "data_dir: is required"),
            (("--data-dir", tmp_path, "--listen", "0.0.0.0:1"), "is reachable from other machines"),
            (("--data-dir", tmp_path, "--join", "/ip4/1.2.3.4/tcp/1/p2p/Q"), "single node"),
            (("--data-dir", tmp_path, "--config", tmp_path / "none"), "cannot be read"),
        ):
            outcome = cli("serve", *arguments)
            assert outcome.code == 2
            assert words in outcome.error
        assert not started

    def test_what_is_said_at_the_start(self, cli: Any, started: list[Settings], tmp_path: Path) -> None:
        """That nothing listens for peers is logged, and what --insecure gives away."""
        from structlog.testing import capture_logs

        with capture_logs() as lines:
            assert cli("serve", "--data-dir", tmp_path).code == 0
        assert [line["log_level"] for line in lines] == ["info"]
        assert "nothing listens for other nodes" in lines[0]["event"]
        with capture_logs() as lines:
            assert (
                cli("serve", "--data-dir", tmp_path, "--listen", "0.0.0.0:1", "--insecure", "--init").code
                == 0
            )
        assert [line["event"] for line in lines[1:]] == [
            "insecure: reachable from other machines without TLS",
            "insecure: reachable from other machines without a token",
        ]


def test_demo_gets_its_options(cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The demo is told whether to stay and where to keep its data."""
    calls: list[dict[str, Any]] = []

    def run(**options: Any) -> int:
        calls.append(options)
        return 3

    # The demo itself starts a node; here only what it is told matters.
    monkeypatch.setitem(sys.modules, "vecdb.cli.demo", types.SimpleNamespace(run=run))
    assert cli("demo").code == 3
    assert cli("demo", "--keep", "--data-dir", tmp_path).code == 3
    assert calls == [{"keep": False, "data_dir": None}, {"keep": True, "data_dir": tmp_path}]


def test_shell_completion() -> None:
    """The shell's question for the next word is answered with the commands there are."""
    environment = os.environ | {
        "_VECDB_COMPLETE": "complete_bash",
        "COMP_WORDS": "vecdb col",
        "COMP_CWORD": "1",
    }
    done = _run(env=environment)
    assert (done.returncode, done.stdout.split()) == (0, ["collections"])


def test_saying_no() -> None:
    """A person is asked before a drop; who says no has interrupted it, and nothing was sent."""
    master, slave = os.openpty()
    arguments = [*VECDB, "collections", "drop", "docs", "--addr", "127.0.0.1:1"]
    with subprocess.Popen(arguments, stdin=slave, stdout=slave, stderr=subprocess.PIPE, text=True) as process:
        os.close(slave)
        os.write(master, b"n\n")
        _, err = process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == 130
    assert "Drop docs and all its documents?" in err
    assert "UNAVAILABLE" not in err
