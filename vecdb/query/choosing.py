"""Searches whose hits are chosen among more candidates: the best of each group, or hits unlike each other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from vecdb_index import Shard

from vecdb.catalog import CollectionRecord
from vecdb.query.budget import Budget
from vecdb.query.candidates import Asked, Candidate
from vecdb.query.database import Database
from vecdb.query.diversity import Diversity, chosen
from vecdb.query.grouping import GroupBy, Grouping, text_of
from vecdb.query.searches import Found, Step, Wanted

F32 = npt.NDArray[np.float32]
Choice: TypeAlias = GroupBy | Diversity


async def search(
    db: Database,
    record: CollectionRecord,
    queries: F32,
    wanted: Wanted,
    choice: Choice,
    left_out: frozenset[str] = frozenset(),
) -> list[Found]:
    """The hits chosen for each query, (nq, dim) float32; documents `left_out`, by id, are none.

    Where there are groups, `wanted.k` and `wanted.offset` count them, and the hits of each stand together.
    RequestError where the hits take too many bytes, or not enough groups can be found.
    """
    return await db.run(_run, db.opened(record), record, queries, wanted, choice, left_out)


def _run(
    shards: Sequence[Shard],
    record: CollectionRecord,
    queries: F32,
    wanted: Wanted,
    choice: Choice,
    left_out: frozenset[str],
) -> list[Found]:
    budget = Budget(wanted.max_bytes)
    found = []
    for query in queries:
        asked = Asked(shards, record, query[None, :], wanted, left_out)
        if isinstance(choice, GroupBy):
            found.append(_grouped(asked, choice, budget))
        else:
            found.append(_diverse(asked, choice, budget))
    return found


def _grouped(asked: Asked, by: GroupBy, budget: Budget) -> Found:
    begun = time.perf_counter()
    grouping = Grouping(asked, by)
    groups = list(grouping.run().items())[asked.wanted.offset :]
    members = list(chain.from_iterable(members for _, members in groups))
    names = [text_of(group) for group, members in groups for _ in members]
    found = _found(asked, members, names, budget)
    details = {
        "field": by.field,
        "groups": str(len(groups)),
        "rounds": str(grouping.rounds),
        "candidates": str(grouping.looked_at),
    }
    return _explained(asked, found, "group_by", begun, details)


def _diverse(asked: Asked, by: Diversity, budget: Budget) -> Found:
    begun = time.perf_counter()
    found = _found(asked, chosen(asked, by)[asked.wanted.offset :], [], budget)
    details = {"lambda": f"{by.relevance:g}", "candidates": str(by.candidates)}
    return _explained(asked, found, "diversity", begun, details)


def _found(asked: Asked, members: Sequence[Candidate[Any]], names: Sequence[str], budget: Budget) -> Found:
    hits = asked.hits(members, budget)
    # A document that was deleted since the search began is not shown.
    return Found(
        [hit for hit in hits if hit is not None],
        groups=[name for name, hit in zip(names, hits, strict=True) if hit is not None] if names else (),
    )


def _explained(asked: Asked, found: Found, name: str, begun: float, details: dict[str, str]) -> Found:
    if asked.wanted.explain:
        step: Step = (name, int((time.perf_counter() - begun) * 1e6), details)
        found.explain = [*asked.steps, step]
    return found
