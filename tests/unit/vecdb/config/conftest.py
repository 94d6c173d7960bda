"""Every test starts with an environment that says nothing to vecdb."""

import os

import pytest


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("VECDB_"):
            monkeypatch.delenv(name)
