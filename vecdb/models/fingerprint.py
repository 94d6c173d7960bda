"""What tells one model from another.

Vectors of different models do not compare, and nothing in a vector says where
it came from. So a collection pins the fingerprint of its model, and a node
embeds for it only with a model that matches.

Two parts, because each misses what the other sees. The **digest** hashes the
weights, the tokenizer and the settings: it is exact, but blind to a runtime
that computes something else from the same files (another quantization kernel,
a miscompiled operator) and to a service that swaps the weights behind a name.
The **probes** are the vectors of a few fixed texts: they see all that, but
floats differ between processors in their last bits, so they are compared by
cosine and never hashed: rounding before hashing only moves the cliff.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vecdb.models.errors import EmbeddingError, ModelLoadError

#: Same model: cosine of every probe above this. Float32 on two processors
#: agrees to 1e-6, half precision to 1e-5; neighbouring releases of a model are
#: below 0.99.
TOLERANCE = 0.999

_FORMAT = "v1"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_DIM = 1 << 16

# Never change these: pinned fingerprints hold their vectors. Two passages and
# a query, so that both prefixes show; more than one script, so that tokenizers
# do.
_PROBE_PASSAGES = (
    "The quick brown fox jumps over the lazy dog.",
    "Größere Städte sind über Nacht ans Netz gegangen; 東京は晴れ、気温は12.5℃。",
)
_PROBE_QUERIES = ("how do replicas of a shard agree on the order of writes?",)
_PROBES = len(_PROBE_PASSAGES) + len(_PROBE_QUERIES)


class _Embeds(Protocol):
    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]: ...

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The identity of a model; `str()` of it is what the catalogue keeps.

    `digest` is a SHA-256 in hexadecimal, short enough to carry in replies.
    `probes` are 3 x `dim` little-endian float16, rows of unit length.
    """

    digest: str
    dim: int
    probes: bytes

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest):
            raise ValueError("a fingerprint's digest is 64 hexadecimal digits")
        if not 1 <= self.dim <= _MAX_DIM or len(self.probes) != _PROBES * self.dim * 2:
            raise ValueError("a fingerprint's probes do not fit its dimension")
        if not np.isfinite(self._matrix()).all():
            raise ValueError("a fingerprint's probes are not finite")

    @classmethod
    def take(cls, digest: str, model: _Embeds) -> "Fingerprint":
        """The fingerprint of a model that runs here.

        Raises ModelLoadError where the model refuses the probe texts.
        """
        try:
            rows = np.vstack([model.embed_passages(_PROBE_PASSAGES), model.embed_queries(_PROBE_QUERIES)])
        except EmbeddingError as error:
            raise ModelLoadError(f"the model cannot embed the probe texts: {error}") from error
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return cls(digest, rows.shape[1], unit.astype("<f2").tobytes())

    @classmethod
    def parse(cls, text: str) -> "Fingerprint":
        """The inverse of `str()`; raises ValueError."""
        parts = text.split(":")
        if len(parts) != 4 or parts[0] != _FORMAT or not parts[2].isascii() or not parts[2].isdigit():
            raise ValueError("not a model fingerprint of a known format")
        try:
            probes = base64.b64decode(parts[3], validate=True)
        except binascii.Error as error:
            raise ValueError("a fingerprint's probes are not base64") from error
        return cls(parts[1], int(parts[2]), probes)

    def __str__(self) -> str:
        return f"{_FORMAT}:{self.digest}:{self.dim}:{base64.b64encode(self.probes).decode()}"

    def __repr__(self) -> str:
        return f"<Fingerprint {self.digest[:12]} dim={self.dim}>"

    def matches(self, other: "Fingerprint") -> bool:
        """Whether vectors of both may share a collection. Symmetric."""
        return self.explain_mismatch(other) is None

    def explain_mismatch(self, other: "Fingerprint") -> str | None:
        """Why the two do not match, for an operator; None if they do.

        Reads as "`self` was expected, `other` was found".
        """
        if self.dim != other.dim:
            return f"the model has {other.dim} dimensions, {self.dim} are expected"
        agreement = self._agreement(other)
        alike = agreement > TOLERANCE
        if self.digest == other.digest:
            if alike:
                return None
            return (
                f"the model's files are the expected ones ({self.digest[:12]}), but it computes other "
                f"vectors from them here: cosine {agreement:.4f} on the probe texts"
            )
        return (
            f"the model is {other.digest[:12]}, {self.digest[:12]} is expected; cosine {agreement:.4f} on "
            + (
                "the probe texts: the same vectors from other files or settings"
                if alike
                else "the probe texts"
            )
        )

    def _matrix(self) -> npt.NDArray[np.float64]:
        return np.frombuffer(self.probes, dtype="<f2").reshape(_PROBES, self.dim).astype(np.float64)

    def _agreement(self, other: "Fingerprint") -> float:
        """The lowest cosine over the probes; 0 where a probe vanished in float16."""
        a, b = self._matrix(), other._matrix()
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        dots = np.einsum("ij,ij->i", a, b)
        return float(np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0).min())


def digest_of(kind: str, settings: Mapping[str, Any], files: Mapping[str, Path] | None = None) -> str:
    """SHA-256 over a provider's kind, the settings that change vectors, and files.

    `files` maps a stable label to a path: labels are hashed, paths are not, so
    that a folder may move. Raises OSError.
    """
    hashes = {label: _file_hash(path) for label, path in (files or {}).items()}
    canonical = json.dumps({"kind": kind, "settings": dict(settings), "files": hashes}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
