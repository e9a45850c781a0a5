"""Metrics of repair."""

from __future__ import annotations

from danube_common.runtime.metrics import Metrics


class RepairMetrics:
    """Counters and gauges of one storage instance. There are few bundles, so a bundle may be a label."""

    def __init__(self, metrics: Metrics) -> None:
        self.short = metrics.gauge(
            "storage_short_segments",
            "Disk segments with fewer usable copies than configured, the lost ones included.",
            ("bundle",),
        )
        self.lost = metrics.gauge(
            "storage_lost_segments",
            "Disk segments without a usable copy: damaged, or on instances that are away for long.",
            ("bundle",),
        )
        self.waiting = metrics.gauge(
            "storage_waiting_segments",
            "Segments that are kept in another store until the one of their topics answers.",
            ("bundle",),
        )
        self.copies = metrics.plain_counter(
            "storage_copies", "Copies of segments that this instance made from other instances."
        )
        self.copied_bytes = metrics.plain_counter("storage_copied_bytes", "Bytes of such copies.")
        self.failures = metrics.counter(
            "storage_copy_failures", "Copies that failed, each followed by a retry.", ("reason",)
        )
        self.scrubbed = metrics.counter(
            "storage_scrubbed_segments", "Segments that were verified in the background.", ("backend",)
        )
        self.scrubbed_bytes = metrics.counter(
            "storage_scrubbed_bytes", "Bytes of segments verified in the background.", ("backend",)
        )
        self.scrub_damaged = metrics.counter(
            "storage_scrub_damaged", "Damaged or missing segments that the scrub found.", ("backend",)
        )
        self.scrub_lag = metrics.plain_gauge(
            "storage_scrub_lag_seconds", "How far the scrub is behind its period; near 0 if it keeps up."
        )
