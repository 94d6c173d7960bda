"""Questions to cited passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgpack
from vecdb_index import Row

from vecdb.knowledge import Context, Passage, build_context


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A context, and the stored row of each document it cites, by id."""

    context: Context
    rows: dict[str, Row]


def retrieved(hits: Sequence[tuple[float, Row]], token_budget: int) -> Retrieved:
    """Lay ranked hits out within a budget of tokens. Documents without text cannot be cited."""
    rows = {row.id: row for _, row in hits}
    passages = [_passage(score, row) for score, row in hits if row.text]
    return Retrieved(build_context(passages, token_budget), rows)


def _passage(score: float, row: Row) -> Passage:
    source = msgpack.unpackb(row.source) if row.source else {}
    text = row.text or ""
    start = source.get("start", 0)
    return Passage(
        id=row.id,
        source=source.get("uri", row.id),
        title=source.get("title", ""),
        start=start,
        end=source.get("end", start + len(text)),
        text=text,
        score=score,
        author=row.author,
        version=row.version,
    )
