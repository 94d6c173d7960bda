"""The core's values as JSON, both ways."""

from typing import Any

from ..raft import (
    APPEND_THREAD,
    APPLY_THREAD,
    Change,
    ChangeType,
    ConfChange,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    PeerStatus,
    Ready,
    Snapshot,
    SoftState,
    Status,
    Transition,
    from_entry,
    to_entry,
)
from .fields import BadRequestError, Fields, names_of

Json = dict[str, Any]

_CHANGE_TYPES = {
    "voter": ChangeType.ADD_VOTER,
    "learner": ChangeType.ADD_LEARNER,
    "remove": ChangeType.REMOVE,
    "update": ChangeType.UPDATE,
}
_CHANGE_NAMES = {kind: name for name, kind in _CHANGE_TYPES.items()}
_TRANSITIONS = names_of(Transition)
_ENTRY_TYPES = names_of(EntryType)
_MESSAGE_TYPES = names_of(MessageType)
_THREAD_NAMES = {APPEND_THREAD: "append_thread", APPLY_THREAD: "apply_thread"}


# Reading


def read_change(fields: Fields) -> Change:
    """One node's change."""
    return Change(fields.choice("type", _CHANGE_TYPES, None), fields.number("id", None))


def read_conf_change(fields: Fields) -> ConfChange:
    """A change of membership, from the fields of a request or of an entry."""
    return ConfChange(
        fields.each("changes", read_change),
        fields.choice("transition", _TRANSITIONS, "auto"),
        fields.data("context"),
        fields.flag("v1"),
    )


def encode_conf_change(change: ConfChange) -> Entry:
    """The entry for a change. Raises BadRequestError where the old encoding cannot hold it."""
    try:
        return to_entry(change)
    except ValueError as error:
        raise BadRequestError(str(error)) from error


def decode_conf_change(entry: Entry) -> ConfChange:
    """The change in an entry. Raises BadRequestError where there is none."""
    try:
        return from_entry(entry)
    except ValueError as error:
        raise BadRequestError(str(error)) from error


def read_entry(fields: Fields) -> Entry:
    """An entry; a change of membership may be given decoded, in place of its data."""
    kind = fields.choice("type", _ENTRY_TYPES, "normal")
    data = fields.data("data")
    decoded = fields.nested("conf_change")
    if decoded is not None and not data and kind is not EntryType.NORMAL:
        change = read_conf_change(decoded)
        if change != ConfChange():
            data = encode_conf_change(change).data
    return Entry(fields.number("term"), fields.number("index"), kind, data)


def read_hard_state(fields: Fields) -> HardState:
    """Term, vote and commit index."""
    return HardState(fields.number("term"), fields.number("vote"), fields.number("commit"))


def read_conf_state(fields: Fields) -> ConfState:
    """A membership."""
    return ConfState(
        fields.numbers("voters"),
        fields.numbers("voters_outgoing"),
        fields.numbers("learners"),
        fields.numbers("learners_next"),
        fields.flag("auto_leave"),
    )


def read_snapshot(fields: Fields) -> Snapshot:
    """A snapshot."""
    members = fields.nested("conf_state")
    return Snapshot(
        fields.number("index"),
        fields.number("term"),
        fields.data("data"),
        read_conf_state(members) if members is not None else ConfState(),
    )


def read_message(fields: Fields) -> Message:
    """A message, with those to be sent once a storage thread is done."""
    snapshot = fields.nested("snapshot")
    return Message(
        fields.choice("type", _MESSAGE_TYPES, None),
        fields.peer("to"),
        fields.peer("from"),
        fields.number("term"),
        fields.number("log_term"),
        fields.number("index"),
        fields.each("entries", read_entry),
        fields.number("commit"),
        fields.number("vote"),
        read_snapshot(snapshot) if snapshot is not None else None,
        fields.flag("reject"),
        fields.number("reject_hint"),
        fields.data("context"),
        fields.each("responses", _read_response),
    )


def _read_response(fields: Fields) -> Message:
    if fields.items("responses"):
        raise BadRequestError("a response has no responses of its own")
    return read_message(fields)


# Writing


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _nonzero(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value}


def write_conf_change(change: ConfChange) -> Json:
    """A change of membership."""
    return {
        "v1": change.v1,
        "transition": change.transition.name.lower(),
        "changes": [{"type": _CHANGE_NAMES[one.type], "id": one.node} for one in change.changes],
        "context": _text(change.context),
    }


def write_entry(entry: Entry) -> Json:
    """An entry; a change of membership also decoded, if it can be."""
    written = {
        "term": entry.term,
        "index": entry.index,
        "type": entry.type.name.lower(),
        "data": _text(entry.data),
    }
    if entry.type is not EntryType.NORMAL:
        try:
            written["conf_change"] = write_conf_change(from_entry(entry))
        except ValueError:
            written["conf_change"] = None
    return written


def write_hard_state(state: HardState) -> Json:
    """Term, vote and commit index."""
    return {"term": state.term, "vote": state.vote, "commit": state.commit}


def write_soft_state(state: SoftState) -> Json:
    """Leader and role."""
    return {"lead": state.lead, "role": state.role.value}


def write_conf_state(state: ConfState) -> Json:
    """A membership."""
    return {
        "voters": list(state.voters),
        "voters_outgoing": list(state.voters_outgoing),
        "learners": list(state.learners),
        "learners_next": list(state.learners_next),
        "auto_leave": state.auto_leave,
    }


def write_snapshot(snapshot: Snapshot) -> Json:
    """A snapshot."""
    return {
        "index": snapshot.index,
        "term": snapshot.term,
        "data": _text(snapshot.data),
        "conf_state": write_conf_state(snapshot.conf_state),
    }


def write_message(message: Message) -> Json:
    """A message, without the fields that are zero."""
    return {
        "type": message.type.value,
        "from": _THREAD_NAMES.get(message.from_, message.from_),
        "to": _THREAD_NAMES.get(message.to, message.to),
    } | _nonzero(
        {
            "term": message.term,
            "log_term": message.log_term,
            "index": message.index,
            "commit": message.commit,
            "vote": message.vote,
            "entries": [write_entry(entry) for entry in message.entries],
            "snapshot": write_snapshot(message.snapshot) if message.snapshot else False,
            "reject": message.reject,
            "reject_hint": message.reject_hint,
            "context": _text(message.context),
            "responses": [write_message(response) for response in message.responses],
        }
    )


def write_ready(ready: Ready) -> Json:
    """A Ready."""
    return {
        "soft": write_soft_state(ready.soft_state) if ready.soft_state else None,
        "hard": write_hard_state(ready.hard_state) if ready.hard_state else None,
        "read_states": [
            {"index": state.index, "context": _text(state.context)} for state in ready.read_states
        ],
        "entries": [write_entry(entry) for entry in ready.entries],
        "snapshot": write_snapshot(ready.snapshot) if ready.snapshot else None,
        "committed": [write_entry(entry) for entry in ready.committed_entries],
        "messages": [write_message(message) for message in ready.messages],
        "must_sync": ready.must_sync,
    }


def write_peer(peer: PeerStatus) -> Json:
    """One follower's progress."""
    return {
        "match": peer.match,
        "next": peer.next,
        "state": peer.state.value,
        "learner": peer.learner,
        "paused": peer.paused,
        "pending_snapshot": peer.pending_snapshot,
        "inflight": peer.inflight,
        "inflight_full": peer.inflight_full,
        "recent_active": peer.recent_active,
    }


def write_status(status: Status) -> Json:
    """A replica's status; progress only where it leads."""
    written = {
        "id": status.id,
        "term": status.term,
        "vote": status.vote,
        "commit": status.commit,
        "applied": status.applied,
        "lead": status.lead,
        "lead_transferee": status.lead_transferee,
        "role": status.role.value,
        "first": status.first_index,
        "last": status.last_index,
        "config": write_conf_state(status.config),
    }
    if status.progress:
        written["progress"] = {str(peer): write_peer(known) for peer, known in status.progress.items()}
    return written
