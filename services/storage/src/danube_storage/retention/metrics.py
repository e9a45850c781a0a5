"""What retention counts."""

from __future__ import annotations

from danube_common.runtime.metrics import Metrics


class RetentionMetrics:
    """Bundles, backends and reasons are few, so they may be labels; topics are not."""

    def __init__(self, metrics: Metrics) -> None:
        self.marked_segments = metrics.counter(
            "retention_marked_segments", "Segments that may go, by why they may.", ("reason",)
        )
        self.marked_messages = metrics.counter("retention_marked_messages", "Messages in them.", ("reason",))
        self.deleted_segments = metrics.counter(
            "retention_deleted_segments", "Segments deleted.", ("backend",)
        )
        self.deleted_messages = metrics.counter(
            "retention_deleted_messages", "Messages in them.", ("backend",)
        )
        self.deleted_bytes = metrics.counter("retention_deleted_bytes", "Bytes of them.", ("backend",))
        self.delete_failures = metrics.counter(
            "retention_delete_failures", "Deletions that failed and are tried again.", ("backend",)
        )
        self.retries = metrics.counter(
            "retention_retries", "Passes over a bundle that failed and are tried again.", ("bundle", "reason")
        )
        self.purged_frames = metrics.counter(
            "retention_purged_frames", "Frames that left the log of a memory bundle.", ("bundle",)
        )
