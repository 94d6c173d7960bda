"""A page costs what its own documents do, however many match."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import msgpack
import numpy as np
from shards import STILL
from vecdb_index import FieldSpec, FieldType, Schema, Shard, Upsert, encode
from vecdb_index.filters import Eq

COUNT = 1_000
BODY = 20_000


def test_a_filtered_page_reads_its_own_documents_only(tmp_path: Path) -> None:
    """Ten documents of a thousand that match are read without the bodies of the others."""
    schema = Schema(2, "l2", fields=(FieldSpec("n", FieldType.INT),))
    with Shard.create(tmp_path / "shard", schema, STILL) as shard:
        ids = [f"d{at:04}" for at in range(COUNT)]
        payload = msgpack.packb({"n": 1, "body": "x" * BODY})
        shard.apply([(1, encode(Upsert(ids, np.ones((COUNT, 2), np.float32), [payload] * COUNT)))])
        shard.scroll(None, 10, Eq("n", 1))
        tracemalloc.start()
        try:
            page = shard.scroll("d0499", 10, Eq("n", 1))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert [row.id for row in page] == ids[500:510]
        assert all(len(row.payload) > BODY for row in page)
        assert peak < 100 * BODY
