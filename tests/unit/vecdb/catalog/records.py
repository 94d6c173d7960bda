"""A collection's record for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vecdb.catalog import CollectionRecord
from vecdb.security import Grant, Role, Token


def record(name: str = "a", **changes: Any) -> CollectionRecord:
    """Four dimensions under l2, and whatever is said otherwise."""
    made = CollectionRecord(
        collection_id=0,
        name=name,
        model="",
        fingerprint="",
        dim=4,
        metric="l2",
        index="hnsw",
        target_recall=0.95,
        shards=(),
        replicas=1,
        fields=(("year", "int"),),
        language="en",
        created_at_ms=17,
    )
    return replace(made, **changes)


def token(token_id: str = "t", **changes: Any) -> Token:
    """One that may write to a collection and read all, and whatever is said otherwise."""
    grants = (Grant("docs", Role.WRITE), Grant("", Role.READ))
    return replace(Token(token_id, b"1" * 32, "ann", grants, created_at_ms=17), **changes)
