"""What a search looks for, read from its request: vectors, words, both, or examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from vecdb_index import WordQuery, parse_words
from vecdb_proto.v1 import search_pb2 as pb

from vecdb.api import checks
from vecdb.catalog import CollectionRecord
from vecdb.config import Limits
from vecdb.query import Database, RequestError, reads
from vecdb.query.questions import RANK_CONSTANT, Fused, Nearest, Questions, Weights, Worded

F32 = npt.NDArray[np.float32]

_MAX_EXAMPLES: Final = 64
_MAX_RANK_CONSTANT: Final = 10_000
_VECTOR: Final = frozenset({pb.SEARCH_MODE_UNSPECIFIED, pb.SEARCH_MODE_VECTOR})
_SERVED: Final = _VECTOR | {pb.SEARCH_MODE_BM25, pb.SEARCH_MODE_HYBRID}


def check_mode(mode: int, field: str) -> None:
    """INVALID_ARGUMENT for a mode that nobody knows, UNIMPLEMENTED for one that is not served."""
    if mode not in pb.SearchMode.values():
        raise checks.invalid(field, f"{mode} is unknown")
    if mode not in _SERVED:
        raise checks.not_served(field, "sparse vectors")


def check_options(options: pb.SearchOptions) -> None:
    """What does not go with the mode is refused."""
    check_mode(options.mode, "options.mode")
    if options.HasField("hybrid"):
        if options.mode != pb.SEARCH_MODE_HYBRID:
            raise checks.invalid("options.hybrid", "goes with mode HYBRID alone")
        _given_weights(options.hybrid)
    if options.HasField("diversity") and options.mode not in _VECTOR:
        raise checks.invalid("options.diversity", "goes with mode VECTOR alone: it compares vectors")


class Reader:
    """Reads questions about one collection."""

    def __init__(self, db: Database, record: CollectionRecord, limits: Limits) -> None:
        self._db, self._record, self._limits = db, record, limits

    async def one(self, query: pb.Query, options: pb.SearchOptions) -> tuple[Questions, frozenset[str]]:
        """What one query asks, and ids that must not be among the hits."""
        mode = options.mode
        examples = query.HasField("examples")
        given = bool(query.vector) + bool(query.text) + examples + query.HasField("sparse")
        both = mode == pb.SEARCH_MODE_HYBRID and bool(query.vector) and bool(query.text)
        if given != 1 + both:
            what = "nothing" if not given else "several things"
            raise checks.invalid("query", f"says {what} to look for: give a vector, a text or examples")
        if query.HasField("sparse"):
            raise checks.not_served("query.sparse", "sparse vectors")
        if mode not in _VECTOR:
            if not query.text:
                raise checks.invalid("query", f"must have a text for mode {pb.SearchMode.Name(mode)[12:]}")
            vector = self._vector(query.vector) if query.vector else None
            return await self.texts([query.text], "query.text", mode, options.hybrid, vector), frozenset()
        if query.vector:
            return Nearest(self._vector(query.vector)), frozenset()
        if query.text:
            return await self.texts([query.text], "query.text", mode, options.hybrid), frozenset()
        vector, left_out = await self._examples(query.examples)
        return Nearest(vector), left_out

    def _vector(self, data: bytes) -> F32:
        return checks.matrix(data, 1, self._record.dim, self._record.metric, "query.vector")

    async def texts(
        self,
        texts: Sequence[str],
        field: str,
        mode: int,
        hybrid: pb.HybridWeights,
        vectors: F32 | None = None,
        *,
        plain: bool = False,
    ) -> Questions:
        """What some texts ask. ``vectors`` are theirs, where a hybrid search is given them.

        In a `plain` one no sign means anything, see `parse_words`.
        """
        single = not field.endswith("s")
        names = [field if single else f"{field}[{at}]" for at in range(len(texts))]
        for text, name in zip(texts, names, strict=True):
            checks.query_text(text, self._limits, name)
        if mode in _VECTOR:
            return Nearest(await self._db.embedding.queries(self._record, texts, field))
        words = Worded(tuple(self._words(text, name, plain) for text, name in zip(texts, names, strict=True)))
        if mode == pb.SEARCH_MODE_BM25:
            for query, name in zip(words.queries, names, strict=True):
                if not query.terms:
                    raise checks.invalid(name, "has no word to look for")
            return words
        weights = await self._weights(hybrid)
        if vectors is None:
            vectors = await self._db.embedding.queries(self._record, texts, field)
        return Fused(Nearest(vectors), words, weights)

    def _words(self, text: str, field: str, plain: bool) -> WordQuery:
        language = self._db.opened(self._record)[0].schema.language
        try:
            return parse_words(text, language, plain=plain)
        except ValueError as error:
            raise checks.invalid(field, str(error), "LIMIT_EXCEEDED") from None

    async def _weights(self, hybrid: pb.HybridWeights) -> Weights:
        vector, words = _given_weights(hybrid)
        if not vector and not words:
            vector, words = await self._db.embedding.hybrid_weight(self._record), 1.0
        return Weights(vector, words, hybrid.rank_constant or RANK_CONSTANT)

    async def _examples(self, examples: pb.Examples) -> tuple[F32, frozenset[str]]:
        """The mean of the positive examples, moved away from the mean of the negative ones."""
        record = self._record
        named = [*examples.positive, *examples.negative]
        if not examples.positive or len(named) > _MAX_EXAMPLES:
            problem = f"needs a positive example, and has at most {_MAX_EXAMPLES} of both"
            raise checks.invalid("query.examples", problem)
        checks.ids(named, self._limits, "query.examples")
        rows = await reads.get(self._db, record, named, reads.Parts(payload=False, text=False, vector=True))
        known = {row.id: row.vector for row in rows}
        if missing := [id_ for id_ in named if id_ not in known]:
            raise RequestError("NOT_FOUND", "BAD_ID", f"query.examples: there is no document {missing[0]!r}")
        vector = _mean(known, examples.positive)
        if examples.negative:
            vector = 2 * vector - _mean(known, examples.negative)
        data = vector.astype("<f4").tobytes()
        checked = checks.matrix(data, 1, record.dim, record.metric, "query.examples")
        return checked, frozenset(named)


def _given_weights(hybrid: pb.HybridWeights) -> tuple[float, float]:
    given = []
    for name in ("vector", "text"):
        weight = round(getattr(hybrid, name), 6)  # kept as a double: the float32 of 0.3 is meant to be 0.3
        if not (weight >= 0.0 and math.isfinite(weight)):
            raise checks.invalid(f"options.hybrid.{name}", f"must be a number from 0 on, not {weight}")
        given.append(weight)
    constant = hybrid.rank_constant or RANK_CONSTANT
    checks.between(constant, 1, _MAX_RANK_CONSTANT, "options.hybrid.rank_constant")
    return given[0], given[1]


def _mean(known: dict[str, F32 | None], ids: Sequence[str]) -> F32:
    vectors = np.stack([vector for id_ in ids if (vector := known[id_]) is not None])
    return np.asarray(vectors.mean(axis=0, dtype=np.float64), dtype=np.float32)
