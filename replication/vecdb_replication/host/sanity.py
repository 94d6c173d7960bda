"""Whether what another replica says makes sense at all.

The core trusts its peers to follow the algorithm: they may crash, be late and
repeat themselves, but do not err. What none that follows it could say is taken
there for a sign that the core itself is broken. But a peer with a bug, or of
another version, must not end a replica here. So its messages are looked at
before the core sees them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vecdb_replication import raft
from vecdb_replication.raft.confchange import restore
from vecdb_replication.raft.tracker import ProgressTracker

# Room to count on from any of them, in the 64 bits that a log and a frame have for it.
_END: Final = 2**63


def nonsense(message: raft.Message, node: raft.RawNode) -> str:
    """What is wrong with a message from another replica; empty where a correct one might have sent it."""
    kind, sender = message.type, message.from_
    check = _CHECKS.get(kind)
    if check is None:
        return f"a {kind.value} is not for others"
    # All at once, for it is done for every heartbeat: one that is out of bounds takes the rest along.
    numbers = message.term | message.log_term | message.index | message.commit | message.reject_hint | sender
    if not 0 <= numbers < _END or sender == raft.NO_NODE:
        return f"a {kind.value} with a number that is none"
    if sender == node.id:
        return f"a {kind.value} in this replica's own name"
    if kind is raft.MessageType.READ_INDEX:
        # Whoever leads when it arrives may answer it.
        if message.term:
            return "a read with a term"
    elif not message.term or message.log_term > message.term:
        return f"a {kind.value} of term {message.term} about an entry of term {message.log_term}"
    return check(message, node)


def _append(message: raft.Message, _: raft.RawNode) -> str:
    """Entries follow each other, their terms never fall, and changes of membership can be read."""
    index, term, newest = message.index, message.log_term or 1, message.term
    for entry in message.entries:
        index += 1
        if entry.index != index or not term <= entry.term <= newest:
            return f"entry {entry.index} of term {entry.term} where {index} of {term} or later belongs"
        term = entry.term
        if entry.type is not raft.EntryType.NORMAL:
            try:
                raft.from_entry(entry)
            except ValueError as error:
                return f"entry {index}: {error}"
    return "" if index < _END else "entries beyond any log"


def _heartbeat(message: raft.Message, node: raft.RawNode) -> str:
    """Leaders go by what was acknowledged, and only what is durable is."""
    if message.commit > node.last_index and message.term >= node.term:
        return f"commit index {message.commit} beyond the last entry, {node.last_index}"
    return _without_entries(message, node)


def _acknowledgement(message: raft.Message, node: raft.RawNode) -> str:
    """Nobody can have what their leader has not. One that leads no more may have lost it to its disk."""
    leads = message.term == node.term and node.role is raft.Role.LEADER
    if leads and message.index > node.last_index and not message.reject:
        return f"entry {message.index} acknowledged, and {node.last_index} is the last"
    return _without_entries(message, node)


def _request_for_a_vote(message: raft.Message, node: raft.RawNode) -> str:
    """Who asks has no entry of the term yet."""
    if message.log_term == message.term:
        return f"a vote of term {message.term} for whoever has entries of it"
    return _without_entries(message, node)


def _snapshot(message: raft.Message, node: raft.RawNode) -> str:
    """It is of something, of a membership that can be, and no older than what is committed before it."""
    snapshot = message.snapshot
    if snapshot is None:
        return "a snapshot's message without one"
    if not 0 < snapshot.index < _END or not 0 < snapshot.term <= message.term:
        return f"a snapshot of entry {snapshot.index} of term {snapshot.term}"
    last = node.term_of(node.committed)
    if message.term >= node.term and snapshot.index > node.committed and snapshot.term < last:
        return f"a snapshot of entry {snapshot.index} of term {snapshot.term}, which comes behind term {last}"
    if not snapshot.conf_state.voters:
        return "a snapshot of a group without voters"
    try:
        config, _ = restore(ProgressTracker(), snapshot.index, snapshot.conf_state)
    except raft.ConfChangeError as error:
        return f"a snapshot of a membership that cannot be: {error}"
    if not config.conf_state().equivalent(snapshot.conf_state):
        return "a snapshot of a membership that contradicts itself"
    return ""


def _one_context(message: raft.Message, _: raft.RawNode) -> str:
    """What a read is told apart by."""
    if len(message.entries) == 1:
        return ""
    return f"a {message.type.value} with {len(message.entries)} contexts"


def _without_entries(message: raft.Message, _: raft.RawNode) -> str:
    return f"a {message.type.value} with entries" if message.entries else ""


_CHECKS: Final[dict[raft.MessageType, Callable[[raft.Message, raft.RawNode], str]]] = {
    raft.MessageType.APP: _append,
    raft.MessageType.APP_RESP: _acknowledgement,
    raft.MessageType.HEARTBEAT: _heartbeat,
    raft.MessageType.HEARTBEAT_RESP: _without_entries,
    raft.MessageType.SNAP: _snapshot,
    raft.MessageType.VOTE: _request_for_a_vote,
    raft.MessageType.PRE_VOTE: _request_for_a_vote,
    raft.MessageType.VOTE_RESP: _without_entries,
    raft.MessageType.PRE_VOTE_RESP: _without_entries,
    raft.MessageType.READ_INDEX: _one_context,
    raft.MessageType.READ_INDEX_RESP: _one_context,
    raft.MessageType.TRANSFER_LEADER: _without_entries,
    raft.MessageType.TIMEOUT_NOW: _without_entries,
}
"""All that replicas say to each other, and how each is looked at."""
