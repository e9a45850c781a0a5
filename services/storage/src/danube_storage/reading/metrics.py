"""What reading from segments is counted by."""

from __future__ import annotations

from danube_common.runtime.metrics import Metrics


class ReadingMetrics:
    """Of one storage instance. ``cache`` is blocks or tails, ``pool`` who they are for."""

    def __init__(self, metrics: Metrics) -> None:
        pools = ("cache", "pool")
        self.hits = metrics.counter("storage_cache_hits", "Asked for and in memory.", pools)
        self.misses = metrics.counter("storage_cache_misses", "Asked for and read, or being read.", pools)
        self.ahead_bytes = metrics.counter(
            "storage_cache_ahead_bytes", "Read before anybody asked for it.", pools
        )
        self.wasted_bytes = metrics.counter(
            "storage_cache_wasted_bytes", "Read ahead, and pushed out before anybody asked for it.", pools
        )
        self.held_bytes = metrics.gauge("storage_cache_held_bytes", "What is in memory.", pools)
        self.read_bytes = metrics.counter(
            "storage_read_bytes", "Bytes of segments read from where they are kept.", ("backend",)
        )
        self.served_bytes = metrics.plain_counter("storage_served_bytes", "Bytes of entries sent to readers.")
        self.damaged_reads = metrics.counter(
            "storage_damaged_reads", "Reads that met a damaged or missing segment.", ("backend",)
        )
        self.quarantined = metrics.plain_gauge(
            "storage_quarantined_segments", "Segments found damaged here since the start and not mended."
        )
