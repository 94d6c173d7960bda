"""The transport: what hosts say to each other, over gRPC with mutual TLS.

`Transport` is the outbox of a host: one bidirectional stream a pair of peers,
opened by the one with the smaller name, and again whenever it breaks. What is
sent waits in bounded queues and is dropped where there is no room or no
stream, and the host is told; Raft makes up for it. Files of snapshots are
fetched over connections of their own. Of the package, this alone knows gRPC.

docs/transport.md tells what is checked, and what gets lost when.
`vecdb_replication.host.MemoryNetwork` is its twin within one process.
"""

from vecdb_replication.transport.errors import (
    FetchFailed,
    Refused,
    TransportError,
    TrustError,
)
from vecdb_replication.transport.options import PeerStatus, TransportOptions
from vecdb_replication.transport.seams import NoSnapshots, Receiver, SnapshotSource
from vecdb_replication.transport.transport import Transport
from vecdb_replication.transport.trust import AuthContext, FileTrust, TlsFiles, Trust

__all__ = [
    "AuthContext",
    "FetchFailed",
    "FileTrust",
    "NoSnapshots",
    "PeerStatus",
    "Receiver",
    "Refused",
    "SnapshotSource",
    "TlsFiles",
    "Transport",
    "TransportError",
    "TransportOptions",
    "Trust",
    "TrustError",
]
