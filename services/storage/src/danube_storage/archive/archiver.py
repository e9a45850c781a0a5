"""Keeps cutting one bundle's log for as long as its session lasts."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping

import structlog

from danube_common.errors import DanubeError, NotFound, StoreFull
from danube_common.log.port import LogBounds
from danube_common.model.bundle import Family
from danube_storage.archive.log_range import CorruptFrame, LogRange, read_range
from danube_storage.archive.seal_rules import SealRules, entry_bytes_max, seal_limits, topic_rules
from danube_storage.archive.sealer import Overtaken, Sealer
from danube_storage.archive.segment_plan import TopicRule
from danube_storage.archive.session import ArchiveSession
from danube_storage.archive.unarchived import UnarchivedBytes

POLL_S = 1.0
BOUNDS_AT_ONCE_MAX = 8
BACKOFF_S_FIRST = 0.5
BACKOFF_S_MAX = 30.0
PART = "archiver"

_log = structlog.get_logger(__name__)


class Archiver:
    """The duty of cutting, for all sessions of the process.

    At most ``cuts_at_once`` stretches of ``cut_bytes_max`` are in memory at any time.
    """

    def __init__(self, rules: SealRules, *, cuts_at_once: int, poll_s: float = POLL_S) -> None:
        self._rules = rules
        self._poll_s = poll_s
        self._cutting = asyncio.Semaphore(cuts_at_once)
        self._asking = asyncio.Semaphore(BOUNDS_AT_ONCE_MAX)

    async def archive(self, session: ArchiveSession) -> None:
        """Until cancelled. Whatever fails is tried again; the log keeps everything meanwhile."""
        if session.bundle.family is not Family.FILE:
            return
        cutter = Sealer(session, self._rules)
        pending = UnarchivedBytes()
        backoff_s = BACKOFF_S_FIRST
        ready = False
        while True:
            try:
                if not ready:
                    await cutter.take_over()
                    ready = True
                more = await self._cut_if_due(session, cutter, pending)
            except Overtaken as overtaken:
                _log.info("overtaken", bundle=str(session.bundle), reason=str(overtaken))
                ready = more = False
            except Exception as error:  # noqa: BLE001 - no fault in one bundle may stop the others
                ready = False
                self._tell(session, error)
                # Full jitter: bundles and instances that met one fault must not come back together.
                await asyncio.sleep(random.uniform(0, backoff_s))  # noqa: S311 - no secret
                backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)
                continue
            backoff_s = BACKOFF_S_FIRST
            session.problems.pop(PART, None)
            if not more:
                await asyncio.sleep(self._poll_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def _cut_if_due(self, session: ArchiveSession, cutter: Sealer, pending: UnarchivedBytes) -> bool:
        """Whether there was something to cut, so that there may be more."""
        try:
            async with self._asking:
                bounds = await session.ports.log.bounds(session.bundle)
        except NotFound:
            return False  # the bundle has had no topic yet
        now_ms = time.time_ns() // 1_000_000
        self._measure(session, bounds, now_ms)
        if bounds.last_sequence < bounds.first_sequence:
            return False
        fit = await self._due(session, pending, bounds, now_ms)
        if fit is None:
            return False
        async with self._cutting:
            cut = await cutter.cut(bounds.last_sequence, fit=fit)
        _log.info(
            "cut",
            bundle=str(session.bundle),
            first=cut.first_sequence,
            last=cut.last_sequence,
            segments=len(cut.segments),
            bytes=sum(segment.size_bytes for segment in cut.segments),
        )
        return True

    async def _due(
        self, session: ArchiveSession, pending: UnarchivedBytes, bounds: LogBounds, now_ms: int
    ) -> Callable[[LogRange], LogRange] | None:
        """What of the log is to be cut, if anything."""
        topics = session.ports.catalogue.topics_of(session.bundle)
        limits = seal_limits(self._rules, topics)
        if limits.aged(bounds, now_ms):
            return lambda log_range: log_range
        if limits.due(bounds, now_ms):
            return lambda log_range: log_range.whole_segments(entry_bytes_max(limits.bytes))
        if bounds.stored_bytes < limits.bytes_min:
            return None
        rules = topic_rules(topics)
        topic_id = await self._full(session, pending, rules, bounds.last_sequence)
        if topic_id is None:
            return None
        return lambda log_range: log_range.whole_segments(rules[topic_id].segment_bytes_max, topic_id)

    async def _full(
        self,
        session: ArchiveSession,
        pending: UnarchivedBytes,
        rules: Mapping[int, TopicRule],
        last_sequence: int,
    ) -> int | None:
        """A topic that has a segment's worth, although its bundle has not that of its largest topic."""
        pending.cut(session.cuts.archived_through)
        if pending.through < last_sequence:
            try:
                async with self._cutting:
                    log_range = await read_range(
                        session.ports.log,
                        session.bundle,
                        pending.through + 1,
                        last_sequence,
                        bytes_max=self._rules.cut_bytes_max,
                    )
                pending.count(log_range)
            except CorruptFrame as corrupt:
                pending.skip(corrupt.entry.sequence)
        return pending.full(rules)

    def _measure(self, session: ArchiveSession, bounds: LogBounds, now_ms: int) -> None:
        metrics, bundle = session.ports.metrics, str(session.bundle)
        empty = bounds.last_sequence < bounds.first_sequence
        metrics.lag_bytes.labels(bundle).set(0 if empty else bounds.stored_bytes)
        metrics.lag_seconds.labels(bundle).set(0 if empty else (now_ms - bounds.first_stored_ms) / 1000)

    def _tell(self, session: ArchiveSession, error: Exception) -> None:
        reason = type(error).__name__
        session.ports.metrics.retries.labels(str(session.bundle), reason).inc()
        known = isinstance(error, DanubeError)
        told = str(error) if known else repr(error)
        if session.problems.get(PART) != told:
            _log.error(
                "archiving_fails",
                bundle=str(session.bundle),
                error=told,
                full=isinstance(error, StoreFull),
                exc_info=None if known else error,
            )
        session.problems[PART] = told
