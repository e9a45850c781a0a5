"""Retention as a duty on each bundle that this instance archives."""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

import structlog

from danube_common.cluster.owner_client import OwnerClient
from danube_common.errors import DanubeError
from danube_common.model.bundle import Family
from danube_storage.archive.session import ArchiveSession
from danube_storage.retention.archive_pass import ArchiveRetention
from danube_storage.retention.memory_purge import MemoryPurge
from danube_storage.retention.metrics import RetentionMetrics

PART = "retention"
BACKOFF_S_MAX = 60.0

_log = structlog.get_logger(__name__)


class _Pass(Protocol):
    async def run_pass(self) -> None: ...


class RetentionLoop:
    """Makes a pass over each bundle every ``interval_s``.

    Args:
        owners: asked for what is acknowledged.
        metrics: where it counts.
        interval_s: about so long between two passes over a bundle.
        delete_delay_s: between a segment's mark and its deletion.
        forget_after_s: how long the rows of deleted segments stay in the catalogue.
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
        """The duty on one bundle, until cancelled."""
        passes = self._passes(session)
        pause_s = self._interval_s
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            try:
                await passes.run_pass()
            except Exception as error:  # noqa: BLE001 - no fault in one bundle may stop the others
                self._tell(session, error)
                pause_s = min(2 * pause_s, max(BACKOFF_S_MAX, self._interval_s))
            else:
                session.problems.pop(PART, None)
                pause_s = self._interval_s

    def _passes(self, session: ArchiveSession) -> _Pass:
        if session.bundle.family is Family.MEMORY:
            return MemoryPurge(session, self._owners, self._metrics, bytes_max=self._memory_bytes_max)
        return ArchiveRetention(
            session,
            self._owners,
            self._metrics,
            delete_delay_ms=self._delete_delay_ms,
            forget_after_ms=self._forget_after_ms,
        )

    def _tell(self, session: ArchiveSession, error: Exception) -> None:
        self._metrics.retries.labels(str(session.bundle), type(error).__name__).inc()
        known = isinstance(error, DanubeError)
        told = str(error) if known else repr(error)
        if session.problems.get(PART) != told:
            _log.error(
                "retention_fails",
                bundle=str(session.bundle),
                error=told,
                exc_info=None if known else error,
            )
        session.problems[PART] = told
