"""Writes through a running node: conditions, filters, retries, and shards that are independent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
import msgpack
import numpy as np
import pytest
from vecdb_index import Failure, Update, Upsert
from vecdb_index.results import ApplyResult
from vecdb_proto.v1 import documents_pb2

from tests.support.inprocess import InProcessNode, refusal
from tests.unit.vecdb.query.requests import (
    ALL,
    count,
    create,
    equals,
    get,
    ids_of,
    payload_of,
    shard_positions,
    unpacked,
    upsert,
    write,
)
from vecdb.query import RequestError, writes
from vecdb.query.slots import shard_of
from vecdb.query.writes import Outcome, Refusal

Name = Callable[[], str]


def update(collection: str, payload: Any = None, **fields: Any) -> documents_pb2.UpdateRequest:
    data = b"" if payload is None else msgpack.packb(payload)
    return documents_pb2.UpdateRequest(collection=collection, payload=data, **fields)


def delete(collection: str, **fields: Any) -> documents_pb2.DeleteRequest:
    return documents_pb2.DeleteRequest(collection=collection, **fields)


def apart(shards: Any, count: int) -> list[str]:
    """Ids that go to each of the shards in turn."""
    made = []
    for at in range(count):
        wanted = shards[at % len(shards)]
        made.append(next(f"{at}-{n}" for n in range(999) if shard_of(f"{at}-{n}", shards) == wanted))
    return made


# --- what is stored -------------------------------------------------------------


def test_what_is_written_is_read_back(node: InProcessNode, name: Name) -> None:
    """Vector, payload bytes, text, author, time and version come back; the version is the log index."""
    create(node, c := name())
    payload = msgpack.packb({"z": 1, "a": [1, {"b": None}], "t": msgpack.Timestamp(5, 6)})
    reply = node.documents.Upsert(
        documents_pb2.UpsertRequest(
            collection=c, ids=["x"], vectors=b"\0\0\x80?\0\0\0@", texts=["words"], payloads=[payload]
        )
    )
    assert reply.count == 1
    (position,) = reply.positions
    (document,) = get(node, c, ["x"], projection=ALL)
    assert (document.id, document.text, document.payload) == ("x", "words", payload)
    assert unpacked(document.vector) == [1.0, 2.0]
    assert document.version == position.index
    assert document.author == "anonymous"
    assert document.written_at_ms > 1_600_000_000_000
    assert not document.HasField("source")


def test_an_upsert_replaces_the_whole_document(node: InProcessNode, name: Name) -> None:
    """A second upsert leaves nothing of the first: payload and text that are not given are gone."""
    create(node, c := name())
    upsert(node, c, ["x"], payloads=[{"a": 1}], texts=["old"])
    upsert(node, c, ["x"], [[5, 5]])
    (document,) = get(node, c, ["x"], projection=ALL)
    assert (payload_of(document), document.text, unpacked(document.vector)) == ({}, "", [5.0, 5.0])
    assert count(node, c) == 1


def test_an_update_sets_removes_and_replaces_keys(node: InProcessNode, name: Name) -> None:
    """update merges top-level keys, removes named ones, or replaces the payload; the vector stays."""
    create(node, c := name())
    upsert(node, c, ["x"], [[1, 2]], payloads=[{"a": 1, "b": {"c": 2}, "d": 3}], texts=["t"])
    assert node.documents.Update(update(c, {"b": 5, "e": 6}, ids=["x"], remove_keys=["d"])).count == 1
    (document,) = get(node, c, ["x"], projection=ALL)
    assert payload_of(document) == {"a": 1, "b": 5, "e": 6}
    assert (document.text, unpacked(document.vector)) == ("t", [1.0, 2.0])
    node.documents.Update(update(c, {"only": 1}, ids=["x"], replace=True))
    assert payload_of(get(node, c, ["x"])[0]) == {"only": 1}
    node.documents.Update(update(c, ids=["x"], replace=True))
    assert payload_of(get(node, c, ["x"])[0]) == {}


def test_an_update_of_some_missing_ids_tells_which(node: InProcessNode, name: Name) -> None:
    """Missing ids are failures with NOT_FOUND at their places; the others are changed. All missing fails."""
    for shards in (1, 4):
        create(node, c := name(), shards=shards)
        upsert(node, c, ["a", "b"])
        reply = node.documents.Update(update(c, {"k": 1}, ids=["no", "a", "nor", "b"]))
        assert reply.count == 2
        assert [(f.position, f.code, f.reason) for f in reply.failures] == [
            (0, 5, "BAD_ID"),
            (2, 5, "BAD_ID"),
        ]
        refused = refusal(lambda c=c: node.documents.Update(update(c, {"k": 1}, ids=["no", "nor"])))  # type: ignore[misc]
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "BAD_ID")
        assert refused.fields == ["ids[0]"]


def test_a_deletion_of_missing_ids_is_no_error(node: InProcessNode, name: Name) -> None:
    """delete counts those that were there."""
    create(node, c := name(), shards=3)
    upsert(node, c, ["a", "b", "c"])
    assert node.documents.Delete(delete(c, ids=["a", "no", "c"])).count == 2
    assert node.documents.Delete(delete(c, ids=["a"])).count == 0
    assert ids_of(get(node, c, ["a", "b", "c"])) == ["b"]


# --- conditions -----------------------------------------------------------------


def test_if_version_guards_every_kind_of_write(node: InProcessNode, name: Name) -> None:
    """The version must be the stored one, 0 means new, -1 anything; a conflict changes nothing."""
    create(node, c := name())
    version = upsert(node, c, ["x"], payloads=[{"n": 1}]).positions[0].index
    before = node.fingerprint(c)
    stale = version - 1
    for attempt in (
        lambda: upsert(node, c, ["x"], if_versions=[stale]),
        lambda: upsert(node, c, ["x"], if_versions=[0]),
        lambda: upsert(node, c, ["new"], if_versions=[version]),
        lambda: node.documents.Update(update(c, {"n": 2}, ids=["x"], if_versions=[stale])),
        lambda: node.documents.Delete(delete(c, ids=["x"], if_versions=[stale])),
    ):
        refused = refusal(attempt)
        assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "VERSION_CONFLICT")
        assert refused.fields == ["ids[0]"]
        assert (node.fingerprint(c)[0], node.fingerprint(c)[2][0][2]) == (before[0], before[2][0][2])
    version = node.documents.Update(update(c, {"n": 2}, ids=["x"], if_versions=[version])).positions[0].index
    version = upsert(node, c, ["x", "new"], if_versions=[version, 0]).positions[0].index
    assert upsert(node, c, ["x", "other"], if_versions=[-1, -1]).count == 2
    assert node.documents.Delete(delete(c, ids=["new"], if_versions=[version])).count == 1


def test_a_conflict_spares_the_whole_part_and_no_other_shard(node: InProcessNode, name: Name) -> None:
    """A shard's part is atomic: one conflict refuses all of it, and the reply blames each by its place."""
    info = create(node, c := name(), shards=2)
    shards = [each.shard for each in info.shards]
    a, b, a2, b2 = apart(shards, 4)
    upsert(node, c, [a])
    reply = upsert(node, c, [a, b, a2, b2], if_versions=[0, 0, -1, 0])
    assert reply.count == 2
    assert [(f.position, f.code, f.reason) for f in reply.failures] == [
        (0, 10, "VERSION_CONFLICT"),
        (2, 10, "VERSION_CONFLICT"),
    ]
    assert "atomic" in reply.failures[1].message
    assert sorted(ids_of(get(node, c, [a, b, a2, b2]))) == sorted([a, b, b2])
    assert set(shard_positions(reply.session)) == set(shards)


# --- by filter --------------------------------------------------------------------


def test_writes_by_filter_touch_what_matches(node: InProcessNode, name: Name) -> None:
    """update and delete by filter change the matching documents, over all shards, and count them."""
    for shards in (1, 4):
        create(node, c := name(), shards=shards)
        ids = [str(n) for n in range(40)]
        upsert(node, c, ids, payloads=[{"even": n % 2 == 0, "n": n} for n in range(40)])
        assert node.documents.Update(update(c, {"seen": 1}, filter=equals("even", True))).count == 20
        assert count(node, c, equals("seen", 1)) == 20
        assert node.documents.Delete(delete(c, filter=equals("even", False))).count == 20
        assert count(node, c) == 20
        assert node.documents.Delete(delete(c, filter=equals("even", False))).count == 0


def test_a_write_by_filter_leaves_what_changed_since(node: InProcessNode, name: Name) -> None:
    """Documents that another writer changes between match and write are left alone; the rest is written,
    with a session as without one."""
    db = node.node_database()
    for session in (b"", bytes([7]) * 16):
        create(node, c := name())
        upsert(node, c, ["a", "b", "c"], payloads=[{"k": 1}] * 3)
        record = db.state.collections[c]
        stored = [(each.id, each.version) for each in get(node, c, ["a", "b", "c"])]
        upsert(node, c, ["b"], payloads=[{"k": 2}])

        async def change(
            ids: list[str],
            versions: list[int | None],
            attempt: int,
            record: Any = record,
            session: bytes = session,
        ) -> Outcome:
            own = writes.session_of(session, attempt)
            payload = msgpack.packb({"seen": True})
            return await writes.write(db, record, Update(ids, payload, (), False, "me", 1, versions, own, 1))

        for _ in range(2 if session else 1):
            # The second time it is a retry, and answered as the first was.
            outcome = node.run(lambda r=record, s=stored, w=change: writes.settled(db, r, s, w))  # type: ignore[misc]
            assert (outcome.count, outcome.failures) == (2, [])
        assert [payload_of(each) for each in get(node, c, ["a", "b", "c"])] == [
            {"k": 1, "seen": True},
            {"k": 2},
            {"k": 1, "seen": True},
        ]


def test_a_write_by_filter_gives_up_where_others_write_faster(node: InProcessNode, name: Name) -> None:
    """Rounds are limited: documents that keep changing end in ABORTED with a hint to come again."""
    create(node, c := name())
    db = node.node_database()

    async def contended(ids: list[str], versions: list[int | None], attempt: int) -> Outcome:
        failures = [Refusal(0, "ABORTED", "VERSION_CONFLICT", "changed")]
        failures += [
            Refusal(at, "ABORTED", "VERSION_CONFLICT", "", blamed=False) for at in range(1, len(ids))
        ]
        return Outcome(failures=failures)

    many = [(str(n), 1) for n in range(20)]
    with pytest.raises(RequestError) as caught:
        node.run(lambda: writes.settled(db, db.state.collections[c], many, contended))
    assert (caught.value.code, caught.value.retry_after) == ("ABORTED", 0.1)
    few = many[:3]
    assert node.run(lambda: writes.settled(db, db.state.collections[c], few, contended)).count == 0

    async def broken(ids: list[str], versions: list[int | None], attempt: int) -> Outcome:
        return Outcome(failures=[Refusal(0, "INTERNAL", "SHARD_DAMAGED", "broken")])

    with pytest.raises(RequestError) as caught:
        node.run(lambda: writes.settled(db, db.state.collections[c], few, broken))
    assert (caught.value.code, caught.value.reason) == ("INTERNAL", "SHARD_DAMAGED")


def test_concurrent_writers_by_filter_apply_each_once(node: InProcessNode, name: Name) -> None:
    """Many deletions of the same documents at once count each document once between them."""
    create(node, c := name(), shards=2)
    ids = [str(n) for n in range(50)]
    upsert(node, c, ids, payloads=[{"k": 1}] * 50)
    counts: list[int] = []

    def work() -> None:
        counts.append(node.documents.Delete(delete(c, filter=equals("k", 1))).count)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(counts), len(counts)) == (50, 6)
    assert count(node, c) == 0


# --- retries ------------------------------------------------------------------------


def test_a_retry_applies_once(node: InProcessNode, name: Name) -> None:
    """The same session and sequence is answered as before and changes nothing, also after a restart."""
    create(node, c := name(), shards=2)
    first = upsert(node, c, ["a", "b"], payloads=[{"n": 1}, {"n": 1}], options=write(1, 1))
    upsert(node, c, ["a"], payloads=[{"n": 2}], options=write(1, 2))
    node.restart()
    again = upsert(node, c, ["a", "b"], payloads=[{"n": 1}, {"n": 1}], options=write(1, 1))
    assert (again.count, sorted(shard_positions(again.session).items())) == (
        first.count,
        sorted(shard_positions(first.session).items()),
    )
    assert payload_of(get(node, c, ["a"])[0]) == {"n": 2}
    upsert(node, c, ["a"], payloads=[{"n": 9}], options=write(2, 1))
    assert payload_of(get(node, c, ["a"])[0]) == {"n": 9}, "another session is another write"


def test_a_retried_conflict_is_still_a_conflict(node: InProcessNode, name: Name) -> None:
    """A refused write that is retried is refused again, though it would succeed now."""
    create(node, c := name())
    version = upsert(node, c, ["a"]).positions[0].index
    for _ in range(2):
        refused = refusal(lambda: upsert(node, c, ["a"], if_versions=[0], options=write(3, 1)))
        assert refused.reason == "VERSION_CONFLICT"
        node.documents.Delete(delete(c, ids=["a"]))
    assert count(node, c) == 0
    assert version


def test_a_retried_deletion_spares_what_came_after(node: InProcessNode, name: Name) -> None:
    """A deletion by filter that comes again does not touch documents written in between."""
    create(node, c := name())
    upsert(node, c, ["a", "b"], payloads=[{"k": 1}] * 2)
    request = delete(c, filter=equals("k", 1), options=write(4, 1))
    assert node.documents.Delete(request).count == 2
    upsert(node, c, ["late"], payloads=[{"k": 1}])
    node.documents.Delete(request)
    assert ids_of(get(node, c, ["a", "b", "late"])) == ["late"]


def test_the_rounds_of_a_request_have_their_own_sessions() -> None:
    """Rounds are told apart, the same round is the same, and no session stays none."""
    own = bytes(range(16))
    assert writes.session_of(own, 0) == own
    later = [writes.session_of(own, attempt) for attempt in range(5)]
    assert len(set(later)) == 5
    assert {len(each) for each in later} == {16}
    assert later == [writes.session_of(own, attempt) for attempt in range(5)]
    assert writes.session_of(b"", 3) == b""


# --- shards that fail -----------------------------------------------------------------


class Scripted:
    """A database whose groups answer as a test says."""

    max_entry_bytes = 2000

    def __init__(self, answers: dict[int, Any]) -> None:
        self.answers = answers
        self.shards = self

    def get(self, shard: int) -> Scripted:
        """Every shard is there."""
        return self

    def check(self) -> None:
        """And none is damaged."""

    async def propose(self, group: int, data: bytes, *, frees: bool = False) -> Any:
        answer = self.answers[group]
        if isinstance(answer, BaseException):
            raise answer
        return type("Committed", (), {"result": answer})()


async def scattered(answers: dict[int, Any], count: int) -> Outcome:
    record: Any = type("Record", (), {"shards": tuple(answers)})()
    ids = apart(record.shards, count)
    mutation = Update(ids, b"\x80", (), False, "", 0, None, b"", 0)
    return await writes.write(Scripted(answers), record, mutation)  # type: ignore[arg-type]


async def test_a_shard_that_fails_is_told_by_its_documents() -> None:
    """Where one shard cannot take its part, the others' positions come, and a failure a document."""
    down = RequestError("UNAVAILABLE", "NO_LEADER", "away")
    outcome = await scattered({5: ApplyResult(11, 2), 6: down}, 4)
    assert (outcome.count, outcome.positions) == (2, {5: 11})
    assert [(f.position, f.code) for f in outcome.failures] == [(1, "UNAVAILABLE"), (3, "UNAVAILABLE")]


async def test_a_part_too_large_for_an_entry_is_refused_before_anything_is_written() -> None:
    """Also the parts that would fit: the limit and what to have less of are named."""
    record: Any = type("Record", (), {"shards": (5, 6)})()
    ids = apart(record.shards, 40)
    small, large = b"\x80", b"x" * 2000
    payloads = [large if at == 1 else small for at in range(len(ids))]
    mutation = Upsert(ids, np.ones((len(ids), 1), np.float32), payloads)
    db: Any = Scripted({5: AssertionError("written"), 6: AssertionError("written")})
    with pytest.raises(RequestError, match=r"at most 2000 .max_entry_bytes.*fewer documents") as caught:
        await writes.write(db, record, mutation)
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    assert [field for field, _ in caught.value.violations] == ["ids"]
    assert caught.value.metadata == {"limit": "max_entry_bytes"}


async def test_where_all_shards_fail_the_request_fails() -> None:
    """With nothing written there is no partial answer but the first error; a bug is raised as it is."""
    down = RequestError("UNAVAILABLE", "NO_LEADER", "away")
    with pytest.raises(RequestError, match="away"):
        await scattered({5: down, 6: down}, 4)
    perhaps = RequestError("UNAVAILABLE", "OUTCOME_UNKNOWN", "who knows")
    with pytest.raises(RequestError, match="who knows"):
        await scattered({5: down, 6: perhaps}, 4)
    with pytest.raises(ZeroDivisionError):
        await scattered({5: ApplyResult(1, 1), 6: ZeroDivisionError()}, 4)


async def test_a_batch_that_fails_as_a_whole_is_told_so() -> None:
    """A failure without a place (an expired retry) is every document's; nothing written is a refusal."""
    expired = ApplyResult(0, 0, (Failure(-1, "expired", "too old"),))
    with pytest.raises(RequestError) as caught:
        await scattered({5: expired}, 2)
    assert (caught.value.code, caught.value.reason) == ("FAILED_PRECONDITION", "RETRY_EXPIRED")


async def test_a_remembered_answer_about_more_documents_does_no_harm() -> None:
    """A retry by filter may be about fewer documents than the try whose failures it is answered with."""
    first = ApplyResult(9, 1, (Failure(7, "not_found", "gone"),))
    outcome = await scattered({5: first}, 2)
    assert (outcome.count, outcome.failures) == (1, [])
