"""Knowledge: sources in, cited passages out; and the models that embed them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from vecdb_proto.v1 import knowledge_pb2, models_pb2

from vecdb_client import _methods as methods
from vecdb_client._errors import VecdbError
from vecdb_client._filters import Condition, message_of
from vecdb_client._infos import ModelInfo, SourceInfo
from vecdb_client._plans import Call, Core, Fanout, Pages, together
from vecdb_client._results import Context, context
from vecdb_client._vectors import FloatArray
from vecdb_client._words import EMBED_KINDS, MODES

_SOURCES_PAGE = 1_000
_DELETE_URIS = 1_000
_EMBED_TEXTS = 1_000


def _listed(values: Iterable[str], what: str) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{what} must be a list of strings, not one string")
    return list(values)


def retrieve(
    core: Core,
    collection: str,
    question: str,
    token_budget: int = 1500,
    *,
    candidates: int | None = None,
    mode: str | None = None,
    filter: Condition | None = None,  # noqa: A002
    score_threshold: float | None = None,
    consistency: str | None = None,
    require_all: bool = False,
    timeout: float | None = None,
) -> Call[Context]:
    """Passages that answer a question, within a token budget (32 to 200,000), with citations.

    The result's `text` introduces each passage by its number in brackets, and
    `sources` says what the numbers stand for. `candidates` is how many
    passages to choose from (20 where None), `mode` is "vector", "bm25" or
    "hybrid". Raises NotFoundError, InvalidArgumentError, and
    FailedPreconditionError where the collection has no model.
    """
    request = knowledge_pb2.RetrieveRequest(
        collection=collection,
        question=question,
        token_budget=token_budget,
        candidates=candidates or 0,
        mode=MODES.number(mode),
        filter=message_of(filter),
        score_threshold=score_threshold,
        read=core.read(consistency, require_all),
    )
    return Call(methods.RETRIEVE, request, context, timeout)


def _same(reply: knowledge_pb2.ListSourcesResponse) -> knowledge_pb2.ListSourcesResponse:
    return reply


def list_sources(
    core: Core,
    collection: str,
    *,
    prefix: str = "",
    consistency: str | None = None,
    timeout: float | None = None,
) -> Pages[knowledge_pb2.ListSourcesResponse, SourceInfo]:
    """The sources of a collection by uri, those that begin with `prefix`, fetched page by page."""

    def call(cursor: bytes) -> Call[knowledge_pb2.ListSourcesResponse]:
        request = knowledge_pb2.ListSourcesRequest(
            collection=collection,
            prefix=prefix,
            limit=_SOURCES_PAGE,
            cursor=cursor,
            read=core.read(consistency),
        )
        return Call(methods.LIST_SOURCES, request, _same, timeout)

    def split(
        reply: knowledge_pb2.ListSourcesResponse,
    ) -> tuple[Sequence[SourceInfo], Call[knowledge_pb2.ListSourcesResponse] | None]:
        items = [SourceInfo.of(source) for source in reply.sources]
        return items, call(reply.next_cursor) if reply.next_cursor else None

    return Pages(call(b""), split)


def _deleted(reply: knowledge_pb2.DeleteSourcesResponse) -> int:
    return reply.count


def delete_sources(
    core: Core, collection: str, uris: Iterable[str], *, timeout: float | None = None
) -> Fanout[int, int]:
    """Deletes all passages of the sources; says how many passages there were.

    Sources that do not exist are no error. Raises NotFoundError for an
    unknown collection.
    """
    names = _listed(uris, "uris")

    def calls() -> Iterator[Call[int]]:
        for start in range(0, len(names), _DELETE_URIS):
            request = knowledge_pb2.DeleteSourcesRequest(
                collection=collection, uris=names[start : start + _DELETE_URIS], options=core.writes.options()
            )
            yield Call(methods.DELETE_SOURCES, request, _deleted, timeout)

    return Fanout(calls(), core.concurrency, lambda outcomes: sum(together(outcomes)))


def _models(reply: models_pb2.ListModelsResponse) -> list[ModelInfo]:
    return [ModelInfo.of(model) for model in reply.models]


def models(core: Core, *, timeout: float | None = None) -> Call[list[ModelInfo]]:
    """The embedding models that the node is configured with."""
    return Call(methods.LIST_MODELS, models_pb2.ListModelsRequest(), _models, timeout)


def _embedded(reply: models_pb2.EmbedResponse) -> FloatArray:
    return np.frombuffer(reply.vectors, dtype="<f4").reshape(-1, reply.dim)


def _stacked(outcomes: Sequence[FloatArray | VecdbError]) -> FloatArray:
    parts = together(outcomes)
    return np.concatenate(parts) if len(parts) != 1 else parts[0]


def embed(
    core: Core, model: str, texts: Iterable[str], *, kind: str = "passage", timeout: float | None = None
) -> Fanout[FloatArray, FloatArray]:
    """Embeds texts: (texts, dim) float32.

    `kind` is "passage" or "query", which some models embed differently.
    Raises NotFoundError for an unknown model, UnavailableError where its
    endpoint does not answer, ValueError for no texts.
    """
    words = _listed(texts, "texts")
    if not words:
        raise ValueError("there is nothing to embed")
    number = EMBED_KINDS.number(kind)

    def calls() -> Iterator[Call[FloatArray]]:
        for start in range(0, len(words), _EMBED_TEXTS):
            request = models_pb2.EmbedRequest(
                model=model, texts=words[start : start + _EMBED_TEXTS], kind=number
            )
            yield Call(methods.EMBED, request, _embedded, timeout)

    return Fanout(calls(), core.concurrency, _stacked)
