"""Requests and replies: what each line asks for, done."""

import json
from collections.abc import Callable

from ..raft import (
    CompactedError,
    ConfChangeError,
    ConfigError,
    LocalMessageError,
    Message,
    MessageType,
    ProposalDroppedError,
    RaftError,
    RaftFatal,
    SnapshotOutOfDateError,
    SnapshotUnavailableError,
    UnavailableError,
    UnknownPeerError,
)
from . import tables
from .codec import (
    Json,
    encode_conf_change,
    read_conf_change,
    read_entry,
    read_hard_state,
    read_message,
    read_snapshot,
    write_entry,
    write_hard_state,
    write_message,
    write_ready,
    write_snapshot,
    write_status,
)
from .fields import BadRequestError, Fields
from .replica import BrokenError, NotRunningError, Replica

CODES: dict[type[Exception], str] = {
    BadRequestError: "bad_request",
    NotRunningError: "not_running",
    BrokenError: "fatal",
    RaftFatal: "fatal",
    ConfigError: "bad_request",
    ConfChangeError: "conf_change_refused",
    ProposalDroppedError: "proposal_dropped",
    UnknownPeerError: "unknown_peer",
    LocalMessageError: "step_local_message",
    CompactedError: "compacted",
    UnavailableError: "unavailable",
    SnapshotOutOfDateError: "snapshot_out_of_date",
    SnapshotUnavailableError: "snapshot_unavailable",
}
MAX_TICKS = 1_000_000
"""The most ticks of one request, so that none takes for ever."""

_REFUSALS = (BadRequestError, NotRunningError, BrokenError, RaftError)


class UnknownNodeError(BadRequestError):
    """No node has this id."""


CODES[UnknownNodeError] = "unknown_node"


class Session:
    """All nodes of one run of the driver."""

    def __init__(self) -> None:
        self._replicas: dict[int, Replica] = {}

    def answer(self, line: bytes) -> str:
        """The reply to one line, as one line of JSON without its end."""
        reply: Json
        try:
            reply = {"ok": True} | self._handle(line)
        except (*_REFUSALS, RaftFatal) as error:
            reply = {"ok": False, "error": CODES[type(error)], "message": str(error)}
        return json.dumps(reply)

    def _handle(self, line: bytes) -> Json:
        try:
            request = Fields(json.loads(line), "the request")
        except (ValueError, RecursionError) as error:
            raise BadRequestError(f"not a line of JSON: {error}") from error
        name = request.choice("op", {op: op for op in (*TABLES, *OPERATIONS, "new")}, None)
        if name in TABLES:
            return TABLES[name](request)
        node = request.number("node", None)
        if name == "new":
            return self._new(node, request)
        replica = self._replicas.get(node)
        if replica is None:
            raise UnknownNodeError(f"there is no node {node}")
        return _run(OPERATIONS[name], replica, request)

    def _new(self, node: int, request: Fields) -> Json:
        if node in self._replicas:
            raise BadRequestError(f"there is a node {node} already")
        config = request.nested("config") or Fields({}, "config")
        snapshot = request.nested("snapshot")
        try:
            self._replicas[node] = Replica(node, config, read_snapshot(snapshot) if snapshot else None)
        except RaftFatal as error:
            raise BadRequestError(str(error)) from error
        return {}


Operation = Callable[[Replica, Fields], Json | None]


def _run(operation: Operation, replica: Replica, request: Fields) -> Json:
    try:
        return operation(replica, request) or {}
    except _REFUSALS:
        raise
    except RaftFatal:
        replica.break_down()
        raise
    except Exception as error:
        # Whatever escapes the core leaves it in a state that nobody has vouched for.
        replica.break_down()
        raise RaftFatal(f"{type(error).__name__}: {error}") from error


def _tick(replica: Replica, request: Fields) -> None:
    core, times = replica.core, request.number("times", 1)
    if times > MAX_TICKS:
        raise BadRequestError(f"times must be at most {MAX_TICKS}")
    for _ in range(times):
        core.tick()


def _set_timeout(replica: Replica, request: Fields) -> None:
    replica.core.set_randomized_election_timeout(request.number("ticks", None))


def _campaign(replica: Replica, _: Fields) -> None:
    replica.core.campaign()


def _propose(replica: Replica, request: Fields) -> None:
    replica.core.propose(request.data("data"))


def _propose_conf_change(replica: Replica, request: Fields) -> None:
    change = read_conf_change(request)
    encode_conf_change(change)
    replica.core.propose_conf_change(change)


def _step(replica: Replica, request: Fields) -> None:
    replica.core.step(read_message(_required(request, "message")))


def _has_ready(replica: Replica, _: Fields) -> Json:
    return {"has_ready": replica.core.has_ready()}


def _ready(replica: Replica, _: Fields) -> Json:
    core = replica.core
    return {"ready": write_ready(core.ready()) if core.has_ready() else None}


def _persist(replica: Replica, request: Fields) -> None:
    hard, snapshot = request.nested("hard"), request.nested("snapshot")
    hard_state = read_hard_state(hard) if hard else None
    restored = read_snapshot(snapshot) if snapshot else None
    entries = request.each("entries", read_entry)
    if any(entry.index != entries[0].index + position for position, entry in enumerate(entries)):
        raise BadRequestError("entries must follow each other")
    replica.running_storage.persist(hard_state, restored, entries)


def _apply(replica: Replica, request: Fields) -> Json:
    return {"conf_states": replica.apply(request.each("entries", read_entry))}


def _advance(replica: Replica, _: Fields) -> None:
    replica.core.advance()


def _transfer_leader(replica: Replica, request: Fields) -> None:
    replica.core.transfer_leader(request.number("to", None))


def _forget_leader(replica: Replica, _: Fields) -> None:
    replica.core.forget_leader()


def _report_unreachable(replica: Replica, request: Fields) -> None:
    replica.core.report_unreachable(request.number("id", None))


def _report_snapshot(replica: Replica, request: Fields) -> None:
    replica.core.report_snapshot(request.number("id", None), failed=request.flag("failed"))


def _read_index(replica: Replica, request: Fields) -> None:
    replica.core.read_index(request.data("context"))


def _compact(replica: Replica, request: Fields) -> None:
    replica.running_storage.compact(request.number("index", None))


def _snapshot_message(replica: Replica, request: Fields) -> Json:
    core, to = replica.core, request.number("to", None)
    snapshot = replica.storage.snapshot()
    message = Message(MessageType.SNAP, to, core.id, term=core.term, snapshot=snapshot)
    return {"message": write_message(message)}


def _status(replica: Replica, _: Fields) -> Json:
    status = write_status(replica.core.status())
    return status | {"status": status}


def _log(replica: Replica, _: Fields) -> Json:
    storage = replica.storage
    return {
        "first": storage.first_index(),
        "last": storage.last_index(),
        "entries": [write_entry(entry) for entry in storage.all_entries()],
    }


def _storage(replica: Replica, _: Fields) -> Json:
    storage = replica.storage
    return {
        "hard": write_hard_state(storage.hard_state),
        "first": storage.first_index(),
        "last": storage.last_index(),
        "snapshot": write_snapshot(storage.snapshot()),
    }


def _crash(replica: Replica, request: Fields) -> None:
    replica.crash(lose_unsynced=request.flag("lose_unsynced"))


def _sync(replica: Replica, _: Fields) -> None:
    replica.storage.sync()


def _restart(replica: Replica, request: Fields) -> None:
    applied = request.number("applied") if "applied" in request else None
    replica.restart(request.nested("config"), applied)


def _required(request: Fields, name: str) -> Fields:
    value = request.nested(name)
    if value is None:
        raise BadRequestError(f"{name} is missing")
    return value


OPERATIONS: dict[str, Operation] = {
    "tick": _tick,
    "set_randomized_election_timeout": _set_timeout,
    "campaign": _campaign,
    "propose": _propose,
    "propose_conf_change": _propose_conf_change,
    "step": _step,
    "has_ready": _has_ready,
    "ready": _ready,
    "persist": _persist,
    "apply": _apply,
    "advance": _advance,
    "transfer_leader": _transfer_leader,
    "forget_leader": _forget_leader,
    "report_unreachable": _report_unreachable,
    "report_snapshot": _report_snapshot,
    "read_index": _read_index,
    "compact": _compact,
    "snapshot_message": _snapshot_message,
    "status": _status,
    "log": _log,
    "storage": _storage,
    "crash": _crash,
    "sync": _sync,
    "restart": _restart,
}

TABLES: dict[str, Callable[[Fields], Json]] = {
    "quorum_commit": tables.quorum_commit,
    "quorum_vote": tables.quorum_vote,
    "conf_change": tables.conf_change,
}
