"""The seam between text and vectors, and the rules that hold for every model.

A cosine has no meaning for the zero vector, and a vector of NaN poisons every
distance it takes part in. So no embedder ever returns either: it raises
`EmbeddingError`, which names the texts.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vecdb.models.errors import EmbeddingError
from vecdb.models.fingerprint import Fingerprint

Metric: TypeAlias = Literal["cosine", "dot", "l2"]
Vectors: TypeAlias = npt.NDArray[np.float32]


class Embedder(Protocol):
    """A loaded model.

    Its methods block and may be called from many threads at once: call them
    in worker threads, or through `BatchingEmbedder`.
    """

    @property
    def name(self) -> str:
        """The name that the configuration gives it."""
        ...

    @property
    def dim(self) -> int:
        """The number of components of its vectors."""
        ...

    @property
    def metric(self) -> Metric:
        """The metric that its vectors are meant for."""
        ...

    @property
    def query_prefix(self) -> str:
        """What is put before every query."""
        ...

    @property
    def passage_prefix(self) -> str:
        """What is put before every passage."""
        ...

    @property
    def hybrid_weight(self) -> float:
        """What its ranking weighs in a hybrid search where BM25's weighs 1, unless the request says."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """What tells this model from any other."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embeds questions, prefixed with `query_prefix`.

        Returns an (n, dim) C-contiguous float32 matrix, finite, no row zero.
        Raises EmbeddingError for texts that have no embedding (empty ones
        among them), ModelUnavailable where an endpoint does not answer.
        """
        ...

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """As `embed_queries`, with `passage_prefix`."""
        ...

    def close(self) -> None:
        """Lets go of connections and memory; the embedder is not used after it."""
        ...


def require_text(texts: Sequence[str]) -> None:
    """Refuses texts that no model can embed, with EmbeddingError.

    Empty ones and those of white space alone: most models would return *some*
    vector for them (of their prefix, or of their special tokens), which then
    is near to everything and about nothing. And lone surrogates, which no
    tokenizer and no wire takes.
    """
    if blank := [i for i, text in enumerate(texts) if not text or text.isspace()]:
        raise EmbeddingError("is empty", blank)
    if broken := [i for i, text in enumerate(texts) if not (text.isascii() or _encodable(text))]:
        raise EmbeddingError("is not valid Unicode", broken)


def finished(rows: npt.NDArray[Any], *, normalize: bool) -> Vectors:
    """The (n, dim) rows as float32, made of unit length where asked.

    Raises EmbeddingError for rows that are not finite or all zero.
    """
    # In double precision the squares of float32 neither overflow nor vanish.
    wide = rows.astype(np.float64)
    norms: npt.NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    _refuse(~np.isfinite(norms), "has an embedding that is not finite")
    _refuse(norms == 0, "has no word that the model knows")
    if normalize:
        wide /= norms[:, None]
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(wide, dtype=np.float32)
    # Doubles that float32 cannot hold, which only an endpoint's JSON can bring.
    _refuse(~np.isfinite(vectors).all(axis=1), "has an embedding beyond float32")
    _refuse(~vectors.any(axis=1), "has an embedding that vanishes in float32")
    return vectors


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(rows: npt.NDArray[np.bool_] | np.bool_, reason: str) -> None:
    if rows.any():
        raise EmbeddingError(reason, np.flatnonzero(rows).tolist())
