"""What a node counts, and that docs/metrics.md tells exactly that."""

import re
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from vecdb.telemetry import NodeMetrics, ShardSample
from vecdb.telemetry.http import standard_routes
from vecdb.telemetry.version import version

PAGE = (Path(__file__).parents[4] / "docs" / "metrics.md").read_text()
_ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| ([\w, ]*) ?\| (.*?) \|$", re.MULTILINE)

SAMPLE = ShardSample(
    collection="docs",
    shard=7,
    documents=100,
    disk_bytes=4096,
    unindexed=3,
    applied_index=50,
    durable_index=40,
    calibrated_recall=0.97,
    measured_recall=0.96,
    segments={"growing": 1, "sealed": 2},
)


def _busy() -> NodeMetrics:
    """Metrics that have seen one of everything."""
    metrics = NodeMetrics()
    meter = metrics.rpc("Search", "Search")
    meter.begin()
    meter.done("OK", 0.003)
    metrics.error("engine")
    metrics.log_synced(0.002, 3, 512)
    metrics.watch_shards(lambda: [SAMPLE])
    return metrics


def _value(metrics: NodeMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_page_lists_exactly_the_metrics() -> None:
    """Name, type, labels and meaning of every metric stand in the docs, and no others."""
    served = {}
    text = standard_routes(_busy().registry, lambda: "")["/metrics"]("").body.decode()
    for family in text_string_to_metric_families(text):
        if family.name.endswith("_created"):
            continue
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = family.name + ("_total" if family.type == "counter" else "")
        served[name] = (family.type, labels, family.documentation)
    documented = {
        name: (kind, set(labels.replace(",", " ").split()), meaning)
        for name, kind, labels, meaning in _ROW.findall(PAGE)
    }
    assert documented == served


def test_rpcs_are_counted_by_code_and_time() -> None:
    """Counts, buckets, sum and in-flight add up."""
    metrics = NodeMetrics()
    meter = metrics.rpc("Documents", "Upsert")
    for code, seconds in (("OK", 0.0004), ("OK", 0.0005), ("INTERNAL", 11.0), ("NO_SUCH_CODE", 0.7)):
        meter.begin()
        meter.done(code, seconds)
    meter.begin()
    labels = {"service": "Documents", "method": "Upsert"}
    counted = {
        code: _value(metrics, "vecdb_rpc_requests_total", **labels, code=code)
        for code in ("OK", "INTERNAL", "UNKNOWN", "ABORTED")
    }
    assert counted == {"OK": 2, "INTERNAL": 1, "UNKNOWN": 1, "ABORTED": None}
    buckets = [
        _value(metrics, "vecdb_rpc_seconds_bucket", **labels, le=le)
        for le in ("0.0005", "0.5", "1.0", "10.0", "+Inf")
    ]
    assert buckets == [2, 2, 3, 3, 4]
    assert _value(metrics, "vecdb_rpc_seconds_sum", **labels) == pytest.approx(11.7009)
    assert _value(metrics, "vecdb_rpc_in_flight", **labels) == 1


def test_one_meter_a_method() -> None:
    """Asking twice for a method gives the same meter; two methods are counted apart."""
    metrics = NodeMetrics()
    assert metrics.rpc("A", "x") is metrics.rpc("A", "x")
    assert metrics.rpc("A", "x") is not metrics.rpc("B", "x")


def test_meters_lose_nothing_between_threads() -> None:
    """Every call from every thread is counted once."""
    metrics = NodeMetrics()
    meter = metrics.rpc("Search", "Search")

    def work() -> None:
        for _ in range(5_000):
            meter.begin()
            meter.done("OK", 0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = meter.read()
    assert (counts.codes, sum(counts.buckets), counts.in_flight) == ({"OK": 20_000}, 20_000, 0)


def test_the_log_is_counted() -> None:
    """Syncs, their writes and their bytes."""
    metrics = _busy()
    assert _value(metrics, "vecdb_log_batches_total") == 3
    assert _value(metrics, "vecdb_log_bytes_total") == 512
    assert _value(metrics, "vecdb_log_sync_seconds_bucket", le="0.0025") == 1
    assert _value(metrics, "vecdb_errors_total", component="engine") == 1
    assert (
        _value(metrics, "vecdb_build_info", version=version(), python=__import__("platform").python_version())
        == 1
    )


def test_shards_are_read_when_scraped() -> None:
    """Registering asks nobody; every scrape sees the shards as they are then."""
    metrics = NodeMetrics()
    asked = []
    shards: list[ShardSample] = []

    def source() -> list[ShardSample]:
        asked.append(1)
        return shards

    metrics.watch_shards(source)
    assert not asked
    labels = {"collection": "docs", "shard": "7"}
    assert _value(metrics, "vecdb_shard_documents", **labels) is None
    shards.append(SAMPLE)
    assert _value(metrics, "vecdb_shard_documents", **labels) == 100
    assert _value(metrics, "vecdb_shard_segments", **labels, state="sealed") == 2
    assert _value(metrics, "vecdb_shard_calibrated_recall", **labels) == 0.97
    shards.clear()
    assert _value(metrics, "vecdb_shard_documents", **labels) is None


def test_into_a_given_registry() -> None:
    """An embedding program may bring its own registry."""
    registry = CollectorRegistry()
    assert NodeMetrics(registry).registry is registry
    assert registry.get_sample_value("vecdb_log_bytes_total") == 0
