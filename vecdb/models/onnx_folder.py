"""What a folder with an ONNX model says about itself.

The layout is that of sentence-transformers, as exported by Optimum: the model
in `model.onnx` or `onnx/model.onnx`, `tokenizer.json`, and small JSON files for
pooling, normalization, length and prompts. A `vecdb.toml` beside them stands in
for those files or overrules them; the node's configuration overrules both.
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vecdb.models.base import Metric
from vecdb.models.config import OnnxConfig
from vecdb.models.errors import ModelLoadError

Pooling: TypeAlias = Literal["mean", "cls", "last"]

_MODEL_FILES = ("model.onnx", "onnx/model.onnx")
_DEFAULT_MAX_TOKENS = 512
# Tokenizers without a limit say so by a number like 1e30.
_MAX_MAX_TOKENS = 131_072
_POOLING_KEYS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_POOLING_NAMES: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last", "last": "last"}


@dataclass(frozen=True, slots=True)
class OnnxFolder:
    """The files of a model and how to use them."""

    model: Path
    tokenizer: Path
    pooling: Pooling
    normalize: bool
    max_tokens: int
    metric: Metric
    query_prefix: str
    passage_prefix: str

    def weight_files(self) -> dict[str, Path]:
        """The files that decide what comes out, by stable labels."""
        # Weights beyond protobuf's 2 GiB lie beside the graph: model.onnx_data, or model.onnx.data.
        beside = sorted(
            path for path in self.model.parent.glob(f"{self.model.name}*data") if path != self.model
        )
        files = {"model": self.model, "tokenizer": self.tokenizer}
        return files | {f"data:{path.name}": path for path in beside}


class _Overrides(BaseModel):
    """The keys of `vecdb.toml`."""

    model_config = ConfigDict(extra="forbid")

    pooling: Pooling | None = None
    normalize: bool | None = None
    max_tokens: int | None = Field(default=None, ge=2, le=_MAX_MAX_TOKENS)
    metric: Metric | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None


def read_folder(config: OnnxConfig) -> OnnxFolder:
    """Finds the files and settles the settings. Raises ModelLoadError."""
    folder = config.path
    model = _model_file(config)
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise ModelLoadError(f"{folder} has no tokenizer.json")
    own = _own_settings(folder / "vecdb.toml")
    prompts = _prompts(folder)
    return OnnxFolder(
        model=model,
        tokenizer=tokenizer,
        pooling=config.pooling or own.pooling or _pooling(folder),
        normalize=_first(config.normalize, own.normalize, _normalize(folder)),
        max_tokens=config.max_tokens or own.max_tokens or _max_tokens(folder),
        metric=config.metric or own.metric or "cosine",
        query_prefix=_first(config.query_prefix, own.query_prefix, prompts.get("query", "")),
        passage_prefix=_first(
            config.passage_prefix,
            own.passage_prefix,
            prompts.get("passage", prompts.get("document", "")),
        ),
    )


def _first(*choices: Any) -> Any:
    return next(choice for choice in choices if choice is not None)


def _model_file(config: OnnxConfig) -> Path:
    names = (config.file,) if config.file else _MODEL_FILES
    for name in names:
        if (path := config.path / name).is_file():
            return path
    raise ModelLoadError(f"{config.path} has no {' or '.join(names)}")


def _own_settings(path: Path) -> _Overrides:
    if not path.is_file():
        return _Overrides()
    try:
        return _Overrides.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelLoadError(f"{path}: {key}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path}: {error}") from error


def _pooling(folder: Path) -> Pooling:
    """The pooling of `1_Pooling/config.json`; the mean where there is none.

    Old files have one boolean a mode, new ones name it. Modes that are
    combined would concatenate their vectors.
    """
    path = folder / "1_Pooling" / "config.json"
    content = _json_object(path)
    named = content.get("pooling_mode")
    if named is not None:
        if isinstance(named, str) and named in _POOLING_NAMES:
            return _POOLING_NAMES[named]
        raise ModelLoadError(f"{path}: pooling_mode {named!r} is not supported")
    on = [key for key, value in content.items() if key.startswith("pooling_mode_") and value]
    if not on:
        return "mean"
    if len(on) > 1 or on[0] not in _POOLING_KEYS:
        raise ModelLoadError(f"{path}: {' with '.join(on)} is not supported")
    return _POOLING_KEYS[on[0]]


def _normalize(folder: Path) -> bool:
    """Whether `modules.json` ends in a Normalize module."""
    modules = _json(folder / "modules.json")
    if not isinstance(modules, list):
        return False
    return any(isinstance(m, dict) and str(m.get("type", "")).endswith(".Normalize") for m in modules)


def _max_tokens(folder: Path) -> int:
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        limit = _json_object(folder / name).get(key)
        if isinstance(limit, int) and 2 <= limit <= _MAX_MAX_TOKENS:
            return limit
    return _DEFAULT_MAX_TOKENS


def _prompts(folder: Path) -> dict[str, str]:
    prompts = _json_object(folder / "config_sentence_transformers.json").get("prompts")
    if not isinstance(prompts, dict):
        return {}
    return {key: text for key, text in prompts.items() if isinstance(key, str) and isinstance(text, str)}


def _json_object(path: Path) -> dict[str, Any]:
    content = _json(path)
    return content if isinstance(content, dict) else {}


def _json(path: Path) -> Any:
    """The content of an optional file; None where it is not there."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path}: {error}") from error
