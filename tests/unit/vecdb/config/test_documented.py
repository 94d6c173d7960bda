"""docs/configuration.md and the settings agree, key by key."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vecdb.config import EngineSettings, Limits, Settings, load
from vecdb.config.load import CLIENT_VARIABLES

PAGE = (Path(__file__).parents[4] / "docs" / "configuration.md").read_text()
_ROW = re.compile(r"^\| `([a-z_.]+)` \| `?(.*?)`? \| (.*?) \| (.*?) \|$", re.MULTILINE)


def _keys(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    found = {}
    for name, field in model.model_fields.items():
        if field.annotation in (Limits, EngineSettings):
            found |= _keys(field.annotation, f"{name}.")
        else:
            found[prefix + name] = field
    return found


KEYS = _keys(Settings)
ROWS = {key: (default, allowed, meaning) for key, default, allowed, meaning in _ROW.findall(PAGE)}


def test_the_page_lists_exactly_the_keys() -> None:
    """Every key is documented, and nothing that is none."""
    assert set(ROWS) == set(KEYS)
    assert len(_ROW.findall(PAGE)) == len(ROWS)


@pytest.mark.parametrize("key", sorted(KEYS))
def test_the_meaning_is_the_settings_own(key: str) -> None:
    """The page says what the setting says."""
    assert ROWS[key][2] == KEYS[key].description


def _effective(key: str) -> Any:
    value: Any = load({"data_dir": "/srv"})
    for part in key.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("key", sorted(set(KEYS) - {"data_dir", "models"}))
def test_the_default_is_what_a_node_gets(key: str) -> None:
    """Reading the documented default gives the value in effect."""
    default, value = ROWS[key][0], _effective(key)
    if value is None or value is False:
        assert default == ("none" if value is None else "false")
    elif isinstance(value, int):
        units = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
        number, _, unit = default.partition(" ")
        assert int(number.replace(",", "")) * units.get(unit, 1) == value
    else:
        assert default == str(value)


@pytest.mark.parametrize("key", sorted(key for key in KEYS if "." in key))
def test_the_bounds_are_the_ones_in_force(key: str) -> None:
    """The documented range ends where values begin to be refused."""
    low, high = ROWS[key][1].split(" to ")
    section, name = key.split(".")
    for text, beyond in ((low, -1), (high, 1)):
        value = _number(text)
        assert load({"data_dir": "/srv", section: {name: value}})
        with pytest.raises(Exception, match=f"{section}.{name} = "):
            load({"data_dir": "/srv", section: {name: value + beyond}})


def _number(text: str) -> int:
    number, _, unit = text.partition(" ")
    return (
        int(number.replace(",", "")) * {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}[unit]
    )


def test_client_variables_are_documented() -> None:
    """The variables that are no keys stand on the page as well."""
    assert {name for name in CLIENT_VARIABLES if f"`{name}`" in PAGE} == CLIENT_VARIABLES
