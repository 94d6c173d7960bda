"""Metrics of shards, read when they are scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class ShardSample:
    """How one shard stands now. Rows and documents are counts; recalls lie in [0, 1], 0 for unknown."""

    collection: str
    shard: int
    documents: int = 0
    disk_bytes: int = 0
    unindexed: int = 0
    applied_index: int = 0
    durable_index: int = 0
    calibrated_recall: float = 0.0
    measured_recall: float = 0.0
    failing: bool = False
    segments: Mapping[str, int] = field(default_factory=dict)  # by state: "growing", "sealed"


ShardSource = Callable[[], Iterable[ShardSample]]

_LABELS = ("collection", "shard")
# Metric, its help, and the attribute of ShardSample behind it.
_GAUGES = (
    ("vecdb_shard_documents", "Documents in the shard.", "documents"),
    ("vecdb_shard_disk_bytes", "Bytes of the shard's files.", "disk_bytes"),
    ("vecdb_shard_unindexed_rows", "Rows that wait for an index (index lag).", "unindexed"),
    ("vecdb_shard_applied_index", "Log index of the last applied entry.", "applied_index"),
    ("vecdb_shard_durable_index", "Log index up to which files are synced.", "durable_index"),
    ("vecdb_shard_calibrated_recall", "Lowest calibrated recall at k=10.", "calibrated_recall"),
    ("vecdb_shard_measured_recall", "Recall at k=10 of sampled live queries.", "measured_recall"),
    ("vecdb_shard_failing", "1 while background work fails or the shard is damaged.", "failing"),
)
_SEGMENTS = ("vecdb_shard_segments", "Segments of the shard, by state.")


class ShardCollector(Collector):
    """Asks `source` for samples at every scrape, in the scraping thread.

    `source` must be safe to call from another thread and cheap; where it
    raises, the scrape fails, so that a gap shows instead of stale figures.
    """

    def __init__(self, source: ShardSource) -> None:
        self._source = source

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The metrics without samples: registering must not ask the shards."""
        return iter(self._families(()))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics of every shard."""
        return iter(self._families(tuple(self._source())))

    @staticmethod
    def _families(samples: tuple[ShardSample, ...]) -> list[GaugeMetricFamily]:
        families = []
        for name, text, attribute in _GAUGES:
            family = GaugeMetricFamily(name, text, labels=_LABELS)
            for sample in samples:
                family.add_metric((sample.collection, str(sample.shard)), getattr(sample, attribute))
            families.append(family)
        segments = GaugeMetricFamily(*_SEGMENTS, labels=(*_LABELS, "state"))
        for sample in samples:
            for state, count in sample.segments.items():
                segments.add_metric((sample.collection, str(sample.shard), state), count)
        return [*families, segments]
