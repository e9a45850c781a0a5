"""What a storage instance counts."""

from __future__ import annotations

from danube_common.runtime.metrics import Metrics


class StorageMetrics:
    """Of the archiver; bundles are few, so they may be labels."""

    def __init__(self, metrics: Metrics) -> None:
        self.bundles = metrics.plain_gauge("storage_bundles", "Bundles that this instance archives.")
        self.cuts = metrics.counter("storage_cuts", "Manifest entered in the catalogue.", ("bundle",))
        self.segments = metrics.counter("storage_segments", "Segments made durable.", ("backend",))
        self.segment_bytes = metrics.counter("storage_segment_bytes", "The bytes of them.", ("backend",))
        self.lag_bytes = metrics.gauge(
            "storage_lag_bytes", "What the log keeps and no segment has yet.", ("bundle",)
        )
        self.lag_seconds = metrics.gauge(
            "storage_lag_seconds", "How long the oldest of that has been stored.", ("bundle",)
        )
        self.retries = metrics.counter(
            "storage_retries", "Times that archiving failed and is tried again.", ("bundle", "reason")
        )
        self.missing_frames = metrics.counter(
            "storage_missing_frames",
            "Sequences that the log had lost before they were archived.",
            ("bundle",),
        )
        self.corrupt_frames = metrics.counter(
            "storage_corrupt_frames", "Frames of the log that do not decode, kept aside.", ("bundle",)
        )
        self.orphans = metrics.counter(
            "storage_orphans",
            "Segments deleted that no cut names, left by attempts that failed.",
            ("backend",),
        )
