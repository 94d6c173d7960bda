"""The RPCs of vecdb.v1 as this client calls them: path and message types, looked up once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf import message_factory
from vecdb_proto.v1 import (
    access_pb2,
    cluster_pb2,
    collections_pb2,
    documents_pb2,
    knowledge_pb2,
    models_pb2,
    search_pb2,
)

Arity = Literal["unary_unary", "unary_stream", "stream_stream"]


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """One RPC. Compared and hashed by identity, because it is a key on the hot path.

    `session` tells whether its replies carry the positions they reflect.
    """

    path: str
    serialize: Callable[[Any], bytes]
    parse: Callable[[bytes], Any]
    arity: Arity
    session: bool


def _of(module: Any, service: str, name: str, arity: Arity = "unary_unary") -> Method:
    descriptor = module.DESCRIPTOR.services_by_name[service].methods_by_name[name]
    request = message_factory.GetMessageClass(descriptor.input_type)
    reply = message_factory.GetMessageClass(descriptor.output_type)
    path = f"/{descriptor.containing_service.full_name}/{name}"
    return Method(
        path, request.SerializeToString, reply.FromString, arity, "session" in reply.DESCRIPTOR.fields_by_name
    )


CREATE_COLLECTION = _of(collections_pb2, "Collections", "Create")
DESCRIBE_COLLECTION = _of(collections_pb2, "Collections", "Describe")
LIST_COLLECTIONS = _of(collections_pb2, "Collections", "List")
ALTER_COLLECTION = _of(collections_pb2, "Collections", "Alter")
UPDATE_ALIASES = _of(collections_pb2, "Collections", "UpdateAliases")
DROP_COLLECTION = _of(collections_pb2, "Collections", "Drop")

UPSERT = _of(documents_pb2, "Documents", "Upsert")
UPDATE = _of(documents_pb2, "Documents", "Update")
DELETE = _of(documents_pb2, "Documents", "Delete")
GET = _of(documents_pb2, "Documents", "Get")
SCROLL = _of(documents_pb2, "Documents", "Scroll")
COUNT = _of(documents_pb2, "Documents", "Count")

SEARCH = _of(search_pb2, "Search", "Search")
SEARCH_BATCH = _of(search_pb2, "Search", "SearchBatch")
SEARCH_STREAM = _of(search_pb2, "Search", "SearchStream", "stream_stream")

INGEST = _of(knowledge_pb2, "Knowledge", "Ingest", "stream_stream")
LIST_SOURCES = _of(knowledge_pb2, "Knowledge", "ListSources")
DELETE_SOURCES = _of(knowledge_pb2, "Knowledge", "DeleteSources")
RETRIEVE = _of(knowledge_pb2, "Knowledge", "Retrieve")

LIST_MODELS = _of(models_pb2, "Models", "List")
EMBED = _of(models_pb2, "Models", "Embed")

WHO_AM_I = _of(access_pb2, "Access", "WhoAmI")
CREATE_TOKEN = _of(access_pb2, "Access", "CreateToken")
LIST_TOKENS = _of(access_pb2, "Access", "ListTokens")
REVOKE_TOKEN = _of(access_pb2, "Access", "RevokeToken")
QUARANTINE_AUTHOR = _of(access_pb2, "Access", "QuarantineAuthor")
RELEASE_AUTHOR = _of(access_pb2, "Access", "ReleaseAuthor")
LIST_QUARANTINED = _of(access_pb2, "Access", "ListQuarantined")

CLUSTER_STATUS = _of(cluster_pb2, "Cluster", "Status")
INVITE = _of(cluster_pb2, "Cluster", "Invite")
DRAIN_MEMBER = _of(cluster_pb2, "Cluster", "DrainMember")
REMOVE_MEMBER = _of(cluster_pb2, "Cluster", "RemoveMember")
MOVE_REPLICA = _of(cluster_pb2, "Cluster", "MoveReplica")
SNAPSHOT = _of(cluster_pb2, "Cluster", "Snapshot", "unary_stream")
RESTORE = _of(cluster_pb2, "Cluster", "Restore", "stream_stream")
