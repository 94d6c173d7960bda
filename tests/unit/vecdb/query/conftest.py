from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.support.inprocess import InProcessNode

_numbers = itertools.count()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessNode]:
    with InProcessNode(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def name() -> Callable[[], str]:
    """Makes names of collections that no other test uses."""
    return lambda: f"c{next(_numbers)}"
