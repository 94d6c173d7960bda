"""The pool: one model and one load for all coroutines."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.embedding_server import DIM, EmbeddingServer, Reply, serve_embeddings
from tests.support.tiny_onnx import word_tokenizer, write_model
from vecdb.models import (
    ModelLoadError,
    ModelPool,
    ModelRegistry,
    ModelUnavailable,
    OnnxConfig,
    OpenAIConfig,
    UnknownModel,
    bundled_models,
)

TABLE = np.random.default_rng(3).standard_normal((3, 5)).astype(np.float32)


def tiny(folder: Path) -> OnnxConfig:
    return OnnxConfig(kind="onnx", name="tiny", path=folder, threads=1)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serve_embeddings() as made:
        yield made


def remote(endpoint: EmbeddingServer) -> OpenAIConfig:
    return OpenAIConfig(kind="openai", name="remote", base_url=endpoint.url, model="m", retry_seconds=0)


async def test_coroutines_share_a_model(tmp_path: Path) -> None:
    """Coroutines that ask together or later get one batching embedder, fed as its provider likes."""
    write_model(tmp_path, TABLE, word_tokenizer(["[UNK]", "red", "blue"], unknown="[UNK]"))
    pool = ModelPool(ModelRegistry([tiny(tmp_path), *bundled_models()]))
    together = await asyncio.gather(*(pool.get("tiny") for _ in range(5)))
    assert len({id(b) for b in together}) == 1
    assert await pool.get("tiny") is together[0]
    np.testing.assert_allclose(await together[0].embed_queries(["red"]), TABLE[1:2])
    words = await pool.get("wordllama-256")
    assert words.limits.inline_chars > 0
    assert (await words.embed_queries(["red"])).shape == (1, 256)
    with pytest.raises(UnknownModel):
        await pool.get("gpt")
    await pool.close()


async def test_many_waiters_cost_one_load(endpoint: EmbeddingServer) -> None:
    """A load that hangs holds one thread, not one for each coroutine that waits for it."""
    gate = threading.Event()
    endpoint.script = [Reply(gate=gate, status=500)]
    pool = ModelPool(ModelRegistry([remote(endpoint)]))
    waiting = [asyncio.create_task(pool.get("remote")) for _ in range(200)]
    await asyncio.to_thread(endpoint.arrived.acquire, timeout=30)
    # The default pool has far fewer threads than there are waiters.
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), timeout=20) == "free"
    gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, ModelUnavailable) for result in results)
    assert len(endpoint.requests) == 1
    assert (await pool.get("remote")).embedder.dim == DIM
    await pool.close()


async def test_a_caller_that_gives_up_leaves_the_load_to_others(endpoint: EmbeddingServer) -> None:
    """Cancelling one of two callers does not cancel the load."""
    gate = threading.Event()
    pool = ModelPool(ModelRegistry([remote(endpoint)]))
    endpoint.script = [Reply(gate=gate, status=500)]
    gone, stays = (asyncio.create_task(pool.get("remote")) for _ in range(2))
    await asyncio.to_thread(endpoint.arrived.acquire, timeout=30)
    gone.cancel()
    gate.set()
    with pytest.raises(ModelUnavailable):
        await stays
    assert gone.cancelled()
    await pool.close()


async def test_a_load_that_nobody_waits_for_fails_quietly(tmp_path: Path) -> None:
    """An error with no caller left is not reported to the loop as lost, and close() waits for it."""
    lost: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    pool = ModelPool(ModelRegistry([tiny(tmp_path)]))
    caller = asyncio.create_task(pool.get("tiny"))
    await asyncio.sleep(0)
    caller.cancel()
    await pool.close()
    with pytest.raises(ModelLoadError):
        await pool.get("tiny")
    assert lost == []
