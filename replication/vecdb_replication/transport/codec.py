"""Envelopes as bytes: proto/vecdb/peer/v1/peer.proto tells what they look like.

Messages are laid out in columns, because building and parsing a protobuf
message for each of a thousand heartbeats takes longer than the heartbeats
themselves. The entries' data is put behind the rest as it is, which protobuf
allows (fields may come in any order), so that sending copies it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat
from operator import attrgetter
from typing import Any

from google.protobuf.message import DecodeError
from vecdb_proto.peer.v1 import peer_pb2

from vecdb_replication import raft
from vecdb_replication.host import Envelope
from vecdb_replication.transport.errors import Refused

VERSION = 1
MAX_MESSAGES = 4_096
MAX_ENTRIES = 131_072
"""More than a host puts into one message: a message of 1 MiB has 116,508 entries of one byte."""
MAX_REPLICAS = 1_024
MAX_CLUSTER_BYTES = 128
MAX_PEER_BYTES = 255
MAX_CONTEXT_BYTES = 64
MAX_MANIFEST_BYTES = 1 << 20

Addressed = tuple[int, raft.Message]
"""A group and what is said in it."""

# The numbers of raftpb.MessageType in etcd-io/raft.
_CODES = {
    raft.MessageType.APP: 3,
    raft.MessageType.APP_RESP: 4,
    raft.MessageType.VOTE: 5,
    raft.MessageType.VOTE_RESP: 6,
    raft.MessageType.SNAP: 7,
    raft.MessageType.HEARTBEAT: 8,
    raft.MessageType.HEARTBEAT_RESP: 9,
    raft.MessageType.TRANSFER_LEADER: 13,
    raft.MessageType.TIMEOUT_NOW: 14,
    raft.MessageType.READ_INDEX: 15,
    raft.MessageType.READ_INDEX_RESP: 16,
    raft.MessageType.PRE_VOTE: 17,
    raft.MessageType.PRE_VOTE_RESP: 18,
}
_TYPES = {code: kind for kind, code in _CODES.items()}
_KINDS = {int(kind): kind for kind in raft.EntryType}
_APP, _SNAP = _CODES[raft.MessageType.APP], _CODES[raft.MessageType.SNAP]
# What the contexts of reads travel in: entries that are not the log's.
_READS = {_CODES[raft.MessageType.READ_INDEX], _CODES[raft.MessageType.READ_INDEX_RESP]}

# Columns that are left out where they say nothing.
_COLUMNS = tuple(
    (column, attrgetter(field))
    for column, field in (
        ("to", "to"),
        ("from", "from_"),
        ("term", "term"),
        ("log_term", "log_term"),
        ("index", "index"),
        ("commit", "commit"),
        ("vote", "vote"),
        ("reject_hint", "reject_hint"),
        ("reject", "reject"),
        ("context", "context"),
    )
)
_LAST = 2**64 - 1


def _varint(value: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_DATA_TAG = _varint(peer_pb2.Envelope.ENTRY_DATA_FIELD_NUMBER << 3 | 2)


def encode(messages: Sequence[Addressed], *, continued: bool = False) -> bytes:
    """An envelope of messages. ValueError for one that is for its own node alone."""
    said = [message for _, message in messages]
    try:
        columns: dict[str, Any] = {"type": bytes([_CODES[message.type] for message in said])}
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is never sent to a peer") from None
    columns["group"] = [group for group, _ in messages]
    for column, field in _COLUMNS:
        values = list(map(field, said))
        if any(values):
            columns[column] = values
    columns["snapshots"] = [_pack(message.snapshot) for message in said if message.snapshot is not None]
    counts = [len(message.entries) for message in said]
    if not any(counts):
        return bytes(peer_pb2.Envelope(**columns).SerializeToString())
    entries = list(chain.from_iterable(message.entries for message in said))
    columns["continued"] = continued
    columns["entries"] = counts
    columns["entry_term"] = [entry.term for entry in entries]
    columns["entry_type"] = bytes([entry.type for entry in entries])
    parts = [peer_pb2.Envelope(**columns).SerializeToString()]
    for entry in entries:
        parts += (_DATA_TAG, _varint(len(entry.data)), entry.data)
    return b"".join(parts)


def encode_in_pieces(group: int, message: raft.Message, size: int) -> Iterator[bytes]:
    """The frames of a message. A first entry that is larger than `size` bytes goes ahead in pieces."""
    if not message.entries or len(message.entries[0].data) <= size:
        yield encode([(group, message)])
        return
    first, *others = message.entries
    data = memoryview(first.data)
    end = (len(data) - 1) // size * size
    for start in range(0, end, size):
        yield bytes(peer_pb2.Envelope(piece=bytes(data[start : start + size])).SerializeToString())
    rest = replace(first, data=bytes(data[end:]))
    yield encode([(group, replace(message, entries=(rest, *others)))], continued=True)


def _pack(snapshot: raft.Snapshot) -> peer_pb2.Snapshot:
    conf = snapshot.conf_state
    return peer_pb2.Snapshot(
        index=snapshot.index,
        term=snapshot.term,
        data=snapshot.data,
        voters=conf.voters,
        voters_outgoing=conf.voters_outgoing,
        learners=conf.learners,
        learners_next=conf.learners_next,
        auto_leave=conf.auto_leave,
    )


class Decoder:
    """Takes the frames of one stream, and puts together the entries that come in pieces."""

    def __init__(self, max_entry_bytes: int) -> None:
        self._max_entry_bytes = max_entry_bytes
        self._pieces: list[bytes] = []
        self._size = 0

    def decode(self, frame: bytes) -> Envelope | None:
        """The envelope in a frame; None for a piece. Refused where it does not keep to the protocol."""
        raw = _parse(frame)
        if raw.piece:
            if raw.group or raw.HasField("hello"):
                raise Refused("a piece with something else")
            self._take(raw.piece)
            return None
        if not raw.continued:
            return _decode(raw, raw.entry_data)
        if not raw.entry_data or not self._pieces:
            raise Refused("an entry that is continued, and was not begun")
        self._take(raw.entry_data[0])
        pieces, self._pieces, self._size = self._pieces, [], 0
        return _decode(raw, [b"".join(pieces), *raw.entry_data[1:]])

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max_entry_bytes:
            raise Refused(f"an entry of more than {self._max_entry_bytes} bytes")
        self._pieces.append(piece)


def _decode(raw: peer_pb2.Envelope, data: Sequence[bytes]) -> Envelope:
    """The envelope of parsed columns, but with the entries' data as given."""
    if raw.HasField("hello"):
        raise Refused("a second hello")
    count = len(raw.group)
    if not 0 < count <= MAX_MESSAGES:
        raise Refused(f"an envelope of {count} messages, of 1 to {MAX_MESSAGES}")
    if len(raw.type) != count or 0 in raw.group:
        raise Refused("an envelope with messages of no type or of no group")
    columns = {column: _column(raw, column, count) for column, _ in _COLUMNS}
    if any(len(context) > MAX_CONTEXT_BYTES for context in raw.context):
        raise Refused(f"a context of more than {MAX_CONTEXT_BYTES} bytes")
    entries, snapshots = _Entries(raw, data, count), _Snapshots(raw)
    messages = []
    for group, code, to, from_, term, log_term, index, commit, vote, hint, reject, context in zip(
        raw.group, raw.type, *columns.values(), strict=True
    ):
        kind = _TYPES.get(code)
        if kind is None:
            raise Refused(f"a message of the unknown type {code}")
        message = raft.Message(
            kind,
            to,
            from_,
            term,
            log_term,
            index,
            entries.take(code, index),
            commit,
            vote,
            snapshots.take() if code == _SNAP else None,
            reject,
            hint,
            context or b"",
        )
        messages.append((group, message))
    entries.end()
    snapshots.end()
    return Envelope(tuple(messages))


def _parse(frame: bytes) -> peer_pb2.Envelope:
    try:
        return peer_pb2.Envelope.FromString(frame)
    except DecodeError as error:
        raise Refused(f"a frame that is no envelope: {error}") from None


def _column(raw: peer_pb2.Envelope, name: str, count: int) -> Iterable[Any]:
    values = getattr(raw, name)
    if not values:
        return repeat(0, count)
    if len(values) != count:
        raise Refused(f"{len(values)} values of {name} for {count} messages")
    return values  # type: ignore[no-any-return]


class _Entries:
    """Hands out the entries of an envelope, message by message."""

    def __init__(self, raw: peer_pb2.Envelope, data: Sequence[bytes], count: int) -> None:
        if len(data) > MAX_ENTRIES:
            raise Refused(f"an envelope of {len(data)} entries, of at most {MAX_ENTRIES}")
        if len(raw.entry_term) != len(data) or len(raw.entry_type) != len(data):
            raise Refused("entries without a term, a type or data")
        self._counts = iter(_column(raw, "entries", count))
        self._left = len(data)
        self._parts: Iterator[tuple[int, int, bytes]] = zip(raw.entry_term, raw.entry_type, data, strict=True)

    def take(self, code: int, index: int) -> tuple[raft.Entry, ...]:
        """The entries of the next message: an append's follow `index`, a read's have none."""
        count = next(self._counts)
        if not count:
            return ()
        self._left -= count
        if self._left < 0 or (code != _APP and code not in _READS) or index > _LAST - count:
            raise Refused("entries that are no append's and no read's, or more than there are")
        places = range(index + 1, index + 1 + count) if code == _APP else repeat(0, count)
        try:
            return tuple(
                raft.Entry(term, place, _KINDS[kind], data)
                for place, (term, kind, data) in zip(places, self._parts, strict=False)
            )
        except KeyError as error:
            raise Refused(f"an entry of the unknown type {error.args[0]}") from None

    def end(self) -> None:
        """None may be left."""
        if self._left:
            raise Refused(f"{self._left} entries of no message")


class _Snapshots:
    """Hands out the snapshots of an envelope."""

    def __init__(self, raw: peer_pb2.Envelope) -> None:
        self._waiting = iter(raw.snapshots)

    def take(self) -> raft.Snapshot:
        """The next one."""
        found = next(self._waiting, None)
        if found is None or len(found.data) > MAX_MANIFEST_BYTES:
            raise Refused(f"a snapshot that is missing, or of more than {MAX_MANIFEST_BYTES} bytes")
        lists = (found.voters, found.voters_outgoing, found.learners, found.learners_next)
        if any(len(replicas) > MAX_REPLICAS for replicas in lists):
            raise Refused(f"a snapshot of a group with more than {MAX_REPLICAS} replicas")
        voters, outgoing, learners, next_ = map(tuple, lists)
        conf = raft.ConfState(voters, outgoing, learners, next_, found.auto_leave)
        return raft.Snapshot(found.index, found.term, found.data, conf)

    def end(self) -> None:
        """None may be left."""
        if next(self._waiting, None) is not None:
            raise Refused("a snapshot of no message")


def encode_hello(cluster: str, peer: str) -> bytes:
    """How a stream begins."""
    hello = peer_pb2.Hello(version=VERSION, cluster=cluster, peer=peer)
    return bytes(peer_pb2.Envelope(hello=hello).SerializeToString())


def check_hello(frame: bytes | None, cluster: str, peer: str) -> None:
    """Refused unless a stream's first frame is the hello of `peer`, in this cluster and version."""
    if frame is None:
        raise Refused("the stream ended without a hello")
    raw = _parse(frame)
    if not raw.HasField("hello"):
        raise Refused("no hello")
    hello = raw.hello
    if len(hello.cluster.encode()) > MAX_CLUSTER_BYTES or len(hello.peer.encode()) > MAX_PEER_BYTES:
        raise Refused("a hello with names that are too long")
    if hello.version != VERSION:
        raise Refused(f"it speaks version {hello.version} of the protocol, this node {VERSION}")
    if hello.cluster != cluster:
        raise Refused(f"it belongs to the cluster {hello.cluster!r}, this node to {cluster!r}")
    if hello.peer != peer:
        raise Refused(f"it says that it is {hello.peer!r}, but is {peer!r}")
