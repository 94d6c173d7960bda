"""Texts to vectors, by the model that a collection has pinned."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vecdb.catalog import CollectionRecord
from vecdb.models import (
    BatchingEmbedder,
    EmbeddingError,
    Fingerprint,
    ModelBusy,
    ModelLoadError,
    ModelPool,
    ModelUnavailable,
    UnknownModel,
)
from vecdb.query.errors import RequestError, invalid

F32 = npt.NDArray[np.float32]


class Embedding:
    """The node's models, guarded by the fingerprints that collections pin."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool
        self._matching: set[tuple[str, str]] = set()

    async def model(self, name: str) -> BatchingEmbedder:
        """A model by name. RequestError NOT_FOUND, UNAVAILABLE, INTERNAL."""
        try:
            return await self._pool.get(name)
        except UnknownModel as unknown:
            raise RequestError(
                "NOT_FOUND", "MODEL_NOT_FOUND", str(unknown), metadata={"model": name}
            ) from None
        except ModelUnavailable as away:
            raise _unavailable(away) from away
        except ModelLoadError as broken:
            raise RequestError("INTERNAL", "MODEL_NOT_FOUND", f"model {name!r}: {broken}") from broken

    async def fingerprint(self, name: str) -> str:
        """The fingerprint that a new collection pins."""
        await self.model(name)
        embedder = await asyncio.to_thread(self._pool.registry.get, name)
        return str(embedder.fingerprint)

    async def passages(self, record: CollectionRecord, texts: Sequence[str], field: str) -> F32:
        """Vectors of documents, (n, dim) float32."""
        model = await self._pinned(record, field)
        return await _guarded(model.embed_passages(texts), field)

    async def queries(self, record: CollectionRecord, texts: Sequence[str], field: str) -> F32:
        """Vectors of questions, (n, dim) float32."""
        model = await self._pinned(record, field)
        return await _guarded(model.embed_queries(texts), field)

    async def hybrid_weight(self, record: CollectionRecord) -> float:
        """What the vectors' ranking weighs beside that of BM25, where nobody says; as much without a
        model."""
        return (await self.model(record.model)).embedder.hybrid_weight if record.model else 1.0

    async def plain(self, name: str, texts: Sequence[str], queries: bool) -> F32:
        """Vectors by a model, whatever collections there are."""
        model = await self.model(name)
        work = model.embed_queries(texts) if queries else model.embed_passages(texts)
        return await _guarded(work, "texts")

    async def _pinned(self, record: CollectionRecord, field: str) -> BatchingEmbedder:
        if not record.model:
            raise invalid(
                field,
                f"collection {record.name!r} has no model, so it takes vectors, not texts",
                "MODEL_REQUIRED",
            )
        model = await self.model(record.model)
        key = (record.model, record.fingerprint)
        if key not in self._matching:
            mine = Fingerprint.parse(await self.fingerprint(record.model))
            if problem := Fingerprint.parse(record.fingerprint).explain_mismatch(mine):
                raise RequestError(
                    "FAILED_PRECONDITION",
                    "MODEL_MISMATCH",
                    f"model {record.model!r} of this node is not the one that collection {record.name!r} "
                    f"was made with: {problem}",
                    metadata={"model": record.model, "collection": record.name},
                )
            self._matching.add(key)
        return model


async def _guarded(work: object, field: str) -> F32:
    try:
        vectors: F32 = await work  # type: ignore[misc]
    except EmbeddingError as bad:
        raise invalid(field, str(bad), "EMBEDDING_FAILED") from None
    except ModelBusy as busy:
        raise RequestError("RESOURCE_EXHAUSTED", "MODEL_BUSY", str(busy), retry_after=0.5) from None
    except ModelUnavailable as away:
        raise _unavailable(away) from away
    return vectors


def _unavailable(away: ModelUnavailable) -> RequestError:
    return RequestError("UNAVAILABLE", "EMBEDDING_FAILED", str(away), retry_after=away.retry_after or 1.0)
