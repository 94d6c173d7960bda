"""Bad reads and filters: each is answered with its status, reason and words."""

from __future__ import annotations

import time

import pytest
from vecdb_proto.v1 import (
    collections_pb2,
    common_pb2,
    documents_pb2,
    filter_pb2,
    knowledge_pb2,
    models_pb2,
    search_pb2,
)

from tests.support.inprocess import InProcessNode, refusal
from tests.unit.vecdb.api.bad_input import (
    GOOD,
    INVALID,
    NOT_FOUND,
    PACKED,
    READ,
    UNIMPLEMENTED,
    Case,
    check,
    deep,
    diversity,
    matrix,
    method,
    search,
    state_of,
    year,
)
from vecdb.api import filters
from vecdb.config import Limits
from vecdb.query import RequestError

READS = {
    "a wrong dimension": Case(
        "search.Search", search(search_pb2.Query(vector=matrix([*GOOD, 1.0]))),
        INVALID, "WRONG_DIMENSION", "query.vector", ("1 x 4", "5 dimensions"),
    ),
    "a NaN": Case(
        "search.Search", search(search_pb2.Query(vector=matrix([float("nan")] * 4))),
        INVALID, "NOT_FINITE", "query.vector",
    ),
    "a zero vector": Case(
        "search.Search", search(search_pb2.Query(vector=bytes(16))), INVALID, "ZERO_VECTOR", "query.vector"
    ),
    "k of a million": Case(
        "search.Search", search(k=1_000_000),
        INVALID, "LIMIT_EXCEEDED", "options.k", ("10000", "max_k"),
    ),
    "an offset too far": Case(
        "search.Search", search(k=5_000, offset=5_001),
        INVALID, "LIMIT_EXCEEDED", "options.offset", ("k + offset must be", "10000 (max_k), not 10001"),
    ),
    "an unknown mode": Case("search.Search", search(mode=9), INVALID, "BAD_ARGUMENT", "options.mode", ("9",)),
    "nothing to look for": Case(
        "search.Search", search(search_pb2.Query(text="")), INVALID, "BAD_ARGUMENT", "query", ("nothing",)
    ),
    "two things to look for": Case(
        "search.Search", search(search_pb2.Query(text="a", vector=matrix(GOOD))),
        INVALID, "BAD_ARGUMENT", "query", ("several",),
    ),
    "text without a model": Case(
        "search.Search", search(search_pb2.Query(text="rain")), INVALID, "MODEL_REQUIRED", "query.text"
    ),
    "an empty question": Case(
        "search.Search", search(search_pb2.Query(text="  ")),
        INVALID, "BAD_ARGUMENT", "query.text", ("empty",),
    ),
    "a question too long": Case(
        "search.Search", search(search_pb2.Query(text="x" * 257)),
        INVALID, "LIMIT_EXCEEDED", "query.text", ("max_query_text_bytes",),
    ),
    "a sparse query": Case(
        "search.Search", search(search_pb2.Query(sparse=common_pb2.SparseVector())),
        UNIMPLEMENTED, "NOT_IMPLEMENTED", "query.sparse",
    ),
    "a named vector": Case(
        "search.Search", search(vector_name="v"), UNIMPLEMENTED, "NOT_IMPLEMENTED", "options.vector_name"
    ),
    "groups of no field": Case(
        "search.Search", search(group_by=search_pb2.GroupBy(size=2)),
        INVALID, "BAD_ARGUMENT", "options.group_by.field", ("empty",),
    ),
    "groups of a field too long": Case(
        "search.Search", search(group_by=search_pb2.GroupBy(field="x" * 1_025)),
        INVALID, "LIMIT_EXCEEDED", "options.group_by.field", ("1024",),
    ),
    "groups of a reserved field": Case(
        "search.Search", search(group_by=search_pb2.GroupBy(field="@nope")),
        INVALID, "BAD_ARGUMENT", "options.group_by.field", ("@nope", "@author, @source"),
    ),
    "groups too large": Case(
        "search.Search", search(group_by=search_pb2.GroupBy(field="a", size=101)),
        INVALID, "BAD_ARGUMENT", "options.group_by.size", ("100",),
    ),
    "groups with too many hits": Case(
        "search.Search", search(k=100, offset=1, group_by=search_pb2.GroupBy(field="a", size=100)),
        INVALID, "LIMIT_EXCEEDED", "options.group_by.size", ("10000", "max_k"),
    ),
    "groups and diversity": Case(
        "search.Search", search(group_by=search_pb2.GroupBy(field="a"), diversity=search_pb2.Diversity()),
        INVALID, "BAD_ARGUMENT", "options.diversity", ("group_by",),
    ),
    "a lambda of 2": Case(
        "search.Search", search(diversity=diversity(2.0)), INVALID, "BAD_ARGUMENT", "options.diversity.lambda"
    ),
    "a lambda of NaN": Case(
        "search.Search", search(diversity=diversity(float("nan"))),
        INVALID, "BAD_ARGUMENT", "options.diversity.lambda",
    ),
    "fewer candidates than hits": Case(
        "search.Search", search(k=5, offset=2, diversity=diversity(0.5, 6)),
        INVALID, "BAD_ARGUMENT", "options.diversity.candidates", ("7",),
    ),
    "too many diverse candidates": Case(
        "search.Search", search(diversity=diversity(0.5, 10_001)),
        INVALID, "BAD_ARGUMENT", "options.diversity.candidates", ("10000",),
    ),
    "too many candidates for as many hits": Case(
        "search.Search", search(k=1_001, diversity=diversity(0.5, 10_000)),
        INVALID, "LIMIT_EXCEEDED", "options.diversity.candidates", ("10000000",),
    ),
    "candidates whose vectors are too large": Case(
        "search.Search", search_pb2.SearchRequest(
            collection="wide", query=search_pb2.Query(vector=matrix([1.0] * 4_096)),
            options=search_pb2.SearchOptions(diversity=diversity(0.5, 17))),
        INVALID, "LIMIT_EXCEEDED", "options.diversity.candidates", ("16", "max_message_bytes"),
    ),
    "a recall of 2": Case("search.Search", search(recall=2.0), INVALID, "BAD_ARGUMENT", "options.recall"),
    "an ef of zero": Case("search.Search", search(ef=0), INVALID, "BAD_ARGUMENT", "options.ef"),
    "a threshold of NaN": Case(
        "search.Search", search(score_threshold=float("nan")),
        INVALID, "NOT_FINITE", "options.score_threshold",
    ),
    "named vectors of a projection": Case(
        "search.Search", search(projection=common_pb2.Projection(vector_names=["v"])),
        UNIMPLEMENTED, "NOT_IMPLEMENTED", "projection.vector_names",
    ),
    "too many keys of a payload": Case(
        "search.Search", search(projection=common_pb2.Projection(payload_fields=["k"] * 257)),
        INVALID, "LIMIT_EXCEEDED", "projection.payload_fields", ("257", "256"),
    ),
    "examples without a positive one": Case(
        "search.Search", search(search_pb2.Query(examples=search_pb2.Examples(negative=["a"]))),
        INVALID, "BAD_ARGUMENT", "query.examples",
    ),
    "an example that is not there": Case(
        "search.Search", search(search_pb2.Query(examples=search_pb2.Examples(positive=["a", "nope"]))),
        NOT_FOUND, "BAD_ID", "", ("nope",),
    ),
    "examples that cancel each other": Case(
        "search.Search",
        search(search_pb2.Query(examples=search_pb2.Examples(positive=["a"], negative=["a"]))),
        INVALID, "DUPLICATE_ID", "query.examples[1]",
    ),
    "an unknown consistency": Case(
        "documents.Count", documents_pb2.CountRequest(collection="vecs", read=READ(consistency=9)),
        INVALID, "BAD_ARGUMENT", "read.consistency",
    ),
    "both vectors and texts": Case(
        "search.SearchBatch",
        search_pb2.SearchBatchRequest(collection="vecs", vectors=matrix(GOOD), texts=["a"]),
        INVALID, "BAD_ARGUMENT", "vectors", ("not both",),
    ),
    "too many queries": Case(
        "search.SearchBatch", search_pb2.SearchBatchRequest(collection="vecs", vectors=matrix(*[GOOD] * 6)),
        INVALID, "LIMIT_EXCEEDED", "vectors", ("max_batch_queries",),
    ),
    "half a query": Case(
        "search.SearchBatch", search_pb2.SearchBatchRequest(collection="vecs", vectors=matrix(GOOD)[:8]),
        INVALID, "WRONG_DIMENSION", "vectors", ("1 x 4",),
    ),
    "a NaN among queries": Case(
        "search.SearchBatch",
        search_pb2.SearchBatchRequest(collection="vecs", vectors=matrix(GOOD, [float("nan")] * 4)),
        INVALID, "NOT_FINITE", "vectors[1]",
    ),
    "a page too large": Case(
        "documents.Scroll", documents_pb2.ScrollRequest(collection="vecs", limit=51),
        INVALID, "LIMIT_EXCEEDED", "limit", ("max_batch",),
    ),
    "a cursor of nobody": Case(
        "documents.Scroll", documents_pb2.ScrollRequest(collection="vecs", cursor=b"\xff"),
        INVALID, "BAD_ARGUMENT", "cursor",
    ),
    "ids twice": Case(
        "documents.Get", documents_pb2.GetRequest(collection="vecs", ids=["a", "a"]),
        INVALID, "DUPLICATE_ID", "ids[1]",
    ),
    "an unknown collection": Case(
        "collections.Describe", collections_pb2.DescribeCollectionRequest(collection="nope"),
        NOT_FOUND, "COLLECTION_NOT_FOUND", "", ("nope",),
    ),
    "an unknown model": Case(
        "models.Embed", models_pb2.EmbedRequest(model="nope", texts=["a"]),
        NOT_FOUND, "MODEL_NOT_FOUND", "", ("nope",),
    ),
    "no texts": Case("models.Embed", models_pb2.EmbedRequest(model="nope"), INVALID, "BAD_ARGUMENT", "texts"),
    "an unknown kind of embedding": Case(
        "models.Embed", models_pb2.EmbedRequest(model="wordllama-256", texts=["a"], kind=7),
        INVALID, "BAD_ARGUMENT", "kind",
    ),
    "a budget too small": Case(
        "knowledge.Retrieve",
        knowledge_pb2.RetrieveRequest(collection="docs", question="a", token_budget=3),
        INVALID, "BAD_ARGUMENT", "token_budget", ("32",),
    ),
    "too many candidates": Case(
        "knowledge.Retrieve",
        knowledge_pb2.RetrieveRequest(collection="docs", question="a", candidates=1_001),
        INVALID, "BAD_ARGUMENT", "candidates", ("1000",),
    ),
    "an unknown mode of retrieval": Case(
        "knowledge.Retrieve", knowledge_pb2.RetrieveRequest(collection="docs", question="a", mode=9),
        INVALID, "BAD_ARGUMENT", "mode",
    ),
    "a question to a collection without a model": Case(
        "knowledge.Retrieve", knowledge_pb2.RetrieveRequest(collection="vecs", question="a"),
        INVALID, "MODEL_REQUIRED", "question",
    ),
    "a page of sources too large": Case(
        "knowledge.ListSources", knowledge_pb2.ListSourcesRequest(collection="docs", limit=51),
        INVALID, "LIMIT_EXCEEDED", "limit",
    ),
}  # fmt: skip

VALUE = filter_pb2.Value
NAN = float("nan")
FILTERS: dict[str, tuple[filter_pb2.Filter, str, str]] = {
    "empty": (filter_pb2.Filter(), "filter", "is empty"),
    "deep": (deep(6), "filter" + ".not" * 5, "max_filter_depth"),
    "an empty field": (
        filter_pb2.Filter(equals=filter_pb2.FieldValue(value=VALUE(int_value=1))),
        "filter.equals.field", "must not be empty",
    ),
    "a field that is reserved": (filter_pb2.Filter(exists="@nope"), "filter.exists.field", "@nope"),
    "no value": (
        filter_pb2.Filter(all=filter_pb2.FilterList(filters=[year(1), filter_pb2.Filter(
            equals=filter_pb2.FieldValue(field="a"))])),
        "filter.all[1].equals", "no value",
    ),
    "no point in time": (
        filter_pb2.Filter(equals=filter_pb2.FieldValue(
            field="a", value=VALUE(datetime_value={"seconds": 1 << 50}))),
        "filter.equals", "no point in time",
    ),
    "too many conditions": (
        filter_pb2.Filter(any=filter_pb2.FilterList(filters=[year(i) for i in range(30)])),
        "filter.any[19]", "20 (max_filter_clauses)",
    ),
    "too many values": (
        filter_pb2.Filter(one_of=filter_pb2.FieldValues(
            field="a", values=[VALUE(int_value=i) for i in range(11)])),
        "filter.one_of.values", "10 (max_filter_values)",
    ),
    "too many values in two lists": (
        filter_pb2.Filter(all=filter_pb2.FilterList(filters=[
            filter_pb2.Filter(any_of=filter_pb2.FieldValues(
                field="a", values=[VALUE(int_value=i) for i in range(6)])),
            filter_pb2.Filter(all_of=filter_pb2.FieldValues(
                field="b", values=[VALUE(int_value=i) for i in range(6)]))])),
        "filter.all[1].all_of.values", "10 (max_filter_values)",
    ),
    "a NaN to equal": (
        filter_pb2.Filter(equals=filter_pb2.FieldValue(field="a", value=VALUE(float_value=NAN))),
        "filter.equals", "NaN",
    ),
    "a NaN as a bound": (
        filter_pb2.Filter(range=filter_pb2.Range(field="a", lt=VALUE(float_value=NAN))),
        "filter.range.lt", "NaN",
    ),
    "a NaN among values": (
        filter_pb2.Filter(one_of=filter_pb2.FieldValues(
            field="a", values=[VALUE(float_value=1), VALUE(float_value=NAN)])),
        "filter.one_of.values[1]", "NaN",
    ),
    "no bound": (filter_pb2.Filter(range=filter_pb2.Range(field="a")), "filter", ""),
    "bounds of two kinds": (
        filter_pb2.Filter(range=filter_pb2.Range(
            field="a", gt=VALUE(int_value=1), lt=VALUE(string_value="x"))),
        "filter", "",
    ),
    "a latitude beyond the pole": (
        filter_pb2.Filter(geo_radius=filter_pb2.GeoRadius(field="a", lat=91, lon=0, metres=1)),
        "filter", "lat",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_a_bad_read_is_refused(node: InProcessNode, name: str) -> None:
    """Status, reason, field and limit are told."""
    case = READS[name]
    check(refusal(lambda: method(node, case.method)(case.request)), case)


@pytest.mark.parametrize("name", FILTERS)
def test_a_bad_filter_is_refused_wherever_it_comes(node: InProcessNode, name: str) -> None:
    """Every method that takes a filter answers BAD_FILTER, naming the condition."""
    condition, field, words = FILTERS[name]
    requests = {
        "search.Search": search(filter=condition),
        "documents.Count": documents_pb2.CountRequest(collection="vecs", filter=condition),
        "documents.Scroll": documents_pb2.ScrollRequest(collection="vecs", filter=condition),
        "documents.Update": documents_pb2.UpdateRequest(
            collection="vecs", filter=condition, payload=PACKED({"a": 1})
        ),
        "documents.Delete": documents_pb2.DeleteRequest(collection="vecs", filter=condition),
        "knowledge.Retrieve": knowledge_pb2.RetrieveRequest(
            collection="docs", question="a", filter=condition
        ),
    }
    before = state_of(node)
    for called, request in requests.items():
        refused = refusal(lambda called=called, request=request: method(node, called)(request))  # type: ignore[misc]
        assert (refused.code, refused.reason) == (INVALID, "BAD_FILTER"), called
        assert refused.fields[0].startswith(field), called
        assert words in refused.message, called
    assert state_of(node) == before


def test_a_condition_on_words_is_not_served(node: InProcessNode) -> None:
    """text_match is in the contract and answered UNIMPLEMENTED, rather than matching something else."""
    condition = filter_pb2.Filter(text_match=filter_pb2.TextMatch(field="a", query="b"))
    refused = refusal(
        lambda: node.documents.Count(documents_pb2.CountRequest(collection="vecs", filter=condition))
    )
    assert (refused.code, refused.reason) == (UNIMPLEMENTED, "NOT_IMPLEMENTED")


def test_a_huge_filter_costs_no_more_than_to_count_it() -> None:
    """What is beyond a limit is refused before it is converted, as a list and as a tree."""
    values = filter_pb2.FieldValues(field="a", values=[VALUE(int_value=1)] * 300_000)
    many = filter_pb2.FilterList(filters=[year(1)] * 100_000)
    for condition in (filter_pb2.Filter(one_of=values), filter_pb2.Filter(any=many)):
        started = time.thread_time()
        with pytest.raises(RequestError, match="max_filter"):
            filters.parse(condition, Limits())
        assert time.thread_time() - started < 0.1
