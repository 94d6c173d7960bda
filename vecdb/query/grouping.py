"""Grouping: the best few documents for each value of a field, of the groups with the best documents.

A search ranks documents, not groups, so how many of them hold enough groups is only known afterwards: it is
repeated, wider each time. Where a field index can tell, the groups that were found already are left out of
the next round by a filter, and so are those that are full once only the others are wanted. Then each round
brings documents that count, however large the groups before them are. (Qdrant's group search does likewise,
with a fixed number of rounds; here they go on until the answer is the one that exact search gives.) Fused
ranks are others under a filter: where those are the scores, rounds only widen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgpack
from vecdb_index import Row
from vecdb_index.filters import AUTHOR, And, Exists, Filter, FilterError, In, Not, validate
from vecdb_index.filters.values import Kind, decode_payload, key_of, resolve

from vecdb.query.candidates import Asked, Candidate
from vecdb.query.errors import RequestError
from vecdb.query.reads import Parts

SOURCE: Final = "@source"

# The engine's limit on the hits of one search.
_WIDEST: Final = 100_000
# Without a field index a filter looks at every document, which costs more than to rank so many of them.
_UNFILTERED: Final = 10_000
_WIDENING: Final = 4
_INDEXED: Final = frozenset({"keyword", "int", "float", "bool"})
_GROUPED: Final = frozenset({Kind.STRING, Kind.NUMBER, Kind.BOOL})
# Integral floats below this are named as the integers that they equal: msgpack has none above.
_INTEGERS: Final = 2.0**64

Group: TypeAlias = tuple[Kind, Any]
"""What the members of a group have in common: the kind of a value, and the value."""
Members: TypeAlias = dict[Group, list[Candidate[Group | None]]]
"""The best members of each group, best first."""


@dataclass(frozen=True, slots=True)
class GroupBy:
    """At most `size` hits for each value of a field: a dotted path, `@author` or `@source`."""

    field: str
    size: int = 1


def group_of(row: Row, field: str) -> Group | None:
    """The group of a document; None where it is in none.

    Strings, numbers and bools make groups, equal ones the same one, as in filters. A document whose field is
    missing, null, an array, or anything else is in none.
    """
    if field == AUTHOR:
        return (Kind.STRING, row.author) if row.author else None
    if field == SOURCE:
        return (Kind.STRING, msgpack.unpackb(row.source)["uri"]) if row.source else None
    if not row.payload:
        return None
    kind, value = key_of(resolve(decode_payload(row.payload), field))
    return (kind, value) if kind in _GROUPED else None


def text_of(group: Group) -> str:
    """The value of a group as text: `en`, `7`, `0.5`, `true`."""
    kind, value = group
    if kind is Kind.BOOL:
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < _INTEGERS:
        return str(int(value))
    return str(value)


def best_of_each(ranked: Iterable[Candidate[Group | None]], groups: int, size: int) -> Members:
    """The first `groups` groups of a ranking, at most `size` members of each, in its order."""
    found: Members = {}
    for candidate in ranked:
        group = candidate.kept
        if group is None:
            continue
        members = found.get(group)
        if members is not None:
            if len(members) < size:
                members.append(candidate)
        elif len(found) < groups:
            found[group] = [candidate]
    return found


class Grouping:
    """The rounds of one search. `rounds` and `looked_at` count them and the candidates they brought."""

    __slots__ = (
        "_asked",
        "_by",
        "_filtered",
        "_indexed",
        "_limit",
        "_parts",
        "_width",
        "looked_at",
        "rounds",
    )

    def __init__(self, asked: Asked, by: GroupBy) -> None:
        self._asked = asked
        self._by = by
        self._limit = asked.wanted.k + asked.wanted.offset
        self._width = self._first_width()
        # Whether rounds leave out groups by a filter. The first one has nothing to leave out.
        self._filtered = False
        self._indexed = asked.query.narrows and dict(asked.record.fields).get(by.field) in _INDEXED
        self._parts = Parts(payload=not by.field.startswith("@"), text=False)
        self.rounds = 0
        self.looked_at = 0

    def run(self) -> Members:
        """The best groups by their best members, ties by id. DeadlineExceeded, RequestError."""
        groups, whole = self._discovered()
        groups = self._best(groups)
        if self._filtered:
            self._width = self._first_width()
        while short := [g for g, held in groups.items() if len(held) < self._by.size and g not in whole]:
            if not self._filtered:
                self._widen(progress=False)
            found, more = self._look(short, inside=True)
            groups |= found
            if not more:
                break
            if self._filtered:
                self._widen(progress=any(len(groups[group]) == self._by.size for group in short))
        return self._best(groups)

    def _discovered(self) -> tuple[Members, set[Group]]:
        """Enough groups, or all there are, and those of them whose every member was seen."""
        groups: Members = {}
        while True:
            found, more = self._look(list(groups), inside=False)
            progress = not groups.keys() >= found.keys()
            groups |= found
            if not more:
                return groups, set(found)
            if len(groups) >= self._limit:
                return groups, set()
            self._widen(progress)

    def _look(self, groups: Sequence[Group], *, inside: bool) -> tuple[Members, bool]:
        """One round: all candidates, or where they are filtered those inside or outside of some groups."""
        where = self._asked.wanted.where
        if self._filtered:
            where = self._narrowed(groups, inside)
        field = self._by.field
        ranked, more = self._asked.nearest(self._width, where, self._parts, lambda row: group_of(row, field))
        self.rounds += 1
        self.looked_at += len(ranked)
        self._filtered = self._filtered or self._indexed
        return best_of_each(ranked, self._limit, self._by.size), more

    def _widen(self, progress: bool) -> None:
        """RequestError where the next round would bring what the last one did."""
        width = min(self._width * _WIDENING, _WIDEST)
        may_filter = self._asked.query.narrows and self._by.field != SOURCE
        filtered = self._filtered or (width > _UNFILTERED and may_filter)
        if (width, filtered) == (self._width, self._filtered) and not (filtered and progress):
            message = (
                f"options.group_by: the nearest {_WIDEST} documents do not make {self._limit} groups of "
                f"{self._by.field!r} full; ask for fewer, filter, or declare the field"
            )
            raise RequestError("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", message)
        self._width, self._filtered = width, filtered

    def _narrowed(self, groups: Sequence[Group], inside: bool) -> Filter | None:
        where, field = self._asked.wanted.where, self._by.field
        named = In(field, tuple(value for _, value in groups))
        clauses: tuple[Filter, ...] = (named,) if inside else (Exists(field), Not(named))
        narrowed = And(clauses if where is None else (where, *clauses))
        try:
            validate(narrowed)
        except FilterError:
            # With the caller's own filter it is more than the engine takes. To widen does it too, slower.
            return where
        return narrowed

    def _first_width(self) -> int:
        return min(_WIDENING * self._limit * self._by.size, _WIDEST)

    def _best(self, groups: Members) -> Members:
        # Of a graph search a later round may bring a better member than an earlier one did.
        ranked = sorted(groups.items(), key=lambda item: item[1][0][:2])
        return dict(ranked[: self._limit])
