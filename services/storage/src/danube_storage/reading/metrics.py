"""Metrics of reading."""

from __future__ import annotations

from danube_common.runtime.metrics import Metrics


class ReadingMetrics:
    """Counters and gauges of one storage instance, with the labels ``cache`` (blocks, tails) and ``pool``."""

    def __init__(self, metrics: Metrics) -> None:
        pools = ("cache", "pool")
        self.hits = metrics.counter("storage_cache_hits", "Requests served from memory.", pools)
        self.misses = metrics.counter(
            "storage_cache_misses", "Requests that had to read or wait for a read.", pools
        )
        self.ahead_bytes = metrics.counter(
            "storage_cache_ahead_bytes", "Bytes read ahead of requests.", pools
        )
        self.wasted_bytes = metrics.counter(
            "storage_cache_wasted_bytes", "Bytes read ahead and evicted before any request.", pools
        )
        self.held_bytes = metrics.gauge("storage_cache_held_bytes", "Bytes in memory.", pools)
        self.read_bytes = metrics.counter(
            "storage_read_bytes", "Bytes of segments read from their stores.", ("backend",)
        )
        self.served_bytes = metrics.plain_counter("storage_served_bytes", "Bytes of entries sent to readers.")
        self.damaged_reads = metrics.counter(
            "storage_damaged_reads", "Reads that found a damaged or missing segment.", ("backend",)
        )
        self.quarantined = metrics.plain_gauge(
            "storage_quarantined_segments", "Segments in quarantine on this instance."
        )
