"""Searches whose hits are chosen among more candidates: the best of each group, or hits unlike each other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from typing import TypeAlias

from vecdb_index import Searcher, Shard

from vecdb.catalog import CollectionRecord
from vecdb.query.budget import Budget
from vecdb.query.candidates import Asked
from vecdb.query.database import Database
from vecdb.query.diversity import Diversity, chosen
from vecdb.query.grouping import GroupBy, Grouping, text_of
from vecdb.query.questions import Questions
from vecdb.query.searches import Found, Step, undisturbed
from vecdb.query.wanted import Wanted

Choice: TypeAlias = GroupBy | Diversity


async def search(
    db: Database,
    record: CollectionRecord,
    queries: Questions,
    wanted: Wanted,
    choice: Choice,
    left_out: frozenset[str] = frozenset(),
) -> list[Found]:
    """The hits chosen for each query; documents `left_out`, by id, are none.

    Where there are groups, `wanted.k` and `wanted.offset` count them, and the hits of each stand together.
    RequestError where the hits take too many bytes, or not enough groups can be found.
    """
    return await db.run(_run, db.opened(record), record, queries, wanted, choice, left_out)


def _run(
    shards: Sequence[Shard],
    record: CollectionRecord,
    queries: Questions,
    wanted: Wanted,
    choice: Choice,
    left_out: frozenset[str],
) -> list[Found]:
    budget = Budget(wanted.max_bytes)
    found = []
    for at in range(len(queries)):

        def answer(asked: Sequence[Searcher], at: int = at) -> Found:
            return _answer(Asked(asked, record, queries.one(at), wanted, left_out), choice)

        each = undisturbed(shards, answer)
        budget.take(row for _, row in each.hits)
        found.append(each)
    return found


def _answer(asked: Asked, choice: Choice) -> Found:
    budget = Budget(asked.wanted.max_bytes)
    return _grouped(asked, choice, budget) if isinstance(choice, GroupBy) else _diverse(asked, choice, budget)


def _grouped(asked: Asked, by: GroupBy, budget: Budget) -> Found:
    begun = time.perf_counter()
    grouping = Grouping(asked, by)
    groups = list(grouping.run().items())[asked.wanted.offset :]
    members = list(chain.from_iterable(members for _, members in groups))
    names = [text_of(group) for group, members in groups for _ in members]
    found = Found(asked.hits(members, budget), groups=names)
    details = {
        "field": by.field,
        "groups": str(len(groups)),
        "rounds": str(grouping.rounds),
        "candidates": str(grouping.looked_at),
    }
    return _explained(asked, found, "group_by", begun, details)


def _diverse(asked: Asked, by: Diversity, budget: Budget) -> Found:
    begun = time.perf_counter()
    found = Found(asked.hits(chosen(asked, by)[asked.wanted.offset :], budget))
    details = {"lambda": f"{by.relevance:g}", "candidates": str(by.candidates)}
    return _explained(asked, found, "diversity", begun, details)


def _explained(asked: Asked, found: Found, name: str, begun: float, details: dict[str, str]) -> Found:
    if asked.wanted.explain:
        step: Step = (name, int((time.perf_counter() - begun) * 1e6), details)
        found.explain = [*asked.steps, step]
    return found
