"""Metrics of retention."""

from __future__ import annotations

from danube_common.runtime.metrics import Metrics


class RetentionMetrics:
    """Counters of one storage instance. Bundles, backends and reasons are few, so they may be labels."""

    def __init__(self, metrics: Metrics) -> None:
        self.marked_segments = metrics.counter(
            "retention_marked_segments", "Segments marked for deletion, by reason.", ("reason",)
        )
        self.marked_messages = metrics.counter(
            "retention_marked_messages", "Messages in marked segments.", ("reason",)
        )
        self.deleted_segments = metrics.counter(
            "retention_deleted_segments", "Segments deleted.", ("backend",)
        )
        self.deleted_messages = metrics.counter(
            "retention_deleted_messages", "Messages in deleted segments.", ("backend",)
        )
        self.deleted_bytes = metrics.counter(
            "retention_deleted_bytes", "Bytes of deleted segments.", ("backend",)
        )
        self.delete_failures = metrics.counter(
            "retention_delete_failures", "Failed deletions, each followed by a retry.", ("backend",)
        )
        self.retries = metrics.counter(
            "retention_retries",
            "Failed passes over a bundle, each followed by a retry.",
            ("bundle", "reason"),
        )
        self.purged_frames = metrics.counter(
            "retention_purged_frames", "Frames purged from the log of a memory bundle.", ("bundle",)
        )
