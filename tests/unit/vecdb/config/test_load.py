"""Where settings come from, and what is said about bad ones."""

from pathlib import Path

import pytest
from vecdb_replication.host import MAX_ENTRY_BYTES

from vecdb.config import ConfigError, Endpoint, Settings, load


def _toml(folder: Path, text: str) -> Path:
    path = folder / "vecdb.toml"
    path.write_text(text)
    return path


def _refusal(flags: dict[str, object], config: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(flags, config)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults(tmp_path: Path) -> None:
    """With a data directory alone, a node keeps to itself on the documented ports."""
    settings = load({"data_dir": str(tmp_path / "d")})
    assert settings.data_dir == tmp_path / "d"
    endpoints = (settings.listen, settings.peer_listen, settings.mesh_listen, settings.http_listen)
    assert endpoints == tuple(Endpoint("127.0.0.1", port) for port in (7700, 7701, 7702, 7703))
    assert settings.models == [{"kind": "wordllama", "name": "wordllama-256"}]
    assert settings.limits.max_message_bytes == 64 * 2**20
    assert not settings.insecure


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags win over the environment, that over the file, that over defaults, key by key."""
    config = _toml(
        tmp_path,
        f"""
        data_dir = "{tmp_path}/file"
        zone = "file"
        log_level = "error"
        listen = "127.0.0.1:1001"
        [limits]
        max_k = 11
        max_batch = 12
        """,
    )
    monkeypatch.setenv("VECDB_ZONE", "environment")
    monkeypatch.setenv("VECDB_LISTEN", "127.0.0.1:1002")
    monkeypatch.setenv("VECDB_LIMITS__MAX_BATCH", "13")
    settings = load({"listen": "127.0.0.1:1003", "zone": None}, config)
    assert settings.data_dir == tmp_path / "file"
    assert settings.listen.port == 1003
    assert settings.zone == "environment"
    assert settings.log_level == "error"
    limits = settings.limits
    assert (limits.max_k, limits.max_batch, limits.max_dim) == (11, 13, 16_384)


def test_file_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VECDB_CONFIG names the file; --config wins over it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    by_variable = _toml(tmp_path / "a", 'data_dir = "a"')
    by_flag = _toml(tmp_path / "b", 'data_dir = "b"')
    monkeypatch.setenv("VECDB_CONFIG", str(by_variable))
    assert load({}).data_dir == Path("a")
    assert load({}, by_flag).data_dir == Path("b")


def test_sizes_with_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes may carry a binary unit."""
    monkeypatch.setenv("VECDB_LIMITS__MAX_SOURCE_BYTES", "1 GiB")
    monkeypatch.setenv("VECDB_ENGINE__WAL_SEGMENT_BYTES", "2m")
    settings = load({"data_dir": str(tmp_path)})
    assert settings.limits.max_source_bytes == 2**30
    assert settings.engine.wal_segment_bytes == 2 * 2**20


def test_a_request_fits_into_an_entry_of_the_log(tmp_path: Path) -> None:
    """The largest message that can be allowed is half of an entry: vectors of its texts come on top."""
    half = MAX_ENTRY_BYTES // 2
    settings = load({"data_dir": str(tmp_path), "limits": {"max_message_bytes": half}})
    assert settings.limits.max_message_bytes == half
    with pytest.raises(ConfigError, match=f"max_message_bytes = {half + 1}"):
        load({"data_dir": str(tmp_path), "limits": {"max_message_bytes": half + 1}})


def test_empty_variables_are_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable set to nothing, as compose files do, is no value."""
    monkeypatch.setenv("VECDB_TOKEN_FILE", "")
    assert load({"data_dir": str(tmp_path)}).token_file is None


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Paths from files and variables have no shell to expand ~ for them."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({"data_dir": "~/data"}).data_dir == tmp_path / "data"


def test_models_from_the_file(tmp_path: Path) -> None:
    """Models are tables, handed on as they are."""
    config = _toml(tmp_path, '[[models]]\nkind = "onnx"\nname = "m"\npath = "/models/m"\n')
    assert load({"data_dir": str(tmp_path)}, config).models == [
        {"kind": "onnx", "name": "m", "path": "/models/m"}
    ]


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    """What was checked stays as it was checked."""
    settings = load({"data_dir": str(tmp_path)})
    with pytest.raises(ValueError, match="frozen"):
        settings.insecure = True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nope = 1", ["nope", "no such key"]),
        ("[limits]\nmax_q = 1", ["limits.max_q", "no such key"]),
        ("[limits]\nmax_k = 0", ["limits.max_k = 0", "greater than or equal to 1"]),
        ("[limits]\nmax_k = 'many'", ["limits.max_k = many", "must be a valid integer"]),
        ("[limits]\nmax_message_bytes = '64 parsecs'", ["limits.max_message_bytes = 64 parsecs", "64 MiB"]),
        ("listen = 'here'", ["listen = here", "host:port"]),
        ("listen = 7700", ["listen = 7700"]),
        ("log_format = 'xml'", ["log_format = xml", "'console' or 'json'"]),
        ("log_level = 3", ["log_level = 3", "'debug'"]),
        ("zone = 'a b'", ["zone = a b", "pattern"]),
        ("join = 'somewhere'", ["join = somewhere"]),
        ("data_dir = ''", ["data_dir", "path"]),
        ("data_dir = 3", ["data_dir = 3", "path"]),
        ("models = [1]", ["models.0 = 1"]),
        ("limits = 3", ["limits = 3"]),
    ],
)
def test_bad_values_in_the_file(tmp_path: Path, text: str, expected: list[str]) -> None:
    """The message names the key, the value, what is allowed, and the file."""
    base = "" if "data_dir" in text else f"data_dir = '{tmp_path}'\n"
    config = _toml(tmp_path, base + text)
    message = _refusal({}, config)
    for part in [*expected, str(config)]:
        assert part in message


def test_a_bad_value_names_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several places, the message names the one that the value came from."""
    config = _toml(tmp_path, f"data_dir = '{tmp_path}'\nlog_level = 'info'\n[limits]\nmax_k = 5")
    monkeypatch.setenv("VECDB_LOG_LEVEL", "loud")
    assert "(from VECDB_LOG_LEVEL)" in _refusal({}, config)
    assert "(from --log-level)" in _refusal({"log_level": "louder"}, config)
    monkeypatch.delenv("VECDB_LOG_LEVEL")
    monkeypatch.setenv("VECDB_LIMITS__MAX_K", "-3")
    assert "limits.max_k = -3" in (message := _refusal({}, config))
    assert "(from VECDB_LIMITS__MAX_K)" in message


def test_several_problems_at_once() -> None:
    """All problems are told together, in one line."""
    message = _refusal({"listen": "x", "log_format": "y"})
    assert all(
        part in message for part in ("data_dir: is required", "listen = x", "log_format = y", "--data-dir")
    )


def test_a_long_value_is_cut() -> None:
    """A message stays readable whatever was pasted."""
    assert len(_refusal({"data_dir": "d", "zone": "z" * 5000})) < 400


def test_unknown_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped variable is refused, not ignored."""
    monkeypatch.setenv("VECDB_TOKENFILE", "x")
    assert _refusal({"data_dir": str(tmp_path)}).startswith("VECDB_TOKENFILE: no such key")
    monkeypatch.delenv("VECDB_TOKENFILE")
    monkeypatch.setenv("VECDB_LIMITS__MAX_Q", "1")
    assert "limits.max_q: no such key (from VECDB_LIMITS__MAX_Q)" in _refusal({"data_dir": str(tmp_path)})


@pytest.mark.parametrize(
    "name",
    ["VECDB_ADDR", "VECDB_TIMEOUT", "VECDB_SERVICE_HOST", "VECDB_SERVICE_PORT_GRPC", "VECDB_PORT",
     "VECDB_PORT_7700_TCP", "VECDB_PORT_7700_TCP_ADDR"],
)  # fmt: skip
def test_variables_of_others_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The client's variables, and what Kubernetes sets for a Service of our name, are no mistake."""
    monkeypatch.setenv(name, "tcp://10.0.0.1:7700")
    assert isinstance(load({"data_dir": str(tmp_path)}), Settings)


def test_structured_variables_must_be_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list in a variable is JSON; anything else is refused by name."""
    monkeypatch.setenv("VECDB_MODELS", "wordllama")
    assert "models: must be JSON (from VECDB_MODELS)" in _refusal({"data_dir": str(tmp_path)})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing, broken, binary or huge file is named."""
    missing = tmp_path / "missing.toml"
    assert f"config = {missing}: cannot be read: No such file" in _refusal({}, missing)
    assert "is not TOML" in _refusal({}, _toml(tmp_path, "data_dir = "))
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "is not TOML" in _refusal({}, binary)
    binary.write_bytes(b"#" * (2**20 + 1))
    assert "larger than 1 MiB" in _refusal({}, binary)
