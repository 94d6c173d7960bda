"""Reads flags, environment and file into `Settings`, with errors for people."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsError

from vecdb.config.checks import check
from vecdb.config.errors import ConfigError
from vecdb.config.settings import Settings

#: Variables that the command line reads as a client, not as a node.
CLIENT_VARIABLES = frozenset({"VECDB_ADDR", "VECDB_TLS_CA", "VECDB_TIMEOUT", "VECDB_CONFIG", "VECDB_DEBUG"})

# Kubernetes sets these in every container beside a Service named "vecdb"
# (VECDB_SERVICE_HOST, VECDB_PORT_7700_TCP...). They say nothing to us, and
# refusing them would make that name unusable.
_KUBERNETES = re.compile(r"VECDB_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP)\w*)?)")

_MAX_FILE_BYTES = 1 << 20
_MAX_SHOWN = 80


def load(flags: Mapping[str, Any], config: Path | None = None) -> Settings:
    """The settings of a node that is about to start.

    `flags` are keys of `Settings`; those that are None were not given.
    `config` is the TOML file; without it VECDB_CONFIG names one, or there is
    none. Flags win over the environment, the environment over the file, the
    file over defaults, key by key (also within `limits` and `engine`).

    Raises ConfigError.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    path = config or (Path(os.environ["VECDB_CONFIG"]) if os.environ.get("VECDB_CONFIG") else None)
    table = _read_table(path.expanduser()) if path else {}
    _refuse_unknown_variables()
    try:
        settings = _source_class(table)(**given)
    except ValidationError as error:
        raise ConfigError(_explain(error, given, table, path)) from None
    except SettingsError as error:
        raise ConfigError(_explain_variable(error)) from None
    check(settings)
    return settings


def _source_class(table: dict[str, Any]) -> type[Settings]:
    """Settings that take the file's table as their last source."""

    class _Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=table)

    return _Loaded


def _read_table(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"config = {path}: cannot be read: {error.strerror}") from None
    if len(text) > _MAX_FILE_BYTES:
        raise ConfigError(f"config = {path}: is larger than 1 MiB")
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config = {path}: is not TOML: {error}") from None


def _refuse_unknown_variables() -> None:
    for name in sorted(os.environ):
        upper = name.upper()
        if not upper.startswith("VECDB_") or upper in CLIENT_VARIABLES or _KUBERNETES.fullmatch(upper):
            continue
        key = upper.removeprefix("VECDB_").split("__")[0].lower()
        if key not in Settings.model_fields:
            raise ConfigError(f"{name}: no such key; docs/configuration.md lists them")


def _explain(
    error: ValidationError, flags: Mapping[str, Any], table: Mapping[str, Any], path: Path | None
) -> str:
    problems = []
    for detail in error.errors(include_url=False):
        key = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "missing":
            problems.append(f"{key}: is required; {_ways(key)}")
        elif detail["type"] == "extra_forbidden":
            problems.append(
                f"{key}: no such key{_origin(key, flags, table, path)}; see docs/configuration.md"
            )
        else:
            shown = _shown(detail["input"])
            problems.append(f"{key} = {shown}: {_allowed(detail['msg'])}{_origin(key, flags, table, path)}")
    return "; ".join(problems)


def _allowed(message: str) -> str:
    """pydantic's sentence, turned into the second half of ours."""
    message = message.removeprefix("Value error, ")
    return re.sub(r"^(Input|Value|String|List|Dictionary) should", "must", message)


def _shown(value: object) -> str:
    text = str(value).replace("\n", " ")
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _variable(key: str) -> str:
    return "VECDB_" + key.replace(".", "__").upper()


def _ways(key: str) -> str:
    return f"pass {_flag(key)}, or set {_variable(key)}, or {key} in the configuration file"


def _origin(key: str, flags: Mapping[str, Any], table: Mapping[str, Any], path: Path | None) -> str:
    """Where a bad value came from, looked up in the order of precedence."""
    top = key.split(".")[0]
    if top in flags:
        return f" (from {_flag(top)})"
    for name in (_variable(key), _variable(top)):
        if any(name == variable.upper() for variable in os.environ):
            return f" (from {name})"
    return f" (from {path})" if top in table else ""


def _explain_variable(error: SettingsError) -> str:
    """A structured variable that is not JSON."""
    match = re.search(r'field "(\w+)"', str(error))
    key = match[1] if match else "environment"
    return f"{key}: must be JSON (from {_variable(key)})"
