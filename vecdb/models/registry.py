"""The models of a node, loaded when first asked for."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from vecdb.models.base import Embedder, Metric
from vecdb.models.batching import BatchLimits
from vecdb.models.config import ModelConfig, OnnxConfig, OpenAIConfig, WordLlamaConfig
from vecdb.models.errors import ModelConfigError, UnknownModel
from vecdb.models.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a model without loading it.

    `dim`, `metric` and `fingerprint` are None, and prefixes empty, where only
    the loaded model could tell.
    """

    name: str
    kind: str
    dim: int | None
    metric: Metric | None
    query_prefix: str
    passage_prefix: str
    fingerprint: Fingerprint | None


class ModelRegistry:
    """Loads each configured model once, however many threads ask for it.

    A load that fails fails everyone who waits for it, and is tried again by
    the next who asks: an endpoint may come back, a folder may be put right.
    """

    def __init__(self, configs: Sequence[ModelConfig]) -> None:
        self._configs = {config.name: config for config in configs}
        if len(self._configs) < len(configs):
            names = [config.name for config in configs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ModelConfigError(f"models: the name {twice!r} is given twice")
        self._lock = threading.Lock()
        self._loads: dict[str, Future[Embedder]] = {}

    def names(self) -> tuple[str, ...]:
        """The configured names, in the order of the configuration."""
        return tuple(self._configs)

    def config(self, name: str) -> ModelConfig:
        """Raises UnknownModel."""
        try:
            return self._configs[name]
        except KeyError:
            raise UnknownModel(name, self.names()) from None

    def batch_limits(self, name: str) -> BatchLimits:
        """How this model is best fed. Raises UnknownModel."""
        return self.config(name).batch_limits()

    def get(self, name: str) -> Embedder:
        """The loaded model; blocks while it loads.

        Raises UnknownModel, ModelLoadError, and ModelUnavailable where an
        endpoint does not answer.
        """
        config = self.config(name)
        with self._lock:
            load = self._loads.get(name)
            mine = load is None
            if load is None:
                load = self._loads[name] = Future()
        if mine:
            try:
                load.set_result(_load(config))
            except BaseException as error:
                with self._lock:
                    if self._loads.get(name) is load:  # not so after close()
                        del self._loads[name]
                load.set_exception(error)
        return load.result()

    def info(self, name: str) -> ModelInfo:
        """What is known of a model now; loads nothing. Raises UnknownModel."""
        config = self.config(name)
        loaded = self._loaded(name)
        if loaded is not None:
            return ModelInfo(
                name=name,
                kind=config.kind,
                dim=loaded.dim,
                metric=loaded.metric,
                query_prefix=loaded.query_prefix,
                passage_prefix=loaded.passage_prefix,
                fingerprint=loaded.fingerprint,
            )
        return ModelInfo(
            name=name,
            kind=config.kind,
            dim=config.dimensions if isinstance(config, WordLlamaConfig) else config.dim,
            metric="cosine" if isinstance(config, WordLlamaConfig) else config.metric,
            query_prefix=config.query_prefix or "",
            passage_prefix=config.passage_prefix or "",
            fingerprint=None,
        )

    def close(self) -> None:
        """Closes the loaded models; they load again if asked for again."""
        with self._lock:
            loads = list(self._loads.values())
            self._loads.clear()
        for load in loads:
            if load.done():
                load.result().close()

    def _loaded(self, name: str) -> Embedder | None:
        with self._lock:
            load = self._loads.get(name)
        # A failed load is taken out before it is done, so a done one has a model.
        return load.result() if load is not None and load.done() else None


def _load(config: ModelConfig) -> Embedder:
    # Each provider brings a heavy library that most nodes never use.
    match config:
        case WordLlamaConfig():
            from vecdb.models.wordllama import WordLlamaEmbedder

            return WordLlamaEmbedder(config)
        case OnnxConfig():
            from vecdb.models.onnx import OnnxEmbedder

            return OnnxEmbedder(config)
        case OpenAIConfig():
            from vecdb.models.openai import OpenAIEmbedder

            return OpenAIEmbedder(config)
