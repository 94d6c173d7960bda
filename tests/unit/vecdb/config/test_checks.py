"""What keys mean together: who may reach a node, and what must lie at the paths."""

from pathlib import Path
from typing import Any

import pytest

from vecdb.config import ConfigError, load


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A token and a certificate's place; what is in the certificate is checked elsewhere."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o600)
    for name in ("cert", "key"):
        (tmp_path / name).write_text("PEM")
    return {
        "token_file": str(token),
        "tls_cert": str(tmp_path / "cert"),
        "tls_key": str(tmp_path / "key"),
        "data_dir": str(tmp_path / "data"),
    }


def _refusal(flags: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(flags)
    return str(caught.value)


@pytest.mark.parametrize("key", ["listen", "http_listen"])
def test_off_loopback_needs_tls_and_token(files: dict[str, str], key: str) -> None:
    """Off loopback nothing is served without TLS and a token, and the message says what to add."""
    flags = {"data_dir": files["data_dir"], key: "0.0.0.0:7799", "init": True}
    message = _refusal(flags)
    assert message.startswith(f"{key} = 0.0.0.0:7799: is reachable from other machines; add ")
    assert "--tls-cert and --tls-key and --token-file" in message
    assert "--insecure" in message
    with_tls = flags | {"tls_cert": files["tls_cert"], "tls_key": files["tls_key"]}
    assert "add --token-file," in _refusal(with_tls)
    with_token = flags | {"token_file": files["token_file"]}
    assert "add --tls-cert and --tls-key," in _refusal(with_token)
    assert load(with_tls | with_token).token_file is not None
    assert load(flags | {"insecure": True}).insecure


def test_ports_that_nothing_listens_on_are_free(files: dict[str, str]) -> None:
    """Peer and mesh endpoints are recorded: they expose nothing yet."""
    settings = load({"data_dir": files["data_dir"], "peer_listen": "0.0.0.0:1", "mesh_listen": "[::]:2"})
    assert (settings.peer_listen.port, str(settings.mesh_listen)) == (1, "[::]:2")


def test_joining_is_refused_clearly(files: dict[str, str]) -> None:
    """A version that runs a single node says so instead of running one where a cluster was meant."""
    address = "/ip4/10.0.0.1/tcp/7702/p2p/12D3KooWabc"
    message = _refusal({"data_dir": files["data_dir"], "join": address})
    assert message.startswith(f"join = {address}: this version runs a single node")
    assert "single node" in _refusal({"data_dir": files["data_dir"], "invite_file": "/x"})


def test_tls_takes_both(files: dict[str, str], tmp_path: Path) -> None:
    """A certificate without its key, or the other way round, or a missing one, is refused by name."""
    base = {"data_dir": files["data_dir"]}
    assert _refusal(base | {"tls_cert": files["tls_cert"]}).startswith("tls_key: is required with tls_cert")
    assert _refusal(base | {"tls_key": files["tls_key"]}).startswith("tls_cert: is required with tls_key")
    missing = {"tls_cert": files["tls_cert"], "tls_key": str(tmp_path / "nope")}
    assert _refusal(base | missing) == f"tls_key = {tmp_path}/nope: no such file"


def test_one_port_for_one_thing(files: dict[str, str]) -> None:
    """Two services on one endpoint are refused, except where the system chooses both ports."""
    base = {"data_dir": files["data_dir"]}
    same = {"listen": "127.0.0.1:7000", "http_listen": "127.0.0.1:7000"}
    assert "is listen already" in _refusal(base | same)
    any_port = {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0"}
    assert load(base | any_port).listen.port == 0


@pytest.mark.parametrize(
    ("text", "mode", "word"),
    [
        ("0123456789abcdef", 0o644, "chmod 600"),
        ("0123456789abcdef", 0o602, "chmod 600"),
        ("short", 0o600, "at least 16"),
        ("", 0o600, "at least 16"),
        ("two words of a token", 0o600, "no spaces"),
        ("ümlaut-0123456789abcdef", 0o600, "ASCII"),
        ("x" * 1025, 0o600, "1024"),
        ("x" * 100_000, 0o600, "1024"),
    ],
)
def test_token_files(files: dict[str, str], tmp_path: Path, text: str, mode: int, word: str) -> None:
    """A token that others can read, or that is none, is refused."""
    path = tmp_path / "bad"
    path.write_text(text)
    path.chmod(mode)
    message = _refusal({"data_dir": files["data_dir"], "token_file": str(path)})
    assert message.startswith(f"token_file = {path}: ")
    assert word in message
    assert text not in message or len(text) < 6  # a secret is not repeated


def test_a_missing_token_file(files: dict[str, str], tmp_path: Path) -> None:
    """A token file that is not there is named."""
    message = _refusal({"data_dir": files["data_dir"], "token_file": str(tmp_path / "none")})
    assert "cannot be read: No such file" in message


def test_a_group_may_read_the_token(files: dict[str, str]) -> None:
    """Mode 640 is how secrets are mounted for a group; only the world is kept out."""
    Path(files["token_file"]).chmod(0o640)
    assert load({"data_dir": files["data_dir"], "token_file": files["token_file"]}).token_file


def test_an_empty_folder_off_loopback_needs_init(files: dict[str, str], tmp_path: Path) -> None:
    """A lost disk must not come up as a new, empty cluster that clients trust."""
    flags: dict[str, Any] = {**files, "listen": "0.0.0.0:7799"}
    assert "pass --init" in _refusal(flags)
    (tmp_path / "data").mkdir()
    assert "pass --init" in _refusal(flags)
    assert load(flags | {"init": True}).init
    (tmp_path / "data" / "something").touch()
    assert not load(flags).init


def test_data_dir_must_be_a_folder(files: dict[str, str], tmp_path: Path) -> None:
    """A file in the place of the data directory is refused."""
    (tmp_path / "data").write_text("")
    assert _refusal({"data_dir": files["data_dir"]}) == f"data_dir = {tmp_path}/data: is not a folder"
    beneath = {"data_dir": files["data_dir"] + "/below", "listen": "0.0.0.0:1", "insecure": True}
    assert _refusal(beneath) == f"data_dir = {tmp_path}/data/below: cannot be read: Not a directory"
