"""A model behind an OpenAI-compatible endpoint: `POST {base_url}/embeddings`.

The endpoint is another party: it may be slow, overloaded, wrong or hostile.
Its answers are bounded in size and time, and checked before they are used.
"""

import email.utils
import json
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from vecdb.models.base import Vectors, finished, require_text
from vecdb.models.config import OpenAIConfig
from vecdb.models.errors import EmbeddingError, ModelLoadError, ModelUnavailable
from vecdb.models.fingerprint import Fingerprint, digest_of

# The request is fine, the endpoint is not: worth another try.
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
# The endpoint understood the request and will not embed these texts.
_REFUSED = frozenset({400, 413, 422})
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 8.0
# Loading gives up sooner than embedding: callers wait for it together, the next
# one tries again, and a node that stops waits for it too.
_LOAD_PATIENCE = 5.0
# JSON text of one component, generously; and of everything around them.
_BYTES_PER_FLOAT = 48
_ENVELOPE_BYTES = 65_536
_MAX_DIM = 65_536


class OpenAIEmbedder:
    """An embedder over HTTP; the constructor asks the endpoint for the probe texts.

    Raises ModelUnavailable where the endpoint does not answer, or with another
    dimension than the configuration insists on; ModelLoadError where the key
    is missing or the endpoint refuses the probe texts.
    """

    hybrid_weight = 1.0

    def __init__(self, config: OpenAIConfig, environ: Mapping[str, str] | None = None) -> None:
        self.name = config.name
        self.metric = config.metric
        self.query_prefix = config.query_prefix
        self.passage_prefix = config.passage_prefix
        self._config = config
        self._dim = config.dim
        self._patience = min(config.retry_seconds, _LOAD_PATIENCE)
        self._closing = threading.Event()
        self._client = httpx.Client(
            headers=_headers(config, os.environ if environ is None else environ),
            timeout=config.timeout_seconds,
            limits=httpx.Limits(max_connections=config.concurrency + 1),
            follow_redirects=False,  # a redirect would carry texts and key to someone not configured
        )
        try:
            self.fingerprint = self._probe()
        except BaseException:
            self._client.close()
            raise

    @property
    def dim(self) -> int:
        """See `Embedder`."""
        return self.fingerprint.dim

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        return self._embed(texts, self.query_prefix)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        return self._embed(texts, self.passage_prefix)

    def close(self) -> None:
        """Closes the connections; calls that wait for a retry end with ModelUnavailable."""
        self._closing.set()
        self._client.close()

    def _probe(self) -> Fingerprint:
        """Identity of a model whose weights nobody here has seen.

        The address is no part of it: nodes may well reach one model by
        different addresses, and moving an endpoint must not orphan the
        collections that use it. What it computes is: the probes tell.
        """
        config = self._config
        settings = {
            "model": config.model,
            "normalize": config.normalize,
            "requested_dim": config.dim if config.request_dim else None,
            "query_prefix": config.query_prefix,
            "passage_prefix": config.passage_prefix,
        }
        fingerprint = Fingerprint.take(digest_of("openai", settings), self)
        self._dim = fingerprint.dim
        self._patience = config.retry_seconds
        return fingerprint

    def _embed(self, texts: Sequence[str], prefix: str) -> Vectors:
        require_text(texts)
        size = self._config.batch_size
        rows = [
            self._batch([prefix + text for text in texts[start : start + size]])
            for start in range(0, len(texts), size)
        ]
        if not rows:
            return np.empty((0, self.dim), dtype=np.float32)
        return finished(np.vstack(rows), normalize=self._config.normalize)

    def _batch(self, texts: list[str]) -> npt.NDArray[np.float64]:
        """One request, tried again while that may help and time is left."""
        give_up = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._request(texts)
            except _Retry as retry:
                # Jitter (full, after Brooker 2015) keeps nodes from coming back in step.
                wait = random.uniform(0, pause) if retry.after is None else retry.after  # noqa: S311
                if time.monotonic() + wait > give_up:
                    raise ModelUnavailable(self._named(str(retry)), retry.after) from retry
                if self._closing.wait(wait):
                    raise ModelUnavailable(self._named("closed while waiting to retry")) from retry
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _request(self, texts: list[str]) -> npt.NDArray[np.float64]:
        body: dict[str, Any] = {"model": self._config.model, "input": texts, "encoding_format": "float"}
        if self._config.request_dim:
            body["dimensions"] = self._config.dim
        content = json.dumps(body, ensure_ascii=False).encode()
        limit = _ENVELOPE_BYTES + len(texts) * (self._dim or _MAX_DIM) * _BYTES_PER_FLOAT
        try:
            status, headers, answer = self._exchange(content, limit)
        except httpx.RequestError as error:
            raise _Retry(f"does not answer ({type(error).__name__})") from error
        except RuntimeError as error:  # httpx: the client was closed under the call
            raise ModelUnavailable(self._named("closed")) from error
        if status in _RETRIED:
            raise _Retry(f"answers {status}", _retry_after(headers.get("retry-after")))
        if status in _REFUSED:
            raise EmbeddingError(self._named(f"refuses the texts ({status}{_complaint(answer)})"))
        if status != 200:
            raise ModelUnavailable(self._named(f"answers {status}"))
        return self._checked(answer, len(texts))

    def _exchange(self, content: bytes, limit: int) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and body, the body bounded in size and the whole in time."""
        deadline = time.monotonic() + self._config.timeout_seconds
        url = f"{self._config.base_url}/embeddings"
        received = bytearray()
        with self._client.stream("POST", url, content=content) as response:
            for chunk in response.iter_bytes():
                received += chunk
                if len(received) > limit:
                    raise ModelUnavailable(self._named(f"sends more than {limit} bytes for one batch"))
                # httpx bounds the silence between two reads; an endpoint that
                # drips a byte now and then would hold the thread for ever.
                if time.monotonic() > deadline:
                    raise _Retry(f"takes longer than {self._config.timeout_seconds:g} s")
            return response.status_code, response.headers, bytes(received)

    def _checked(self, answer: bytes, count: int) -> npt.NDArray[np.float64]:
        """The vectors in an answer, in the order of the texts."""
        try:
            entries = json.loads(answer)["data"]
            vectors = {entry["index"]: np.asarray(entry["embedding"]) for entry in entries}
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            raise ModelUnavailable(self._named("sends something that is no list of embeddings")) from error
        if len(entries) != count or vectors.keys() != set(range(count)):
            raise ModelUnavailable(self._named(f"sends {len(entries)} embeddings for {count} texts"))
        dim = self._dim or vectors[0].size
        for vector in vectors.values():
            if vector.ndim != 1 or vector.dtype.kind not in "fi" or not vector.size:
                raise ModelUnavailable(self._named("sends an embedding that is no list of numbers"))
            if vector.size != dim:
                raise ModelUnavailable(self._named(f"has {vector.size} dimensions, {dim} are expected"))
        return np.stack([vectors[i] for i in range(count)]).astype(np.float64)

    def _named(self, what: str) -> str:
        return f"the endpoint of model {self.name!r} {what}"


class _Retry(Exception):
    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def _headers(config: OpenAIConfig, environ: Mapping[str, str]) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if config.api_key_env is not None:
        key = environ.get(config.api_key_env, "").strip()
        # Never name the value: errors are logged.
        if not (key.isascii() and key.isprintable() and key):
            raise ModelLoadError(
                f"model {config.name!r}: the environment variable {config.api_key_env} holds no key"
            )
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait (RFC 9110, section 10.2.3: a number or a date)."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, at - time.time())


def _complaint(answer: bytes) -> str:
    """What the endpoint says is wrong, shortened and made safe to print."""
    try:
        message = json.loads(answer)["error"]["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return f": {message[:200]!r}" if isinstance(message, str) else ""
