from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from vecdb_client import Client, RetryPolicy

from tests.clients.scripted import Blocking, ScriptedServer

# Retries as always, only quicker.
QUICK = RetryPolicy(attempts=4, initial=0.002, maximum=0.01)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()


@pytest.fixture(params=["sync", "aio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients of either kind, called alike; closes them at the end."""
    clients: list[Any] = []

    def make(*args: Any, **settings: Any) -> Any:
        settings.setdefault("retry", QUICK)
        settings.setdefault("timeout", 20.0)
        clients.append((Client if request.param == "sync" else Blocking)(*args, **settings))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def db(connect: Callable[..., Any], server: ScriptedServer) -> Any:
    return connect(server.address)
