"""How the transport behaves, and how its connections stand."""

from __future__ import annotations

from dataclasses import dataclass

from vecdb_replication.host import MAX_ENTRY_BYTES

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Limits and times of a transport. Sizes in bytes."""

    max_queued_messages: int = 16_384
    """What waits for one peer, appends and the rest apart; what comes beyond is dropped."""
    max_queued_bytes: int = 64 * _MIB
    frame_bytes: int = _MIB
    """Messages share a frame up to this size: a larger one would hold up what is urgent."""
    max_frame_bytes: int = 4 * _MIB
    """The largest frame sent or taken: an entry that does not fit goes in pieces of `frame_bytes`."""
    max_entry_bytes: int = MAX_ENTRY_BYTES
    """The largest entry sent or taken. No host may take a larger one."""
    linger_seconds: float = 0.1
    """Heartbeats and their answers wait so long for company, unless a read waits for them. Election timeouts
    have to be several times as long."""
    hello_seconds: float = 5.0
    """Connecting, the handshake and both hellos take at most so long."""
    backoff_seconds: float = 0.05
    """The first pause before dialling again; each is twice the one before, up to the limit."""
    max_backoff_seconds: float = 2.0
    keepalive_seconds: float = 5.0
    """A connection that is silent for so long is asked whether it lives."""
    keepalive_timeout_seconds: float = 5.0
    """How long it has to answer."""
    close_seconds: float = 0.5
    """How long closing waits for what is queued to leave."""
    chunk_bytes: int = _MIB
    chunk_seconds: float = 30.0
    """A fetch that brings nothing for so long has failed."""
    max_fetches_per_peer: int = 4
    """Files that one peer may fetch at a time."""


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """How the connection to a peer stands. Counts are since the transport began."""

    peer: str
    dials: bool
    """Whether this node opens the stream, or waits for the peer to do so."""
    connected: bool
    connects: int
    """How many streams there have been."""
    problem: str
    """Why there is no stream; empty while there is one."""
    queued_messages: int
    queued_bytes: int
    dropped_messages: int
    """Those that found no stream or no room, and those that waited when a stream broke."""
    sent_messages: int
    sent_frames: int
    sent_bytes: int
    received_messages: int
    received_frames: int
    received_bytes: int
