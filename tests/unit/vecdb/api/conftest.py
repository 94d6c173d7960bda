from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from vecdb_proto.v1 import (
    collections_pb2,
)

from tests.support.inprocess import InProcessNode
from tests.unit.vecdb.api.bad_input import DIM


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessNode]:
    limits = {
        "min_free_disk_bytes": 0,
        "max_message_bytes": 256 << 10,
        "max_batch": 50,
        "max_batch_queries": 5,
        "max_payload_bytes": 1024,
        "max_text_bytes": 1024,
        "max_query_text_bytes": 256,
        "max_filter_depth": 5,
        "max_filter_clauses": 20,
        "max_filter_values": 10,
    }
    with InProcessNode(tmp_path_factory.mktemp("node"), limits=limits) as node:
        with node.client() as db:
            for name in ("vecs", "plain"):
                db.create_collection(name, dim=DIM, metric="cosine", fields={"year": "int"})
                db.upsert(name, ids=["a", "b"], vectors=np.eye(DIM)[:2], payloads=[{"year": 1}, {"year": 2}])
            db.create_collection("wide", dim=4_096, metric="cosine")
            db.create_collection("docs", model="wordllama-256")
            db.upsert("docs", ids=["d"], texts=["It rains in Bergen."])
        change = collections_pb2.AliasChange(alias="alias", collection="plain")
        node.collections.UpdateAliases(collections_pb2.UpdateAliasesRequest(changes=[change]))
        yield node
