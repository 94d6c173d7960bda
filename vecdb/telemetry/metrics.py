"""The node's metrics, for Prometheus. docs/metrics.md lists them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from vecdb.telemetry._meter import RPC_BOUNDS, RpcMeter
from vecdb.telemetry.shards import ShardCollector, ShardSource
from vecdb.telemetry.version import version

#: Why a call may be refused for who makes it; reasons of `vecdb.v1`.
REFUSALS = ("UNAUTHENTICATED", "PERMISSION_DENIED", "THROTTLED")
_RPC_LABELS = ("service", "method")
# 50 microseconds is a cache in the disk, a second is a disk in trouble.
_SYNC_BOUNDS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class NodeMetrics:
    """Everything a node counts, registered in `registry` (a new one if None)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry(auto_describe=True)
        self._rpcs = _RpcCollector()
        self.registry.register(self._rpcs)
        self._errors = Counter(
            "vecdb_errors",
            "Failures that are nobody's bad request: each has a log line.",
            ("component",),
            registry=self.registry,
        )
        self._refusals = Counter(
            "vecdb_access_refusals",
            "Calls refused for who made them, by reason.",
            ("reason",),
            registry=self.registry,
        )
        for reason in REFUSALS:
            self._refusals.labels(reason)
        self._sync_seconds = Histogram(
            "vecdb_log_sync_seconds", "Seconds of one log sync.", buckets=_SYNC_BOUNDS, registry=self.registry
        )
        self._log_bytes = Counter("vecdb_log_bytes", "Bytes written to the log.", registry=self.registry)
        self._log_batches = Counter(
            "vecdb_log_batches", "Writes that log syncs made durable.", registry=self.registry
        )
        ProcessCollector(registry=self.registry)
        build = Gauge(
            "vecdb_build_info",
            "Always 1; labels say what runs.",
            ("version", "python"),
            registry=self.registry,
        )
        build.labels(version(), platform.python_version()).set(1)

    def rpc(self, service: str, method: str) -> RpcMeter:
        """The meter of one method: the same one for the same names.

        Look it up once, when the handler is made.
        """
        return self._rpcs.meter(service, method)

    def error(self, component: str) -> None:
        """Counts an unexpected failure in a part of the node, e.g. "engine"."""
        self._errors.labels(component).inc()

    def refused(self, reason: str) -> None:
        """Counts a call that was refused for one of the REFUSALS."""
        self._refusals.labels(reason).inc()

    def log_synced(self, seconds: float, batches: int, size: int) -> None:
        """One sync of the log: how long it took, for how many writes and bytes."""
        self._sync_seconds.observe(seconds)
        self._log_batches.inc(batches)
        self._log_bytes.inc(size)

    def watch_shards(self, source: ShardSource) -> None:
        """Serves the shards that `source` tells of, anew at every scrape."""
        self.registry.register(ShardCollector(source))


class _RpcCollector(Collector):
    """Turns the meters' plain counts into metrics when they are scraped."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._meters: dict[tuple[str, str], RpcMeter] = {}

    def meter(self, service: str, method: str) -> RpcMeter:
        with self._lock:
            return self._meters.setdefault((service, method), RpcMeter())

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        requests = CounterMetricFamily(
            "vecdb_rpc_requests", "Finished RPCs, by gRPC status.", labels=(*_RPC_LABELS, "code")
        )
        seconds = HistogramMetricFamily(
            "vecdb_rpc_seconds", "Seconds from an RPC's begin to its end.", labels=_RPC_LABELS
        )
        in_flight = GaugeMetricFamily("vecdb_rpc_in_flight", "RPCs in progress.", labels=_RPC_LABELS)
        with self._lock:
            meters = list(self._meters.items())
        for labels, meter in meters:
            counts = meter.read()
            for code, count in counts.codes.items():
                requests.add_metric((*labels, code), count)
            buckets, running = [], 0
            for bound, count in zip((*map(str, RPC_BOUNDS), "+Inf"), counts.buckets, strict=True):
                running += count
                buckets.append((bound, float(running)))
            seconds.add_metric(labels, buckets, counts.seconds)
            in_flight.add_metric(labels, counts.in_flight)
        yield from (requests, seconds, in_flight)
