"""Which models a node has: the only place where paths and endpoints come from."""

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from vecdb.models.base import Metric
from vecdb.models.batching import BatchLimits
from vecdb.models.errors import ModelConfigError

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$"
_WORDLLAMA_DIMS = (64, 128, 256)


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=_NAME, description="What collections call the model.")
    max_queue: int = Field(
        default=4096, ge=1, le=1_000_000, description="Texts that may wait before requests are refused."
    )


class WordLlamaConfig(_Config):
    """The bundled offline model. Truncated sizes are models in their own right."""

    kind: Literal["wordllama"] = "wordllama"
    dim: Literal[64, 128, 256] | None = Field(
        default=None, description="Dimension; by default the one in the name, else 256."
    )
    query_prefix: str = ""
    passage_prefix: str = ""

    @property
    def dimensions(self) -> int:
        """The dimension, with the default filled in."""
        if self.dim is not None:
            return self.dim
        named = re.search(r"-(\d+)$", self.name)
        return int(named[1]) if named and int(named[1]) in _WORDLLAMA_DIMS else 256

    def batch_limits(self) -> BatchLimits:
        """One batch at a time: the tokenizer already uses every core."""
        return BatchLimits(max_batch=256, concurrency=1, max_queue=self.max_queue, inline_chars=2000)


class OnnxConfig(_Config):
    """A sentence-transformers model exported to ONNX, in a local folder.

    What is left out comes from the folder's own files.
    """

    kind: Literal["onnx"]
    path: Path = Field(description="The folder with model.onnx and tokenizer.json.")
    file: str | None = Field(
        default=None, description="The model's file in the folder, if not model.onnx or onnx/model.onnx."
    )
    dim: int | None = Field(default=None, ge=1, le=65_536, description="The dimension to insist on.")
    metric: Metric | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    pooling: Literal["mean", "cls", "last"] | None = None
    normalize: bool | None = None
    max_tokens: int | None = Field(default=None, ge=2, le=131_072, description="Longer texts are cut.")
    threads: int = Field(
        default_factory=lambda: min(4, os.cpu_count() or 1), ge=1, le=256, description="Threads of one batch."
    )
    batch_size: int = Field(default=32, ge=1, le=4096)

    @field_validator("file")
    @classmethod
    def _inside_the_folder(cls, value: str | None) -> str | None:
        if value is not None and (Path(value).is_absolute() or ".." in Path(value).parts):
            raise ValueError("must be a path inside the model's folder")
        return value

    def batch_limits(self) -> BatchLimits:
        """One batch at a time: the runtime's own threads share the work."""
        return BatchLimits(max_batch=self.batch_size, concurrency=1, max_queue=self.max_queue)


class OpenAIConfig(_Config):
    """A model behind an OpenAI-compatible `/v1/embeddings` endpoint."""

    kind: Literal["openai"]
    base_url: str = Field(description="Up to and without /embeddings, as https://api.openai.com/v1.")
    model: str = Field(min_length=1, description="The model's name at the endpoint.")
    api_key_env: str | None = Field(
        default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Environment variable with the key."
    )
    allow_insecure_key: bool = Field(
        default=False, description="Send the key over plain http to another machine."
    )
    dim: int | None = Field(default=None, ge=1, le=65_536, description="The dimension to insist on.")
    request_dim: bool = Field(default=False, description="Ask the endpoint for vectors of `dim`.")
    metric: Metric = "cosine"
    normalize: bool = True
    query_prefix: str = ""
    passage_prefix: str = ""
    batch_size: int = Field(default=64, ge=1, le=2048)
    concurrency: int = Field(default=4, ge=1, le=64, description="Requests under way at once.")
    timeout_seconds: float = Field(default=30.0, gt=0, le=600, description="For one request.")
    retry_seconds: float = Field(
        default=60.0, ge=0, le=600, description="How long to go on retrying before giving up."
    )

    @field_validator("base_url")
    @classmethod
    def _http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https URL")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must have no credentials, query or fragment; keys go in api_key_env")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _consistent(self) -> "OpenAIConfig":
        if self.request_dim and self.dim is None:
            raise ValueError("request_dim needs dim")
        parts = urlsplit(self.base_url)
        exposed = parts.scheme == "http" and not _is_loopback(parts.hostname or "")
        if self.api_key_env and exposed and not self.allow_insecure_key:
            raise ValueError(
                "the key would cross the network unencrypted; use https or set allow_insecure_key"
            )
        return self

    def batch_limits(self) -> BatchLimits:
        """Several requests under way: the time goes into waiting."""
        return BatchLimits(max_batch=self.batch_size, concurrency=self.concurrency, max_queue=self.max_queue)


ModelConfig: TypeAlias = Annotated[WordLlamaConfig | OnnxConfig | OpenAIConfig, Field(discriminator="kind")]

_ADAPTER: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)


def bundled_models() -> tuple[ModelConfig, ...]:
    """The models that every node has without being told."""
    return tuple(WordLlamaConfig(name=f"wordllama-{dim}") for dim in reversed(_WORDLLAMA_DIMS))


def parse_models(entries: Sequence[Mapping[str, Any]]) -> tuple[ModelConfig, ...]:
    """The models that a configuration file lists.

    Raises ModelConfigError with one line that names the entry, the key and
    what is allowed.
    """
    models: list[ModelConfig] = []
    for index, entry in enumerate(entries):
        try:
            models.append(_ADAPTER.validate_python(dict(entry)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            # The first element is the tag of the union, which is no key of the file.
            key = ".".join(str(part) for part in first["loc"][1:])
            where = f"models[{index}]" + (f".{key}" if key else "")
            raise ModelConfigError(f"{where}: {first['msg']}") from error
    return tuple(models)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
