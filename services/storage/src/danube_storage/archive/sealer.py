"""Sealing: a log range becomes durable segments and a manifest entry, then it is purged from the log."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator

import structlog

from danube_common.archive.records import ManifestEntry
from danube_common.archive.state import read_archive_state
from danube_common.errors import AlreadyExists, LogUnavailable
from danube_common.log.port import LogEntry
from danube_common.model.producer_sequences import ProducerSequences
from danube_common.model.strategy import StorageBackend
from danube_storage.archive.log_range import CorruptFrame, LogRange, read_range
from danube_storage.archive.offsets import Offsets
from danube_storage.archive.seal_rules import SealRules, topic_rules
from danube_storage.archive.segment_plan import PlannedSegment, plan_segments
from danube_storage.archive.segment_writer import ATTEMPT_BYTES, SegmentWriter
from danube_storage.archive.session import ArchiveSession

CORRUPT = "corrupt"
"""Stands in keys where a segment's topic would: the sweep never deletes such a key."""

_log = structlog.get_logger(__name__)


class Fenced(Exception):
    """Another archiver may have sealed this bundle: `Sealer.take_over` must run before the next seal."""


class Sealer:
    """Seals the log of one session's bundle, one range at a time.

    After any error or cancellation, log and manifest are consistent, and `take_over` completes what was
    begun.
    """

    def __init__(self, session: ArchiveSession, rules: SealRules) -> None:
        self._session = session
        self._writer = SegmentWriter(session, rules.replicas, rules.store_away_s)
        self._ports = session.ports
        self._bundle = session.bundle
        self._rules = rules

    async def take_over(self) -> None:
        """Count what is archived to the end of the manifest, and purge it from the log.

        Raises MetadataUnavailable, LogUnavailable.
        """
        session = self._session
        await session.manifest.refresh()
        saved = await read_archive_state(self._ports.metadata, self._bundle)
        session.offsets = Offsets.saved(saved)
        session.sequences = ProducerSequences.unpack(saved.sequences)
        recounted = False
        for entry in session.manifest.from_sequence(session.offsets.through + 1):
            recounted = await self._recount(entry) or recounted
        if recounted:
            await session.save_counts()
        await self._purge()

    async def seal(
        self,
        last_sequence: int,
        *,
        segment_bytes: int | None = None,
        topic_id: int | None = None,
        log_range: LogRange | None = None,
    ) -> ManifestEntry:
        """Seal from the manifest's end to ``last_sequence``, or less, and return the new manifest entry.

        Args:
            last_sequence: must be in the log.
            segment_bytes: seal only what fills segments of this size, see `LogRange.whole_segments`.
            topic_id: the topic whose segments are to be filled; None for all.
            log_range: the range if it was read already.

        Raises:
            Fenced: another archiver was faster, or the lease is lost.
            Unavailable: log, store or metadata.
        """
        first = self._session.offsets.through + 1
        if self._session.manifest.archived_through >= first:
            raise Fenced(f"another archiver has sealed {self._bundle} at {first}")
        if log_range is None or log_range.first_sequence != first:
            log_range = await self._read(first, last_sequence)
        if segment_bytes is not None:
            log_range = log_range.whole_segments(segment_bytes, topic_id)
        if log_range.missing:
            self._ports.metrics.missing_frames.labels(str(self._bundle)).inc(log_range.missing)
            _log.error("frames_missing", bundle=str(self._bundle), first=first, missing=log_range.missing)
        began_ns = time.time_ns()
        plan = await self._plan(log_range)
        entry = ManifestEntry(
            bundle=str(self._bundle),
            first_sequence=first,
            last_sequence=log_range.last_sequence,
            cut_ms=time.time_ns() // 1_000_000,
            archiver=self._ports.instance_id,
            segments=await self._writer.write(log_range, plan),
        )
        await self._commit(entry)
        self._record(log_range, began_ns)
        has_batches = self._session.count(log_range)
        self._ports.metrics.cuts.labels(str(self._bundle)).inc()
        if entry.has_shared or has_batches:
            # Until they are saved, only the log says how many messages each topic has in a shared segment,
            # and what idempotent producers have stored.
            await self._session.save_counts()
        await self._purge()
        return entry

    def _record(self, log_range: LogRange, began_ns: int) -> None:
        """Record the span of a range that is in segments now, in the first trace of its messages."""
        if self._ports.tracer is None or not (contexts := log_range.traces()):
            return
        span = self._ports.tracer.start_of(
            contexts, "archive", began_ns=began_ns, danube__bundle=str(self._bundle)
        )
        if span is not None:
            span.end()

    async def _read(self, first: int, last: int) -> LogRange:
        try:
            return await read_range(
                self._ports.log, self._bundle, first, last, bytes_max=self._rules.seal_bytes_max
            )
        except CorruptFrame as corrupt:
            key = await self._set_aside(corrupt.entry)
            self._ports.metrics.corrupt_frames.labels(str(self._bundle)).inc()
            self._session.problems[CORRUPT] = f"{corrupt}; it is kept as segment {key}"
            _log.error("frame_corrupt", bundle=str(self._bundle), error=str(corrupt), key=key)
            return LogRange(first, corrupt.entry.sequence, (), corrupt.entry.sequence - first)

    async def _set_aside(self, entry: LogEntry) -> str:
        """Keep a frame that cannot be decoded as an object of its own; return its key."""
        key = f"{self._bundle}/{CORRUPT}/{entry.sequence:016x}.{secrets.token_hex(ATTEMPT_BYTES)}"

        async def content() -> AsyncIterator[bytes]:
            yield entry.frame

        await self._ports.stores.of(StorageBackend.DISK).put(key, content())
        return key

    async def _plan(self, log_range: LogRange) -> list[PlannedSegment]:
        catalogue = self._ports.catalogue
        topics = log_range.by_topic
        if any(catalogue.topic_by_id(topic_id) is None for topic_id in topics):
            # Such a topic was deleted, or the view has not received it yet.
            await catalogue.see_topics()
        known = [topic for topic_id in topics if (topic := catalogue.topic_by_id(topic_id)) is not None]
        return await asyncio.to_thread(
            plan_segments, log_range, topic_rules(known), own_bytes_min=self._rules.own_segment_bytes_min
        )

    async def _commit(self, entry: ManifestEntry) -> None:
        """Store the manifest entry.

        Raises Fenced if it is not stored; its segments are deleted then. Raises MetadataUnavailable if it
        may be stored; its segments stay then.
        """
        manifest = self._session.manifest
        if self._session.lease.held:
            try:
                await manifest.add(entry)
            except AlreadyExists:
                await manifest.refresh()
                stored = manifest.covering(entry.first_sequence)
                # It is our own entry if an earlier attempt stored it and the reply was lost.
                if stored is not None and stored.segments == entry.segments:
                    return
            else:
                return
        await self._writer.discard([(segment.backend, segment.key) for segment in entry.segments])
        raise Fenced(f"another archiver has sealed {self._bundle} at {entry.first_sequence}, or may")

    async def _recount(self, entry: ManifestEntry) -> bool:
        """Count an entry's messages in the log; return whether that has them.

        If it was purged, what only the log says of it was saved before.
        """
        session = self._session
        if (await self._ports.log.bounds(self._bundle)).first_sequence > entry.first_sequence:
            if entry.has_shared:
                _log.error("offsets_uncounted", bundle=str(self._bundle), first=entry.first_sequence)
            session.offsets.count_entry(entry)
            return False
        first = entry.first_sequence
        while first <= entry.last_sequence:
            log_range = await read_range(
                self._ports.log,
                self._bundle,
                first,
                entry.last_sequence,
                bytes_max=self._rules.seal_bytes_max,
            )
            session.count(log_range)
            first = log_range.last_sequence + 1
        return True

    async def _purge(self) -> None:
        # Not through the manifest's end: another archiver may have added that, and not saved its offsets.
        through = self._session.offsets.through
        if not through:
            return
        bounds = await self._ports.log.bounds(self._bundle)
        if bounds.last_sequence < through:
            raise LogUnavailable(
                f"the log of {self._bundle} ends at {bounds.last_sequence}, its archive at {through}:"
                " it is not the log that was archived"
            )
        if bounds.first_sequence <= through:
            await self._ports.log.purge(self._bundle, through)
