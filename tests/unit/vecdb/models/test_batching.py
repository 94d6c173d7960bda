"""Batching across callers: coalesced, bounded, fair, and each caller for itself."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
import pytest_asyncio

from vecdb.models import (
    BatchingEmbedder,
    BatchLimits,
    EmbeddingError,
    Fingerprint,
    Metric,
    ModelBusy,
    ModelUnavailable,
)


class Recorder:
    """An embedder that records its batches and can be held in the middle of one.

    A text of digits becomes (its number, 1 for queries and 2 for passages).
    """

    name, dim = "recorder", 2
    metric: Metric = "l2"
    query_prefix = passage_prefix = ""
    hybrid_weight = 1.0
    fingerprint = Fingerprint("0" * 64, 2, bytes(12))

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()
        self.go = threading.Semaphore(0)
        self.started = threading.Semaphore(0)
        self.held = False
        self.closed = False

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self._embed(texts, 1)

    def embed_passages(self, texts: Sequence[str]) -> np.ndarray:
        return self._embed(texts, 2)

    def close(self) -> None:
        self.closed = True

    def _embed(self, texts: Sequence[str], kind: int) -> np.ndarray:
        self.batches.append(list(texts))
        self.threads.add(threading.current_thread().name)
        if self.held:
            self.started.release()
            assert self.go.acquire(timeout=30)
        if "down" in texts:
            raise ModelUnavailable("down")
        if "crash" in texts:
            raise RuntimeError("crash")
        if "refused" in texts:
            raise EmbeddingError("refused")
        if "liar" in texts:
            raise EmbeddingError("is somewhere else", [10_000])
        if "short" in texts:
            return np.zeros((1, 1), dtype=np.float32)
        if bad := [i for i, text in enumerate(texts) if not text.isdigit()]:
            raise EmbeddingError("is no number", bad)
        return np.array([[int(text), kind] for text in texts], dtype=np.float32).reshape(-1, 2)


class Bench:
    """A batching embedder whose model waits to be released, batch by batch."""

    def __init__(self, limits: BatchLimits) -> None:
        self.model = Recorder()
        self.model.held = True
        self.batching = BatchingEmbedder(self.model, limits)

    async def started(self) -> None:
        await asyncio.to_thread(self.model.started.acquire, timeout=30)

    async def occupy(self) -> asyncio.Task[np.ndarray]:
        """A first batch that runs until `release`."""
        task = asyncio.create_task(self.batching.embed_queries(["0"]))
        await self.started()
        return task

    def release(self) -> None:
        """Lets everything run from here on."""
        self.model.held = False
        self.model.go.release(1000)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(BatchLimits(max_batch=4, max_queue=10))
    yield made
    made.release()
    await made.batching.close()


async def queue(call: object) -> asyncio.Task[np.ndarray]:
    """Starts a call and lets it reach the queue."""
    task = asyncio.create_task(call)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    return task


async def test_a_lone_request_goes_at_once() -> None:
    """An idle model embeds a request by itself, in a thread, without a timer."""
    model = Recorder()
    batching = BatchingEmbedder(model, BatchLimits(max_batch=4))
    got = await batching.embed_passages(["7", "8"])
    np.testing.assert_array_equal(got, [[7, 2], [8, 2]])
    assert got.dtype == np.float32
    assert model.batches == [["7", "8"]]
    assert next(iter(model.threads)).startswith("embed")
    await batching.close()
    assert not model.closed


async def test_short_queries_run_on_the_loop() -> None:
    """One query within `inline_chars` costs no thread; longer ones, several, and passages do."""
    model = Recorder()
    batching = BatchingEmbedder(model, BatchLimits(inline_chars=3))
    np.testing.assert_array_equal(await batching.embed_queries(["123"]), [[123, 1]])
    assert model.threads == {threading.current_thread().name}
    model.threads.clear()
    await batching.embed_queries(["1234"])
    await batching.embed_queries(["1", "2"])
    await batching.embed_passages(["1"])
    assert threading.current_thread().name not in model.threads
    with pytest.raises(EmbeddingError):
        await batching.embed_queries(["x"])
    await batching.close()
    with pytest.raises(ModelUnavailable, match="shutting down"):
        await batching.embed_queries(["1"])


async def test_no_texts_need_no_model(bench: Bench) -> None:
    """An empty request is answered at once with a (0, dim) matrix."""
    assert (await bench.batching.embed_queries([])).shape == (0, 2)
    assert bench.model.batches == []


async def test_requests_that_wait_are_coalesced(bench: Bench) -> None:
    """Requests that arrive during a batch form the next one, and each gets its own rows."""
    first = await bench.occupy()
    waiting = [await queue(bench.batching.embed_queries([str(i)])) for i in range(1, 6)]
    bench.release()
    results = await asyncio.gather(first, *waiting)
    assert [int(r[0, 0]) for r in results] == [0, 1, 2, 3, 4, 5]
    assert bench.model.batches == [["0"], ["1", "2", "3", "4"], ["5"]]


async def test_queries_do_not_wait_behind_a_long_request(bench: Bench) -> None:
    """A long request is cut into batches, and queries take turns with them."""
    long = await queue(bench.batching.embed_passages([str(i) for i in range(12)]))
    await bench.started()
    query = await queue(bench.batching.embed_queries(["77"]))
    bench.release()
    np.testing.assert_array_equal(await query, [[77, 1]])
    np.testing.assert_array_equal((await long)[:, 0], range(12))
    sizes = [len(batch) for batch in bench.model.batches]
    assert sizes == [4, 1, 4, 4]
    assert bench.model.batches[1] == ["77"]


async def test_passages_do_not_wait_behind_queries(bench: Bench) -> None:
    """Under a stream of queries passages still get every other batch."""
    first = await bench.occupy()
    queries = [await queue(bench.batching.embed_queries([str(i)])) for i in range(8)]
    passages = await queue(bench.batching.embed_passages(["50"]))
    bench.release()
    await asyncio.gather(first, passages, *queries)
    assert bench.model.batches.index(["50"]) == 1


async def test_several_batches_run_at_once_where_allowed() -> None:
    """With a concurrency of two, two batches are under way together, no third."""
    bench = Bench(BatchLimits(max_batch=1, concurrency=2))
    tasks = [await queue(bench.batching.embed_queries([str(i)])) for i in range(3)]
    await bench.started()
    await bench.started()
    assert sorted(bench.model.batches) == [["0"], ["1"]]
    bench.release()
    assert [int((await task)[0, 0]) for task in tasks] == [0, 1, 2]
    await bench.batching.close()


async def test_a_full_queue_refuses(bench: Bench) -> None:
    """Beyond `max_queue` waiting texts requests are refused at once, and room comes back."""
    first = await bench.occupy()
    waiting = await queue(bench.batching.embed_passages([str(i) for i in range(9)]))
    with pytest.raises(ModelBusy, match=r"9 texts are waiting for .*'recorder' already \(at most 10\)"):
        await bench.batching.embed_queries(["1", "2"])
    fits = await queue(bench.batching.embed_queries(["1"]))
    bench.release()
    await asyncio.gather(first, waiting, fits)
    np.testing.assert_array_equal(await bench.batching.embed_queries(["1", "2"]), [[1, 1], [2, 1]])


async def test_an_empty_queue_takes_any_size(bench: Bench) -> None:
    """A request larger than the queue is served when nothing waits: refused, it never could be."""
    bench.release()
    assert len(await bench.batching.embed_passages([str(i) for i in range(50)])) == 50


async def test_cancelled_requests_leave_the_queue(bench: Bench) -> None:
    """A cancelled caller's texts are not embedded, and make room for others."""
    first = await bench.occupy()
    gone = await queue(bench.batching.embed_passages([str(i) for i in range(100, 110)]))
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    stays = await queue(bench.batching.embed_passages([str(i) for i in range(10)]))
    bench.release()
    await asyncio.gather(first, stays)
    assert gone.cancelled()
    assert not any(int(text) >= 100 for batch in bench.model.batches for text in batch)


async def test_a_cancelled_batch_spoils_nothing(bench: Bench) -> None:
    """Cancelling one caller of a running batch leaves the others their vectors."""
    first = await bench.occupy()
    one, other = [await queue(bench.batching.embed_queries([text])) for text in ("1", "2")]
    bench.model.go.release()
    await bench.started()
    one.cancel()
    bench.release()
    np.testing.assert_array_equal(await other, [[2, 1]])
    await first
    assert one.cancelled()


async def test_a_bad_text_fails_its_own_caller(bench: Bench) -> None:
    """Callers learn the positions in their own request; the others get vectors."""
    first = await bench.occupy()
    calls = [["1"], ["2", "bad"], ["worse"]]
    tasks = [await queue(bench.batching.embed_queries(texts)) for texts in calls]
    bench.release()
    good, bad, worse = await asyncio.gather(*tasks, return_exceptions=True)
    await first
    np.testing.assert_array_equal(good, [[1, 1]])
    assert isinstance(bad, EmbeddingError)
    assert isinstance(worse, EmbeddingError)
    assert (bad.positions, worse.positions) == ((1,), (0,))
    assert str(bad) == "text at position 1 is no number"
    assert bench.model.batches == [["0"], ["1", "2", "bad", "worse"], ["1"]]


async def test_positions_count_from_the_start_of_the_request(bench: Bench) -> None:
    """A bad text in a later batch of a long request has its position in the request."""
    bench.release()
    with pytest.raises(EmbeddingError) as refused:
        await bench.batching.embed_passages(["1", "2", "3", "4", "5", "bad", "7"])
    assert refused.value.positions == (5,)
    np.testing.assert_array_equal(await bench.batching.embed_queries(["1"]), [[1, 1]])


@pytest.mark.parametrize(("text", "kind"), [("refused", EmbeddingError), ("crash", RuntimeError)])
async def test_an_error_without_positions_is_narrowed_down(
    bench: Bench, text: str, kind: type[Exception]
) -> None:
    """Where the model does not say whose fault it is, callers go one by one."""
    first = await bench.occupy()
    good, bad = [await queue(bench.batching.embed_queries([t])) for t in ("1", text)]
    bench.release()
    np.testing.assert_array_equal(await good, [[1, 1]])
    with pytest.raises(kind):
        await bad
    await first


async def test_a_dead_endpoint_fails_all_at_once(bench: Bench) -> None:
    """An endpoint that does not answer is asked once, not once a caller."""
    first = await bench.occupy()
    tasks = [await queue(bench.batching.embed_queries([t])) for t in ("1", "down", "3")]
    bench.release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await first
    assert all(isinstance(r, ModelUnavailable) for r in results)
    assert len(bench.model.batches) == 2


async def test_positions_that_make_no_sense_end_the_batch(bench: Bench) -> None:
    """An embedder that blames texts nobody sent does not keep the batch going round."""
    first = await bench.occupy()
    tasks = [await queue(bench.batching.embed_queries([t])) for t in ("1", "liar")]
    bench.release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await first
    assert all(isinstance(r, EmbeddingError) for r in results)


async def test_vectors_of_a_wrong_shape_are_an_error(bench: Bench) -> None:
    """A model that returns too few rows or columns fails its callers rather than mixing rows up."""
    bench.release()
    with pytest.raises(ModelUnavailable, match=r"returned \(1, 1\)"):
        await bench.batching.embed_queries(["1", "short"])


async def test_closing_refuses_what_waits_and_finishes_what_runs(bench: Bench) -> None:
    """On close the running batch is answered, queued and later requests are refused."""
    first = await bench.occupy()
    waiting = [await queue(bench.batching.embed_passages([str(i)])) for i in range(5)]
    closing = await queue(bench.batching.close())
    for task in waiting:
        with pytest.raises(ModelUnavailable, match="shutting down"):
            await task
    assert not closing.done()
    bench.release()
    await closing
    np.testing.assert_array_equal(await first, [[0, 1]])
    with pytest.raises(ModelUnavailable, match="shutting down"):
        await bench.batching.embed_passages(["1"])
