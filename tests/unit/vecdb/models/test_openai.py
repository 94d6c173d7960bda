"""The HTTP provider against a real server that behaves in every way endpoints do."""

import email.utils
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.support.embedding_server import DIM, EmbeddingServer, Reply, embedding, serve_embeddings
from vecdb.models import (
    EmbeddingError,
    ModelLoadError,
    ModelRegistry,
    ModelUnavailable,
    OpenAIConfig,
)
from vecdb.models.openai import OpenAIEmbedder


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serve_embeddings() as made:
        yield made


def config(endpoint: EmbeddingServer, **options: Any) -> OpenAIConfig:
    return OpenAIConfig(kind="openai", name="remote", base_url=endpoint.url, model="m-1", **options)


@pytest.fixture
def model(endpoint: EmbeddingServer) -> Iterator[OpenAIEmbedder]:
    made = OpenAIEmbedder(config(endpoint, batch_size=3))
    endpoint.requests.clear()
    yield made
    made.close()


def test_texts_go_out_in_batches_and_vectors_come_back_in_order(
    endpoint: EmbeddingServer, model: OpenAIEmbedder
) -> None:
    """Whatever order an answer has, each text gets the vector of its index, of unit length."""
    texts = [f"text {i}" for i in range(7)]
    got = model.embed_passages(texts)
    expected = np.array([embedding(t) for t in texts])
    np.testing.assert_allclose(got, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert got.dtype == np.float32
    assert [r["input"] for r in endpoint.requests] == [texts[:3], texts[3:6], texts[6:]]
    assert endpoint.requests[0]["path"] == "/v1/embeddings"
    assert endpoint.requests[0]["model"] == "m-1"
    assert "dimensions" not in endpoint.requests[0]
    assert (model.dim, model.metric) == (DIM, "cosine")


def test_no_texts_need_no_request(endpoint: EmbeddingServer, model: OpenAIEmbedder) -> None:
    """An empty batch is a (0, dim) matrix, and blank texts never leave the node."""
    assert model.embed_queries([]).shape == (0, DIM)
    with pytest.raises(EmbeddingError) as refused:
        model.embed_queries(["a", ""])
    assert refused.value.positions == (1,)
    assert endpoint.requests == []


def test_prefixes_key_and_dimension_are_sent(endpoint: EmbeddingServer) -> None:
    """The key comes from the environment variable alone; prefixes are put before the texts."""
    options = {"query_prefix": "q: ", "passage_prefix": "p: ", "dim": DIM, "request_dim": True}
    model = OpenAIEmbedder(config(endpoint, api_key_env="KEY", **options), {"KEY": " sk-secret\n"})
    model.embed_queries(["one"])
    model.embed_passages(["two"])
    assert [r["input"] for r in endpoint.requests[-2:]] == [["q: one"], ["p: two"]]
    assert endpoint.requests[-1]["dimensions"] == DIM
    assert endpoint.headers[-1]["Authorization"] == "Bearer sk-secret"
    model.close()


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}, {"KEY": "sk\nX: y"}, {"KEY": "schlüssel"}])
def test_a_missing_or_broken_key_is_named_not_shown(
    endpoint: EmbeddingServer, environ: dict[str, str]
) -> None:
    """The message has the variable's name and never its value."""
    with pytest.raises(ModelLoadError, match="KEY holds no key") as refused:
        OpenAIEmbedder(config(endpoint, api_key_env="KEY"), environ)
    assert "sk" not in str(refused.value)
    assert endpoint.requests == []


def test_vectors_may_stay_as_they_are(endpoint: EmbeddingServer) -> None:
    """Without `normalize` the endpoint's vectors are returned unchanged."""
    model = OpenAIEmbedder(config(endpoint, normalize=False, metric="dot"))
    np.testing.assert_allclose(model.embed_queries(["x"])[0], embedding("x"), rtol=1e-6)
    assert model.metric == "dot"
    model.close()


def test_identity_is_what_is_computed_not_where(endpoint: EmbeddingServer) -> None:
    """Another address of the same model matches; another model or prefix does not."""
    alias = EmbeddingServer(endpoint.url.replace("127.0.0.1", "localhost"))
    made = [
        OpenAIEmbedder(config(endpoint)),
        OpenAIEmbedder(config(alias)),
        OpenAIEmbedder(config(endpoint, query_prefix="q: ")),
        OpenAIEmbedder(OpenAIConfig(kind="openai", name="x", base_url=endpoint.url, model="m-2")),
    ]
    matches = [made[0].fingerprint.matches(other.fingerprint) for other in made]
    assert matches == [True, True, False, False]
    for model in made:
        model.close()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_trouble_is_waited_out(endpoint: EmbeddingServer, model: OpenAIEmbedder, status: int) -> None:
    """Overload and server errors are tried again, honouring a short Retry-After."""
    endpoint.script = [Reply(status, headers={"Retry-After": "0"})] * 2
    assert model.embed_queries(["x"]).shape == (1, DIM)
    assert len(endpoint.requests) == 3


def test_retries_without_advice_back_off(endpoint: EmbeddingServer, model: OpenAIEmbedder) -> None:
    """Without Retry-After, or with nonsense in it, the node chooses a pause itself."""
    endpoint.script = [Reply(503), Reply(503, headers={"Retry-After": "soon"})]
    assert model.embed_queries(["x"]).shape == (1, DIM)


def test_a_retry_after_date_is_understood(endpoint: EmbeddingServer, model: OpenAIEmbedder) -> None:
    """Retry-After may be a date; one in the past means now."""
    past = email.utils.format_datetime(email.utils.localtime().replace(year=2001))
    endpoint.script = [Reply(429, headers={"Retry-After": past})]
    assert model.embed_queries(["x"]).shape == (1, DIM)


def test_a_long_retry_after_is_reported_not_waited_for(
    endpoint: EmbeddingServer, model: OpenAIEmbedder
) -> None:
    """An endpoint that wants an hour does not hold a thread for an hour; callers get the hint."""
    endpoint.script = [Reply(429, headers={"Retry-After": "3600"})]
    with pytest.raises(ModelUnavailable, match="answers 429") as gave_up:
        model.embed_queries(["x"])
    assert gave_up.value.retry_after == 3600


def test_closing_ends_the_wait_for_a_retry(endpoint: EmbeddingServer, model: OpenAIEmbedder) -> None:
    """A call that waits to retry ends when the model is closed; later calls fail at once."""
    endpoint.script = [Reply(429, headers={"Retry-After": "30"})]
    while endpoint.arrived.acquire(blocking=False):
        pass  # the probes of the constructor
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(model.embed_queries, ["x"])
        assert endpoint.arrived.acquire(timeout=30)
        model.close()
        with pytest.raises(ModelUnavailable, match="closed"):
            call.result(timeout=20)
    with pytest.raises(ModelUnavailable, match="closed"):
        model.embed_queries(["x"])


def test_an_endpoint_that_is_gone_is_unavailable(endpoint: EmbeddingServer) -> None:
    """Nobody listening: ModelUnavailable, after the configured time, naming the model."""
    gone = EmbeddingServer("http://127.0.0.1:9/v1")
    with pytest.raises(ModelUnavailable, match="endpoint of model 'remote' does not answer"):
        OpenAIEmbedder(config(gone, retry_seconds=0))


def test_silence_and_dripping_time_out(endpoint: EmbeddingServer) -> None:
    """Neither silence nor a byte now and then holds a call beyond its timeout."""
    model = OpenAIEmbedder(config(endpoint, timeout_seconds=0.3, retry_seconds=0))
    gate = threading.Event()
    endpoint.script = [Reply(gate=gate), Reply(body=b"x" * 100, drip=0.05)]
    with pytest.raises(ModelUnavailable, match="does not answer"):
        model.embed_queries(["x"])
    gate.set()
    with pytest.raises(ModelUnavailable, match=r"takes longer than 0\.3 s"):
        model.embed_queries(["x"])
    model.close()


@pytest.mark.parametrize("status", [400, 413, 422])
def test_texts_that_the_endpoint_refuses(
    endpoint: EmbeddingServer, model: OpenAIEmbedder, status: int
) -> None:
    """A refusal is the caller's error, is not retried, and quotes the endpoint safely."""
    complaint = json.dumps({"error": {"message": "too long\x1b[31m" + "x" * 500}}).encode()
    endpoint.script = [Reply(status, complaint)]
    with pytest.raises(EmbeddingError, match=rf"refuses the texts \({status}: 'too long\\x1b") as refused:
        model.embed_queries(["x"])
    assert refused.value.positions == ()
    assert len(str(refused.value)) < 300
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"error": "no"}', b'{"error": {"message": 3}}'])
def test_a_refusal_without_a_message(endpoint: EmbeddingServer, model: OpenAIEmbedder, body: bytes) -> None:
    """Whatever the body of a refusal, the status is reported."""
    endpoint.script = [Reply(400, body)]
    with pytest.raises(EmbeddingError, match=r"\(400\)"):
        model.embed_queries(["x"])


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_other_answers_are_final_and_not_quoted(
    endpoint: EmbeddingServer, model: OpenAIEmbedder, status: int
) -> None:
    """Wrong keys, wrong paths and redirects are reported by status; bodies may echo secrets."""
    endpoint.script = [Reply(status, b"your key sk-secret", {"Location": "http://127.0.0.1:9/"})]
    with pytest.raises(ModelUnavailable, match=f"answers {status}$"):
        model.embed_queries(["x"])
    assert len(endpoint.requests) == 1


def entry(index: Any, values: Any) -> dict[str, Any]:
    return {"index": index, "embedding": values}


GOOD = [1.0] * DIM


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"data": 5}',
        b'{"data": {"index": 0}}',
        b'{"data": ' + b"[" * 5000,
        [entry(0, GOOD)],
        [entry(0, GOOD), entry(0, GOOD)],
        [entry(0, GOOD), entry(2, GOOD)],
        [entry(0, GOOD), entry(1, GOOD), entry(1, GOOD)],
        [entry(0, GOOD), entry([], GOOD)],
        [entry(0, GOOD), {"index": 1}],
        [entry(0, GOOD), entry(1, None)],
        [entry(0, GOOD), entry(1, "AAAA")],
        [entry(0, GOOD), entry(1, ["1"] * DIM)],
        [entry(0, GOOD), entry(1, [True] * DIM)],
        [entry(0, GOOD), entry(1, [[1.0]] * DIM)],
        [entry(0, GOOD), entry(1, [[1.0], [1.0, 2.0]])],
        [entry(0, GOOD), entry(1, [10**400] * DIM)],
        [entry(0, GOOD), entry(1, [])],
        [entry(0, GOOD), entry(1, [1.0] * (DIM + 1))],
    ],
)
def test_answers_are_not_trusted(endpoint: EmbeddingServer, model: OpenAIEmbedder, data: Any) -> None:
    """Anything but one vector of the right size for each text is refused, and the next call works."""
    body = data if isinstance(data, bytes) else json.dumps({"data": data}).encode()
    endpoint.script = [Reply(body=body)]
    with pytest.raises(ModelUnavailable, match="endpoint of model 'remote'"):
        model.embed_queries(["x", "y"])
    assert model.embed_queries(["x", "y"]).shape == (2, DIM)


@pytest.mark.parametrize(
    ("values", "normalize", "complaint"),
    [
        ("[NaN, 1, 1, 1, 1, 1, 1, 1]", True, "not finite"),
        ("[Infinity, 1, 1, 1, 1, 1, 1, 1]", True, "not finite"),
        ("[0, 0, 0, 0, 0, 0, 0, 0.0]", True, "no word"),
        ("[1e100, 1, 1, 1, 1, 1, 1, 1]", False, "beyond float32"),
        ("[1e-100, 0, 0, 0, 0, 0, 0, 0]", False, "vanishes"),
    ],
)
def test_unusable_numbers_are_located(
    endpoint: EmbeddingServer, values: str, normalize: bool, complaint: str
) -> None:
    """Vectors that no index can hold fail the one text they belong to."""
    model = OpenAIEmbedder(config(endpoint, normalize=normalize))
    good = json.dumps(GOOD)
    body = f'{{"data": [{{"index": 0, "embedding": {good}}}, {{"index": 1, "embedding": {values}}}]}}'
    endpoint.script = [Reply(body=body.encode())]
    with pytest.raises(EmbeddingError, match=complaint) as refused:
        model.embed_queries(["x", "y"])
    assert refused.value.positions == (1,)
    model.close()


def test_an_answer_without_end_is_cut(endpoint: EmbeddingServer, model: OpenAIEmbedder) -> None:
    """An answer much larger than the vectors could be is not read to its end."""
    endpoint.script = [Reply(body=b" " * 1_000_000)]
    with pytest.raises(ModelUnavailable, match="more than"):
        model.embed_queries(["x"])


def test_damaged_compression_is_unavailable(endpoint: EmbeddingServer) -> None:
    """A body that does not decode as declared is the endpoint's trouble."""
    model = OpenAIEmbedder(config(endpoint, retry_seconds=0))
    endpoint.script = [Reply(body=b"not gzip at all", headers={"Content-Encoding": "gzip"})]
    with pytest.raises(ModelUnavailable, match="DecodingError"):
        model.embed_queries(["x"])
    model.close()


def test_a_wrong_dimension_is_refused_when_loaded(endpoint: EmbeddingServer) -> None:
    """`dim` is insisted on from the first answer."""
    with pytest.raises(ModelUnavailable, match="has 8 dimensions, 9 are expected"):
        OpenAIEmbedder(config(endpoint, dim=9))


def test_a_model_name_that_the_endpoint_refuses_is_a_load_error(endpoint: EmbeddingServer) -> None:
    """A refusal of the probe texts is no error of any caller's text."""
    endpoint.script = [Reply(400, b'{"error": {"message": "no such model"}}')]
    with pytest.raises(ModelLoadError, match="no such model"):
        OpenAIEmbedder(config(endpoint))


def test_an_old_load_does_not_disturb_a_newer_one(endpoint: EmbeddingServer) -> None:
    """A load that fails after its registry was closed leaves the next load alone."""
    gate = threading.Event()
    endpoint.script = [Reply(404, gate=gate)]
    registry = ModelRegistry([config(endpoint)])
    with ThreadPoolExecutor(1) as threads:
        old = threads.submit(registry.get, "remote")
        assert endpoint.arrived.acquire(timeout=30)
        assert registry.info("remote").fingerprint is None
        registry.close()
        newer = registry.get("remote")
        gate.set()
        with pytest.raises(ModelUnavailable, match="answers 404"):
            old.result(timeout=30)
    assert registry.get("remote") is newer
    registry.close()
