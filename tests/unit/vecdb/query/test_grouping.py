"""The best of each group: what exact search, put into groups by hand, gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vecdb_index import DeadlineExceeded, Row
from vecdb_index.filters.values import Kind
from vecdb_proto.v1 import collections_pb2, common_pb2, documents_pb2, filter_pb2, search_pb2

from tests.support.inprocess import InProcessNode, refusal
from tests.unit.vecdb.query.requests import (
    create,
    equals,
    found,
    packed,
    payload_of,
    search,
    upsert,
    value,
)
from vecdb.query import choosing, grouping, slots
from vecdb.query.candidates import Candidate
from vecdb.query.grouping import GroupBy, best_of_each, group_of, text_of
from vecdb.query.questions import Nearest
from vecdb.query.wanted import Wanted

Name = Callable[[], str]
COUNT = 400
# One large group, a few of middling size, many small ones, and what makes no group.
KINDS: list[Any] = [
    *["big"] * 30, *["middle", "other"] * 6, *[f"small {n}" for n in range(8)],
    1, 1.0, 2, 0.5, True, False, "1", "true", None, ["big"], {"big": 1}, "missing",
]  # fmt: skip
KEYWORD = collections_pb2.Field(name="of.kind", type=collections_pb2.FIELD_TYPE_KEYWORD)
METRICS = {"l2": common_pb2.METRIC_L2, "dot": common_pb2.METRIC_DOT, "cosine": common_pb2.METRIC_COSINE}


@dataclass(frozen=True)
class Data:
    node: InProcessNode
    vectors: np.ndarray


def kind_of(at: int) -> Any:
    return KINDS[(at * 7) % len(KINDS)]


def name_of(kind: Any) -> str | None:
    """The group that a value makes, by the contract."""
    if kind is None or isinstance(kind, list | dict) or kind == "missing":
        return None
    if isinstance(kind, bool):
        return f"bool {str(kind).lower()}"
    if isinstance(kind, str):
        return f"str {kind}"
    return f"number {kind:g}"


@pytest.fixture(scope="module")
def data(node: InProcessNode) -> Data:
    """The same documents with the field declared and not, in one shard and three, some vectors twice."""
    random = np.random.default_rng(11)
    vectors = random.standard_normal((COUNT, 4)).astype(np.float32)
    # The large group is near everything that is asked for, so that it hides the others.
    vectors[[at for at in range(COUNT) if kind_of(at) == "big"]] *= np.float32(0.2)
    vectors[5::40] = vectors[3::40]
    kinds = [kind_of(at) for at in range(COUNT)]
    payloads = [
        {"n": at, "third": at % 3} | ({} if kind == "missing" else {"of": {"kind": kind}})
        for at, kind in enumerate(kinds)
    ]
    for metric, number in METRICS.items():
        for shards in (1, 3):
            for declared in (True, False):
                name = f"{metric}{shards}{declared}"
                fields = [KEYWORD] if declared else []
                create(node, name, dim=4, metric=number, shards=shards, fields=fields)
                upsert(node, name, [f"d{at:03}" for at in range(COUNT)], vectors, payloads)
    return Data(node, vectors)


def by_hand(ranked: list[tuple[str, float]], k: int, offset: int, size: int) -> list[tuple[str, str, float]]:
    """Group, id and score: the ranking put into groups, in plain Python."""
    groups: dict[str, list[tuple[str, str, float]]] = {}
    for id_, score in ranked:
        group = name_of(kind_of(int(id_[1:])))
        if group is not None:
            groups.setdefault(group, []).append((group, id_, score))
    chosen = list(groups.values())[offset : offset + k]
    return [hit for members in chosen for hit in members[:size]]


def grouped(reply: search_pb2.SearchResponse) -> list[tuple[str, str, float]]:
    """The same of an answer, whose own names of groups must fit."""
    hits = []
    for hit in reply.hits:
        kind = payload_of(hit.document)["of"]["kind"]
        name = name_of(kind)
        assert name is not None
        assert hit.group == name.partition(" ")[2]
        hits.append((name, hit.document.id, hit.score))
    return hits


@settings(max_examples=60, deadline=None)
@given(
    metric=st.sampled_from(sorted(METRICS)),
    shards=st.sampled_from([1, 3]),
    declared=st.booleans(),
    row=st.integers(0, COUNT - 1),
    k=st.integers(1, 25),
    offset=st.integers(0, 5),
    size=st.integers(1, 40),
    third=st.none() | st.integers(0, 3),
    threshold=st.none() | st.floats(-2, 4, width=32),
)
def test_groups_are_those_of_exact_search(
    data: Data,
    metric: str,
    shards: int,
    declared: bool,
    row: int,
    k: int,
    offset: int,
    size: int,
    third: int | None,
    threshold: float | None,
) -> None:
    """Whatever the metric, shards and options: the answer is all documents, ranked and grouped by hand."""
    options: dict[str, Any] = {}
    if third is not None:
        options["filter"] = equals("third", third)
    if threshold is not None:
        options["score_threshold"] = threshold
    name = f"{metric}{shards}{declared}"
    ranked = found(search(data.node, name, data.vectors[row], k=COUNT, **options))
    reply = search(
        data.node,
        name,
        data.vectors[row],
        k=k,
        offset=offset,
        group_by=search_pb2.GroupBy(field="of.kind", size=size),
        **options,
    )
    assert grouped(reply) == by_hand(ranked, k, offset, size)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_field_that_is_not_declared_is_filtered_in_the_end(
    data: Data, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    """Past a width, groups are left out by a filter without an index too, and the answer stays the same."""
    by = search_pb2.GroupBy(field="of.kind", size=3)
    name = f"l2{shards}False"
    plain = search(data.node, name, data.vectors[3], k=14, group_by=by, explain=True)
    monkeypatch.setattr(grouping, "_UNFILTERED", 0)
    filtered = search(data.node, name, data.vectors[3], k=14, group_by=by, explain=True)
    assert grouped(filtered) == grouped(plain)
    assert len(filtered.hits) > 14
    looked_at = [int(reply.explain.steps[-1].details["candidates"]) for reply in (plain, filtered)]
    assert looked_at[1] < looked_at[0]


def test_shards_without_matches_do_not_end_the_search(node: InProcessNode, name: Name) -> None:
    """Where one shard of three has all the documents, whichever it is, its further groups are found."""
    create(node, c := name(), shards=3)
    placed = slots.split([f"{n:04}" for n in range(600)], node.node_database().state.collections[c].shards)
    for positions in placed.values():
        ids = [f"{at:04}" for at in positions]
        payloads = [{"kind": "big"} for _ in ids[2:]] + [{"kind": "a"}, {"kind": "b"}]
        upsert(node, c, ids, payloads=payloads)
        reply = search(node, c, [0, 0], k=3, group_by=search_pb2.GroupBy(field="kind"))
        assert [hit.group for hit in reply.hits] == ["big", "a", "b"]
        node.documents.Delete(documents_pb2.DeleteRequest(collection=c, ids=ids))


def test_a_filter_that_leaves_no_room_is_done_without(data: Data) -> None:
    """Where the caller's own filter is as deep as the engine takes, groups are found all the same."""
    deep = equals("third", 1)
    for _ in range(14):
        deep = filter_pb2.Filter(all=filter_pb2.FilterList(filters=[deep]))
    many = filter_pb2.FieldValues(field="n", values=[value(n) for n in range(9_995)])
    for condition in (deep, filter_pb2.Filter(one_of=many)):
        ranked = found(search(data.node, "l23True", data.vectors[9], k=COUNT, filter=condition))
        by = search_pb2.GroupBy(field="of.kind", size=2)
        reply = search(data.node, "l23True", data.vectors[9], k=20, filter=condition, group_by=by)
        assert grouped(reply) == by_hand(ranked, 20, 0, 2)


def test_what_cannot_be_filled_is_refused(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search does not go on for ever: past the widest one, too few groups are an error that says so."""
    monkeypatch.setattr(grouping, "_WIDEST", 40)
    monkeypatch.setattr(grouping, "_UNFILTERED", 1_000)
    by = search_pb2.GroupBy(field="of.kind", size=2)
    refused = refusal(lambda: search(data.node, "l23False", data.vectors[3], k=12, group_by=by))
    assert (refused.code.name, refused.reason) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    assert "'of.kind'" in refused.message
    assert "12 groups" in refused.message


def test_arrays_that_bury_a_group_are_refused(
    node: InProcessNode, name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents that a filter finds but that are in no group are looked past, up to the widest search."""
    create(node, c := name(), fields=[collections_pb2.Field(name="kind", type=KEYWORD.type)])
    payloads = [{"kind": [f"x{n}"]} for n in range(60)] + [{"kind": "a"}]
    upsert(node, c, [f"{n:02}" for n in range(61)], payloads=payloads)
    by = search_pb2.GroupBy(field="kind")
    (hit,) = search(node, c, [0, 0], k=1, group_by=by).hits
    assert (hit.document.id, hit.group) == ("60", "a")
    monkeypatch.setattr(grouping, "_WIDEST", 40)
    assert refusal(lambda: search(node, c, [0, 0], k=1, group_by=by)).reason == "LIMIT_EXCEEDED"


@pytest.mark.parametrize("kind", ["a", 7, True])
def test_full_groups_are_left_out_where_an_index_can_tell(node: InProcessNode, name: Name, kind: Any) -> None:
    """Behind a group of a thousand, a declared field finds the others in few and narrow rounds."""
    types = {str: "KEYWORD", int: "INT", bool: "BOOL"}
    kind_type = getattr(collections_pb2, f"FIELD_TYPE_{types[type(kind)]}")
    create(node, c := name(), fields=[collections_pb2.Field(name="kind", type=kind_type)])
    other = {"a": "b", 7: 8, True: False}[kind]
    payloads = [{"kind": kind}] * 1_000 + [{"kind": other}, {"kind": other}]
    upsert(node, c, [f"{n:04}" for n in range(1_002)], payloads=payloads)
    by = search_pb2.GroupBy(field="kind", size=2)
    for exact in (True, False):
        reply = search(node, c, [0, 0], k=2, group_by=by, explain=True, exact=exact)
        assert [hit.document.id for hit in reply.hits] == ["0000", "0001", "1000", "1001"]
        *shards, step = reply.explain.steps
        assert [each.name.split()[0] for each in shards] == ["shard"]
        assert (step.name, step.details["field"], step.details["groups"]) == ("group_by", "kind", "2")
        assert int(step.details["rounds"]) <= 3
        assert int(step.details["candidates"]) <= 40


def test_groups_of_authors_and_sources(node: InProcessNode, name: Name) -> None:
    """@author and @source group by who wrote a document and by what it was cut from."""
    create(node, c := name(), model="wordllama-256", dim=0, metric=common_pb2.METRIC_UNSPECIFIED)
    with node.client() as db:
        text = "\n\n".join(f"It rained {word} on day {n}." * 20 for n, word in enumerate(["hard"] * 8))
        db.ingest(c, [("a.md", text.encode()), ("b.md", b"It was dry."), ("c.md", b"It snowed.")])
        db.upsert(c, ids=["alone"], texts=["It rained on whoever came from nowhere."])
        sources = db.search(c, text="rain", k=5, group_by="@source", group_size=2, exact=True)
        assert sorted({hit.group for hit in sources}) == ["a.md", "b.md", "c.md"]
        assert [hit.group for hit in sources].count("a.md") == 2
        assert all(hit.source.uri == hit.group for hit in sources)
        (hit,) = db.search(c, text="rain", k=5, group_by="@author", exact=True)
        assert hit.group == "anonymous"
        assert hit.id == db.search(c, text="rain", k=1, exact=True)[0].id


def test_authors_are_filtered_and_sources_only_ranked(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a width, authors are found by a filter; sources cannot be, and are looked for up to the widest."""
    monkeypatch.setattr(grouping, "_UNFILTERED", 0)
    query, nearest = data.vectors[3], found(search(data.node, "l23True", data.vectors[3], k=1))
    by = search_pb2.GroupBy(field="@author")
    reply = search(data.node, "l23True", query, k=3, group_by=by, explain=True)
    assert [(hit.group, hit.document.id) for hit in reply.hits] == [("anonymous", nearest[0][0])]
    assert int(reply.explain.steps[-1].details["candidates"]) == 4 * 3
    by.field = "@source"
    reply = search(data.node, "l23True", query, k=3, group_by=by, explain=True)
    assert not reply.hits
    assert int(reply.explain.steps[-1].details["candidates"]) >= COUNT
    monkeypatch.setattr(grouping, "_WIDEST", 100)
    refused = refusal(lambda: search(data.node, "l23True", query, k=3, group_by=by))
    assert refused.reason == "LIMIT_EXCEEDED"


def test_batches_and_streams_group_too(data: Data) -> None:
    """SearchBatch and SearchStream give each query what Search gives it."""
    queries = data.vectors[[2, 30, 77]]
    options = search_pb2.SearchOptions(
        k=4, offset=1, exact=True, explain=True, group_by=search_pb2.GroupBy(field="of.kind", size=3)
    )
    for name in ("dot1True", "dot3False"):
        single = [
            data.node.search.Search(
                search_pb2.SearchRequest(
                    collection=name, query=search_pb2.Query(vector=packed(query)), options=options
                )
            )
            for query in queries
        ]
        batch = data.node.search.SearchBatch(
            search_pb2.SearchBatchRequest(collection=name, vectors=packed(queries), options=options)
        )
        assert list(batch.counts) == [len(reply.hits) for reply in single]
        assert list(batch.ids) == [hit.document.id for reply in single for hit in reply.hits]
        assert batch.explain.steps[-1].name == "group_by"
        requests = [
            search_pb2.SearchStreamRequest(
                tag=tag,
                request=search_pb2.SearchRequest(
                    collection=name, query=search_pb2.Query(vector=packed(query)), options=options
                ),
            )
            for tag, query in enumerate(queries)
        ]
        answers = {answer.tag: answer.response for answer in data.node.search.SearchStream(iter(requests))}
        assert [grouped(answers[tag]) for tag in range(3)] == [grouped(reply) for reply in single]


def test_examples_are_in_no_group(data: Data) -> None:
    """Documents to be like are no hits, and so do not stand for their groups."""
    request = search_pb2.SearchRequest(
        collection="l23True",
        query=search_pb2.Query(examples=search_pb2.Examples(positive=["d000", "d001"])),
        options=search_pb2.SearchOptions(
            k=5, exact=True, group_by=search_pb2.GroupBy(field="of.kind", size=2)
        ),
    )
    ranked = found(search(data.node, "l23True", data.vectors[:2].mean(axis=0), k=COUNT))
    ranked = [hit for hit in ranked if hit[0] not in ("d000", "d001")]
    assert grouped(data.node.search.Search(request)) == by_hand(ranked, 5, 0, 2)


def test_projections_do_not_need_the_field(data: Data) -> None:
    """Groups are told whatever parts of documents were asked for."""
    reply = search(
        data.node,
        "l21True",
        data.vectors[0],
        k=3,
        group_by=search_pb2.GroupBy(field="of.kind"),
        projection=common_pb2.Projection(vector=True),
    )
    assert [bool(hit.group) for hit in reply.hits] == [True] * 3
    assert all(hit.document.vector and not hit.document.payload for hit in reply.hits)


async def test_a_deadline_ends_the_rounds(data: Data) -> None:
    """A grouped search that is late stops rather than widen on."""
    db = data.node.node_database()
    record = db.state.collections["l23False"]
    wanted = Wanted(k=10, deadline=time.monotonic() - 1)
    with pytest.raises(DeadlineExceeded):
        await choosing.search(db, record, Nearest(data.vectors[:1]), wanted, GroupBy("of.kind"))


def candidates(groups: list[str | None]) -> Iterator[Candidate[Any]]:
    for at, group in enumerate(groups):
        yield Candidate(float(at), str(at), 0, at, None if group is None else (Kind.STRING, group))


def test_best_of_each_keeps_order_and_bounds() -> None:
    """The first groups in order of their best members, no more members than wanted, none without a group."""
    ranked = candidates(["a", None, "b", "a", "c", "a", "b", "d"])
    best = best_of_each(ranked, groups=3, size=2)
    assert {group: [each.id for each in members] for (_, group), members in best.items()} == {
        "a": ["0", "3"],
        "b": ["2", "6"],
        "c": ["4"],
    }
    assert best_of_each([], 3, 2) == {}


def row(payload: Any = None, author: str = "ann", source: Any = None) -> Row:
    packed_source = None if source is None else msgpack.packb(source)
    return Row("x", 1, author, 0, packed_source, b"" if payload is None else msgpack.packb(payload), None, 1)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"a": {"b": "x"}}, "x"),
        ({"a.b": "literal", "a": {"b": "x"}}, "literal"),
        ({"a": {"b": ""}}, ""),
        ({"a": {"b": 7}}, "7"),
        ({"a": {"b": 7.0}}, "7"),
        ({"a": {"b": -0.25}}, "-0.25"),
        ({"a": {"b": 1e300}}, "1e+300"),
        ({"a": {"b": 2**64 - 1}}, "18446744073709551615"),
        ({"a": {"b": float("inf")}}, "inf"),
        ({"a": {"b": True}}, "true"),
        ({"a": {"b": False}}, "false"),
        ({"a": {"b": None}}, None),
        ({"a": {"b": float("nan")}}, None),
        ({"a": {"b": ["x"]}}, None),
        ({"a": {"b": {"c": 1}}}, None),
        ({"a": {"b": b"bytes"}}, None),
        ({"a": {"b": msgpack.Timestamp(1, 0)}}, None),
        ({"a": 1}, None),
        ({}, None),
        (None, None),
    ],
)
def test_what_makes_a_group(payload: Any, text: str | None) -> None:
    """Strings, numbers and bools, by dotted path; nothing else."""
    group = group_of(row(payload), "a.b")
    assert (None if group is None else text_of(group)) == text


def test_equal_values_are_one_group_and_kinds_are_apart() -> None:
    """1 and 1.0 are equal, as in filters; 1, true and "1" are not."""
    groups = [group_of(row({"a": value}), "a") for value in (1, 1.0, True, "1", "true")]
    assert groups[0] == groups[1]
    assert len(set(groups)) == 4


def test_reserved_names() -> None:
    """The author and the source's uri group; who has none is in no group."""
    assert group_of(row(author="ann"), "@author") == (Kind.STRING, "ann")
    assert group_of(row(author=""), "@author") is None
    assert group_of(row(source={"uri": "a.md"}), "@source") == (Kind.STRING, "a.md")
    assert group_of(row(), "@source") is None
