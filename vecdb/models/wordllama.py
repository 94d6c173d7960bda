"""The offline default: WordLlama's bundled token embeddings, averaged.

The embedding of a text is the mean of the vectors of its tokens (those of a
large language model's vocabulary, projected to 256 dimensions by contrastive
training). The training is Matryoshka-style (Kusupati et al., 2022), with 64
and 128 among its sizes, so that a prefix of the vector is a model too.

Only the package's data files are used, not its code: importing it configures
the root logger and takes half a second, and its pooling pads every text of a
batch to the longest, so that one long text among 64 costs gigabytes.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from vecdb.models.base import Metric, Vectors, finished, require_text
from vecdb.models.config import WordLlamaConfig
from vecdb.models.errors import ModelLoadError
from vecdb.models.fingerprint import Fingerprint, digest_of

_WEIGHTS = Path("weights/l2_supercat_256.safetensors")
_TOKENIZER = Path("tokenizers/l2_supercat_tokenizer_config.json")
_TENSOR = "embedding.weight"

# Token rows gathered at once: 8 MiB at 256 dimensions, whatever a text's length.
_BLOCK = 8192
# Texts tokenized at once, which bounds what the tokenizer holds.
_CHUNK = 256


class WordLlamaEmbedder:
    """Mean of token embeddings, of unit length. 20,000 short queries a CPU second."""

    metric: Metric = "cosine"
    # Measured, see docs/models.md: for equal parts its ranking is too weak.
    hybrid_weight = 0.3

    def __init__(self, config: WordLlamaConfig) -> None:
        self.name = config.name
        self.dim = config.dimensions
        self.query_prefix = config.query_prefix
        self.passage_prefix = config.passage_prefix
        weights, tokenizer = _bundled_files()
        self._rows = _load_rows(weights, self.dim)
        self._tokenizer = _load_tokenizer(tokenizer)
        settings = {
            "dim": self.dim,
            "query_prefix": self.query_prefix,
            "passage_prefix": self.passage_prefix,
        }
        digest = digest_of("wordllama", settings, {"weights": weights, "tokenizer": tokenizer})
        self.fingerprint = Fingerprint.take(digest, self)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        return self._embed(texts, self.query_prefix)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        return self._embed(texts, self.passage_prefix)

    def close(self) -> None:
        """Nothing to let go of but memory."""

    def _embed(self, texts: Sequence[str], prefix: str) -> Vectors:
        require_text(texts)
        sums = np.zeros((len(texts), self.dim), dtype=np.float32)
        for i, ids in enumerate(self._token_ids([prefix + text for text in texts] if prefix else texts)):
            for start in range(0, len(ids), _BLOCK):
                sums[i] += self._rows.take(ids[start : start + _BLOCK], axis=0).sum(axis=0)
        # The length divides out: the direction of a sum is that of the mean.
        return finished(sums, normalize=True)

    def _token_ids(self, texts: Sequence[str]) -> Iterator[list[int]]:
        for start in range(0, len(texts), _CHUNK):
            chunk = list(texts[start : start + _CHUNK])
            for encoded in self._tokenizer.encode_batch_fast(chunk, add_special_tokens=False):
                yield encoded.ids


def _bundled_files() -> tuple[Path, Path]:
    spec = importlib.util.find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise ModelLoadError("the package wordllama is not installed; it comes with vecdb[server]")
    folder = Path(spec.submodule_search_locations[0])
    for path in (folder / _WEIGHTS, folder / _TOKENIZER):
        if not path.is_file():
            raise ModelLoadError(f"this release of the package wordllama does not bundle {path.name}")
    return folder / _WEIGHTS, folder / _TOKENIZER


def _load_rows(path: Path, dim: int) -> npt.NDArray[np.float32]:
    """The (vocabulary, dim) token vectors."""
    try:
        rows = load_file(path)[_TENSOR]
    except (OSError, KeyError, SafetensorError) as error:
        raise ModelLoadError(f"cannot read the weights {path.name}: {error}") from error
    if rows.ndim != 2 or rows.shape[1] < dim:
        raise ModelLoadError(
            f"the weights {path.name} have shape {rows.shape}, at least {dim} columns needed"
        )
    return np.ascontiguousarray(rows[:, :dim], dtype=np.float32)


def _load_tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself, with a useful message
        raise ModelLoadError(f"cannot read the tokenizer {path.name}: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
