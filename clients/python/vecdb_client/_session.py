"""What this client has seen, so that its reads never go back.

Every reply carries positions (a log index for each shard it touched, and one
for the catalogue). The client keeps the highest of each and hands them to its
reads; a replica that is behind waits or passes the read on. That is
read-your-writes and monotonic reads (Terry et al., "Session Guarantees for
Weakly Consistent Replicated Data", 1994) without pinning a client to a node.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import secrets
import threading

from google.protobuf.message import DecodeError
from vecdb_proto.v1 import common_pb2

CONSISTENCIES = {
    "eventual": common_pb2.CONSISTENCY_EVENTUAL,
    "session": common_pb2.CONSISTENCY_SESSION,
    "linearizable": common_pb2.CONSISTENCY_LINEARIZABLE,
}


class Session:
    """The positions a client has seen. Threads may share it."""

    def __init__(self, token: str | bytes | None = None) -> None:
        self._lock = threading.Lock()
        self._epoch = 0
        self._catalogue = 0
        self._positions: dict[int, int] = {}
        # What a session read sends, made anew only when something was learnt:
        # most replies tell nothing new, and a search should not pay for it.
        self._message: common_pb2.SessionToken | None = None
        if token:
            self.merge_token(token)

    def merge_token(self, token: str | bytes) -> None:
        """Takes in what another client has seen. Raises ValueError where that is no session token."""
        self.merge(_parse(token))

    def merge(self, seen: common_pb2.SessionToken) -> None:
        """Takes in the positions of a reply.

        A reply of another epoch is passed over while positions are held: the
        next session read is then refused (StaleSessionError), which tells the
        caller that what was seen may be gone. Forgetting it in silence would
        let reads go back unnoticed.
        """
        known = self._positions
        if (
            seen.epoch == self._epoch
            and seen.catalogue <= self._catalogue
            and all(place.index <= known.get(place.shard, -1) for place in seen.positions)
        ):
            return
        with self._lock:
            if seen.epoch != self._epoch and (self._positions or self._catalogue):
                return
            positions = dict(self._positions)
            for place in seen.positions:
                positions[place.shard] = max(place.index, positions.get(place.shard, 0))
            self._epoch = seen.epoch
            self._catalogue = max(seen.catalogue, self._catalogue)
            self._positions = positions
            self._message = self._build() if positions or self._catalogue else None

    def forget(self) -> None:
        """Forgets every position, as if nothing had been seen."""
        with self._lock:
            self._epoch = self._catalogue = 0
            self._positions = {}
            self._message = None

    def _build(self) -> common_pb2.SessionToken:
        places = [common_pb2.ShardPosition(shard=s, index=i) for s, i in sorted(self._positions.items())]
        return common_pb2.SessionToken(epoch=self._epoch, catalogue=self._catalogue, positions=places)

    @property
    def token(self) -> str:
        """The positions as URL-safe text; empty where nothing was seen."""
        message = self._message
        if message is None:
            return ""
        return base64.urlsafe_b64encode(message.SerializeToString(deterministic=True)).decode("ascii")

    def read_options(self, consistency: str, require_all: bool) -> common_pb2.ReadOptions | None:
        """What a read sends along; None where that would say nothing.

        Raises ValueError for an unknown consistency.
        """
        if consistency == "session":
            message = self._message
            if message is None:
                return common_pb2.ReadOptions(require_all=True) if require_all else None
            return common_pb2.ReadOptions(
                consistency=common_pb2.CONSISTENCY_SESSION, session=message, require_all=require_all
            )
        if consistency not in CONSISTENCIES:
            raise ValueError(f"consistency must be one of {', '.join(CONSISTENCIES)}, not {consistency!r}")
        return common_pb2.ReadOptions(consistency=CONSISTENCIES[consistency], require_all=require_all)


class WriteCounter:
    """Numbers this client's writes, so that a repeated one is applied once.

    Its identity is random and its own: a session token that is handed on must
    not carry it, or two processes would count with the same name.
    """

    def __init__(self) -> None:
        self._session_id = secrets.token_bytes(16)
        self._numbers = itertools.count(1)  # next() on it is atomic

    def options(self) -> common_pb2.WriteOptions:
        """The identity of the next write; every retry of it sends the same one."""
        return common_pb2.WriteOptions(session_id=self._session_id, sequence=next(self._numbers))


def _parse(token: str | bytes) -> common_pb2.SessionToken:
    if not isinstance(token, str | bytes | bytearray | memoryview):
        raise TypeError(f"a session token is the text that `.session` gave, not {type(token).__name__}")
    try:
        text = token if isinstance(token, str) else bytes(token)
        return common_pb2.SessionToken.FromString(base64.b64decode(text, altchars=b"-_", validate=True))
    except (binascii.Error, DecodeError, ValueError) as error:
        raise ValueError("this is no session token") from error
