"""Reads over one shard and over many: the same documents, the same order, the same hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vecdb_proto.v1 import common_pb2, documents_pb2, filter_pb2, search_pb2

from tests.support.inprocess import InProcessNode
from tests.unit.vecdb.query.requests import (
    count,
    create,
    equals,
    found,
    get,
    ids_of,
    packed,
    payload_of,
    search,
    unpacked,
    upsert,
    value,
)
from vecdb.query import slots
from vecdb.query.reads import _before

Name = Callable[[], str]
COUNT = 120
METRICS = {"l2": common_pb2.METRIC_L2, "dot": common_pb2.METRIC_DOT, "cosine": common_pb2.METRIC_COSINE}


@dataclass(frozen=True)
class Data:
    node: InProcessNode
    ids: list[str]
    vectors: np.ndarray


@pytest.fixture(scope="module")
def data(node: InProcessNode) -> Data:
    """The same documents in collections of 1 and 3 shards under each metric; a quarter repeats vectors."""
    random = np.random.default_rng(3)
    vectors = random.standard_normal((COUNT, 4)).astype(np.float32)
    vectors[3::4] = vectors[0::4]
    ids = [
        f"{prefix}{n:03}"
        for n, prefix in zip(range(COUNT), ["b", "\u00e4", "a", "\U0001f600"] * 30, strict=True)
    ]
    payloads = [{"n": n, "third": n % 3, "name": f"doc {n}"} for n in range(COUNT)]
    for metric, number in METRICS.items():
        for shards in (1, 3):
            create(node, f"{metric}{shards}", dim=4, metric=number, shards=shards)
            upsert(
                node, f"{metric}{shards}", ids, vectors, payloads, texts=[f"text {n}" for n in range(COUNT)]
            )
    return Data(node, ids, vectors)


def scores(data: Data, metric: str, query: np.ndarray) -> list[tuple[str, float]]:
    """All documents, best first, ties by id, in plain numpy."""
    rows, wanted = data.vectors.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        values = ((rows - wanted) ** 2).sum(axis=1)
    else:
        values = rows @ wanted
        if metric == "cosine":
            values = values / np.linalg.norm(rows, axis=1) / np.linalg.norm(wanted)
    sign = 1 if metric == "l2" else -1
    # Repeated vectors score alike, whatever the last bit of a sum: rounded before they are compared.
    return sorted(zip(data.ids, values, strict=True), key=lambda hit: (sign * round(hit[1], 5), hit[0]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shards", [1, 3])
def test_search_is_exact_with_ties_by_id(data: Data, metric: str, shards: int) -> None:
    """Hits are those of plain arithmetic over all documents, equal scores in order of id."""
    for seed in range(5):
        query = np.random.default_rng(seed).standard_normal(4).astype(np.float32)
        hits = found(search(data.node, f"{metric}{shards}", query, k=20))
        wanted = scores(data, metric, query)[:20]
        assert [id_ for id_, _ in hits] == [id_ for id_, _ in wanted]
        assert np.allclose([score for _, score in hits], [score for _, score in wanted], atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    metric=st.sampled_from(sorted(METRICS)),
    row=st.integers(0, COUNT - 1),
    k=st.integers(1, 30),
    offset=st.integers(0, COUNT + 5),
    third=st.none() | st.integers(0, 3),
    threshold=st.none() | st.floats(-3, 6, width=32),
)
def test_many_shards_answer_as_one(
    data: Data, metric: str, row: int, k: int, offset: int, third: int | None, threshold: float | None
) -> None:
    """A merged search is the single shard's, with its order and payloads, whatever the options."""
    options = {"k": k, "offset": offset}
    if third is not None:
        options["filter"] = equals("third", third)
    if threshold is not None:
        options["score_threshold"] = threshold
    replies = [search(data.node, f"{metric}{shards}", data.vectors[row], **options) for shards in (1, 3)]
    one, many = (
        [
            (hit.document.id, round(hit.score, 4), hit.document.payload, hit.document.text)
            for hit in reply.hits
        ]
        for reply in replies
    )
    assert one == many


def test_pages_of_hits_join_without_a_seam(data: Data) -> None:
    """Offsets cut the same ranking: pages of seven are the first twenty-eight hits."""
    query = data.vectors[5]
    for shards in (1, 3):
        whole = found(search(data.node, f"l2{shards}", query, k=28))
        pages = [found(search(data.node, f"l2{shards}", query, k=7, offset=at)) for at in range(0, 28, 7)]
        assert [hit for page in pages for hit in page] == whole


def test_a_batch_answers_in_columns(data: Data) -> None:
    """Columns line up with single searches: ids, scores, versions, authors, payloads, texts, vectors."""
    queries = data.vectors[[1, 9, 30]]
    for shards in (1, 3):
        c = f"cosine{shards}"
        reply = data.node.search.SearchBatch(
            search_pb2.SearchBatchRequest(
                collection=c,
                vectors=packed(queries),
                options=search_pb2.SearchOptions(
                    k=6,
                    exact=True,
                    explain=True,
                    projection=common_pb2.Projection(
                        payload=True, text=True, vector=True, payload_fields=["name", "n"]
                    ),
                ),
            )
        )
        assert list(reply.counts) == [6, 6, 6]
        hits = [hit for query in queries for hit in search(data.node, c, query, k=6).hits]
        assert list(reply.ids) == [hit.document.id for hit in hits]
        assert np.allclose(unpacked(reply.scores), [hit.score for hit in hits])
        assert list(reply.versions) == [hit.document.version for hit in hits]
        assert [reply.author_names[at] for at in reply.authors] == ["anonymous"] * 18
        assert [msgpack.unpackb(each)["name"] for each in reply.payloads] == [
            payload_of(hit.document)["name"] for hit in hits
        ]
        assert set(msgpack.unpackb(reply.payloads[0])) == {"name", "n"}
        assert list(reply.texts) == [hit.document.text for hit in hits]
        rows = [data.vectors[data.ids.index(id_)] for id_ in reply.ids]
        assert np.array_equal(np.frombuffer(reply.vectors, "<f4").reshape(18, 4), rows)
        assert len(reply.explain.steps) == shards


def test_a_batch_without_columns_is_short(data: Data) -> None:
    """What the projection leaves out is not sent; a filter without matches gives counts of zero."""
    request = search_pb2.SearchBatchRequest(
        collection="l21",
        vectors=packed(data.vectors[:2]),
        options=search_pb2.SearchOptions(k=2, projection=common_pb2.Projection()),
    )
    reply = data.node.search.SearchBatch(request)
    assert (len(reply.ids), len(reply.payloads), len(reply.texts), reply.vectors) == (4, 0, 0, b"")
    request.options.filter.CopyFrom(equals("n", -1))
    reply = data.node.search.SearchBatch(request)
    assert (list(reply.counts), list(reply.ids), reply.scores) == ([0, 0], [], b"")


def test_a_stream_answers_each_and_outlives_failures(data: Data) -> None:
    """Every tag is answered once, as the search alone would be; a bad query is an error with its details."""

    def requests() -> Iterator[search_pb2.SearchStreamRequest]:
        for tag in range(60):
            request = search_pb2.SearchRequest(
                collection="nope" if tag % 10 == 7 else "l23",
                query=search_pb2.Query(vector=packed(data.vectors[tag])),
                options=search_pb2.SearchOptions(k=3, exact=True),
            )
            yield search_pb2.SearchStreamRequest(tag=tag, request=request)

    answers = {answer.tag: answer for answer in data.node.search.SearchStream(requests())}
    assert sorted(answers) == list(range(60))
    for tag, answer in answers.items():
        if tag % 10 == 7:
            assert answer.error.code == 5
            assert "nope" in answer.error.message
            assert len(answer.error.details) == 1
        else:
            assert found(answer.response) == found(search(data.node, "l23", data.vectors[tag], k=3))


def test_examples_are_a_query_and_not_among_the_hits(data: Data) -> None:
    """Search by examples: near to the positive, away from the negative, none of them among k hits."""
    for shards in (1, 3):
        positive, negative = [data.ids[0], data.ids[1]], [data.ids[2]]
        request = search_pb2.SearchRequest(
            collection=f"l2{shards}",
            query=search_pb2.Query(examples=search_pb2.Examples(positive=positive, negative=negative)),
            options=search_pb2.SearchOptions(k=10, offset=2, exact=True),
        )
        hits = [id_ for id_, _ in found(data.node.search.Search(request))]
        query = 2 * data.vectors[:2].mean(axis=0) - data.vectors[2]
        ranked = [id_ for id_, _ in scores(data, "l2", query) if id_ not in positive + negative]
        assert hits == ranked[2:12]
        request.query.examples.ClearField("negative")
        hits = [id_ for id_, _ in found(data.node.search.Search(request))]
        ranked = [id_ for id_, _ in scores(data, "l2", data.vectors[:2].mean(axis=0)) if id_ not in positive]
        assert hits == ranked[2:12]


def test_graph_search_is_near_exact_and_explains_itself(data: Data) -> None:
    """Without exact, with recall or ef, the best hit is the document itself; explain names each shard."""
    for options in ({"exact": False}, {"exact": False, "recall": 0.99}, {"exact": False, "ef": 100}):
        for shards in (1, 3):
            reply = search(data.node, f"cosine{shards}", data.vectors[10], explain=True, **options)
            assert reply.hits[0].document.id == data.ids[10]
            assert len(reply.hits) == 10
            assert [step.name.split()[0] for step in reply.explain.steps] == ["shard"] * shards


def test_projections_choose_parts(data: Data) -> None:
    """Nothing said: payload and text. Said: exactly that; fields cut the payload and ask for it."""
    (plain,) = get(data.node, "l23", [data.ids[4]])
    assert (set(payload_of(plain)), plain.text, plain.vector) == ({"n", "third", "name"}, "text 4", b"")
    (bare,) = get(data.node, "l23", [data.ids[4]], projection=common_pb2.Projection())
    assert (bare.payload, bare.text, bare.vector, bare.author) == (b"", "", b"", "anonymous")
    (cut,) = get(
        data.node, "l23", [data.ids[4]], projection=common_pb2.Projection(payload_fields=["n", "no"])
    )
    assert payload_of(cut) == {"n": 4}
    reply = search(
        data.node,
        "l23",
        data.vectors[4],
        k=1,
        projection=common_pb2.Projection(payload_fields=["name"], vector=True),
    )
    assert payload_of(reply.hits[0].document) == {"name": "doc 4"}
    assert unpacked(reply.hits[0].document.vector) == pytest.approx(data.vectors[4].tolist())


def test_timestamps_survive_a_projection(node: InProcessNode, name: Name) -> None:
    """A projected payload has its timestamps as they were stored, to the nanosecond."""
    create(node, c := name())
    stamp = msgpack.Timestamp(1_700_000_000, 123_456_789)
    request = documents_pb2.UpsertRequest(
        collection=c, ids=["x"], vectors=bytes(8), payloads=[msgpack.packb({"t": stamp, "b": 1})]
    )
    node.documents.Upsert(request)
    (cut,) = get(node, c, ["x"], projection=common_pb2.Projection(payload_fields=["t"]))
    assert cut.payload == msgpack.packb({"t": stamp})


def test_get_keeps_the_order_asked(data: Data) -> None:
    """Documents come in the order of the ids; missing ones are left out."""
    wanted = [data.ids[70], "no", data.ids[2], data.ids[50]]
    for shards in (1, 3):
        assert ids_of(get(data.node, f"dot{shards}", wanted)) == [wanted[0], wanted[2], wanted[3]]


@pytest.mark.parametrize("shards", [1, 3])
def test_scroll_goes_through_all_in_order_of_bytes(data: Data, shards: int) -> None:
    """Pages join to all documents in order of their ids' UTF-8 bytes, once each, and end with no cursor."""
    seen: list[str] = []
    cursor = b""
    pages = 0
    while pages == 0 or cursor:
        reply = data.node.documents.Scroll(
            documents_pb2.ScrollRequest(collection=f"l2{shards}", limit=17, cursor=cursor)
        )
        seen += ids_of(reply.documents)
        cursor = reply.next_cursor
        pages += 1
    assert seen == sorted(data.ids, key=str.encode)
    assert pages == 8


def test_scroll_takes_filters_and_defaults(data: Data) -> None:
    """With a filter only matching documents come; a page is 100 where nothing is said."""
    request = documents_pb2.ScrollRequest(collection="l23", filter=equals("third", 1))
    reply = data.node.documents.Scroll(request)
    assert ids_of(reply.documents) == sorted((data.ids[n] for n in range(1, COUNT, 3)), key=str.encode)
    assert not reply.next_cursor
    whole = data.node.documents.Scroll(documents_pb2.ScrollRequest(collection="l23"))
    assert len(whole.documents) == 100


def test_a_page_fits_into_a_message(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Large documents make pages shorter, never fail: half a message at most, one document at least."""
    limits = {"min_free_disk_bytes": 0, "max_message_bytes": 64 << 10, "max_payload_bytes": 50 << 10}
    with InProcessNode(tmp_path, limits=limits) as node:
        create(node, "c")
        for n in range(6):
            upsert(node, "c", [str(n)], [[1, 0]], payloads=[{"fill": "x" * (40_000 if n == 3 else 9_000)}])
        seen: list[list[str]] = []
        cursor = b""
        while not seen or cursor:
            reply = node.documents.Scroll(documents_pb2.ScrollRequest(collection="c", limit=6, cursor=cursor))
            seen.append(ids_of(reply.documents))
            cursor = reply.next_cursor
        assert [id_ for page in seen for id_ in page] == list("012345")
        assert seen == [["0", "1", "2"], ["3"], ["4", "5"]]


def test_counts_agree_with_filters(data: Data) -> None:
    """Every kind of condition counts what plain Python counts, over one shard and three."""
    f = filter_pb2.Filter
    n = filter_pb2.FieldValues(field="n", values=[value(3), value(5), value(500)])
    conditions = [
        (f(one_of=n), 2),
        (f(range=filter_pb2.Range(field="n", gte=value(10), lt=value(20))), 10),
        (f(range=filter_pb2.Range(field="n", gt=value(10.5), lte=value(20))), 10),
        (f(prefix=filter_pb2.Prefix(field="name", prefix="doc 11")), 11),
        (f(exists="third"), COUNT),
        (f(is_null="third"), 0),
        (f(**{"not": equals("third", 0)}), 80),
        (f(any=filter_pb2.FilterList(filters=[equals("n", 1), equals("n", 2)])), 2),
        (f(all=filter_pb2.FilterList(filters=[equals("third", 1), equals("n", 2)])), 0),
        (equals("@author", "anonymous"), COUNT),
        (equals("@author", "someone"), 0),
    ]  # fmt: skip
    for shards in (1, 3):
        assert count(data.node, f"l2{shards}") == COUNT
        for condition, wanted in conditions:
            assert count(data.node, f"l2{shards}", condition) == wanted, condition


def test_conditions_on_arrays_places_and_times(node: InProcessNode, name: Name) -> None:
    """any_of, all_of, geo and datetime conditions come through the wire as they are meant."""
    create(node, c := name())
    payloads = [
        {"tags": ["a", "b"], "at": {"lat": 52.5, "lon": 13.4}, "when": msgpack.Timestamp(1000, 0)},
        {"tags": ["b"], "at": {"lat": 48.1, "lon": 11.6}, "when": msgpack.Timestamp(2000, 0)},
    ]
    upsert(node, c, ["berlin", "munich"], payloads=payloads)
    f, v = filter_pb2.Filter, filter_pb2.Value
    tags = filter_pb2.FieldValues(field="tags", values=[value("a"), value("b")])
    when = filter_pb2.Range(field="when", gt=v(datetime_value={"seconds": 1500}))
    assert count(node, c, f(any_of=tags)) == 2
    assert count(node, c, f(all_of=tags)) == 1
    assert (
        count(node, c, f(geo_radius=filter_pb2.GeoRadius(field="at", lat=52.4, lon=13.1, metres=50_000))) == 1
    )
    box = filter_pb2.GeoBox(field="at", min_lat=48, min_lon=11, max_lat=49, max_lon=12)
    assert count(node, c, f(geo_box=box)) == 1
    assert count(node, c, f(range=when)) == 1


# --- slots ----------------------------------------------------------------------


@given(st.lists(st.text(min_size=1, max_size=20), unique=True, max_size=60), st.integers(1, 7))
def test_slots_deal_every_id_to_one_shard(ids: list[str], shards: int) -> None:
    """split is a partition that keeps order and agrees with shard_of; one shard gets everything."""
    numbers = tuple(range(10, 10 + shards))
    parts = slots.split(ids, numbers)
    assert sorted(at for positions in parts.values() for at in positions) == list(range(len(ids)))
    for shard, positions in parts.items():
        assert positions == sorted(positions)
        assert all(slots.shard_of(ids[at], numbers) == shard for at in positions)


def test_slots_are_pinned() -> None:
    """Where an id goes is for ever: these places must not change with a version of vecdb."""
    assert [slots.shard_of(id_, range(8)) for id_ in ("a", "b", "document-1", "\u00e4")] == [1, 0, 5, 0]


@given(st.text(max_size=4), st.text(max_size=6))
def test_before_a_prefix_lies_nothing_of_it(prefix: str, rest: str) -> None:
    """The id before a prefix sorts before every id with the prefix, in code points as in UTF-8."""
    before = _before(prefix)
    if before is not None:
        assert before < prefix + rest
        assert before.encode("utf-8", "surrogatepass") < (prefix + rest).encode("utf-8", "surrogatepass")
    elif prefix.strip("\0"):
        raise AssertionError("only an empty prefix, or one of NULs, has nothing before it")
