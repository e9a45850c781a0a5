"""The task that archives one bundle for as long as its session lasts."""

from __future__ import annotations

import asyncio
import random
import time

import structlog

from danube_common.errors import NotFound
from danube_common.log.port import LogBounds
from danube_common.model.bundle import Family
from danube_storage.archive.log_range import CorruptFrame, LogRange, read_range
from danube_storage.archive.seal_rules import SealRules, entry_bytes_max, seal_limits, topic_rules
from danube_storage.archive.sealer import Fenced, Sealer
from danube_storage.archive.session import ArchiveSession
from danube_storage.archive.unarchived import HoldBudget, UnarchivedBytes

POLL_S = 1.0
BOUNDS_AT_ONCE_MAX = 8
BACKOFF_S_FIRST = 0.5
BACKOFF_S_MAX = 30.0
TASK = "archiver"

_log = structlog.get_logger(__name__)


class Archiver:
    """Seals the log of every bundle that this process archives.

    At most ``seals_at_once`` log ranges of ``seal_bytes_max`` are read or sealed at any time. Ranges that
    were read to find a full topic are held until they are sealed, up to ``seal_bytes_max`` in total.
    """

    def __init__(self, rules: SealRules, *, seals_at_once: int, poll_s: float = POLL_S) -> None:
        self._rules = rules
        self._poll_s = poll_s
        self._seal_slots = asyncio.Semaphore(seals_at_once)
        self._bounds_slots = asyncio.Semaphore(BOUNDS_AT_ONCE_MAX)
        self._budget = HoldBudget(rules.seal_bytes_max)

    async def archive(self, session: ArchiveSession) -> None:
        """Archive one bundle until cancelled. A step that fails is repeated; the log keeps all messages."""
        if session.bundle.family is not Family.FILE:
            return
        sealer = Sealer(session, self._rules)
        unarchived = UnarchivedBytes(self._budget)
        backoff_s = BACKOFF_S_FIRST
        ready = False
        try:
            while True:
                try:
                    if not ready:
                        await sealer.take_over()
                        ready = True
                    more = await self._seal_if_due(session, sealer, unarchived)
                except Fenced as fenced:
                    _log.info("archiver_fenced", bundle=str(session.bundle), reason=str(fenced))
                    ready = more = False
                except Exception as error:  # noqa: BLE001 - no fault in one bundle may stop the others
                    ready = False
                    session.ports.metrics.retries.labels(str(session.bundle), type(error).__name__).inc()
                    session.report(TASK, error)
                    # Full jitter: bundles and instances with the same fault must not retry together.
                    await asyncio.sleep(random.uniform(0, backoff_s))  # noqa: S311 - no secret
                    backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)
                    continue
                backoff_s = BACKOFF_S_FIRST
                session.problems.pop(TASK, None)
                if not more:
                    await asyncio.sleep(self._poll_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        finally:
            unarchived.release()

    async def _seal_if_due(
        self, session: ArchiveSession, sealer: Sealer, unarchived: UnarchivedBytes
    ) -> bool:
        """Return whether a range was sealed, so that another one may be due."""
        try:
            async with self._bounds_slots:
                bounds = await session.ports.log.bounds(session.bundle)
        except NotFound:
            return False  # the bundle has had no topic yet
        now_ms = time.time_ns() // 1_000_000
        self._measure(session, bounds, now_ms)
        if bounds.last_sequence < bounds.first_sequence:
            return False
        topics = session.ports.catalogue.topics_of(session.bundle)
        limits = seal_limits(self._rules, topics)
        segment_bytes: int | None = None
        topic_id: int | None = None
        counted: LogRange | None = None
        if not limits.aged(bounds, now_ms):
            if limits.due(bounds, now_ms):
                segment_bytes = entry_bytes_max(limits.bytes)
            elif bounds.stored_bytes >= limits.bytes_min:
                await self._count(session, unarchived, bounds.last_sequence)
                rules = topic_rules(topics)
                topic_id = unarchived.full_topic(rules)
                if topic_id is None:
                    return False
                segment_bytes = rules[topic_id].segment_bytes_max
                counted = unarchived.log_range
            else:
                return False
        async with self._seal_slots:
            entry = await sealer.seal(
                bounds.last_sequence, segment_bytes=segment_bytes, topic_id=topic_id, log_range=counted
            )
        _log.info(
            "log_sealed",
            bundle=str(session.bundle),
            first=entry.first_sequence,
            last=entry.last_sequence,
            segments=len(entry.segments),
            bytes=sum(segment.size_bytes for segment in entry.segments),
        )
        return True

    async def _count(self, session: ArchiveSession, unarchived: UnarchivedBytes, last_sequence: int) -> None:
        """Count what the log received: a topic may fill a segment before its bundle's largest topic does."""
        unarchived.archived(session.manifest.archived_through)
        if unarchived.through >= last_sequence:
            return
        try:
            async with self._seal_slots:
                log_range = await read_range(
                    session.ports.log,
                    session.bundle,
                    unarchived.through + 1,
                    last_sequence,
                    bytes_max=self._rules.seal_bytes_max,
                )
            unarchived.count(log_range)
        except CorruptFrame as corrupt:
            unarchived.skip(corrupt.entry.sequence)

    def _measure(self, session: ArchiveSession, bounds: LogBounds, now_ms: int) -> None:
        metrics, bundle = session.ports.metrics, str(session.bundle)
        empty = bounds.last_sequence < bounds.first_sequence
        metrics.lag_bytes.labels(bundle).set(0 if empty else bounds.stored_bytes)
        metrics.lag_seconds.labels(bundle).set(0 if empty else (now_ms - bounds.first_stored_ms) / 1000)
