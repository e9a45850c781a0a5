"""The retention task of each bundle that this instance archives."""

from __future__ import annotations

import asyncio
import random

from danube_common.cluster.owner_client import OwnerClient
from danube_common.model.bundle import Family
from danube_storage.archive.session import ArchiveSession
from danube_storage.retention.archive_pass import ArchiveRetention
from danube_storage.retention.memory_purge import MemoryPurge
from danube_storage.retention.metrics import RetentionMetrics

TASK = "retention"
BACKOFF_S_MAX = 60.0


class RetentionLoop:
    """Makes a pass over each bundle every ``interval_s``.

    Args:
        owners: the client that asks topic owners for acknowledged positions.
        metrics: of this package.
        interval_s: about how long between two passes over a bundle.
        delete_delay_s: the time from a segment's mark to its deletion.
        forget_after_s: how long the manifest lists deleted segments.
        memory_bytes_max: the bound of a memory bundle's log.
    """

    def __init__(
        self,
        owners: OwnerClient,
        metrics: RetentionMetrics,
        *,
        interval_s: float,
        delete_delay_s: float,
        forget_after_s: float,
        memory_bytes_max: int,
    ) -> None:
        self._owners = owners
        self._metrics = metrics
        self._interval_s = interval_s
        self._delete_delay_ms = round(delete_delay_s * 1000)
        self._forget_after_ms = round(forget_after_s * 1000)
        self._memory_bytes_max = memory_bytes_max

    async def retain(self, session: ArchiveSession) -> None:
        """Run retention of one bundle until cancelled. A bundle task."""
        passes = self._passes(session)
        pause_s = self._interval_s
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            try:
                await passes.run_pass()
            except Exception as error:  # noqa: BLE001 - no fault in one bundle may stop the others
                self._metrics.retries.labels(str(session.bundle), type(error).__name__).inc()
                session.report(TASK, error)
                pause_s = min(2 * pause_s, max(BACKOFF_S_MAX, self._interval_s))
            else:
                session.problems.pop(TASK, None)
                pause_s = self._interval_s

    def _passes(self, session: ArchiveSession) -> MemoryPurge | ArchiveRetention:
        if session.bundle.family is Family.MEMORY:
            return MemoryPurge(session, self._owners, self._metrics, bytes_max=self._memory_bytes_max)
        return ArchiveRetention(
            session,
            self._owners,
            self._metrics,
            delete_delay_ms=self._delete_delay_ms,
            forget_after_ms=self._forget_after_ms,
        )
