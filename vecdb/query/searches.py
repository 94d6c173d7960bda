"""The best documents: one search a shard, merged exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
from vecdb_index import Overtaken, Row, Searcher, SearchResult, Shard

from vecdb.catalog import CollectionRecord
from vecdb.query.budget import Budget, sliced
from vecdb.query.database import Database
from vecdb.query.questions import Nearest, Questions, rows_of
from vecdb.query.reads import Parts
from vecdb.query.wanted import Wanted

T = TypeVar("T")

Step: TypeAlias = tuple[str, int, dict[str, str]]
"""A step of an explanation: its name, microseconds, and what there is to tell of it."""

# Searches that compare fewer floats than this exactly are done on the loop: to hand one to a thread and
# back costs more than a graph search takes.
_INLINE_FLOATS: Final = 1_500_000
_INLINE_K: Final = 200
_INLINE_EF: Final = 512
_INLINE_RECALL: Final = 0.995


@dataclass(slots=True)
class Found:
    """The hits of one query, best first, as pairs of score and row.

    Where hits were grouped, `groups` names the group of each.
    """

    hits: list[tuple[float, Row]]
    explain: list[Step] = field(default_factory=list)
    groups: Sequence[str] = ()


async def search(db: Database, record: CollectionRecord, queries: Questions, wanted: Wanted) -> list[Found]:
    """The hits of each query. RequestError where they take too many bytes."""
    shards = db.opened(record)
    if isinstance(queries, Nearest) and len(queries) == 1 and _is_cheap(shards, wanted, record):
        try:
            return _run(shards, record, queries, wanted)
        except Overtaken:
            # Again, and off the loop: a moment may have to wait for a writer.
            return await db.run(in_a_moment, shards, lambda held: _run(held, record, queries, wanted))
    return await db.run(undisturbed, shards, lambda asked: _run(asked, record, queries, wanted))


def undisturbed(shards: Sequence[Shard], work: Callable[[Sequence[Searcher]], T]) -> T:
    """What `work` finds and reads in shards; where writes come between the two, in one moment of each."""
    try:
        return work(shards)
    except Overtaken:
        return in_a_moment(shards, work)


def in_a_moment(shards: Sequence[Shard], work: Callable[[Sequence[Searcher]], T]) -> T:
    """What `work` finds and reads in one moment of each shard, that nothing comes between."""
    with ExitStack() as held:
        return work([held.enter_context(shard.moment()) for shard in shards])


def _is_cheap(shards: Sequence[Shard], wanted: Wanted, record: CollectionRecord) -> bool:
    """Whether a search for one vector takes so little that the loop can spare it."""
    if wanted.exact or wanted.where is not None or wanted.explain or wanted.parts.vector:
        return False
    if wanted.k + wanted.offset > _INLINE_K or (wanted.ef or 0) > _INLINE_EF or len(shards) > 4:
        return False
    if wanted.ef is None and (wanted.recall or record.target_recall) > _INLINE_RECALL:
        return False
    rows = sum(shard.exact_rows for shard in shards)
    return rows * record.dim <= _INLINE_FLOATS


def _run(
    shards: Sequence[Searcher], record: CollectionRecord, queries: Questions, wanted: Wanted
) -> list[Found]:
    answers = queries.answers(shards, record, wanted)
    if len(answers) == 1:
        answer = _past(answers[0], wanted.offset) if wanted.offset else answers[0]
        found = _fetched(shards[0], answer, wanted.parts, Budget(wanted.max_bytes))
    else:
        found = _merged(shards, answers, queries.is_distance(record), wanted)
    if wanted.explain:
        steps = [explained(shard, answer) for shard, answer in zip(record.shards, answers, strict=True)]
        for each in found:
            each.explain = steps
    return found


def _past(answer: SearchResult, offset: int) -> SearchResult:
    """The answer without the first `offset` hits of each query."""
    starts = np.cumsum(answer.counts) - answer.counts
    kept = np.arange(len(answer.docnos)) - np.repeat(starts, answer.counts) >= offset
    return replace(
        answer,
        counts=np.maximum(answer.counts - offset, 0),
        docnos=answer.docnos[kept],
        scores=answer.scores[kept],
    )


def _rows(shard: Searcher, answer: SearchResult, parts: Parts, budget: Budget) -> list[Row]:
    rows: list[Row] = []
    for docnos in sliced(answer.docnos.tolist()):
        some = rows_of(shard, docnos, parts)
        # A document that many queries hit stands in the answer as often.
        budget.take(some)
        rows += some
    return rows


def _fetched(shard: Searcher, answer: SearchResult, parts: Parts, budget: Budget) -> list[Found]:
    hits = list(zip(answer.scores.tolist(), _rows(shard, answer, parts, budget), strict=True))
    found = []
    start = 0
    for count in answer.counts.tolist():
        found.append(Found(hits[start : start + count]))
        start += count
    return found


def _merged(
    shards: Sequence[Searcher], answers: Sequence[SearchResult], is_distance: bool, wanted: Wanted
) -> list[Found]:
    """Merge by score, then id. Rows are fetched once for all queries of a shard."""
    # Each shard reads as many hits as the answer has; those that are not in it are not its bytes.
    reading = Budget(wanted.max_bytes, len(shards))
    lists = [
        _fetched(shard, answer, wanted.parts, reading) for shard, answer in zip(shards, answers, strict=True)
    ]
    answered = Budget(wanted.max_bytes)
    sign = 1.0 if is_distance else -1.0
    merged = []
    for parts in zip(*lists, strict=True):
        hits = [hit for part in parts for hit in part.hits]
        hits.sort(key=lambda hit: (sign * hit[0], hit[1].id))
        kept = hits[wanted.offset : wanted.offset + wanted.k]
        answered.take(row for _, row in kept)
        merged.append(Found(kept))
    return merged


def explained(shard: int, answer: SearchResult) -> Step:
    """How a shard, by its id, searched."""
    told: dict[str, Any] = dict(answer.explain)
    seconds = float(told.get("search_seconds") or 0) + float(told.get("filter_seconds") or 0)
    return f"shard {shard}", int(seconds * 1e6), {name: str(value) for name, value in told.items()}
