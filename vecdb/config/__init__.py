"""The node's configuration: flags over `VECDB_*` environment over a TOML file.

`load` is the only way in that operators see; it checks everything that can be
checked before a node starts and raises `ConfigError`, whose text is one line
naming the key, the value and what is allowed. docs/configuration.md documents
every key.
"""

from vecdb.config.endpoint import Endpoint, parse_endpoint
from vecdb.config.errors import ConfigError
from vecdb.config.load import CLIENT_VARIABLES, load
from vecdb.config.settings import EngineSettings, Limits, Settings

__all__ = [
    "CLIENT_VARIABLES",
    "ConfigError",
    "Endpoint",
    "EngineSettings",
    "Limits",
    "Settings",
    "load",
    "parse_endpoint",
]
