"""Upserts, updates and deletes: cut by shard, proposed, and answered as one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
from vecdb_index import ApplyResult, Delete, Failure, Update, Upsert, encode

from vecdb.catalog import CollectionRecord
from vecdb.query import slots
from vecdb.query.database import Database
from vecdb.query.errors import RequestError

T = TypeVar("T")

# What is about documents: it has ids, and conditions on them.
DocumentWrite: TypeAlias = Upsert | Update | Delete

# How often a write by filter is tried again without the documents that changed.
_ROUNDS: Final = 5

# The engine's failure codes, and what the API calls them: status and reason.
_CODES: Final = {
    "aborted": ("ABORTED", "VERSION_CONFLICT"),
    "not_found": ("NOT_FOUND", "BAD_ID"),
    "invalid": ("INVALID_ARGUMENT", "BAD_ARGUMENT"),
    "expired": ("FAILED_PRECONDITION", "RETRY_EXPIRED"),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that was not written: its place in the request, a status, a reason, and words."""

    position: int
    code: str
    reason: str
    message: str
    blamed: bool = True
    """Whether it was this document that failed, rather than another of its batch."""


@dataclass(slots=True)
class Outcome:
    """What became of a write."""

    count: int = 0
    positions: dict[int, int] = field(default_factory=dict)
    failures: list[Refusal] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Take in a later write of the same request."""
        self.count += other.count
        self.failures += other.failures
        advance(self.positions, other.positions)


def advance(seen: dict[int, int], positions: Mapping[int, int]) -> None:
    """Take positions into those that were seen: of each shard the higher one."""
    for shard, index in positions.items():
        seen[shard] = max(index, seen.get(shard, 0))


class Conflict(RequestError):
    """Not one document was written. `outcome` has a failure for each."""

    def __init__(self, first: Refusal, outcome: Outcome) -> None:
        where = f"ids[{first.position}]"
        super().__init__(
            first.code, first.reason, f"{where}: {first.message}", violations=[(where, first.message)]
        )
        self.outcome = outcome


async def write(db: Database, record: CollectionRecord, mutation: DocumentWrite) -> Outcome:
    """Write, change or delete documents: propose each shard's part of the mutation, and gather the answers.

    Shards are independent: where some fail, the outcome says which documents
    were not written. Where all fail there is nothing to tell but the error,
    and of several one that leaves it open whether something was written.
    RESOURCE_EXHAUSTED where a part is larger than an entry may be: then
    nothing was written to any shard.
    """
    parts = slots.split(mutation.ids, record.shards)
    entries = {shard: encode(_part(mutation, positions)) for shard, positions in parts.items()}
    _refuse_too_large(max(map(len, entries.values()), default=0), db.max_entry_bytes)
    frees = isinstance(mutation, Delete)
    jobs = [_propose(db, shard, entry, frees=frees) for shard, entry in entries.items()]
    answers = await asyncio.gather(*jobs, return_exceptions=True)
    outcome = Outcome()
    errors: list[RequestError] = []
    for (shard, positions), answer in zip(parts.items(), answers, strict=True):
        if isinstance(answer, RequestError):
            errors.append(answer)
            outcome.failures += [Refusal(at, answer.code, answer.reason, answer.message) for at in positions]
        elif isinstance(answer, BaseException):
            raise answer
        else:
            outcome.positions[shard] = answer.index
            outcome.count += answer.count
            outcome.failures += _refusals(answer, positions)
    if errors and len(errors) == len(parts):
        raise next((error for error in errors if error.reason == "OUTCOME_UNKNOWN"), errors[0])
    _raise_if_nothing_was_done(outcome, len(mutation.ids))
    outcome.failures.sort(key=lambda refusal: refusal.position)
    return outcome


def _part(mutation: DocumentWrite, positions: Sequence[int]) -> DocumentWrite:
    """What one shard gets: the columns of its documents. All of them are not copied."""
    if len(positions) == len(mutation.ids):
        return mutation

    def picked(column: Sequence[T] | None) -> list[T] | None:
        return None if column is None else [column[at] for at in positions]

    ids, versions = [mutation.ids[at] for at in positions], picked(mutation.if_versions)
    if not isinstance(mutation, Upsert):
        return replace(mutation, ids=ids, if_versions=versions)
    return replace(
        mutation,
        ids=ids,
        vectors=np.asarray(mutation.vectors)[np.asarray(positions)],
        payloads=picked(mutation.payloads),
        texts=picked(mutation.texts),
        sources=picked(mutation.sources),
        if_versions=versions,
    )


def session_of(session: bytes, attempt: int) -> bytes:
    """The session under which a round of a request is remembered.

    The rounds are different mutations, so each needs an identity of its own;
    and the same one when the request comes again.
    """
    if not session or not attempt:
        return session
    return blake2b(session, digest_size=16, salt=attempt.to_bytes(16, "little")).digest()


async def settled(
    db: Database,
    record: CollectionRecord,
    found: Sequence[tuple[str, int]],
    attempt_at: Callable[[list[str], list[int | None], int], Awaitable[Outcome]],
) -> Outcome:
    """Write to documents that a filter has found, at the versions it saw; those that changed since are left.

    `attempt_at` writes to ids at versions, and is told the number of the round. Each round drops at
    least one document, so it ends; what is left after a few is contended by
    others who write faster.
    """
    total = Outcome()
    left = list(found)
    for attempt in range(_ROUNDS):
        if not left:
            return total
        try:
            outcome = await attempt_at([id_ for id_, _ in left], [version for _, version in left], attempt)
        except Conflict as conflict:
            outcome = conflict.outcome
        changed = {each.position for each in outcome.failures if each.blamed and each.code == "ABORTED"}
        again = {each.position for each in outcome.failures if each.code == "ABORTED"} - changed
        total.add(Outcome(outcome.count, outcome.positions))
        others = [each for each in outcome.failures if each.code not in {"ABORTED", "NOT_FOUND"}]
        if others:
            raise RequestError(others[0].code, others[0].reason, others[0].message)
        left = [left[at] for at in sorted(again)]
    raise RequestError("ABORTED", "VERSION_CONFLICT", "the matching documents keep changing", retry_after=0.1)


def _refuse_too_large(size: int, limit: int) -> None:
    if size <= limit:
        return
    problem = f"a shard's part takes {size} bytes, and an entry of the log takes at most {limit}"
    raise RequestError(
        "RESOURCE_EXHAUSTED",
        "LIMIT_EXCEEDED",
        f"ids: {problem} (max_entry_bytes), vectors of texts included; write fewer documents at a time",
        violations=[("ids", problem)],
        metadata={"limit": "max_entry_bytes"},
    )


async def _propose(db: Database, shard: int, entry: bytes, *, frees: bool) -> ApplyResult:
    db.shards.get(shard).check()
    result: Any = (await db.propose(shard, entry, frees=frees)).result
    assert isinstance(result, ApplyResult), "a shard answers with its own type"
    return result


def _refusals(result: ApplyResult, positions: Sequence[int]) -> Iterable[Refusal]:
    """The engine's failures, at the request's positions.

    A part is atomic: unless updates merely missed some ids, one failure means
    that none of its documents was written, and each of them is told so.
    """
    if not result.failures:
        return
    # The answer to a retry is that of the first try, which may have been about more documents.
    named = {failure.position: failure for failure in result.failures if failure.position < len(positions)}
    if all(failure.code == "not_found" for failure in result.failures):
        for at, failure in named.items():
            yield _refusal(positions[at], failure)
        return
    first = result.failures[0]
    for at, position in enumerate(positions):
        own = named.get(at) or named.get(-1)
        if own is not None:
            yield _refusal(position, own)
        else:
            code, reason = _CODES[first.code]
            message = f"not written, for its batch is atomic and another document failed: {first.message}"
            yield Refusal(position, code, reason, message, blamed=False)


def _refusal(position: int, failure: Failure) -> Refusal:
    code, reason = _CODES[failure.code]
    return Refusal(position, code, reason, failure.message)


def _raise_if_nothing_was_done(outcome: Outcome, asked: int) -> None:
    if outcome.count or len(outcome.failures) < asked:
        return
    first = next((each for each in outcome.failures if each.blamed), outcome.failures[0])
    raise Conflict(first, outcome)
