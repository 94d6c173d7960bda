"""SearchStream, and messages that are none."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from vecdb_proto.v1 import collections_pb2, search_pb2

from tests.support.inprocess import InProcessNode, refusal
from tests.unit.vecdb.api.bad_input import DIM


def _query(tag: int, collection: str = "vecs") -> search_pb2.SearchStreamRequest:
    vector = np.eye(DIM, dtype=np.float32)[tag % 2].tobytes()
    request = search_pb2.SearchRequest(collection=collection, query=search_pb2.Query(vector=vector))
    return search_pb2.SearchStreamRequest(tag=tag, request=request)


def test_an_answer_does_not_wait_for_the_next_query(node: InProcessNode) -> None:
    """A client that sends one query and waits is answered while its stream stays open."""
    asked: queue.Queue[Any] = queue.Queue()
    stream = node.search.SearchStream(iter(asked.get, None), timeout=20)
    for tag in range(3):
        asked.put(_query(tag))
        answer = next(stream)
        assert (answer.tag, answer.response.hits[0].document.id) == (tag, "ab"[tag % 2])
    asked.put(None)
    assert list(stream) == []


def test_every_query_of_a_stream_is_answered_once(node: InProcessNode) -> None:
    """More queries than are worked on at a time, some of them bad: each tag comes back, once."""
    asked = [_query(tag, "vecs" if tag % 5 else "nowhere") for tag in range(100)]
    answers = {answer.tag: answer for answer in node.search.SearchStream(iter(asked), timeout=20)}
    assert sorted(answers) == list(range(100))
    assert all((answer.error.code == 5) == (tag % 5 == 0) for tag, answer in answers.items())


def test_a_stream_may_be_left_in_the_middle(node: InProcessNode) -> None:
    """A client that goes away leaves a node that serves the next one."""

    def endless() -> Iterator[search_pb2.SearchStreamRequest]:
        tag = 0
        while True:
            yield _query(tag)
            tag += 1

    stream = node.search.SearchStream(endless(), timeout=20)
    assert len({next(stream).tag for _ in range(40)}) == 40
    stream.cancel()
    assert next(node.search.SearchStream(iter([_query(7)]))).tag == 7


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xff\xff", id="no protobuf"),
        pytest.param(b"\x0a\x02\xff\xfe", id="a name that is no UTF-8"),
        pytest.param(b"\x1a\xff\xff\xff\x7f", id="a length beyond the end"),
    ],
)
def test_bytes_that_are_no_message_are_refused(node: InProcessNode, data: bytes) -> None:
    """They get INVALID_ARGUMENT naming the message that was expected, on calls and on streams."""
    raw = node.channel.unary_unary("/vecdb.v1.Search/Search", lambda data: data, lambda data: data)
    told = refusal(lambda: raw(data))
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_ARGUMENT")
    assert "vecdb.v1.SearchRequest" in told.message
    streamed = node.channel.stream_stream(
        "/vecdb.v1.Search/SearchStream", lambda data: data, lambda data: data
    )
    told = refusal(lambda: list(streamed(iter([b"\xff\xff\xff"]))))
    assert told.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "vecdb.v1.SearchStreamRequest" in told.message


@pytest.mark.parametrize("name", ["n" * 8_000, "ü" * 30_000, "😀" * 3_000])
def test_long_words_in_a_request_leave_room_for_the_answer(node: InProcessNode, name: str) -> None:
    """What is quoted in an error is cut, so that its trailers stay within what clients take."""
    request = collections_pb2.DescribeCollectionRequest(collection=name)
    told = refusal(lambda: node.collections.Describe(request))
    assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND")
    assert told.message.endswith("...")
