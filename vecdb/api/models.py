"""vecdb.v1.Models."""

from __future__ import annotations

from vecdb_proto.v1 import models_pb2 as pb

from vecdb.api import checks, convert
from vecdb.api.dispatch import Call
from vecdb.config import Limits
from vecdb.models import ModelRegistry
from vecdb.query import Database
from vecdb.security import Role

_MAX_TEXTS = 1_000


class ModelsService:
    """See proto/vecdb/v1/models.proto."""

    def __init__(self, db: Database, registry: ModelRegistry, limits: Limits) -> None:
        self._db = db
        self._registry = registry
        self._limits = limits

    async def List(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        """The models that this node is configured with."""
        reply = pb.ListModelsResponse()
        for name in self._registry.names():
            info = self._registry.info(name)
            reply.models.add(
                name=info.name,
                dim=info.dim or 0,
                metric=convert.METRIC_NUMBERS[info.metric] if info.metric else 0,
                provider=info.kind,
                fingerprint=str(info.fingerprint or ""),
                query_prefix=info.query_prefix,
                passage_prefix=info.passage_prefix,
            )
        return reply

    async def Embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        """Vectors of texts."""
        call.principal.require(Role.READ)
        checks.between(len(request.texts), 1, _MAX_TEXTS, "texts")
        texts = [
            checks.query_text(text, self._limits, f"texts[{at}]") for at, text in enumerate(request.texts)
        ]
        if request.kind not in pb.EmbedKind.values():
            raise checks.invalid("kind", f"{request.kind} is unknown")
        queries = request.kind == pb.EMBED_KIND_QUERY
        vectors = await self._db.embedding.plain(request.model, texts, queries)
        return pb.EmbedResponse(
            vectors=vectors.astype("<f4", copy=False).tobytes(),
            dim=vectors.shape[1],
            fingerprint=await self._db.embedding.fingerprint(request.model),
        )
