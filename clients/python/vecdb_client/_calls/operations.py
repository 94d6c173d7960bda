"""Operations: who may do what, and the state of the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from vecdb_proto.v1 import access_pb2, cluster_pb2

from vecdb_client import _methods as methods
from vecdb_client._infos import (
    ClusterStatus,
    Grant,
    Invitation,
    NewToken,
    Principal,
    QuarantinedAuthor,
    TokenInfo,
)
from vecdb_client._plans import Call, Core
from vecdb_client._views import timestamp


def _nothing(_reply: Any) -> None:
    return None


def whoami(core: Core, *, timeout: float | None = None) -> Call[Principal]:
    """Who the caller is, as the server sees it."""

    def parse(reply: access_pb2.WhoAmIResponse) -> Principal:
        return Principal(reply.principal, tuple(Grant.of(grant) for grant in reply.grants))

    return Call(methods.WHO_AM_I, access_pb2.WhoAmIRequest(), parse, timeout)


def create_token(
    core: Core,
    principal: str,
    grants: Iterable[Grant],
    *,
    expires_at: datetime | None = None,
    requests_per_second: int = 0,
    concurrent_requests: int = 0,
    timeout: float | None = None,
) -> Call[NewToken]:
    """Makes a token whose writes are signed with `principal`; its secret is shown this once.

    Limits are 0 for none. Raises ValueError for an `expires_at` without a
    time zone, PermissionDeniedError for callers who are no admin.
    """
    if expires_at is not None and expires_at.utcoffset() is None:
        raise ValueError(f"expires_at needs a time zone: {expires_at!r}")
    token = access_pb2.TokenInfo(
        principal=principal,
        grants=[grant.message() for grant in grants],
        expires_at_ms=0 if expires_at is None else round(expires_at.timestamp() * 1000),
        requests_per_second=requests_per_second,
        concurrent_requests=concurrent_requests,
    )

    def parse(reply: access_pb2.CreateTokenResponse) -> NewToken:
        return NewToken(TokenInfo.of(reply.token), reply.secret)

    request = access_pb2.CreateTokenRequest(token=token, options=core.writes.options())
    return Call(methods.CREATE_TOKEN, request, parse, timeout)


def list_tokens(core: Core, *, timeout: float | None = None) -> Call[list[TokenInfo]]:
    """Every token, without its secret."""

    def parse(reply: access_pb2.ListTokensResponse) -> list[TokenInfo]:
        return [TokenInfo.of(token) for token in reply.tokens]

    return Call(methods.LIST_TOKENS, access_pb2.ListTokensRequest(), parse, timeout)


def revoke_token(core: Core, token_id: str, *, timeout: float | None = None) -> Call[None]:
    """Makes a token worthless. Raises NotFoundError."""
    request = access_pb2.RevokeTokenRequest(token_id=token_id, options=core.writes.options())
    return Call(methods.REVOKE_TOKEN, request, _nothing, timeout)


def quarantine_author(core: Core, author: str, reason: str, *, timeout: float | None = None) -> Call[None]:
    """Leaves an author's documents out of every answer, at once."""
    request = access_pb2.QuarantineAuthorRequest(author=author, reason=reason, options=core.writes.options())
    return Call(methods.QUARANTINE_AUTHOR, request, _nothing, timeout)


def release_author(core: Core, author: str, *, timeout: float | None = None) -> Call[None]:
    """Shows an author's documents again. Raises NotFoundError."""
    request = access_pb2.ReleaseAuthorRequest(author=author, options=core.writes.options())
    return Call(methods.RELEASE_AUTHOR, request, _nothing, timeout)


def list_quarantined(core: Core, *, timeout: float | None = None) -> Call[list[QuarantinedAuthor]]:
    """The authors whose documents are left out, and why."""

    def parse(reply: access_pb2.ListQuarantinedResponse) -> list[QuarantinedAuthor]:
        return [QuarantinedAuthor(a.author, a.reason, timestamp(a.since_ms)) for a in reply.authors]

    return Call(methods.LIST_QUARANTINED, access_pb2.ListQuarantinedRequest(), parse, timeout)


def snapshot_request(
    collections: Iterable[str], have: Iterable[cluster_pb2.SnapshotFile]
) -> cluster_pb2.SnapshotRequest:
    """Asks for a snapshot of the collections, without the files that are there already."""
    if isinstance(collections, str):
        raise TypeError("collections must be a list of names, not one string")
    return cluster_pb2.SnapshotRequest(collections=collections, have=have)


def cluster_status(core: Core, *, timeout: float | None = None) -> Call[ClusterStatus]:
    """Members, shards and their health, as the answering node sees them."""
    return Call(methods.CLUSTER_STATUS, cluster_pb2.ClusterStatusRequest(), ClusterStatus.of, timeout)


def invite(core: Core, *, ttl_seconds: int = 3600, timeout: float | None = None) -> Call[Invitation]:
    """Makes a single-use invitation for a new member, good for 60 to 604,800 seconds."""

    def parse(reply: cluster_pb2.InviteResponse) -> Invitation:
        return Invitation(reply.invitation, timestamp(reply.expires_at_ms), tuple(reply.addresses))

    return Call(methods.INVITE, cluster_pb2.InviteRequest(ttl_seconds=ttl_seconds), parse, timeout)


def drain_member(core: Core, peer_id: str, *, timeout: float | None = None) -> Call[None]:
    """Moves a member's replicas elsewhere, then takes it out of the cluster."""
    return Call(methods.DRAIN_MEMBER, cluster_pb2.DrainMemberRequest(peer_id=peer_id), _nothing, timeout)


def remove_member(core: Core, peer_id: str, *, timeout: float | None = None) -> Call[None]:
    """Takes a member out at once; its replicas are made anew elsewhere."""
    return Call(methods.REMOVE_MEMBER, cluster_pb2.RemoveMemberRequest(peer_id=peer_id), _nothing, timeout)


def move_replica(
    core: Core,
    shard: int,
    from_peer: str,
    to_peer: str,
    *,
    configuration_index: int = 0,
    timeout: float | None = None,
) -> Call[None]:
    """Moves one replica of a shard from one member to another.

    `configuration_index` is the group's configuration that the caller saw; a
    stale one is refused (FailedPreconditionError).
    """
    request = cluster_pb2.MoveReplicaRequest(
        shard=shard, from_peer=from_peer, to_peer=to_peer, configuration_index=configuration_index
    )
    return Call(methods.MOVE_REPLICA, request, _nothing, timeout)
