"""Retention of one memory bundle: purges its log as `memory_plan` decides."""

from __future__ import annotations

import time
from collections.abc import Collection

import msgspec
import structlog

from danube_common.archive.records import BundleArchive, MemoryLogState
from danube_common.cluster.owner_client import OwnerClient
from danube_common.errors import NotFound
from danube_common.log.port import BundleLog, LogBounds
from danube_common.model.bundle import Bundle
from danube_common.model.producer_sequences import ProducerSequences
from danube_common.model.strategy import Retention
from danube_storage.archive.log_range import READ_BYTES, read_range
from danube_storage.archive.session import ArchiveSession
from danube_storage.archive.state import change_archive_state
from danube_storage.retention.floors import ask_floors
from danube_storage.retention.memory_plan import MemoryTopic, purge_point, under_pressure
from danube_storage.retention.metrics import RetentionMetrics

PERIODS_SEARCHED_MAX = 8
"""Each search costs a few reads; topics with still shorter periods share the result of the last search."""

UNTOLD_GROWTH = 0.1
"""The part of its size by which a log may change until that is stored."""

_log = structlog.get_logger(__name__)


class MemoryPurge:
    """Purges the log of one session's bundle, which is bounded by ``bytes_max``."""

    def __init__(
        self, session: ArchiveSession, owners: OwnerClient, metrics: RetentionMetrics, *, bytes_max: int
    ) -> None:
        self._session = session
        self._owners = owners
        self._metrics = metrics
        self._bytes_max = bytes_max
        self._told: MemoryLogState | None = None

    async def run_pass(self) -> None:
        """Purge messages that no topic needs. After a DanubeError, the next pass continues."""
        session = self._session
        log, bundle = session.ports.log, session.bundle
        try:
            bounds = await log.bounds(bundle)
        except NotFound:
            return  # the bundle has had no topic yet
        if bounds.last_sequence < bounds.first_sequence:
            await self._tell(MemoryLogState())
            return
        pressed = under_pressure(bounds, self._bytes_max)
        answer = await ask_floors(self._owners, bundle)
        # Read again, so that floors beyond the end are recognised as those of a lost log.
        bounds = await log.bounds(bundle)
        # After the bounds: a topic that is not visible now has no message within them.
        await session.ports.catalogue.see_topics()
        topics = self._topics()
        expired = await expired_through(
            log,
            bundle,
            bounds,
            {topic.period_ms for topic in topics if topic.retention is Retention.UNTIL_EXPIRE},
        )
        point = purge_point(bounds, topics, answer.floors if answer else None, expired, pressed=pressed)
        if not session.lease.held:
            return
        if point.through >= bounds.first_sequence:
            journaled = answer.sequences_through if answer else 0
            if journaled > bounds.last_sequence:
                journaled = 0  # of a lost log
            await self._note_sequences(max(bounds.first_sequence, journaled + 1), point.through)
            await log.purge(bundle, point.through)
            frames = point.through - bounds.first_sequence + 1
            self._metrics.purged_frames.labels(str(bundle)).inc(frames)
            _log.debug("log_purged", bundle=str(bundle), frames=frames, pressed=pressed)
            bounds = await log.bounds(bundle)
        await self._tell_holder(bounds, point.holder)

    async def _note_sequences(self, first: int, last: int) -> None:
        """Keep what idempotent producers have stored and the owner has not journaled."""
        log, bundle = self._session.ports.log, self._session.bundle
        noted = ProducerSequences()
        while first <= last:
            log_range = await read_range(log, bundle, first, last, bytes_max=READ_BYTES)
            noted.merge((each.batch.key, each.batch.last) for each in log_range.sections if each.batch)
            first = log_range.last_sequence + 1

        def with_noted(archive: BundleArchive) -> BundleArchive:
            sequences = ProducerSequences.unpack(archive.sequences)
            sequences.merge(noted.items())
            return msgspec.structs.replace(archive, sequences=sequences.packed)

        if noted.items():
            await change_archive_state(self._session.ports.metadata, bundle, with_noted)

    async def _tell_holder(self, bounds: LogBounds, topic_id: int) -> None:
        holder = self._session.ports.catalogue.topic_by_id(topic_id)
        if holder is None:
            await self._tell(MemoryLogState())
        else:
            await self._tell(MemoryLogState(holder.name, bounds.stored_bytes, bounds.first_stored_ms))

    async def _tell(self, log: MemoryLogState) -> None:
        """Store what keeps the log as it is, for people, unless little has changed."""
        before = self._told
        if before is not None and (before.held_by, before.oldest_ms) == (log.held_by, log.oldest_ms):
            grown = abs(log.size_bytes - before.size_bytes)
            if grown <= before.size_bytes * UNTOLD_GROWTH:
                return

        def told(archive: BundleArchive) -> BundleArchive:
            return msgspec.structs.replace(archive, memory_log=log)

        await change_archive_state(self._session.ports.metadata, self._session.bundle, told)
        self._told = log

    def _topics(self) -> list[MemoryTopic]:
        return [
            MemoryTopic(topic.topic_id, topic.log_floor, options.retention, options.retention_period_s * 1000)
            for topic in self._session.ports.catalogue.topics_of(self._session.bundle)
            if (options := topic.strategy.reliable) is not None
        ]


async def expired_through(
    log: BundleLog, bundle: Bundle, bounds: LogBounds, periods_ms: Collection[int]
) -> dict[int, int]:
    """Return by period the log sequence up to which all messages are older than that, or a lower one.

    Raises LogUnavailable.
    """
    now_ms = time.time_ns() // 1_000_000
    found: dict[int, int] = {}
    low = bounds.first_sequence - 1
    for number, period_ms in enumerate(sorted(periods_ms, reverse=True)):
        if number < PERIODS_SEARCHED_MAX:
            low = await _stored_before(log, bundle, bounds, low, now_ms - period_ms)
        found[period_ms] = low
    return found


async def _stored_before(log: BundleLog, bundle: Bundle, bounds: LogBounds, low: int, before_ms: int) -> int:
    """Return the last sequence stored at or before a time; ``low`` if none above it was."""
    if bounds.first_stored_ms > before_ms:
        return low
    high = bounds.last_sequence
    while low < high:
        middle = (low + high + 1) // 2
        entries = await log.read(bundle, middle, frames_max=1, bytes_max=1)
        if not entries or entries[0].stored_ms > before_ms:
            high = middle - 1
        else:
            low = middle
    return low
