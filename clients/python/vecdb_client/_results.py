"""What reads and writes answer: hits, contexts, pages, write results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from vecdb_proto.v1 import common_pb2, documents_pb2, knowledge_pb2, search_pb2

from vecdb_client._errors import VecdbError
from vecdb_client._vectors import FloatArray
from vecdb_client._views import Row, Source, StoredDocument


class Hit(StoredDocument):
    """A document that a search found, with its score.

    `group` is the value that `group_by` grouped it under, as text.
    """

    __slots__ = ("group", "score")

    def __init__(self, row: Row, score: float, group: str = "") -> None:
        # Set here rather than by super(): a search makes ten of these.
        self.id = row.id
        self._row = row
        self._payload = None
        self.score = score
        self.group = group

    def __repr__(self) -> str:
        return (
            f"Hit(id={self.id!r}, score={self.score:.6g}, text={self.text[:60]!r}, payload={self.payload!r})"
        )


@dataclass(frozen=True, slots=True)
class ExplainStep:
    """How one part of an answer was found, and what the planner knew and chose."""

    name: str
    microseconds: int
    details: Mapping[str, str]


def _explain(message: search_pb2.Explain) -> tuple[ExplainStep, ...]:
    return tuple(ExplainStep(step.name, step.microseconds, dict(step.details)) for step in message.steps)


class Hits(Sequence[Hit]):
    """The answer to one query, best first.

    `partial` says that some shards (`missing_shards`, their ids) did not
    answer: the hits are those of the others. `explain` is empty unless asked
    for.
    """

    __slots__ = ("_hits", "explain", "missing_shards", "partial")

    def __init__(
        self,
        hits: list[Hit],
        partial: bool = False,
        missing_shards: tuple[int, ...] = (),
        explain: tuple[ExplainStep, ...] = (),
    ) -> None:
        self._hits = hits
        self.partial = partial
        self.missing_shards = missing_shards
        self.explain = explain

    @property
    def ids(self) -> list[str]:
        """The ids alone, best first."""
        return [hit.id for hit in self._hits]

    @property
    def scores(self) -> FloatArray:
        """The scores alone, best first: (hits,) float32."""
        return np.array([hit.score for hit in self._hits], dtype=np.float32)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> list[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | list[Hit]:
        return self._hits[index]

    def __len__(self) -> int:
        return len(self._hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    def __repr__(self) -> str:
        tail = f", partial=True, missing_shards={self.missing_shards}" if self.partial else ""
        return f"Hits({self._hits!r}{tail})"


def hits(reply: search_pb2.SearchResponse) -> Hits:
    """The answer of one search."""
    return _answered(reply, [Hit(hit.document, hit.score) for hit in reply.hits])


def grouped_hits(reply: search_pb2.SearchResponse) -> Hits:
    """The answer of a search with `group_by`; the others need not look for groups."""
    return _answered(reply, [Hit(hit.document, hit.score, hit.group) for hit in reply.hits])


def _answered(reply: search_pb2.SearchResponse, found: list[Hit]) -> Hits:
    if not reply.partial and not reply.HasField("explain"):
        return Hits(found)
    return Hits(found, reply.partial, tuple(reply.missing_shards), _explain(reply.explain))


_NO_VECTORS: Mapping[str, bytes] = {}
_NO_SPARSE: Mapping[str, common_pb2.SparseVector] = {}
_NO_SOURCE = common_pb2.Source()


class _ColumnRow:
    """One hit of a columnar answer, in the shape of a document."""

    __slots__ = ("author", "id", "payload", "text", "vector", "version")

    vectors = _NO_VECTORS
    sparse_vectors = _NO_SPARSE
    written_at_ms = 0
    source = _NO_SOURCE

    def __init__(self, id: str, version: int, author: str, payload: bytes, text: str, vector: bytes) -> None:  # noqa: A002
        self.id = id
        self.version = version
        self.author = author
        self.payload = payload
        self.text = text
        self.vector = vector


class _Columns:
    """The columns of a batch's answer, each taken out of the message once."""

    __slots__ = ("authors", "ids", "payloads", "scores", "texts", "vectors", "versions", "width")

    def __init__(self, reply: search_pb2.SearchBatchResponse) -> None:
        self.ids = list(reply.ids)
        total = len(self.ids)
        self.scores = np.frombuffer(reply.scores, dtype="<f4")
        self.versions = list(reply.versions) or [0] * total
        names = list(reply.author_names)
        self.authors = [names[place] for place in reply.authors] or [""] * total
        self.payloads = list(reply.payloads) or [b""] * total
        self.texts = list(reply.texts) or [""] * total
        self.vectors = reply.vectors
        self.width = len(self.vectors) // total if total else 0

    def hits(self, start: int, end: int) -> list[Hit]:
        width, vectors = self.width, self.vectors
        return [
            Hit(
                _ColumnRow(
                    self.ids[i],
                    self.versions[i],
                    self.authors[i],
                    self.payloads[i],
                    self.texts[i],
                    vectors[i * width : (i + 1) * width],
                ),
                score,
            )
            for i, score in enumerate(self.scores[start:end].tolist(), start)
        ]


class BatchHits(Hits):
    """The answer to one query of a batch: its hits are made when first looked at.

    `ids` and `scores` come straight from the columns.
    """

    __slots__ = ("_columns", "_end", "_start")

    def __init__(
        self,
        columns: _Columns,
        start: int,
        end: int,
        partial: bool,
        missing_shards: tuple[int, ...],
        explain: tuple[ExplainStep, ...],
    ) -> None:
        super().__init__([], partial, missing_shards, explain)
        self._columns = columns
        self._start = start
        self._end = end

    def _made(self) -> list[Hit]:
        if len(self._hits) != len(self):
            self._hits = self._columns.hits(self._start, self._end)
        return self._hits

    @property
    def ids(self) -> list[str]:
        """The ids alone, best first."""
        return self._columns.ids[self._start : self._end]

    @property
    def scores(self) -> FloatArray:
        """The scores alone, best first: (hits,) float32, read-only."""
        return self._columns.scores[self._start : self._end]

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> list[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | list[Hit]:
        return self._made()[index]

    def __len__(self) -> int:
        return self._end - self._start

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._made())

    def __repr__(self) -> str:
        self._made()
        return super().__repr__()


def batch_hits(reply: search_pb2.SearchBatchResponse) -> list[Hits]:
    """The answers of a batch, one a query, in order."""
    columns = _Columns(reply)
    missing, explain = tuple(reply.missing_shards), _explain(reply.explain)
    answers: list[Hits] = []
    start = 0
    for count in reply.counts:
        answers.append(BatchHits(columns, start, start + count, reply.partial, missing, explain))
        start += count
    return answers


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """The answer to one query of a stream.

    `index` is the query's place among those handed in, from 0; exactly one of
    `result` and `error` is set.
    """

    index: int
    result: Hits | None
    error: VecdbError | None

    @property
    def hits(self) -> Hits:
        """The hits. Raises the query's error where it failed."""
        if self.result is None:
            assert self.error is not None
            raise self.error
        return self.result


@dataclass(frozen=True, slots=True)
class Citation:
    """What a number in a context stands for.

    `ids` are the documents that the passage was made of, `source` has the
    offsets of the joined passage, `text` is the passage as it stands in the
    context.
    """

    number: int
    ids: tuple[str, ...]
    source: Source
    score: float
    author: str
    version: int
    text: str


@dataclass(frozen=True, slots=True)
class Context:
    """Cited passages within a token budget: what to put before a language model.

    `text` introduces each passage by its number in brackets; `sources` says
    what the numbers stand for; `tokens` is what `text` takes.
    """

    text: str
    sources: tuple[Citation, ...]
    tokens: int
    partial: bool
    missing_shards: tuple[int, ...]


def context(reply: knowledge_pb2.RetrieveResponse) -> Context:
    """The answer to a question."""
    citations = tuple(
        Citation(c.number, tuple(c.ids), Source.of(c.source), c.score, c.author, c.version, c.text)
        for c in reply.citations
    )
    return Context(reply.text, citations, reply.tokens, reply.partial, tuple(reply.missing_shards))


@dataclass(frozen=True, slots=True)
class WriteResult:
    """A write that was acknowledged: a quorum has it on disk.

    `count` documents were written, changed or deleted; `positions` says where
    the write stands: {shard: log index}.
    """

    count: int
    positions: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a scroll; `cursor` is empty at the end."""

    documents: list[StoredDocument]
    cursor: bytes


def page(reply: documents_pb2.ScrollResponse) -> Page:
    """One page of a scroll."""
    return Page([StoredDocument(document) for document in reply.documents], reply.next_cursor)
