"""The models of a node as its coroutines see them."""

import asyncio

from vecdb.models.batching import BatchingEmbedder
from vecdb.models.registry import ModelRegistry


class ModelPool:
    """One `BatchingEmbedder` a model, opened when first asked for.

    Belongs to one event loop. A load takes one thread, however many coroutines
    wait for it: an endpoint that hangs must not use up the threads of others.
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry
        self._open: dict[str, BatchingEmbedder] = {}
        self._loading: dict[str, asyncio.Task[BatchingEmbedder]] = {}

    async def get(self, name: str) -> BatchingEmbedder:
        """The model, ready for use.

        Raises UnknownModel, ModelLoadError or ModelUnavailable, as
        `ModelRegistry.get`. Cancelling a caller leaves the load to the others.
        """
        if (ready := self._open.get(name)) is not None:
            return ready
        self.registry.config(name)
        if name not in self._loading:
            task = asyncio.get_running_loop().create_task(self._load(name))
            self._loading[name] = task
            task.add_done_callback(_take_notice)
        return await asyncio.shield(self._loading[name])

    async def close(self) -> None:
        """Closes every model, after the batches and the loads that run."""
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        opened, self._open = list(self._open.values()), {}
        for batching in opened:
            await batching.close()
        await asyncio.to_thread(self.registry.close)

    async def _load(self, name: str) -> BatchingEmbedder:
        try:
            embedder = await asyncio.to_thread(self.registry.get, name)
            self._open[name] = BatchingEmbedder(embedder, self.registry.batch_limits(name))
        finally:
            del self._loading[name]
        return self._open[name]


def _take_notice(task: asyncio.Task[BatchingEmbedder]) -> None:
    """Every caller may be gone by now; asyncio would then report the error as lost."""
    if not task.cancelled():
        task.exception()
