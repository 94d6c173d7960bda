"""Search: nearest documents, by vector, by words, or by both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from numpy.typing import ArrayLike
from vecdb_proto.v1 import search_pb2

from vecdb_client import _methods as methods
from vecdb_client import _vectors
from vecdb_client._calls.documents import projection
from vecdb_client._documents import BATCH_BYTES
from vecdb_client._errors import from_status
from vecdb_client._filters import Condition, message_of
from vecdb_client._plans import Call, Core, Fanout, together
from vecdb_client._results import Hits, StreamAnswer, batch_hits, grouped_hits, hits
from vecdb_client._vectors import SparseVector
from vecdb_client._words import MODES

_BATCH_QUERIES = 1_000
# Of about 200 bytes each, so that a batch's answer stays within a message.
_BATCH_HITS = 100_000


@dataclass(frozen=True, slots=True)
class Diversity:
    """Maximal marginal relevance (Carbonell and Goldstein, 1998): hits unlike each other.

    The nearest document comes first, then each time the one that is nearest to
    the query and least like those before it. `relevance` is the lambda of the
    formula: 1 for relevance alone, which is a plain search, 0 for diversity
    alone. `candidates` is how many of the nearest to choose from, k + offset to
    10,000; None for 4 x k. Scores are those of a plain search, so they need not
    fall.
    """

    relevance: float = 0.5
    candidates: int | None = None


@dataclass(frozen=True, slots=True)
class HybridWeights:
    """How the two halves of a hybrid search are weighed, and the constant of reciprocal rank fusion."""

    vector: float
    text: float
    rank_constant: int | None = None


def _options(
    *,
    k: int,
    offset: int,
    filter: Condition | None,  # noqa: A002
    mode: str | None,
    vector_name: str | None,
    with_payload: bool,
    with_text: bool,
    with_vector: bool,
    payload_fields: Iterable[str],
    vector_names: Iterable[str],
    recall: float | None,
    ef: int | None,
    exact: bool,
    score_threshold: float | None,
    group_by: str | None,
    group_size: int,
    diversity: Diversity | None,
    hybrid: HybridWeights | None,
    explain: bool,
) -> search_pb2.SearchOptions:
    if k < 1:
        raise ValueError(f"k is at least 1, not {k}")
    # Only what differs from the default is set: each keyword of a message costs
    # as much as the rest of this function.
    options = search_pb2.SearchOptions(k=k)
    condition = message_of(filter)
    if condition is not None:
        options.filter.CopyFrom(condition)
    parts = projection(with_payload, with_text, with_vector, payload_fields, vector_names)
    if parts is not None:
        options.projection.CopyFrom(parts)
    if mode is not None:
        options.mode = MODES.number(mode)
    if vector_name is not None:
        options.vector_name = vector_name
    if offset:
        options.offset = offset
    if recall is not None:
        options.recall = recall
    if ef is not None:
        options.ef = ef
    if exact:
        options.exact = True
    if score_threshold is not None:
        options.score_threshold = score_threshold
    if explain:
        options.explain = True
    if group_by is not None:
        options.group_by.field = group_by
        options.group_by.size = group_size
    if diversity is not None:
        setattr(options.diversity, "lambda", diversity.relevance)  # a keyword in Python
        options.diversity.candidates = diversity.candidates or 0
    if hybrid is not None:
        options.hybrid.vector = hybrid.vector
        options.hybrid.text = hybrid.text
        options.hybrid.rank_constant = hybrid.rank_constant or 0
    return options


def _ids(ids: Iterable[str], what: str) -> list[str]:
    if isinstance(ids, str):
        raise TypeError(f"{what} must be a list of ids, not one string")
    return list(ids)


def search(
    core: Core,
    collection: str,
    vector: ArrayLike | None = None,
    text: str | None = None,
    *,
    k: int = 10,
    filter: Condition | None = None,  # noqa: A002
    mode: str | None = None,
    with_payload: bool = True,
    with_text: bool = True,
    with_vector: bool = False,
    payload_fields: Iterable[str] = (),
    vector_names: Iterable[str] = (),
    offset: int = 0,
    recall: float | None = None,
    ef: int | None = None,
    exact: bool = False,
    score_threshold: float | None = None,
    like: Iterable[str] = (),
    unlike: Iterable[str] = (),
    sparse: SparseVector | Mapping[int, float] | None = None,
    vector_name: str | None = None,
    group_by: str | None = None,
    group_size: int = 1,
    diversity: Diversity | None = None,
    hybrid: HybridWeights | None = None,
    explain: bool = False,
    consistency: str | None = None,
    require_all: bool = False,
    timeout: float | None = None,
) -> Call[Hits]:
    """The `k` documents nearest to a query, best first.

    The query is a `vector` of shape (dim,), a `text` (embedded by the
    collection's model), the ids of documents to be `like` and `unlike`, or a
    `sparse` vector. `mode` is "vector" (the default), "bm25" (words only),
    "hybrid" (both, fused) or "sparse".

    `filter` is a condition such as F("year") >= 2020. The answer carries
    payload and text unless told otherwise, the vector when asked for.
    `recall`, `ef` (efSearch or nprobe) or `exact` override the collection's
    target recall; `score_threshold` leaves out what scores worse.
    `vector_name` searches another vector than the default one.

    `group_by` gives the best `group_size` hits for each value of a payload
    field (a dotted path, "@author" or "@source"), of the `k` groups with the
    best hits, group by group; `hit.group` is the value as text. Documents whose
    field is no string, number or bool are in no group. `diversity` gives hits
    unlike each other; not together with `group_by`.

    `consistency` is "eventual", "session" (at least what this client has
    seen) or "linearizable". With `require_all` a shard that does not answer
    makes the search fail (UnavailableError) rather than be `partial`.

    Raises InvalidArgumentError (a wrong dimension, for instance),
    NotFoundError, ValueError and TypeError for what is wrong on its face.
    """
    query = search_pb2.Query(text=text)
    if vector is not None:
        query.vector = _vectors.row(vector)
    positive, negative = _ids(like, "like"), _ids(unlike, "unlike")
    if positive or negative:
        query.examples.positive.extend(positive)
        query.examples.negative.extend(negative)
    if sparse is not None:
        query.sparse.CopyFrom(_vectors.sparse_message(sparse))
        mode = mode or "sparse"
    if vector is None and text is None and sparse is None and not positive:
        raise TypeError("search takes a vector, a text, ids to be like, or a sparse vector")
    request = search_pb2.SearchRequest(
        collection=collection,
        query=query,
        options=_options(
            k=k,
            offset=offset,
            filter=filter,
            mode=mode,
            vector_name=vector_name,
            with_payload=with_payload,
            with_text=with_text,
            with_vector=with_vector,
            payload_fields=payload_fields,
            vector_names=vector_names,
            recall=recall,
            ef=ef,
            exact=exact,
            score_threshold=score_threshold,
            group_by=group_by,
            group_size=group_size,
            diversity=diversity,
            hybrid=hybrid,
            explain=explain,
        ),
        read=core.read(consistency, require_all),
    )
    return Call(methods.SEARCH, request, hits if group_by is None else grouped_hits, timeout)


def search_batch(
    core: Core,
    collection: str,
    vectors: ArrayLike | None = None,
    texts: Iterable[str] | None = None,
    *,
    k: int = 10,
    filter: Condition | None = None,  # noqa: A002
    mode: str | None = None,
    with_payload: bool = True,
    with_text: bool = True,
    with_vector: bool = False,
    payload_fields: Iterable[str] = (),
    offset: int = 0,
    recall: float | None = None,
    ef: int | None = None,
    exact: bool = False,
    score_threshold: float | None = None,
    vector_name: str | None = None,
    group_by: str | None = None,
    group_size: int = 1,
    diversity: Diversity | None = None,
    hybrid: HybridWeights | None = None,
    explain: bool = False,
    consistency: str | None = None,
    require_all: bool = False,
    concurrency: int | None = None,
    timeout: float | None = None,
) -> Fanout[list[Hits], list[Hits]]:
    """Many queries with the same options, one `Hits` each, in order.

    `vectors` is a (queries, dim) matrix, or give `texts`. The answer comes in
    columns: `hits.ids` and `hits.scores` cost next to nothing, and hits are
    made when looked at (`written_at`, `source` and `group` are not in it).
    More than 1,000 queries, or very large answers, take several requests,
    `concurrency` of them at once. Everything else is as for `search`.
    """
    if (vectors is None) == (texts is None):
        raise TypeError("search_batch takes either vectors or texts")
    matrix = None if vectors is None else _vectors.matrix(vectors)
    if isinstance(texts, str):
        raise TypeError("texts must be a list of strings, not one string")
    words = [] if texts is None else list(texts)
    options = _options(
        k=k,
        offset=offset,
        filter=filter,
        mode=mode,
        vector_name=vector_name,
        with_payload=with_payload,
        with_text=with_text,
        with_vector=with_vector,
        payload_fields=payload_fields,
        vector_names=(),
        recall=recall,
        ef=ef,
        exact=exact,
        score_threshold=score_threshold,
        group_by=group_by,
        group_size=group_size,
        diversity=diversity,
        hybrid=hybrid,
        explain=explain,
    )
    total = len(words) if matrix is None else len(matrix)
    width = 0 if matrix is None else matrix.shape[1] * 4
    hits_each = (k + offset) * (group_size if group_by is not None else 1)
    if diversity is not None:
        hits_each = max(hits_each, diversity.candidates or 4 * k)
    step = max(1, min(_BATCH_QUERIES, _BATCH_HITS // hits_each, BATCH_BYTES // max(width, 1)))

    def calls() -> Iterator[Call[list[Hits]]]:
        for start in range(0, total, step):
            request = search_pb2.SearchBatchRequest(
                collection=collection,
                vectors=b"" if matrix is None else matrix[start : start + step].tobytes(),
                texts=words[start : start + step],
                options=options,
                read=core.read(consistency, require_all),
            )
            yield Call(methods.SEARCH_BATCH, request, batch_hits, timeout)

    return Fanout(
        calls(),
        concurrency or core.concurrency,
        lambda outcomes: list(chain.from_iterable(together(outcomes))),
    )


def stream_request(core: Core, index: int, collection: str, query: Any, options: Mapping[str, Any]) -> Any:
    """One query of a stream: a text where it is a string, a vector otherwise."""
    key = "text" if isinstance(query, str) else "vector"
    call = search(core, collection, **{key: query}, **options)
    return search_pb2.SearchStreamRequest(tag=index, request=call.request)


def stream_answer(core: Core, message: search_pb2.SearchStreamResponse) -> StreamAnswer:
    """What the answer to one query of a stream says; its positions are merged into the session."""
    if message.HasField("error"):
        return StreamAnswer(message.tag, None, from_status(message.error))
    core.session.merge(message.response.session)
    return StreamAnswer(message.tag, grouped_hits(message.response), None)
