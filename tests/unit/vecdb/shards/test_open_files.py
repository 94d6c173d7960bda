"""The limit of open files: raised at the start, kept clear of, and told apart from other trouble."""

from __future__ import annotations

import errno
import itertools
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from vecdb_index import Schema, Shard, ShardOptions
from vecdb_replication.host import StorageFull

from tests.support.inprocess import InProcessNode, refusal
from tests.unit.vecdb.catalog.records import record
from tests.unit.vecdb.query.requests import create
from vecdb.catalog import CatalogMachine, CreateCollection, Genesis, encode
from vecdb.shards import open_files

SCHEMA = Schema(dim=4, metric="l2", index="hnsw", target_recall=0.95)


@contextmanager
def limited(spare: int) -> Iterator[None]:
    """With room for so many more open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The limit is on their numbers, and some lower ones may be free.
    taken = {int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists()}
    limit = next(at for at in itertools.count() if len(set(range(at)) - taken) == spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def failure_of(work: Callable[[], Any]) -> Exception | None:
    try:
        work()
    except Exception as error:
        return error
    return None


def test_a_node_takes_all_the_files_it_may_have(tmp_path: Path) -> None:
    """After the start the soft limit is the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with limited(300), InProcessNode(tmp_path):
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_creation_beyond_the_limit_is_refused_before_it_begins(tmp_path: Path) -> None:
    """Shards for which the files would not do are LIMIT_EXCEEDED; fewer shards are taken; reads go on."""
    with InProcessNode(tmp_path) as node:
        create(node, "first")
        with limited(open_files.RESERVE + 3 * open_files.A_SHARD):
            refused = refusal(lambda: create(node, "many", shards=8))
            assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
            assert "open files" in refused.message
            create(node, "one")
        assert sorted(node.node_database().state.collections) == ["first", "one"]


@pytest.mark.parametrize("spare", range(5))
def test_a_shard_that_finds_no_file_left_says_so(tmp_path: Path, spare: int) -> None:
    """Whichever of its files cannot be opened, the error is known for what it is."""
    with limited(spare):
        error = failure_of(lambda: Shard.create(tmp_path / "shard", SCHEMA, ShardOptions(threads=1)))
        assert error is not None
        short = open_files.are_short(error)
    assert short


def test_where_no_file_is_left_none_can_be_counted() -> None:
    """To look takes a file itself: without one all are in use."""
    with limited(0):
        why = open_files.why_not(1)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert f"{limit} of the {limit}" in why
    assert open_files.why_not(1) == ""


def test_other_errors_are_not_taken_for_it(tmp_path: Path) -> None:
    """With files to spare a folder that is missing is something else."""
    error = failure_of(lambda: Shard.open(tmp_path / "nothing", ShardOptions(threads=1)))
    assert error is not None
    assert not open_files.are_short(error)


def test_a_creation_that_runs_out_of_files_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told of open files and of no path of the server; the name is free again."""

    def without(path: Path, *rest: Any) -> Shard:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    with InProcessNode(tmp_path) as node:
        with monkeypatch.context() as patch:
            patch.setattr("vecdb.shards.shard_set.Shard.create", without)
            refused = refusal(lambda: create(node, "c", shards=2))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert "open files" in refused.message
        assert str(tmp_path) not in refused.message
        create(node, "c", shards=2)


def test_a_catalogue_without_files_waits_for_them(tmp_path: Path) -> None:
    """An entry that finds no file left is applied later rather than never."""
    machine = CatalogMachine(tmp_path / "catalogue")
    machine.apply([(1, encode(Genesis("c" * 32, 1)))])
    entry = (2, encode(CreateCollection(record("c", shards=()), 1)))
    with limited(0), pytest.raises(StorageFull):
        machine.apply([entry])
    assert machine.applied_index == 1
    machine.apply([entry])
    assert "c" in CatalogMachine(tmp_path / "catalogue").state.collections
