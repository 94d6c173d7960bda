"""How gRPC is told what the transport needs of it."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from vecdb_proto.peer.v1 import peer_pb2

from vecdb_replication.transport.options import TransportOptions
from vecdb_replication.transport.trust import Trust

SERVICE = peer_pb2.DESCRIPTOR.services_by_name["Peer"].full_name
EXCHANGE = "Exchange"
FETCH = "Fetch"

Arguments = list[tuple[str, Any]]


def open_stream(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall[bytes, bytes]:
    """The stream of envelopes, as bytes: gRPC would not say why it cannot decode one."""
    return channel.stream_stream(path(EXCHANGE), None, None)(None)


def path(method: str) -> str:
    """A method as gRPC addresses it."""
    return f"/{SERVICE}/{method}"


def _common(options: TransportOptions) -> Arguments:
    milliseconds = int(options.keepalive_seconds * 1000)
    return [
        ("grpc.max_receive_message_length", options.max_frame_bytes),
        ("grpc.max_send_message_length", options.max_frame_bytes),
        ("grpc.keepalive_time_ms", milliseconds),
        ("grpc.keepalive_timeout_ms", int(options.keepalive_timeout_seconds * 1000)),
        # What gRPC 1.60 and later really go by: a minute where it is not given.
        ("grpc.http2.ping_timeout_ms", int(options.keepalive_timeout_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def server_arguments(options: TransportOptions) -> Arguments:
    """For the port. A second node on the same one is an error, not a way to share the load."""
    half = int(options.keepalive_seconds * 500)
    return [
        *_common(options),
        ("grpc.http2.min_ping_interval_without_data_ms", half),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", half),
        ("grpc.so_reuseport", 0),
    ]


def open_channel(address: str, peer: str, trust: Trust, options: TransportOptions) -> grpc.aio.Channel:
    """A channel of its own to a peer, with a connection of its own: it shares no back-off with earlier ones.

    TrustError, and Refused for a peer that nothing is known of.
    """
    arguments: Arguments = [
        *_common(options),
        ("grpc.ssl_target_name_override", trust.target(peer)),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
    ]
    return grpc.aio.secure_channel(address, trust.channel(peer), options=arguments)
