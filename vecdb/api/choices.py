"""What a search may choose its hits by, beside how near they are: groups, or diversity."""

from __future__ import annotations

from typing import Final

from vecdb_index.filters import AUTHOR
from vecdb_index.filters.ast import MAX_FIELD_BYTES
from vecdb_proto.v1 import search_pb2 as pb

from vecdb.api import checks
from vecdb.catalog import CollectionRecord
from vecdb.config import Limits
from vecdb.query.choosing import Choice
from vecdb.query.diversity import Diversity
from vecdb.query.grouping import SOURCE, GroupBy
from vecdb.query.wanted import Wanted

_MAX_SIZE: Final = 100
_MAX_CANDIDATES: Final = 10_000
_CANDIDATES_PER_HIT: Final = 4
# Of one query's candidates with its hits: seconds of work.
_MAX_COMPARISONS: Final = 10_000_000
_RESERVED: Final = frozenset({AUTHOR, SOURCE})


def parse(
    options: pb.SearchOptions, wanted: Wanted, record: CollectionRecord, limits: Limits
) -> Choice | None:
    """What the options ask for, checked; None for a plain search."""
    grouped, diverse = options.HasField("group_by"), options.HasField("diversity")
    if grouped and diverse:
        raise checks.invalid("options.diversity", "does not go with group_by")
    if grouped:
        return _group_by(options.group_by, wanted, limits)
    return _diversity(options.diversity, wanted, record, limits) if diverse else None


def hits_of(choice: Choice | None, wanted: Wanted) -> int:
    """How many documents one query of a batch is for."""
    hits = wanted.k + wanted.offset
    if isinstance(choice, GroupBy):
        return hits * choice.size
    return hits if choice is None else choice.candidates


def _group_by(message: pb.GroupBy, wanted: Wanted, limits: Limits) -> GroupBy:
    field = message.field
    if not field:
        raise checks.invalid("options.group_by.field", "must not be empty")
    if len(field.encode()) > MAX_FIELD_BYTES:
        problem = f"must have at most {MAX_FIELD_BYTES} bytes"
        raise checks.invalid("options.group_by.field", problem, "LIMIT_EXCEEDED")
    if field.startswith("@") and field not in _RESERVED:
        problem = f"{field!r} is no reserved name to group by: {', '.join(sorted(_RESERVED))}"
        raise checks.invalid("options.group_by.field", problem)
    size = message.size or 1
    checks.between(size, 1, _MAX_SIZE, "options.group_by.size")
    hits = (wanted.k + wanted.offset) * size
    checks.between(hits, 1, limits.max_k, "options.group_by.size", "max_k", "times k + offset")
    return GroupBy(field, size)


def _diversity(message: pb.Diversity, wanted: Wanted, record: CollectionRecord, limits: Limits) -> Diversity:
    relevance = round(getattr(message, "lambda"), 6)  # a keyword in Python
    checks.between(relevance, 0.0, 1.0, "options.diversity.lambda")
    hits = wanted.k + wanted.offset
    # Their vectors are held together.
    most = min(_MAX_CANDIDATES, limits.max_message_bytes // (4 * record.dim))
    candidates = message.candidates or max(hits, min(_CANDIDATES_PER_HIT * wanted.k, most))
    if candidates < hits:
        problem = f"must be at least k + offset ({hits}), not {candidates}"
        raise checks.invalid("options.diversity.candidates", problem)
    limit = "max_message_bytes" if most < _MAX_CANDIDATES else ""
    checks.between(candidates, 1, most, "options.diversity.candidates", limit)
    if hits * candidates > _MAX_COMPARISONS:
        problem = f"times k + offset is {hits * candidates}; the limit is {_MAX_COMPARISONS}"
        raise checks.invalid("options.diversity.candidates", problem, "LIMIT_EXCEEDED")
    return Diversity(relevance, candidates)
