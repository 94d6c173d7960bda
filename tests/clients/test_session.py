from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import vecdb_client as vc
from hypothesis import given
from hypothesis import strategies as st
from vecdb_client._session import Session
from vecdb_proto.v1 import collections_pb2, common_pb2, documents_pb2, search_pb2

from tests.clients.scripted import Fail, ScriptedServer


def token(positions: dict[int, int], catalogue: int = 0, epoch: int = 5) -> common_pb2.SessionToken:
    places = [common_pb2.ShardPosition(shard=s, index=i) for s, i in positions.items()]
    return common_pb2.SessionToken(epoch=epoch, catalogue=catalogue, positions=places)


def seen(session: Session) -> common_pb2.SessionToken:
    options = session.read_options("session", False)
    return common_pb2.SessionToken() if options is None else options.session


def as_dict(message: common_pb2.SessionToken) -> dict[int, int]:
    return {place.shard: place.index for place in message.positions}


seen_positions = st.dictionaries(st.integers(1, 5), st.integers(0, 50), max_size=5)


@given(st.lists(st.tuples(seen_positions, st.integers(0, 9)), max_size=6))
def test_merging_takes_the_highest_of_each(replies: list[tuple[dict[int, int], int]]) -> None:
    """After any replies, in any order, the session holds the highest index of each."""
    session = Session()
    highest: dict[int, int] = {}
    for positions, catalogue in replies:
        session.merge(token(positions, catalogue))
        for shard, index in positions.items():
            highest[shard] = max(index, highest.get(shard, 0))
    assert as_dict(seen(session)) == highest
    assert seen(session).catalogue == max((catalogue for _, catalogue in replies), default=0)
    assert seen(Session(session.token)) == seen(session)


def test_threads_may_share_a_session() -> None:
    """Replies merged from many threads lose no position."""
    session = Session()

    def work(shard: int) -> None:
        for index in range(1, 300):
            session.merge(token({shard: index, 99: index * 10 + shard}))

    threads = [threading.Thread(target=work, args=(shard,)) for shard in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert as_dict(seen(session)) == {**dict.fromkeys(range(8), 299), 99: 2997}


def test_reads_carry_what_writes_have_told(server: ScriptedServer, db: Any) -> None:
    """Read-your-writes: positions of a write's reply go with the next read; before, nothing is sent."""
    server.script("Documents/Upsert", documents_pb2.WriteResponse(count=1, session=token({3: 12}, 4)))
    server.script("Search/Search", search_pb2.SearchResponse(session=token({3: 15}, 4)))
    db.search("c", vector=[1.0])
    assert not server.requests["Search/Search"][0].HasField("read")
    db.upsert("c", ids=["a"], vectors=[[1.0]])
    db.search("c", vector=[1.0])
    read = server.requests["Search/Search"][1].read
    assert read.consistency == common_pb2.CONSISTENCY_SESSION
    assert as_dict(read.session) == {3: 15}  # monotonic: the first search had seen 15 already
    assert (read.session.epoch, read.session.catalogue) == (5, 4)


def test_a_token_hands_on_what_was_seen(server: ScriptedServer, connect: Callable[..., Any]) -> None:
    """Another client with the token reads at least that, and merges what it sees itself."""
    server.script("Documents/Count", documents_pb2.CountResponse(session=token({1: 7})))
    first = connect(server.address)
    assert first.session == ""
    first.count("c")
    second = connect(server.address, session=first.session)
    assert second.session == first.session
    server.script("Documents/Count", documents_pb2.CountResponse(session=token({2: 9})))
    second.count("c")
    assert as_dict(server.requests["Documents/Count"][1].read.session) == {1: 7}
    first.merge_session(second.session.encode())
    assert first.session == second.session


def test_a_write_identity_is_not_handed_on(server: ScriptedServer, connect: Callable[..., Any]) -> None:
    """Two clients of one session count their writes under different names."""
    server.script("Documents/Delete", documents_pb2.WriteResponse(session=token({1: 1})))
    first = connect(server.address)
    first.delete("c", ["a"])
    connect(server.address, session=first.session).delete("c", ["a"])
    ids = {request.options.session_id for request in server.requests["Documents/Delete"]}
    assert len(ids) == 2


def test_a_restored_cluster_is_told_once_and_can_be_begun_anew(server: ScriptedServer, db: Any) -> None:
    """Another epoch does not replace what was seen; the refused read says so; forgetting begins anew."""
    server.script("Documents/Delete", documents_pb2.WriteResponse(session=token({1: 9}, epoch=5)))
    db.delete("c", ["a"])
    before = db.session
    server.script("Documents/Delete", documents_pb2.WriteResponse(session=token({1: 2}, epoch=6)))
    db.delete("c", ["a"])
    assert db.session == before

    def count(request: documents_pb2.CountRequest, _context: Any) -> Any:
        stale = request.read.session.positions and request.read.session.epoch != 6
        failure = Fail(grpc.StatusCode.FAILED_PRECONDITION, "restored", "STALE_SESSION")
        return failure if stale else documents_pb2.CountResponse(count=1, session=token({1: 2}, epoch=6))

    server.script("Documents/Count", count)
    with pytest.raises(vc.StaleSessionError):
        db.count("c")
    db.forget_session()
    assert db.session == ""
    assert db.count("c") == 1
    assert db.count("c") == 1
    assert server.requests["Documents/Count"][-1].read.session.epoch == 6


@pytest.mark.parametrize(
    ("consistency", "number"),
    [("eventual", common_pb2.CONSISTENCY_EVENTUAL), ("linearizable", common_pb2.CONSISTENCY_LINEARIZABLE)],
)
def test_a_read_may_ask_for_another_consistency(
    server: ScriptedServer, connect: Callable[..., Any], consistency: str, number: int
) -> None:
    """Consistency is the client's setting or the call's; only session reads carry positions."""
    described = collections_pb2.DescribeCollectionResponse(session=token({1: 1}))
    server.script("Collections/Describe", described)
    db = connect(server.address)
    db.describe("c")
    db.describe("c", consistency=consistency)
    connect(server.address, consistency=consistency).describe("c")
    for request in server.requests["Collections/Describe"][1:]:
        assert request.read.consistency == number
        assert not request.read.HasField("session")
    with pytest.raises(ValueError, match="consistency"):
        db.describe("c", consistency="strong")


def test_a_token_that_is_none_is_refused() -> None:
    """Text that no client gave out is a ValueError, also where it is base64."""
    for text in ("%%", "AAA", "_____w=="):
        with pytest.raises(ValueError, match="no session token"):
            Session(text)
