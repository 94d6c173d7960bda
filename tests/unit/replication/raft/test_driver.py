"""The driver: requests and replies, as docs/raft-driver.md has them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vecdb_replication.driver.session import CODES, MAX_TICKS, OPERATIONS, TABLES, Session
from vecdb_replication.raft import MessageType

from tests.unit.replication.raft.driving import Driver, Json

DOCUMENT = Path(__file__).parents[4] / "docs" / "raft-driver.md"


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_a_group_of_one_from_nothing_to_applied(driver: Driver) -> None:
    """New, elected, proposed, stored and applied; the state is the concatenation of what was applied."""
    driver.lead()
    for data in ("foo", "bar"):
        assert driver("propose", node=1, data=data) == {"ok": True}
        driver.settle()
    status = driver("status", node=1)
    assert (status["role"], status["term"], status["lead"], status["commit"]) == ("leader", 1, 1, 4)
    assert status["progress"]["1"]["state"] == "replicate"
    assert status["status"]["applied"] == status["applied"] == 4
    storage = driver("storage", node=1)
    assert storage["hard"] == {"term": 1, "vote": 1, "commit": 4}
    assert (storage["first"], storage["last"]) == (2, 4)
    assert storage["snapshot"]["data"] == "foobar"
    log = driver("log", node=1)
    assert [(entry["index"], entry["data"]) for entry in log["entries"]] == [(2, ""), (3, "foo"), (4, "bar")]


def test_a_ready_has_all_its_fields(driver: Driver) -> None:
    """And is null while there is none."""
    driver.new()
    assert driver("ready", node=1) == {"ok": True, "ready": None}
    driver("campaign", node=1)
    assert driver("ready", node=1)["ready"] == {
        "soft": {"lead": 0, "role": "candidate"},
        "hard": {"term": 1, "vote": 1, "commit": 1},
        "read_states": [],
        "entries": [],
        "snapshot": None,
        "committed": [],
        "messages": [],
        "must_sync": True,
    }


def test_bytes_are_characters(driver: Driver) -> None:
    """Every byte goes in and comes out as one character; others are refused."""
    driver.lead()
    every = "".join(map(chr, range(256)))
    driver("propose", node=1, data=every)
    driver.settle()
    assert driver("storage", node=1)["snapshot"]["data"] == every
    assert driver.refused("propose", node=1, data="\u0100") == "bad_request"
    driver("read_index", node=1, context=every)
    assert driver.handle()["read_states"] == [{"index": 3, "context": every}]


def answer_to_none() -> Json:
    """A message that nobody waits for."""
    return {"type": "MsgAppResp", "from": "append_thread", "to": "apply_thread", "responses": []}


def test_messages_go_in_as_they_came_out(driver: Driver) -> None:
    """Between two nodes, with zero fields left out or spelled out."""
    for node in (1, 2):
        driver.new(node, (1, 2))
    driver("campaign", node=1)
    (vote,) = driver.handle(1)["messages"]
    assert vote == {"type": "MsgVote", "from": 1, "to": 2, "term": 1, "log_term": 1, "index": 1}
    spelled = vote | {"commit": 0, "vote": 0, "entries": [], "snapshot": None, "reject": False, "context": ""}
    assert driver("step", node=2, message=spelled | {"responses": [answer_to_none()]})["ok"]
    (answer,) = driver.handle(2)["messages"]
    assert driver("step", node=1, message=answer)["ok"]
    assert driver("status", node=1)["role"] == "leader"


def test_membership_changes_are_written_and_read(driver: Driver) -> None:
    """Encoded in the entry's data, and decoded beside it; applying them gives the new membership."""
    driver.lead()
    change = {"transition": "explicit", "changes": [{"type": "learner", "id": 2}], "context": "why"}
    assert driver("propose_conf_change", node=1, **change)["ok"]
    (entry,) = driver.handle()["entries"]
    assert entry["type"] == "conf_change_v2"
    assert entry["data"] == "\x08\x02\x12\x04\x08\x03\x10\x02\x1a\x03why"
    assert entry["conf_change"] == {"v1": False, **change}
    ready = driver("ready", node=1)["ready"]
    assert driver("apply", node=1, entries=ready["committed"])["conf_states"] == [
        {"voters": [1], "voters_outgoing": [1], "learners": [2], "learners_next": [], "auto_leave": False}
    ]
    driver("advance", node=1)
    assert driver("storage", node=1)["snapshot"]["data"] == "why"
    assert driver("status", node=1)["config"]["learners"] == [2]
    driver("propose_conf_change", node=1)
    driver.settle()
    assert driver("status", node=1)["config"]["voters_outgoing"] == []
    driver("propose_conf_change", node=1, v1=True, changes=[{"type": "update", "id": 1}])
    assert driver.handle()["entries"][0]["type"] == "conf_change"


def test_a_change_may_be_given_decoded(driver: Driver) -> None:
    """In place of its data: the same entry comes of it."""
    driver.new(2, (1, 2))
    decoded = {"changes": [{"type": "remove", "id": 1}], "transition": "auto"}
    entries = [
        {"term": 1, "index": 2, "type": "conf_change_v2", "conf_change": decoded},
        {"term": 1, "index": 3, "type": "conf_change_v2", "conf_change": {}},
        {"term": 1, "index": 4, "type": "conf_change_v2", "data": "\x08\x07"},
    ]
    append = {"type": "MsgApp", "from": 1, "to": 2, "term": 1, "log_term": 1, "index": 1, "entries": entries}
    assert driver("step", node=2, message=append)["ok"]
    stored = driver.handle(2)["entries"]
    assert [entry["data"] for entry in stored] == ["\x08\x00\x12\x04\x08\x01\x10\x01", "", "\x08\x07"]
    assert stored[2]["conf_change"] is None
    assert driver.refused("apply", node=2, entries=stored[2:]) == "bad_request"
    assert driver.refused("apply", node=2, entries=[stored[2] | {"index": 2}]) == "bad_request"


def test_what_was_applied_is_not_applied_again(driver: Driver) -> None:
    """A second time it changes nothing, be it data or a change of membership."""
    driver.lead()
    removal = {"term": 1, "index": 1, "type": "conf_change_v2", "data": "\x08\x00\x12\x04\x08\x01\x10\x01"}
    assert driver("apply", node=1, entries=[removal])["conf_states"] == []
    assert driver("status", node=1)["config"]["voters"] == [1]
    assert driver("apply", node=1, entries=[{"term": 1, "index": 2, "data": "again"}]) == {
        "ok": True,
        "conf_states": [],
    }
    assert driver("storage", node=1)["snapshot"]["data"] == ""


def test_errors_name_their_cause(driver: Driver) -> None:
    """One code for each."""
    driver.new(1, (1, 2))
    codes = {
        "proposal_dropped": driver.refused("propose", node=1, data="x"),
        "unknown_peer": driver.refused("step", node=1, message={"type": "MsgAppResp", "from": 9, "term": 1}),
        "step_local_message": driver.refused("step", node=1, message={"type": "MsgHup", "from": 2}),
        "compacted": driver.refused("compact", node=1, index=1),
        "snapshot_out_of_date": driver.refused("persist", node=1, snapshot={"index": 1, "term": 1}),
        "unknown_node": driver.refused("tick", node=9),
        "conf_change_refused": driver.refused("conf_change", kind="leave_joint"),
    }
    assert all(code == given for code, given in codes.items()), codes


def test_where_the_core_breaks_the_node_needs_a_restart(driver: Driver) -> None:
    """Everything but looking at what is stored is refused until then; then it goes on from there."""
    driver.lead()
    driver("propose", node=1, data="kept")
    driver.settle()
    assert driver.refused("persist", node=1, entries=[{"term": 1, "index": 9}]) == "fatal"
    for op in ("tick", "campaign", "status", "ready", "advance"):
        assert driver.refused(op, node=1) == "fatal"
    for op, fields in (("persist", {}), ("apply", {}), ("compact", {"index": 2})):
        assert driver.refused(op, node=1, **fields) == "fatal"
    assert driver("log", node=1)["last"] == 3
    assert driver("restart", node=1)["ok"]
    status = driver("status", node=1)
    assert (status["role"], status["term"], status["applied"]) == ("follower", 1, 3)


def test_any_escape_of_the_core_is_fatal(driver: Driver) -> None:
    """A commit index beyond the log, an advance without a Ready in asynchronous mode, a broken change."""
    for node, op, fields in (
        (1, "step", {"message": {"type": "MsgHeartbeat", "from": 2, "term": 1, "commit": 99}}),
        (2, "advance", {}),
        (3, "compact", {"index": 99}),
    ):
        driver.new(node, (1, 2, 3), async_storage_writes=node == 2)
        assert driver.refused(op, node=node, **fields) == "fatal"
        assert driver.refused("status", node=node) == "fatal"


def test_a_bug_in_the_core_is_fatal_too(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises: nobody has vouched for the state it left."""
    driver.new()
    monkeypatch.setattr("vecdb_replication.raft.RawNode.tick", lambda self: 1 / 0)
    reply = driver("tick", node=1)
    assert (reply["error"], reply["message"]) == ("fatal", "ZeroDivisionError: division by zero")
    assert driver.refused("status", node=1) == "fatal"


def test_the_documented_session_goes_as_documented() -> None:
    """Line by line, as docs/raft-driver.md shows it."""
    session = Session()
    lines = DOCUMENT.read_text().splitlines()
    asked = [line[2:] for line in lines if line.startswith("> ")]
    answers = [line[2:] for line in lines if line.startswith("< ")]
    assert len(asked) == len(answers) > 10
    assert [session.answer(line.encode()) for line in asked] == answers


def test_every_operation_is_documented() -> None:
    """And every code that an error can have."""
    text = DOCUMENT.read_text()
    for name in (*OPERATIONS, *TABLES, *CODES.values(), "new"):
        assert f"`{name}`" in text, name


# Crashes


def test_a_crash_takes_the_core_and_perhaps_what_was_not_synced(driver: Driver) -> None:
    """Without losing anything, the node goes on where it was; else where it was synced."""
    driver.lead()
    assert driver("sync", node=1)["ok"]
    synced = driver("storage", node=1)
    driver("propose", node=1, data="lost")
    driver.settle()
    persisted = driver("storage", node=1)
    assert driver("crash", node=1)["ok"]
    for op in ("tick", "propose", "persist", "apply", "status"):
        assert driver.refused(op, node=1) == "not_running"
    assert driver("storage", node=1) == persisted
    driver("restart", node=1)
    assert driver("status", node=1)["commit"] == 3
    driver("crash", node=1, lose_unsynced=True)
    assert driver("storage", node=1) == synced
    driver("restart", node=1)
    status = driver("status", node=1)
    assert (status["term"], status["vote"], status["last"], status["applied"]) == (1, 1, 2, 2)


def test_what_a_node_is_made_with_is_durable(driver: Driver) -> None:
    """A crash before anything was synced leaves the first snapshot."""
    driver.lead()
    driver("crash", node=1, lose_unsynced=True)
    assert driver("storage", node=1)["hard"] == {"term": 0, "vote": 0, "commit": 0}
    assert driver("restart", node=1)["ok"]
    assert driver("status", node=1)["config"]["voters"] == [1]


def test_a_restart_may_go_back_to_an_earlier_applied_index(driver: Driver) -> None:
    """With the state and the membership of then; what came after is applied again."""
    driver.lead()
    driver("propose", node=1, data="a")
    driver.settle()
    driver("propose_conf_change", node=1, changes=[{"type": "learner", "id": 2}])
    driver.settle()
    driver("propose", node=1, data="b")
    driver.settle()
    assert driver("storage", node=1)["snapshot"]["data"] == "ab"
    assert driver("restart", node=1, applied=3)["ok"]
    status = driver("status", node=1)
    assert (status["applied"], status["config"]["learners"]) == (3, [])
    assert driver("storage", node=1)["snapshot"]["data"] == "a"
    driver.settle()
    assert driver("storage", node=1)["snapshot"]["data"] == "ab"
    assert driver("status", node=1)["config"]["learners"] == [2]
    for applied in (0, 99):
        assert driver.refused("restart", node=1, applied=applied) == "bad_request"
    assert driver("status", node=1)["applied"] == 5


def test_a_restart_may_bring_another_configuration(driver: Driver) -> None:
    """It stays for later restarts; one that cannot work changes nothing."""
    driver.lead()
    assert driver.refused("restart", node=1, config={"election_tick": 0}) == "bad_request"
    assert driver("status", node=1)["role"] == "leader"
    driver("restart", node=1, config={"pre_vote": True, "election_tick": 5})
    for _ in range(2):
        driver("tick", node=1, times=4)
        assert driver("ready", node=1)["ready"] is None
        driver("tick", node=1)
        assert driver("ready", node=1)["ready"]["soft"]["role"] == "pre_candidate"
        driver("restart", node=1)


def test_a_restart_that_the_storage_does_not_allow_is_fatal(driver: Driver) -> None:
    """Compacted beyond what was applied: nothing to go on from."""
    driver.new(2, (1, 2))
    entries = [{"term": 1, "index": index} for index in (2, 3)]
    driver("persist", node=2, hard={"term": 1, "commit": 3}, entries=entries)
    assert driver("compact", node=2, index=3)["ok"]
    assert driver.refused("restart", node=2) == "fatal"
    assert driver.refused("status", node=2) == "fatal"


# Snapshots


def test_a_snapshot_replaces_the_state(driver: Driver) -> None:
    """The log, the state machine and the membership are the snapshot's."""
    driver.lead()
    driver("propose", node=1, data="state")
    driver.settle()
    message = driver("snapshot_message", node=1, to=2)["message"]
    assert message == {
        "type": "MsgSnap",
        "from": 1,
        "to": 2,
        "term": 1,
        "snapshot": driver("storage", node=1)["snapshot"],
    }
    message["snapshot"]["conf_state"]["learners"] = [2]
    driver("new", node=2)
    assert driver("step", node=2, message=message)["ok"]
    assert driver.handle(2)["snapshot"] == message["snapshot"]
    assert driver("storage", node=2)["snapshot"] == message["snapshot"]
    assert driver("status", node=2)["config"]["learners"] == [2]
    assert driver("restart", node=2)["ok"]
    assert driver("status", node=2)["applied"] == 3


def test_a_leader_sends_what_was_applied_in_place_of_a_compacted_log(driver: Driver) -> None:
    """And hears of its fate."""
    driver.lead()
    driver("propose_conf_change", node=1, changes=[{"type": "learner", "id": 2}])
    driver.settle()
    assert driver("compact", node=1, index=3)["ok"]
    answer = {"type": "MsgAppResp", "from": 2, "to": 1, "term": 1, "index": 2, "reject": True}
    assert driver("step", node=1, message=answer)["ok"]
    (sent,) = driver.handle()["messages"]
    assert (sent["type"], sent["snapshot"]["index"]) == ("MsgSnap", 3)
    assert driver("status", node=1)["progress"]["2"]["pending_snapshot"] == 3
    driver("report_snapshot", node=1, id=2, failed=True)
    progress = driver("status", node=1)["progress"]["2"]
    assert (progress["state"], progress["paused"], progress["learner"]) == ("probe", True, True)
    driver("report_unreachable", node=1, id=2)


def test_a_group_may_begin_with_a_membership_alone(driver: Driver) -> None:
    """A snapshot at index 0, or none at all."""
    driver("new", node=1, snapshot={"conf_state": {"voters": [1]}})
    driver("campaign", node=1)
    driver.settle()
    assert driver("status", node=1)["commit"] == 1
    driver("new", node=2)
    assert driver("status", node=2)["config"]["voters"] == []


def test_a_node_is_made_once_and_only_if_it_can_be(driver: Driver) -> None:
    """What cannot be leaves no node behind."""
    driver.new()
    assert driver.refused("new", node=1) == "bad_request"
    assert driver.refused("new", node=0) == "bad_request"
    assert driver.refused("new", node=2, config={"max_inflight_msgs": 0}) == "bad_request"
    learners = {"index": 1, "term": 1, "conf_state": {"learners": [2]}}
    assert driver.refused("new", node=2, snapshot=learners) == "bad_request"
    assert driver.refused("status", node=2) == "unknown_node"


def test_the_configuration_is_the_cores(driver: Driver) -> None:
    """Limits that are given bind; timeouts are as drawn until the next reset."""
    driver.new(1, (1, 2), max_inflight_msgs=1, max_size_per_msg=0, election_tick=4)
    driver("set_randomized_election_timeout", node=1, ticks=7)
    driver("tick", node=1, times=6)
    assert driver("status", node=1)["role"] == "follower"
    driver("tick", node=1)
    assert driver("status", node=1)["role"] == "candidate"
    driver("tick", node=1, times=4)
    assert driver("status", node=1)["term"] == 2
    driver.handle()
    driver("step", node=1, message={"type": "MsgVoteResp", "from": 2, "to": 1, "term": 2})
    driver.handle()
    driver("step", node=1, message={"type": "MsgAppResp", "from": 2, "to": 1, "term": 2, "index": 2})
    driver("propose", node=1, data="x")
    progress = driver("status", node=1)["progress"]["2"]
    assert (progress["inflight"], progress["inflight_full"], progress["paused"]) == (1, True, True)
    driver("transfer_leader", node=1, to=2)
    assert driver("status", node=1)["lead_transferee"] == 2
    driver("forget_leader", node=1)


# Pure functions


def test_tables_of_quorums(driver: Driver) -> None:
    """Without any node: committed indexes and outcomes of votes."""
    assert driver("quorum_commit", incoming=[1, 2, 3], acked={"1": 5, "2": 7})["index"] == 5
    assert driver("quorum_commit", incoming=[1], outgoing=[2], acked={"1": 5})["index"] == 0
    assert driver("quorum_commit")["index"] is None
    assert driver("quorum_vote", incoming=[1, 2, 3], votes={"1": True, "3": True})["result"] == "won"
    assert driver("quorum_vote", incoming=[1, 2, 3], votes={"1": False, "3": False})["result"] == "lost"
    assert driver("quorum_vote", incoming=[1, 2], outgoing=[3], votes={"1": True})["vote"] == "pending"
    assert driver("quorum_vote", incoming=[1], votes={"1": None})["result"] == "pending"


def test_tables_of_membership_changes(driver: Driver) -> None:
    """Each reply is the next request's configuration and progress."""
    reply: Json = {}
    steps = [
        ("simple", [("voter", 1)]),
        ("enter_joint", [("voter", 2), ("learner", 1), ("learner", 3)]),
        ("leave_joint", []),
    ]
    for step, (kind, singles) in enumerate(steps):
        changes = [{"type": kind_of, "id": peer} for kind_of, peer in singles]
        reply = driver(
            "conf_change",
            kind=kind,
            changes=changes,
            last_index=step,
            auto_leave=True,
            config=reply.get("config"),
            progress=reply.get("progress"),
        )
        assert reply["ok"]
    assert reply["config"] == {
        "voters": [2],
        "voters_outgoing": [],
        "learners": [1, 3],
        "learners_next": [],
        "auto_leave": False,
    }
    assert {peer: (pr["match"], pr["next"], pr["learner"]) for peer, pr in reply["progress"].items()} == {
        "1": (0, 1, True),
        "2": (0, 1, False),
        "3": (0, 1, True),
    }


def test_progress_may_be_left_out_or_contradict(driver: Driver) -> None:
    """Left out, all members are tracked from the end of the log; given, it must have them all."""
    config = {"voters": [1, 2], "learners": [3]}
    reply = driver(
        "conf_change", kind="simple", last_index=7, config=config, changes=[{"type": "voter", "id": 3}]
    )
    assert sorted(reply["config"]["voters"]) == [1, 2, 3]
    assert reply["progress"]["3"]["next"] == 7
    assert driver.refused("conf_change", kind="simple", config=config, progress={}) == "conf_change_refused"
    state = {"match": 3, "next": 9, "state": "snapshot", "pending_snapshot": 8, "paused": True}
    kept = driver("conf_change", kind="simple", config={"voters": [1]}, progress={"1": state}, changes=[])[
        "progress"
    ]["1"]
    assert {name: kept[name] for name in state} == state
    assert (
        driver.refused("conf_change", kind="leave_joint", changes=[{"type": "voter", "id": 3}])
        == "bad_request"
    )


# Lines that are no requests


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{",
        b"[]",
        b"1",
        b"null",
        b"\xff\xfe",
        b'{"op": 1}',
        b'{"op": "nothing"}',
        b'{"node": 1}',
        b'{"op": "tick"}',
        b'{"op": "tick", "node": -1}',
        b'{"op": "tick", "node": 1.0}',
        b'{"op": "tick", "node": true}',
        b'{"op": "tick", "node": "1"}',
        b'{"op": "tick", "node": 18446744073709551616}',
        b'{"op": "tick", "node": 1, "times": "many"}',
        b'{"op": "tick", "node": 1, "times": 1000001}',
        b'{"op": "new", "node": 2, "config": []}',
        b'{"op": "new", "node": 2, "config": {"pre_vote": 1}}',
        b'{"op": "new", "node": 2, "config": {"read_only": "never"}}',
        b'{"op": "new", "node": 2, "snapshot": {"conf_state": {"voters": [0]}}}',
        b'{"op": "new", "node": 2, "snapshot": {"conf_state": {"voters": 1}}}',
        b'{"op": "propose", "node": 1, "data": 5}',
        b'{"op": "step", "node": 1}',
        b'{"op": "step", "node": 1, "message": {}}',
        b'{"op": "step", "node": 1, "message": {"type": "MsgApp", "from": "nobody"}}',
        b'{"op": "step", "node": 1, "message": {"type": "MsgApp", "entries": [1]}}',
        b'{"op": "step", "node": 1, "message": {"type": "MsgApp", "entries": [{"type": "odd"}]}}',
        b'{"op": "step", "node": 1, "message": {"type": "MsgApp", "responses":'
        b' [{"type": "MsgApp", "responses": [{"type": "MsgApp"}]}]}}',
        b'{"op": "propose_conf_change", "node": 1, "changes": [{"type": "voter"}]}',
        b'{"op": "propose_conf_change", "node": 1, "v1": true}',
        b'{"op": "persist", "node": 1, "entries": [{"index": 2}, {"index": 4}]}',
        b'{"op": "quorum_commit", "acked": []}',
        b'{"op": "quorum_commit", "acked": {"x": 1}}',
        b'{"op": "quorum_commit", "acked": {"0": 1}}',
        b'{"op": "quorum_vote", "votes": {"1": 1}}',
        b'{"op": "conf_change", "kind": "sideways"}',
        b"[" * 100_000,
        b'{"op": "tick", "node": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_line_that_is_no_request_changes_nothing(line: bytes) -> None:
    """It gets bad_request, and every node is as it was."""
    driver = Driver()
    driver.lead()
    before = driver("status", node=1), driver("storage", node=1)
    reply = json.loads(driver.session.answer(line))
    assert (reply["ok"], reply["error"]) == (False, "bad_request")
    assert (driver("status", node=1), driver("storage", node=1)) == before
    assert driver.refused("status", node=2) == "unknown_node"
    assert MAX_TICKS == 1_000_000


SMALL = st.integers(0, 4)
JUNK = st.none() | st.booleans() | st.integers(-1, 2**65) | st.text(max_size=3) | st.lists(SMALL, max_size=2)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "term": SMALL,
        "index": SMALL,
        "type": st.sampled_from(["normal", "conf_change", "conf_change_v2"]),
        "data": st.text(max_size=3),
        "conf_change": st.just({"changes": [{"type": "voter", "id": 2}]}),
    },
)
SNAPSHOTS = st.fixed_dictionaries(
    {"conf_state": st.fixed_dictionaries({"voters": st.lists(st.integers(1, 3), max_size=3)})},
    optional={"index": SMALL, "term": SMALL},
)
MESSAGES = st.fixed_dictionaries(
    {"type": st.sampled_from([kind.value for kind in MessageType])},
    optional={
        "from": SMALL | st.sampled_from(["append_thread", "apply_thread"]),
        **dict.fromkeys(["to", "term", "log_term", "index", "commit", "vote", "reject_hint"], SMALL),
        "entries": st.lists(ENTRIES, max_size=3),
        "snapshot": SNAPSHOTS,
        "reject": st.booleans(),
        "context": st.text(max_size=9),
    },
)
CHANGES = st.fixed_dictionaries({"type": st.sampled_from(["voter", "learner", "remove"]), "id": SMALL})
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "node": st.integers(0, 2),
    "data": st.text(max_size=3),
    "message": MESSAGES,
    "entries": st.lists(ENTRIES, max_size=3),
    "changes": st.lists(
        st.fixed_dictionaries({"type": st.sampled_from(["voter", "learner", "remove"]), "id": SMALL}),
        max_size=3,
    ),
    "hard": st.fixed_dictionaries({"term": SMALL, "vote": SMALL, "commit": SMALL}),
    "snapshot": SNAPSHOTS,
    "index": SMALL,
    "to": SMALL,
    "id": SMALL,
    "times": SMALL,
    "applied": SMALL,
}
REQUESTS = st.fixed_dictionaries({}, optional={name: value | JUNK for name, value in FIELDS.items()})
OPS = st.sampled_from([*OPERATIONS, "new", "conf_change"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(OPS, REQUESTS), max_size=15), st.booleans())
def test_no_request_brings_the_driver_down(requests: list[tuple[str, Json]], asynchronous: bool) -> None:
    """Whatever the fields hold there is one reply, and what is fatal is so because the core says it."""
    driver = Driver()
    driver.new(async_storage_writes=asynchronous)
    for op, fields in requests:
        reply = driver(op, **({"node": 1, "times": 2} | fields))
        assert reply["ok"] or not re.match(r"\w+Error: ", reply["message"]), reply
