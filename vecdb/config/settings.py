"""The keys of the configuration, their bounds and their defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from vecdb.config.endpoint import Endpoint, parse_endpoint

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_SIZE = re.compile(r"(\d+) *(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


def _size(value: object) -> object:
    """Turns "64 MiB" into bytes; leaves everything else to pydantic."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError('must be a number of bytes, such as 67108864 or "64 MiB"')
    unit = match[2]
    return int(match[1]) * KIB ** (_POWERS[unit.lower()] if unit else 0)


def _endpoint(value: object) -> object:
    return parse_endpoint(value) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _path(value: object) -> object:
    if isinstance(value, str):
        if not value.strip() or "\0" in value:
            raise ValueError("must be a path")
        return Path(value).expanduser()
    return value


Size = Annotated[int, BeforeValidator(_size)]
# NoDecode: in a variable it is text, not JSON.
EndpointKey = Annotated[Endpoint, NoDecode, BeforeValidator(_endpoint), PlainSerializer(str)]
PathKey = Annotated[Path, BeforeValidator(_path)]


class Limits(BaseModel):
    """What one request, and all of them together, may ask of the node."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_message_bytes: Size = Field(
        # Half of what an entry of the log may have: what a request writes becomes one, and the vectors of
        # its texts come on top.
        default=64 * MIB,
        ge=64 * KIB,
        le=128 * MIB,
        description="Bytes of one gRPC message.",
    )
    max_batch: int = Field(default=10_000, ge=1, le=100_000, description="Documents or ids in one request.")
    max_batch_queries: int = Field(default=1_000, ge=1, le=10_000, description="Queries in one SearchBatch.")
    max_k: int = Field(
        default=10_000, ge=1, le=100_000, description="Hits of one query, its offset included."
    )
    max_dim: int = Field(default=16_384, ge=1, le=65_536, description="Dimensions of a vector.")
    max_id_bytes: int = Field(default=512, ge=16, le=512, description="Bytes of a document's id, in UTF-8.")
    max_payload_bytes: Size = Field(default=64 * KIB, ge=256, le=MIB, description="Bytes of one payload.")
    max_payload_depth: int = Field(default=16, ge=1, le=64, description="Levels of nesting in a payload.")
    max_text_bytes: Size = Field(
        default=256 * KIB, ge=KIB, le=16 * MIB, description="Bytes of one document's text, in UTF-8."
    )
    max_query_text_bytes: Size = Field(
        default=32 * KIB,
        ge=256,
        le=MIB,
        description="Bytes of a query or question, or of a text to embed, in UTF-8.",
    )
    max_filter_depth: int = Field(default=16, ge=1, le=64, description="Levels of nesting in a filter.")
    max_filter_clauses: int = Field(default=1_024, ge=1, le=65_536, description="Conditions in a filter.")
    max_filter_values: int = Field(
        default=10_000, ge=1, le=100_000, description="Values in one list of a filter."
    )
    max_collections: int = Field(default=1_000, ge=1, le=100_000, description="Collections on the node.")
    max_concurrent_requests: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="Requests in progress; one more is answered RESOURCE_EXHAUSTED.",
    )
    max_concurrent_bytes: Size = Field(
        # At least what one message may have at most, or it could never be taken.
        default=256 * MIB,
        ge=128 * MIB,
        le=1024 * GIB,
        description="Bytes of the requests in progress that have 1 MiB or more; beyond, RESOURCE_EXHAUSTED.",
    )
    max_source_bytes: Size = Field(
        default=256 * MIB, ge=KIB, le=4 * GIB, description="Bytes of one ingested source."
    )
    min_free_disk_bytes: Size = Field(
        default=256 * MIB, ge=0, le=1024 * GIB, description="Free disk below which writes are refused."
    )


class EngineSettings(BaseModel):
    """How this node keeps its shards. Never affects what they contain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seal_rows: int = Field(
        default=8_192,
        ge=64,
        le=1_048_576,
        description="Rows of a growing segment before it is sealed and indexed.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1_024,
        description="Threads that build indexes and answer batches; 0 for one a core.",
    )
    row_cache_bytes: Size = Field(
        default=64 * MIB,
        ge=0,
        le=1024 * GIB,
        description="Memory for documents that searches found, of all shards together; 0 keeps none.",
    )
    wal_segment_bytes: Size = Field(
        default=64 * MIB, ge=MIB, le=4 * GIB, description="Bytes of one segment of the log."
    )


def _default_models() -> list[dict[str, Any]]:
    return [{"name": "wordllama-256", "kind": "wordllama"}]


class Settings(BaseSettings):
    """A node's whole configuration, validated.

    Make one with `vecdb.config.load`: it also checks what several keys mean
    together and what lies at the paths.
    """

    model_config = SettingsConfigDict(
        env_prefix="VECDB_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
    )

    data_dir: PathKey = Field(description="The folder that holds everything the node keeps. Made if missing.")
    listen: EndpointKey = Field(
        default=Endpoint("127.0.0.1", 7700), description="Where clients connect (gRPC)."
    )
    peer_listen: EndpointKey = Field(
        default=Endpoint("127.0.0.1", 7701), description="Where other nodes connect. Recorded only, so far."
    )
    mesh_listen: EndpointKey = Field(
        default=Endpoint("127.0.0.1", 7702), description="Where libp2p listens. Recorded only, so far."
    )
    http_listen: EndpointKey = Field(
        default=Endpoint("127.0.0.1", 7703), description="Where metrics and health are served (HTTP)."
    )
    init: bool = Field(
        default=False, description="Begin a new cluster in an empty data directory; needed off loopback."
    )
    join: str | None = Field(
        default=None,
        max_length=1024,
        pattern=r"^/\S+/p2p/[A-Za-z0-9]+$",
        description="The multiaddr, with /p2p/ID, of a member to join. Refused by this version.",
    )
    invite_file: PathKey | None = Field(
        default=None, description="The file with the invitation to join by. Refused by this version."
    )
    token_file: PathKey | None = Field(
        default=None,
        description="The file with the root token: 16 characters or more, not readable by others.",
    )
    tls_cert: PathKey | None = Field(default=None, description="PEM file: the certificate, then its chain.")
    tls_key: PathKey | None = Field(
        default=None, description="PEM file: the certificate's key, not encrypted."
    )
    zone: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="The failure domain that the node stands in.",
    )
    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower)] = Field(
        default="console", description="How log lines look on stderr."
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        default="info", description="The least severe level that is logged."
    )
    insecure: bool = Field(
        default=False,
        description="Listen off loopback without TLS and token. Whoever reaches the port owns the data.",
    )
    models: list[dict[str, Any]] = Field(
        default_factory=_default_models, description="The embedding models; see docs/models.md."
    )
    limits: Limits = Field(default=Limits(), description="See below.")
    engine: EngineSettings = Field(default=EngineSettings(), description="See below.")
