"""The models of a node as its coroutines see them."""

import asyncio

from vecdb.models.batching import BatchingEmbedder
from vecdb.models.registry import ModelRegistry


class ModelPool:
    """One `BatchingEmbedder` a model, opened when first asked for.

    Belongs to one event loop. Loading happens in a thread; the loop goes on.
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry
        self._open: dict[str, BatchingEmbedder] = {}

    async def get(self, name: str) -> BatchingEmbedder:
        """The model, ready for use.

        Raises UnknownModel, ModelLoadError or ModelUnavailable, as
        `ModelRegistry.get`.
        """
        if (ready := self._open.get(name)) is not None:
            return ready
        limits = self.registry.batch_limits(name)
        embedder = await asyncio.to_thread(self.registry.get, name)
        # Others may have waited for the same load; there is no await from here on.
        if name not in self._open:
            self._open[name] = BatchingEmbedder(embedder, limits)
        return self._open[name]

    async def close(self) -> None:
        """Closes every model, after the batches that run."""
        opened, self._open = list(self._open.values()), {}
        for batching in opened:
            await batching.close()
        await asyncio.to_thread(self.registry.close)
