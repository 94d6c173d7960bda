"""Embedding models: what turns text into vectors.

`ModelRegistry` loads the models that the node's configuration names;
`ModelPool` serves them to coroutines in batches. Every model has a
`Fingerprint`, by which a collection makes sure that all of its vectors come
from the same one.
"""

from vecdb.models.base import Embedder, Metric
from vecdb.models.batching import BatchingEmbedder, BatchLimits
from vecdb.models.config import (
    ModelConfig,
    OnnxConfig,
    OpenAIConfig,
    WordLlamaConfig,
    bundled_models,
    parse_models,
)
from vecdb.models.errors import (
    EmbeddingError,
    ModelBusy,
    ModelConfigError,
    ModelError,
    ModelLoadError,
    ModelUnavailable,
    UnknownModel,
)
from vecdb.models.fingerprint import Fingerprint
from vecdb.models.pool import ModelPool
from vecdb.models.registry import ModelInfo, ModelRegistry

__all__ = [
    "BatchLimits",
    "BatchingEmbedder",
    "Embedder",
    "EmbeddingError",
    "Fingerprint",
    "Metric",
    "ModelBusy",
    "ModelConfig",
    "ModelConfigError",
    "ModelError",
    "ModelInfo",
    "ModelLoadError",
    "ModelPool",
    "ModelRegistry",
    "ModelUnavailable",
    "OnnxConfig",
    "OpenAIConfig",
    "UnknownModel",
    "WordLlamaConfig",
    "bundled_models",
    "parse_models",
]
