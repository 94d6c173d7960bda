"""Session tokens and levels of consistency, through a running node and on a host that falls behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from vecdb_proto.v1 import collections_pb2, common_pb2, documents_pb2, knowledge_pb2, search_pb2
from vecdb_replication.host import GroupBlocked

from tests.support.faultfs import FaultFileSystem
from tests.support.inprocess import InProcessNode, refusal
from tests.unit.replication.host.machines import Words, hosting
from tests.unit.vecdb.query.requests import count, create, packed, search, shard_positions, upsert
from vecdb.query import RequestError, sessions
from vecdb.query.sessions import Freshness, Level, Positions, await_fresh

Name = Callable[[], str]
READ = common_pb2.ReadOptions
EVENTUAL, SESSION, LINEARIZABLE = 1, 2, 3


def reads(node: InProcessNode, c: str, read: common_pb2.ReadOptions) -> list[Callable[[], Any]]:
    """Every method that reads documents."""
    query = search_pb2.Query(vector=packed([0, 0]))
    return [
        lambda: node.documents.Count(documents_pb2.CountRequest(collection=c, read=read)),
        lambda: node.documents.Get(documents_pb2.GetRequest(collection=c, ids=["a"], read=read)),
        lambda: node.documents.Scroll(documents_pb2.ScrollRequest(collection=c, read=read)),
        lambda: node.search.Search(search_pb2.SearchRequest(collection=c, query=query, read=read)),
        lambda: node.search.SearchBatch(
            search_pb2.SearchBatchRequest(collection=c, vectors=packed([0, 0]), read=read)
        ),
        lambda: node.collections.Describe(collections_pb2.DescribeCollectionRequest(collection=c, read=read)),
        lambda: node.knowledge.ListSources(knowledge_pb2.ListSourcesRequest(collection=c, read=read)),
    ]


def test_every_reply_tells_positions(node: InProcessNode, name: Name) -> None:
    """Writes and reads carry the epoch, the catalogue's index, and the shards' positions."""
    info = create(node, c := name(), shards=2)
    shards = {each.shard for each in info.shards}
    wrote = upsert(node, c, [str(n) for n in range(20)]).session
    assert set(shard_positions(wrote)) == shards
    assert wrote.epoch
    for read in reads(node, c, READ(session=wrote)):
        token = read().session
        assert (token.epoch, token.catalogue) == (wrote.epoch, wrote.catalogue)
        assert shard_positions(token) == shard_positions(wrote)
    assert shard_positions(search(node, c, [0, 0]).session) == shard_positions(wrote)


@pytest.mark.parametrize("level", [0, EVENTUAL, SESSION, LINEARIZABLE])
def test_every_level_reads_its_own_writes_on_one_node(node: InProcessNode, name: Name, level: int) -> None:
    """What was acknowledged is seen at each level, with a token and without."""
    create(node, c := name())
    for n in range(5):
        session = upsert(node, c, [str(n)]).session
        assert count(node, c, consistency=level) == n + 1
        assert count(node, c, consistency=level, session=session, require_all=True) == n + 1


def test_a_token_of_another_epoch_is_stale(node: InProcessNode, name: Name) -> None:
    """Every read refuses it with FAILED_PRECONDITION, but an eventual one, which asks for nothing."""
    create(node, c := name())
    session = upsert(node, c, ["a"]).session
    session.epoch += 1
    for read in reads(node, c, READ(session=session)):
        refused = refusal(read)
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STALE_SESSION")
    assert count(node, c, consistency=EVENTUAL, session=session) == 1
    session.epoch = 0
    assert count(node, c, session=session) == 1


def test_a_token_with_a_shard_that_never_was_is_refused(node: InProcessNode, name: Name) -> None:
    """Shard ids are unique for ever: a token naming one that was never allotted is not of this data."""
    create(node, c := name())
    session = upsert(node, c, ["a"]).session
    session.positions.add(shard=1_000_000, index=1)
    for read in reads(node, c, READ(session=session)):
        refused = refusal(read)
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UNKNOWN_SHARD")
        assert refused.metadata == {"shard": "1000000"}


def test_a_token_outlives_a_dropped_collection(node: InProcessNode, name: Name) -> None:
    """Positions of shards that were dropped do no harm, also after a restart."""
    create(node, c := name())
    create(node, gone := name())
    upsert(node, c, ["a"])
    session = upsert(node, gone, ["a"]).session
    node.collections.Drop(collections_pb2.DropCollectionRequest(collection=gone))
    assert count(node, c, session=session) == 1
    node.restart()
    assert count(node, c, session=session) == 1


def test_a_list_is_as_fresh_as_it_is_asked(node: InProcessNode, name: Name) -> None:
    """List sees what the session has seen, and refuses a token of another epoch and an unknown level."""
    create(node, c := name())
    session = upsert(node, c, ["a"]).session

    def names(**read: Any) -> list[str]:
        request = collections_pb2.ListCollectionsRequest(read=READ(**read))
        return [each.config.name for each in node.collections.List(request).collections]

    for level in (0, EVENTUAL, SESSION, LINEARIZABLE):
        assert c in names(session=session, consistency=level)
    refused = refusal(lambda: names(consistency=77))
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["read.consistency"])
    session.epoch += 1
    refused = refusal(lambda: names(session=session))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STALE_SESSION")


def test_a_position_that_no_log_has_got_to_is_refused_at_once(node: InProcessNode, name: Name) -> None:
    """One beyond the end of a shard's log, or the catalogue's, cannot be of this data."""
    (shard,) = create(node, c := name()).shards
    session = upsert(node, c, ["a"]).session
    ahead = READ(session=session)
    ahead.session.catalogue += 1_000
    further = READ(session=session)
    further.session.ClearField("positions")
    further.session.positions.add(shard=shard.shard, index=1_000)
    begun = time.monotonic()
    listing = collections_pb2.ListCollectionsRequest(read=ahead)
    for call in (
        *reads(node, c, ahead),
        *reads(node, c, further),
        lambda: node.collections.List(listing),
    ):
        refused = refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STALE_SESSION")
        assert "whose log ends at" in refused.message
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize("group", [1, 5])
async def test_a_read_waits_for_its_session_and_no_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    """A shard or a catalogue behind the session is waited for; where it stays behind it is UNAVAILABLE."""
    monkeypatch.setattr(sessions, "_BEHIND_SECONDS", 0.05)
    machines = {1: Words(), 5: Words()}
    async with hosting(FaultFileSystem(), machines) as (host, _):
        machines[group].full = True
        with pytest.raises(GroupBlocked):
            await host.propose(group, b"x")
        seen = Positions(9, *((2, {}) if group == 1 else (1, {5: 2})))
        with pytest.raises(RequestError) as caught:
            await await_fresh(host, 9, [5], Freshness(Level.SESSION, seen))
        assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "STALE_SESSION")
        assert caught.value.metadata == {"shard": str(group)}
        assert caught.value.retry_after
        await await_fresh(host, 9, [5], Freshness(Level.EVENTUAL, seen))
        monkeypatch.setattr(sessions, "_BEHIND_SECONDS", 5.0)
        machines[group].full = False
        await await_fresh(host, 9, [5], Freshness(Level.SESSION, seen))
        assert machines[group].applied_index == 2


async def test_a_linearizable_read_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where durable entries find no room to be applied, a linearizable read ends in UNAVAILABLE."""
    monkeypatch.setattr(sessions, "_BEHIND_SECONDS", 0.05)
    words = Words()
    async with hosting(FaultFileSystem(), {1: Words(), 5: words}) as (host, _):
        words.full = True
        with pytest.raises(GroupBlocked, match="no room"):
            await host.propose(5, b"x")
        with pytest.raises(RequestError) as caught:
            await await_fresh(host, 9, [5], Freshness(Level.LINEARIZABLE))
        assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "STALE_SESSION")
        words.full = False
