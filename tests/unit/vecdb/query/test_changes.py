"""Changes to the set of collections: whole or not at all, whoever goes away in their middle."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from vecdb_proto.v1 import cluster_pb2, collections_pb2

from tests.support.inprocess import InProcessNode, Refused, refusal
from tests.unit.vecdb.catalog.records import record
from tests.unit.vecdb.query.requests import create
from vecdb.catalog import CATALOG_GROUP, AlterCollection, CreateCollection, DropCollection, encode
from vecdb.shards import ShardSet

C = collections_pb2
Name = Callable[[], str]


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcessNode]:
    """A node that looks after its shards many times a second."""
    monkeypatch.setattr("vecdb.node._UPKEEP_SECONDS", 0.05)
    with InProcessNode(tmp_path) as node:
        yield node


def within(seconds: float, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.01)


def is_whole(node: InProcessNode) -> bool:
    """Whether shards, folders and groups are those of the catalogue, with its fields."""
    db = node.node_database()
    state = db.state
    wanted = {shard: each for each in state.collections.values() for shard in each.shards}
    folders = {path.name for path in (node.data_dir / "shards").iterdir()}
    return (
        len(db.shards) == len(wanted)
        and all(
            shard in db.shards
            and {spec.name: spec.type.value for spec in db.shards.get(shard).schema.fields}
            == dict(each.fields)
            for shard, each in wanted.items()
        )
        and folders == {str(shard) for shard in wanted}
        and set(node.run(db.host.groups)) == {CATALOG_GROUP, *wanted}
    )


def listed(node: InProcessNode) -> dict[str, C.CollectionInfo]:
    infos = node.collections.List(C.ListCollectionsRequest()).collections
    return {info.config.name: info for info in infos}


async def cancelled_after_the_catalogue(node: InProcessNode, change: Callable[[], Any]) -> None:
    """Cancel a change as soon as the catalogue has its part."""
    catalog = node.node_database().catalog
    before = catalog.state
    task = asyncio.ensure_future(change())
    while catalog.state is before:  # noqa: ASYNC110  it is replaced in another thread
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_cancelled_change_is_finished_all_the_same(tmp_path: Path) -> None:
    """Create, alter and drop that are cancelled between catalogue and shards have their whole effect."""
    with InProcessNode(tmp_path) as node:
        db = node.node_database()
        made = record("c", shards=(), fields=(("year", "int"),))
        for change in (
            lambda: db.create(made, 4, False),
            lambda: db.alter(AlterCollection("c", (("lang", "keyword"),), ("year",))),
            lambda: db.drop("c"),
        ):
            node.run(lambda change=change: cancelled_after_the_catalogue(node, change))  # type: ignore[misc]
            # Well before upkeep has its turn.
            within(1.5, lambda: is_whole(node))
        assert not db.state.collections


def test_creations_that_run_out_of_time_leave_nothing_apart(quick: InProcessNode) -> None:
    """After many creations with short deadlines every collection has its shards, is listed, and works."""
    rng = random.Random(7)
    for at in range(40):
        request = C.CreateCollectionRequest(config=C.CollectionConfig(name=f"c{at}", dim=2, shards=3))
        with suppress(grpc.RpcError):
            quick.collections.Create(request, timeout=rng.uniform(0.001, 0.06))
    within(10, lambda: not quick.node_database().under_way and is_whole(quick))
    assert listed(quick).keys() == quick.node_database().state.collections.keys()
    for name, info in listed(quick).items():
        assert info.index_state == C.INDEX_STATE_INDEXED
        quick.collections.Drop(C.DropCollectionRequest(collection=name))
    assert is_whole(quick)


def test_a_change_in_progress_is_waited_for_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that stops in the middle of a creation finishes it: nothing is open, all is there later."""
    ensure = ShardSet.ensure

    async def slow(self: ShardSet, wanted: Any) -> None:
        await asyncio.sleep(0.3)
        await ensure(self, wanted)

    monkeypatch.setattr(ShardSet, "ensure", slow)
    with InProcessNode(tmp_path) as node:
        db = node.node_database()
        change = lambda: db.create(record("c", shards=(), fields=()), 2, False)  # noqa: E731
        node.run(lambda: cancelled_after_the_catalogue(node, change))
        assert len(db.shards) == 0
    assert sorted(path.name for path in (node.data_dir / "shards").iterdir()) == ["2", "3"]


def test_the_shards_are_driven_to_the_catalogue(quick: InProcessNode) -> None:
    """What only the catalogue knows of (a change whose other half failed) comes about by itself."""
    host = quick.node_database().host
    for command in (
        CreateCollection(record("c", shards=(), fields=(("year", "int"),)), 2),
        AlterCollection("c", (("lang", "keyword"),)),
        DropCollection("c"),
    ):
        quick.run(lambda command=command: host.propose(CATALOG_GROUP, encode(command)))  # type: ignore[misc]
        within(5, lambda: is_whole(quick))


def test_a_collection_without_its_shards_is_told_of(
    quick: InProcessNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """List and Status have it, as being indexed; the other collections are cared for; then it is made."""
    ensure = ShardSet.ensure
    hindered = {"bad"}

    async def failing(self: ShardSet, wanted: Any) -> None:
        if wanted.name in hindered:
            raise OSError("not now")
        await ensure(self, wanted)

    monkeypatch.setattr(ShardSet, "ensure", failing)
    db = quick.node_database()
    for name in ("bad", "good"):
        command = CreateCollection(record(name, shards=(), fields=()), 2)
        quick.run(lambda command=command: db.host.propose(CATALOG_GROUP, encode(command)))  # type: ignore[misc]
    within(5, lambda: listed(quick)["good"].index_state == C.INDEX_STATE_INDEXED and bool(db.lacking))
    assert db.lacking == {"bad": "not now"}
    bad = listed(quick)["bad"]
    assert (bad.index_state, bad.documents, bad.calibrated_recall) == (C.INDEX_STATE_INDEXING, 0, 0.0)
    status = quick.cluster.Status(cluster_pb2.ClusterStatusRequest())
    shards = {each.info.shard: each for each in status.shards if each.collection == "bad"}
    assert shards.keys() == set(db.state.collections["bad"].shards)
    assert not any(each.info.leader for each in shards.values())
    describe = C.DescribeCollectionRequest(collection="bad")
    assert refusal(lambda: quick.collections.Describe(describe)).code is grpc.StatusCode.UNAVAILABLE
    hindered.clear()
    within(5, lambda: is_whole(quick) and not db.lacking)
    assert quick.collections.Describe(describe).collection.index_state == C.INDEX_STATE_INDEXED


def test_a_drop_that_fails_halfway_is_finished(quick: InProcessNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the shards' part of a drop fails, files and groups go a moment later."""
    create(quick, "c", shards=2)
    with monkeypatch.context() as patch:
        patch.setattr("vecdb.shards.shard_set.shutil.rmtree", _refuse)
        refused = refusal(lambda: quick.collections.Drop(C.DropCollectionRequest(collection="c")))
        assert refused.code is grpc.StatusCode.INTERNAL
        within(5, lambda: bool(quick.node_database().lacking))
    within(5, lambda: is_whole(quick))
    assert not listed(quick)


def _refuse(path: Path) -> None:
    raise OSError("not now")


# --- limits -------------------------------------------------------------------


def at_once(calls: list[Callable[[], Any]]) -> list[Refused]:
    """Make calls at the same time; returns the refusals."""

    def tried(call: Callable[[], Any]) -> Refused | None:
        try:
            call()
        except grpc.RpcError as error:
            return Refused(error)
        return None

    with ThreadPoolExecutor(len(calls)) as pool:
        return [refused for refused in pool.map(tried, calls) if refused is not None]


def test_creations_at_once_do_not_pass_the_limit(tmp_path: Path) -> None:
    """Of twelve creations at once under a limit of 3 three are taken, the others are LIMIT_EXCEEDED."""
    with InProcessNode(tmp_path, limits={"min_free_disk_bytes": 0, "max_collections": 3}) as node:
        refused = at_once([partial(create, node, f"c{n}") for n in range(12)])
        assert {(each.code, each.reason) for each in refused} == {
            (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        }
        assert (len(refused), len(listed(node))) == (9, 3)


def test_alterations_at_once_do_not_pass_the_limit_of_fields(node: InProcessNode, name: Name) -> None:
    """Of four alterations that add 40 fields each one is taken."""
    create(node, c := name())

    def add(group: int) -> None:
        fields = [C.Field(name=f"f{group}_{n}", type=C.FIELD_TYPE_INT) for n in range(40)]
        node.collections.Alter(C.AlterCollectionRequest(collection=c, add_fields=fields))

    refused = at_once([partial(add, group) for group in range(4)])
    assert [(each.code, each.reason) for each in refused] == [
        (grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED")
    ] * 3
    assert len(listed(node)[c].config.fields) == 40
