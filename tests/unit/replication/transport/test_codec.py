"""Envelopes as bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vecdb_proto.peer.v1 import peer_pb2
from vecdb_replication import raft
from vecdb_replication.host import Envelope, Options
from vecdb_replication.raft.messages import LOCAL_TYPES
from vecdb_replication.raft.sizes import entry_size
from vecdb_replication.transport import Refused
from vecdb_replication.transport.codec import (
    MAX_CONTEXT_BYTES,
    MAX_ENTRIES,
    MAX_MESSAGES,
    MAX_REPLICAS,
    Decoder,
    check_hello,
    encode,
    encode_hello,
    encode_in_pieces,
)

from tests.unit.replication.transport.peers import append, heartbeat, snapshot

NUMBER = st.integers(0, 2**64 - 1)
SMALL = st.integers(0, 2**40)
IDS = st.lists(NUMBER, max_size=3).map(tuple)
OWN = sorted({*LOCAL_TYPES, raft.MessageType.PROP, raft.MessageType.FORGET_LEADER})
REMOTE = sorted(set(raft.MessageType) - set(OWN))


def decode(frame: bytes) -> Envelope:
    """The envelope in the only frame of a stream."""
    envelope = Decoder(1 << 20).decode(frame)
    assert envelope is not None
    return envelope


@st.composite
def messages(draw: st.DrawFn) -> raft.Message:
    """Any message that one node may say to another."""
    kind = draw(st.sampled_from(REMOTE))
    index = draw(SMALL)
    entries: tuple[raft.Entry, ...] = ()
    state = None
    if kind is raft.MessageType.APP:
        parts = draw(st.lists(st.tuples(NUMBER, st.sampled_from(raft.EntryType), st.binary(max_size=300))))
        entries = tuple(
            raft.Entry(term, index + place, type_, data) for place, (term, type_, data) in enumerate(parts, 1)
        )
    if kind in {raft.MessageType.READ_INDEX, raft.MessageType.READ_INDEX_RESP}:
        entries = (raft.Entry(data=draw(st.binary(max_size=50))),)
    if kind is raft.MessageType.SNAP:
        conf = raft.ConfState(draw(IDS), draw(IDS), draw(IDS), draw(IDS), draw(st.booleans()))
        state = raft.Snapshot(draw(NUMBER), draw(NUMBER), draw(st.binary(max_size=50)), conf)
    to, from_, term, log_term, commit, vote, hint = (draw(NUMBER) for _ in range(7))
    context = draw(st.binary(max_size=MAX_CONTEXT_BYTES))
    reject = draw(st.booleans())
    return raft.Message(
        kind, to, from_, term, log_term, index, entries, commit, vote, state, reject, hint, context
    )


@given(st.lists(st.tuples(st.integers(1, 2**64 - 1), messages()), min_size=1, max_size=8))
def test_what_is_encoded_comes_out_again(said: list[tuple[int, raft.Message]]) -> None:
    """Any messages, in any mixture: the same values, of the same types, in the same order."""
    assert decode(encode(said)).messages == tuple(said)


@given(st.binary(min_size=1, max_size=300), st.integers(1, 100), st.lists(messages(), max_size=3))
def test_an_entry_that_comes_in_pieces_is_the_entry(
    data: bytes, size: int, between: list[raft.Message]
) -> None:
    """However it was cut, and whatever came between the pieces; the next is put together anew."""
    decoder = Decoder(300)
    large = append(3, data, b"with it")
    for _ in range(2):
        *pieces, last = encode_in_pieces(7, large, size)
        assert len(pieces) == (len(data) - 1) // size
        for piece in pieces:
            assert decoder.decode(piece) is None
            for message in between:
                assert decoder.decode(encode([(8, message)])) == Envelope(((8, message),))
        assert decoder.decode(last) == Envelope(((7, large),))


def test_pieces_that_belong_to_nothing_are_refused() -> None:
    """With something else, of nothing, of more than an entry may be: nobody's memory is filled by them."""
    piece = peer_pb2.Envelope(piece=b"x" * 60)
    with_group = peer_pb2.Envelope(piece=b"x", group=[7], type=b"\x08")
    with_hello = peer_pb2.Envelope(piece=b"x", hello=peer_pb2.Hello(version=1))
    begun = peer_pb2.Envelope.FromString(encode([(7, append(3, b"x" * 50))], continued=True))
    empty = peer_pb2.Envelope.FromString(encode([(7, heartbeat())]))
    empty.continued = True
    for *before, last in (
        [with_group],
        [with_hello],
        [begun],
        [piece, empty],
        [piece, piece],
        [piece, begun],
    ):
        decoder = Decoder(100)
        for frame in before:
            decoder.decode(frame.SerializeToString())
        with pytest.raises(Refused):
            decoder.decode(last.SerializeToString())


def test_a_message_has_fewer_entries_than_a_frame_takes() -> None:
    """Of the smallest entries that can be proposed, as many as fit."""
    assert Options().max_message_bytes // entry_size(raft.Entry(1, 1, data=b"x")) < MAX_ENTRIES


@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_foreign_bytes_are_refused_or_understood_but_never_break_anything(
    noise: bytes, flips: list[tuple[int, int]]
) -> None:
    """Noise, and a good frame with bytes changed, give an envelope or Refused."""
    frame = bytearray(encode([(7, append(3, b"one", b"two")), (8, snapshot(9)), (9, heartbeat(4))]))
    for place, value in flips:
        frame[place % len(frame)] = value
    for raw in (noise, bytes(frame)):
        try:
            decode(raw)
        except Refused:
            continue


def test_a_frame_is_what_protobuf_itself_would_read_and_write() -> None:
    """The entries' data, which is put behind the rest by hand, is an ordinary field."""
    raw = peer_pb2.Envelope.FromString(encode([(7, append(3, b"one", b"", b"x" * 300))]))
    assert list(raw.entry_data) == [b"one", b"", b"x" * 300]
    assert list(raw.entries) == [3]
    assert decode(raw.SerializeToString()).messages == ((7, append(3, b"one", b"", b"x" * 300)),)


def test_heartbeats_of_many_groups_take_few_bytes() -> None:
    """A thousand groups with large indexes fit into 12 KB: what says nothing is left out."""
    said = [(group, heartbeat(1_000_000 + group)) for group in range(1, 1001)]
    assert len(encode(said)) < 12_000


@pytest.mark.parametrize("kind", OWN)
def test_what_a_node_says_to_itself_is_not_sent(kind: raft.MessageType) -> None:
    """Local types have no place in an envelope."""
    with pytest.raises(ValueError, match=kind):
        encode([(7, raft.Message(kind))])


LIES: dict[str, dict[str, Any]] = {
    "no messages": {},
    "too many messages": {"group": [1] * (MAX_MESSAGES + 1), "type": b"\x08" * (MAX_MESSAGES + 1)},
    "no type": {"group": [1, 2], "type": b"\x08"},
    "no group": {"group": [0], "type": b"\x08"},
    "an unknown type": {"group": [1], "type": b"\x63"},
    "a local type": {"group": [1], "type": b"\x00"},
    "a short column": {"group": [1, 2], "type": b"\x08\x08", "term": [1]},
    "a long context": {"group": [1], "type": b"\x08", "context": [b"x" * (MAX_CONTEXT_BYTES + 1)]},
    "entries without terms": {"group": [1], "type": b"\x03", "entries": [1], "entry_data": [b"x"]},
    "fewer entries than said": {"group": [1], "type": b"\x03", "entries": [1]},
    "more entries than said": {
        "group": [1],
        "type": b"\x03",
        "entry_term": [1],
        "entry_type": b"\x00",
        "entry_data": [b"x"],
    },
    "entries of a heartbeat": {
        "group": [1],
        "type": b"\x08",
        "entries": [1],
        "entry_term": [1],
        "entry_type": b"\x00",
        "entry_data": [b"x"],
    },
    "an unknown kind of entry": {
        "group": [1],
        "type": b"\x03",
        "entries": [1],
        "entry_term": [1],
        "entry_type": b"\x09",
        "entry_data": [b"x"],
    },
    "an index beyond the last": {
        "group": [1],
        "type": b"\x03",
        "index": [2**64 - 1],
        "entries": [1],
        "entry_term": [1],
        "entry_type": b"\x00",
        "entry_data": [b"x"],
    },
    "too many entries": {
        "group": [1],
        "type": b"\x03",
        "entries": [MAX_ENTRIES + 1],
        "entry_term": [1] * (MAX_ENTRIES + 1),
        "entry_type": bytes(MAX_ENTRIES + 1),
        "entry_data": [b""] * (MAX_ENTRIES + 1),
    },
    "too many replicas": {
        "group": [1],
        "type": b"\x07",
        "snapshots": [peer_pb2.Snapshot(index=1, learners=range(1, MAX_REPLICAS + 2))],
    },
    "a snapshot that is missing": {"group": [1], "type": b"\x07"},
    "a snapshot of no message": {"group": [1], "type": b"\x08", "snapshots": [peer_pb2.Snapshot(index=1)]},
    "a large manifest": {
        "group": [1],
        "type": b"\x07",
        "snapshots": [peer_pb2.Snapshot(index=1, data=bytes((1 << 20) + 1))],
    },
    "a hello in between": {"group": [1], "type": b"\x08", "hello": peer_pb2.Hello(version=1)},
}


@pytest.mark.parametrize("lie", LIES)
def test_an_envelope_that_does_not_fit_together_is_refused(lie: str) -> None:
    """Whatever a peer makes up, it is told apart from what this protocol says."""
    with pytest.raises(Refused):
        decode(peer_pb2.Envelope(**LIES[lie]).SerializeToString())


def test_a_hello_is_taken_from_who_it_should_be() -> None:
    """Version, cluster and name have to fit."""
    check_hello(encode_hello("c", "n1"), "c", "n1")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (None, "without a hello"),
        (b"\xff", "no envelope"),
        (encode([(7, heartbeat())]), "no hello"),
        (encode_hello("other", "n1"), "cluster 'other'"),
        (encode_hello("c", "n2"), "'n2', but is 'n1'"),
        (encode_hello("c" * 129, "n1"), "too long"),
        (encode_hello("c", "n" * 256), "too long"),
        (peer_pb2.Envelope(hello=peer_pb2.Hello(version=2)).SerializeToString(), "version 2"),
    ],
)
def test_another_hello_is_refused_with_the_reason(frame: bytes | None, reason: str) -> None:
    """Each mismatch is named."""
    with pytest.raises(Refused, match=reason):
        check_hello(frame, "c", "n1")
