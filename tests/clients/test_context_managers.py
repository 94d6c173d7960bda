from __future__ import annotations

import pytest
import vecdb_client as vc
from vecdb_proto.v1 import documents_pb2

from tests.clients.scripted import ScriptedServer


def test_clients_are_context_managers(server: ScriptedServer) -> None:
    """Leaving the block closes the client."""
    server.script("Documents/Count", documents_pb2.CountResponse(count=7))
    with vc.Client(server.address) as db:
        assert db.count("c") == 7
    with pytest.raises(RuntimeError, match="closed"):
        db.count("c")


async def test_async_clients_are_context_managers(server: ScriptedServer) -> None:
    """Leaving the block closes the client."""
    server.script("Documents/Count", documents_pb2.CountResponse(count=7))
    async with vc.AsyncClient(server.address) as db:
        assert await db.count("c") == 7
    with pytest.raises(RuntimeError, match="closed"):
        await db.count("c")
