"""vecdb.v1.Access. So far there is the root token alone, and what it may do."""

from __future__ import annotations

from vecdb_proto.v1 import access_pb2 as pb

from vecdb.api.dispatch import Call


class AccessService:
    """See proto/vecdb/v1/access.proto."""

    async def WhoAmI(self, request: pb.WhoAmIRequest, call: Call) -> pb.WhoAmIResponse:
        """Who the caller is."""
        reply = pb.WhoAmIResponse(principal=call.principal.name)
        for grant in call.principal.grants:
            reply.grants.add(collection=grant.collection, role=grant.role.value)
        return reply
