"""One cut: a log_range of the log made into durable segments, catalogued, then purged."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable

import structlog

from danube_common.archive.records import ManifestEntry
from danube_common.errors import AlreadyExists, LogUnavailable
from danube_common.log.port import LogEntry
from danube_common.model.strategy import StorageBackend
from danube_storage.archive.log_range import CorruptFrame, LogRange, read_range
from danube_storage.archive.offsets import Offsets, has_shared
from danube_storage.archive.seal_rules import SealRules, topic_rules
from danube_storage.archive.segment_plan import PlannedSegment, plan_segments
from danube_storage.archive.segment_writer import ATTEMPT_BYTES, SegmentWriter
from danube_storage.archive.session import ArchiveSession
from danube_storage.archive.state import read_archive_state

CORRUPT = "corrupt"
"""Stands in keys where a segment's topic would: what is kept there is never swept."""

_log = structlog.get_logger(__name__)


class Overtaken(Exception):
    """Another archiver may have cut here: look again before the next cut."""


class Sealer:
    """Makes the cuts of one session, one at a time.

    Whatever it raises, and wherever it is cancelled, log and catalogue stay sound; after that `take_over`
    finishes what was begun.
    """

    def __init__(self, session: ArchiveSession, rules: SealRules) -> None:
        self._session = session
        self._making = SegmentWriter(session, rules.replicas)
        self._ports = session.ports
        self._bundle = session.bundle
        self._rules = rules

    async def take_over(self) -> None:
        """Count offsets to the end of the newest cut, and purge what is catalogued.

        Raises MetadataUnavailable, LogUnavailable.
        """
        session = self._session
        await session.cuts.refresh()
        offsets = Offsets.saved(await read_archive_state(self._ports.metadata, self._bundle))
        recounted = False
        for cut in session.cuts.all():
            if cut.last_sequence <= offsets.through:
                continue
            if has_shared(cut):
                await self._recount(cut, offsets)
                recounted = True
            else:
                offsets.count_own(cut)
        session.offsets = offsets
        if recounted:
            await session.save_offsets()
        await self._purge()

    async def cut(
        self, last_sequence: int, *, fit: Callable[[LogRange], LogRange] = lambda all_: all_
    ) -> ManifestEntry:
        """ManifestEntry from the newest cut's end to ``last_sequence``, or less far if that is much.

        Args:
            last_sequence: must be in the log.
            fit: takes from what could be cut what shall be.

        Raises:
            Overtaken: another archiver was faster, or the lease is lost.
            Unavailable: log, store or catalogue.
        """
        first = self._session.offsets.through + 1
        if self._session.cuts.archived_through >= first:
            raise Overtaken(f"another archiver has cut {self._bundle} at {first}")
        log_range = fit(await self._read(first, last_sequence))
        if log_range.missing:
            self._ports.metrics.missing_frames.labels(str(self._bundle)).inc(log_range.missing)
            _log.error("frames_missing", bundle=str(self._bundle), first=first, missing=log_range.missing)
        plan = await self._plan(log_range)
        segments = await self._making.make(log_range, plan)
        cut = ManifestEntry(
            bundle=str(self._bundle),
            first_sequence=first,
            last_sequence=log_range.last_sequence,
            cut_ms=time.time_ns() // 1_000_000,
            archiver=self._ports.instance_id,
            segments=segments,
        )
        await self._enter(cut)
        self._session.offsets.count(
            (section for segment in plan for section in segment.sections), log_range.last_sequence
        )
        self._ports.metrics.cuts.labels(str(self._bundle)).inc()
        if has_shared(cut):
            # While only the shared segment says how many messages each topic had, the log must say so too.
            await self._session.save_offsets()
        await self._purge()
        return cut

    async def _read(self, first: int, last: int) -> LogRange:
        try:
            return await read_range(
                self._ports.log, self._bundle, first, last, bytes_max=self._rules.cut_bytes_max
            )
        except CorruptFrame as corrupt:
            key = await self._set_aside(corrupt.entry)
            self._ports.metrics.corrupt_frames.labels(str(self._bundle)).inc()
            self._session.problems[CORRUPT] = f"{corrupt}; it is kept as segment {key}"
            _log.error("frame_corrupt", bundle=str(self._bundle), error=str(corrupt), key=key)
            sequence = corrupt.entry.sequence
            return LogRange(first, sequence, (), sequence - first, corrupt.entry.stored_ms)

    async def _set_aside(self, entry: LogEntry) -> str:
        """Keep a frame that nobody can read: its bytes may be all that is left of what was in it."""
        key = f"{self._bundle}/{CORRUPT}/{entry.sequence:016x}.{secrets.token_hex(ATTEMPT_BYTES)}"

        async def content() -> AsyncIterator[bytes]:
            yield entry.frame

        await self._ports.stores.of(StorageBackend.DISK).put(key, content())
        return key

    async def _plan(self, log_range: LogRange) -> list[PlannedSegment]:
        catalogue = self._ports.catalogue
        topics = log_range.by_topic
        if any(catalogue.topic_by_id(topic_id) is None for topic_id in topics):
            # Deleted, or so new that this view has not seen them.
            await catalogue.see_topics()
        known = [topic for topic_id in topics if (topic := catalogue.topic_by_id(topic_id)) is not None]
        return await asyncio.to_thread(
            plan_segments, log_range, topic_rules(known), own_bytes_min=self._rules.own_segment_bytes_min
        )

    async def _enter(self, cut: ManifestEntry) -> None:
        """Raises Overtaken if it is not entered, MetadataUnavailable if nobody knows.

        Its segments stay in the second case.
        """
        if self._session.lease.held:
            try:
                await self._session.cuts.add(cut)
            except AlreadyExists:
                await self._session.cuts.refresh()
                there = self._session.cuts.covering(cut.first_sequence)
                # Our own, if the catalogue took it at an attempt whose answer was lost.
                if there is not None and there.segments == cut.segments:
                    return
            else:
                return
        await self._making.discard([(segment.backend, segment.key) for segment in cut.segments])
        raise Overtaken(f"another archiver has cut {self._bundle} at {cut.first_sequence}, or may")

    async def _recount(self, cut: ManifestEntry, offsets: Offsets) -> None:
        """Count a cut that the log still has: what it is purged through was saved before."""
        if (await self._ports.log.bounds(self._bundle)).first_sequence > cut.first_sequence:
            _log.error("offsets_uncounted", bundle=str(self._bundle), first=cut.first_sequence)
            offsets.count_own(cut)
            return
        first = cut.first_sequence
        while first <= cut.last_sequence:
            log_range = await read_range(
                self._ports.log,
                self._bundle,
                first,
                cut.last_sequence,
                bytes_max=self._rules.cut_bytes_max,
            )
            offsets.count(log_range.sections, log_range.last_sequence)
            first = log_range.last_sequence + 1

    async def _purge(self) -> None:
        # Not through the view's end: that may be another archiver's cut, whose offsets are not saved yet.
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
