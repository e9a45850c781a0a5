"""Metrics of archiving."""

from __future__ import annotations

from danube_common.runtime.metrics import Metrics


class StorageMetrics:
    """Counters and gauges of one storage instance. There are few bundles, so a bundle may be a label."""

    def __init__(self, metrics: Metrics) -> None:
        self.bundles = metrics.plain_gauge("storage_bundles", "Bundles that this instance archives.")
        self.cuts = metrics.counter("storage_cuts", "Manifest entries added.", ("bundle",))
        self.segments = metrics.counter("storage_segments", "Segments made durable.", ("backend",))
        self.segment_bytes = metrics.counter(
            "storage_segment_bytes", "Bytes of segments made durable.", ("backend",)
        )
        self.lag_bytes = metrics.gauge(
            "storage_lag_bytes", "Bytes of the log that are not archived.", ("bundle",)
        )
        self.lag_seconds = metrics.gauge(
            "storage_lag_seconds", "Age of the oldest message that is not archived.", ("bundle",)
        )
        self.retries = metrics.counter(
            "storage_retries", "Failures of archiving, each followed by a retry.", ("bundle", "reason")
        )
        self.missing_frames = metrics.counter(
            "storage_missing_frames",
            "Log sequences that were lost before they were archived.",
            ("bundle",),
        )
        self.corrupt_frames = metrics.counter(
            "storage_corrupt_frames",
            "Frames of the log that cannot be decoded and were kept aside.",
            ("bundle",),
        )
        self.orphans = metrics.counter(
            "storage_orphans",
            "Orphaned segments deleted: left by failed seals, named by no manifest entry.",
            ("backend",),
        )
