"""Configuration, registry and pool: what the rest of the node sees."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tiny_onnx import word_tokenizer, write_model
from vecdb.models import (
    ModelConfigError,
    ModelLoadError,
    ModelRegistry,
    OnnxConfig,
    OpenAIConfig,
    UnknownModel,
    WordLlamaConfig,
    bundled_models,
    parse_models,
)

TABLE = np.random.default_rng(3).standard_normal((3, 5)).astype(np.float32)


def write(folder: Path) -> Path:
    return write_model(folder, TABLE, word_tokenizer(["[UNK]", "red", "blue"], unknown="[UNK]"))


def onnx(folder: Path, **options: Any) -> OnnxConfig:
    return OnnxConfig(kind="onnx", name="tiny", path=folder, threads=1, **options)


def test_a_configuration_file_is_parsed() -> None:
    """Entries become typed configurations, in order, with documented defaults."""
    models = parse_models(
        [
            {"kind": "wordllama", "name": "wordllama-128"},
            {"kind": "onnx", "name": "mini", "path": "/models/mini", "query_prefix": "query: "},
            {
                "kind": "openai",
                "name": "big",
                "base_url": "https://host/v1/",
                "model": "m",
            },
        ]
    )
    small, mini, big = models
    assert isinstance(small, WordLlamaConfig)
    assert small.dimensions == 128
    assert isinstance(mini, OnnxConfig)
    assert (mini.path, mini.query_prefix, mini.pooling) == (Path("/models/mini"), "query: ", None)
    assert isinstance(big, OpenAIConfig)
    assert big.base_url == "https://host/v1"
    assert big.batch_limits().concurrency == 4
    assert mini.batch_limits().inline_chars == 0


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({}, r"models\[1\]: .*kind"),
        ({"kind": "magic", "name": "x"}, r"models\[1\]: .*wordllama"),
        ({"kind": "wordllama", "name": "../x"}, r"models\[1\]\.name"),
        ({"kind": "wordllama", "name": "x", "dim": 100}, r"models\[1\]\.dim: .*256"),
        ({"kind": "wordllama", "name": "x", "url": "y"}, r"models\[1\]\.url"),
        ({"kind": "onnx", "name": "x"}, r"models\[1\]\.path"),
        ({"kind": "onnx", "name": "x", "path": "p", "file": "../y.onnx"}, r"\.file: .*inside"),
        ({"kind": "onnx", "name": "x", "path": "p", "file": "/y.onnx"}, r"\.file: .*inside"),
        ({"kind": "openai", "name": "x", "model": "m", "base_url": "ftp://h"}, "http or https"),
        ({"kind": "openai", "name": "x", "model": "m", "base_url": "http://"}, "http or https"),
        ({"kind": "openai", "name": "x", "model": "m", "base_url": "https://u:p@h/v1"}, "credentials"),
        ({"kind": "openai", "name": "x", "model": "m", "base_url": "https://h", "request_dim": True}, "dim"),
        (
            {"kind": "openai", "name": "x", "model": "m", "base_url": "http://h", "api_key_env": "K"},
            "unencrypted",
        ),
    ],
)
def test_a_wrong_entry_is_named(entry: dict[str, Any], complaint: str) -> None:
    """One line says which entry and key is wrong and what is allowed."""
    good = {"kind": "wordllama", "name": "ok"}
    with pytest.raises(ModelConfigError, match=complaint) as refused:
        parse_models([good, entry])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "extra",
    [
        {"base_url": "http://localhost:1/v1"},
        {"base_url": "http://127.0.0.1:1/v1"},
        {"base_url": "http://[::1]:1/v1"},
        {"base_url": "http://10.0.0.1/v1", "allow_insecure_key": True},
    ],
)
def test_a_key_may_go_unencrypted_where_it_is_safe_or_asked_for(extra: dict[str, Any]) -> None:
    """Loopback needs no TLS, and an operator may overrule."""
    entry = {"kind": "openai", "name": "x", "model": "m", "api_key_env": "K"}
    assert len(parse_models([entry | extra])) == 1


def test_the_bundled_models_need_no_configuration() -> None:
    """The three sizes of wordllama are described without being loaded, and then load."""
    registry = ModelRegistry(bundled_models())
    assert registry.names() == ("wordllama-256", "wordllama-128", "wordllama-64")
    info = registry.info("wordllama-64")
    assert (info.kind, info.dim, info.metric, info.fingerprint) == ("wordllama", 64, "cosine", None)
    model = registry.get("wordllama-64")
    assert registry.info("wordllama-64").fingerprint == model.fingerprint
    assert model.dim == 64
    assert WordLlamaConfig(name="anything").dimensions == 256
    assert WordLlamaConfig(name="v-512").dimensions == 256
    assert WordLlamaConfig(name="wordllama-64", dim=128).dimensions == 128


def test_unknown_names_list_the_known() -> None:
    """A wrong name is answered with the right ones, everywhere a name goes in."""
    registry = ModelRegistry(bundled_models())
    for ask in (registry.get, registry.info, registry.batch_limits):
        with pytest.raises(UnknownModel, match="'gpt'; this node has: wordllama-256") as refused:
            ask("gpt")
        assert refused.value.name == "gpt"
    with pytest.raises(UnknownModel, match="this node has: none"):
        ModelRegistry([]).get("gpt")


def test_a_name_given_twice_is_refused() -> None:
    """Two models of one name cannot be told apart."""
    with pytest.raises(ModelConfigError, match="'w' is given twice"):
        ModelRegistry([WordLlamaConfig(name="w"), WordLlamaConfig(name="w", dim=64)])


def test_a_model_is_loaded_once_for_all_threads(tmp_path: Path) -> None:
    """Threads that ask together get one and the same object."""
    registry = ModelRegistry([onnx(write(tmp_path))])
    ready, got = threading.Barrier(8), []

    def ask() -> None:
        ready.wait(timeout=30)
        got.append(registry.get("tiny"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert all(model is got[0] for model in got)


def test_a_failed_load_is_tried_again(tmp_path: Path) -> None:
    """A folder that is put right loads at the next request; until then nothing is known of it."""
    registry = ModelRegistry([onnx(tmp_path, query_prefix="q: ")])
    with pytest.raises(ModelLoadError):
        registry.get("tiny")
    info = registry.info("tiny")
    assert (info.dim, info.metric, info.fingerprint, info.query_prefix) == (None, None, None, "q: ")
    write(tmp_path)
    assert registry.get("tiny").dim == 5
    assert registry.info("tiny").metric == "cosine"


def test_a_closed_registry_loads_anew(tmp_path: Path) -> None:
    """Closing lets go of the loaded models; they come back when asked for."""
    registry = ModelRegistry([onnx(write(tmp_path)), WordLlamaConfig(name="never-loaded")])
    before = registry.get("tiny")
    registry.close()
    assert registry.info("tiny").fingerprint is None
    assert registry.get("tiny") is not before
