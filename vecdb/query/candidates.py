"""Candidates: the nearest documents of all shards in one ranking, before any of them is a hit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar

from vecdb_index import DeadlineExceeded, Row, Searcher
from vecdb_index.filters import Filter

from vecdb.catalog import CollectionRecord
from vecdb.query.budget import Budget, sliced
from vecdb.query.questions import Questions, rows_of
from vecdb.query.reads import Parts
from vecdb.query.searches import Step, explained
from vecdb.query.wanted import Wanted

T = TypeVar("T")


class Candidate(NamedTuple, Generic[T]):
    """A document that may become a hit. Candidates sort by (distance, id), the best first.

    `distance` is the score, turned round where higher scores are better; `place` is its shard's among those
    of the collection; `kept` is what was kept of its row.
    """

    distance: float
    id: str
    place: int
    docno: int
    kept: T


@dataclass(slots=True)
class Asked:
    """One query over the shards of a collection. `left_out` are ids that are no hits."""

    shards: Sequence[Searcher]
    record: CollectionRecord
    query: Questions
    wanted: Wanted
    left_out: frozenset[str] = frozenset()
    steps: list[Step] = field(default_factory=list)
    """How the shards searched the first time, where that is to be explained."""

    def nearest(
        self, width: int, where: Filter | None, parts: Parts, keep: Callable[[Row], T]
    ) -> tuple[list[Candidate[T]], bool]:
        """The `width` best candidates, and whether there may be more.

        `keep` is given each row with these `parts`. DeadlineExceeded between reads; Overtaken.
        """
        explain = self.wanted.explain and not self.steps
        wanted = replace(self.wanted, k=width, offset=0, where=where, explain=explain)
        sign = self.sign
        found: list[Candidate[T]] = []
        more = False
        answers = self.query.answers(self.shards, self.record, wanted)
        for place, (shard, answer) in enumerate(zip(self.shards, answers, strict=True)):
            if explain:
                self.steps.append(explained(self.record.shards[place], answer))
            more = more or len(answer.docnos) == width
            for some in sliced(list(zip(answer.docnos.tolist(), answer.scores.tolist(), strict=True))):
                rows = self._rows(shard, [docno for docno, _ in some], parts)
                found += [
                    Candidate(sign * score, row.id, place, docno, keep(row))
                    for (docno, score), row in zip(some, rows, strict=True)
                    if row.id not in self.left_out
                ]
        found.sort(key=lambda candidate: candidate[:2])
        # Beyond as many as each shard was asked for, the ranking may have gaps.
        return found[:width], more or len(found) > width

    def hits(self, chosen: Sequence[Candidate[T]], budget: Budget) -> list[tuple[float, Row]]:
        """Score and row of each candidate. DeadlineExceeded between reads; Overtaken."""
        parts, sign = self.wanted.parts, self.sign
        hits: dict[int, tuple[float, Row]] = {}
        for place, shard in enumerate(self.shards):
            for some in sliced([at for at, candidate in enumerate(chosen) if candidate.place == place]):
                rows = self._rows(shard, [chosen[at].docno for at in some], parts)
                budget.take(rows)
                for at, row in zip(some, rows, strict=True):
                    hits[at] = (sign * chosen[at].distance, row)
        return [hits[at] for at in range(len(chosen))]

    def check_deadline(self) -> None:
        """DeadlineExceeded once it has passed."""
        if self.wanted.deadline is not None and time.monotonic() > self.wanted.deadline:
            raise DeadlineExceeded("the search ran past its deadline")

    @property
    def sign(self) -> float:
        """What turns a score into a distance, and back."""
        return 1.0 if self.query.is_distance(self.record) else -1.0

    def _rows(self, shard: Searcher, docnos: list[int], parts: Parts) -> list[Row]:
        self.check_deadline()
        return rows_of(shard, docnos, parts)
