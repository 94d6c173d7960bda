"""Campaigns run only where they are asked for: `pytest -m campaign tests/crash`."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "campaign" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("campaign") is not None:
            item.add_marker(pytest.mark.skip(reason="a campaign takes minutes; ask for it with -m campaign"))
