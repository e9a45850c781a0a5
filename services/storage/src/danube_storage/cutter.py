"""One cut: a stretch of the log made into durable segments, catalogued, then purged."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence

import structlog

from danube_common.archive.records import SHARED, Cut, SegmentRecord
from danube_common.errors import AlreadyExists, DanubeError, LogUnavailable
from danube_common.strategy import StorageBackend
from danube_storage.bundle_archive import read_archive
from danube_storage.cut_plan import PlannedSegment, plan_cut
from danube_storage.cut_rules import CutRules, topic_rules
from danube_storage.offsets import Offsets, has_shared
from danube_storage.segment_source import SegmentSource
from danube_storage.session import ArchiveSession
from danube_storage.stretch import Stretch, read_stretch

PUTS_AT_ONCE_MAX = 4
ATTEMPT_BYTES = 4

_log = structlog.get_logger(__name__)


class Overtaken(Exception):
    """Another archiver may have cut here: look again before the next cut."""


class Cutter:
    """Makes the cuts of one session, one at a time.

    Whatever it raises, and wherever it is cancelled, log and catalogue stay sound; after that `take_over`
    finishes what was begun.
    """

    def __init__(self, session: ArchiveSession, rules: CutRules) -> None:
        self._session = session
        self._ports = session.ports
        self._bundle = session.bundle
        self._rules = rules

    async def take_over(self) -> None:
        """Count offsets to the end of the newest cut, and purge what is catalogued.

        Raises MetadataUnavailable, LogUnavailable.
        """
        session = self._session
        await session.cuts.refresh()
        offsets = Offsets.saved(await read_archive(self._ports.metadata, self._bundle))
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

    async def cut(self, last_sequence: int) -> Cut:
        """Cut from the newest cut's end to ``last_sequence``, or less far if that is much.

        ``last_sequence`` must be in the log.

        Raises:
            Overtaken: another archiver was faster, or the lease is lost.
            Unavailable: log, store or catalogue.
            CorruptFrame: the log's next frame is corrupt.
        """
        first = self._session.cuts.archived_through + 1
        stretch = await read_stretch(
            self._ports.log, self._bundle, first, last_sequence, bytes_max=self._rules.cut_bytes_max
        )
        if stretch.missing:
            self._ports.metrics.missing_frames.labels(str(self._bundle)).inc(stretch.missing)
            _log.error("frames_missing", bundle=str(self._bundle), first=first, missing=stretch.missing)
        plan = await self._plan(stretch)
        segments = await self._make(plan, first)
        cut = Cut(
            bundle=str(self._bundle),
            first_sequence=first,
            last_sequence=stretch.last_sequence,
            cut_ms=time.time_ns() // 1_000_000,
            archiver=self._ports.instance_id,
            segments=segments,
        )
        await self._enter(cut)
        self._session.offsets.count(
            (section for segment in plan for section in segment.sections), stretch.last_sequence
        )
        self._ports.metrics.cuts.labels(str(self._bundle)).inc()
        if has_shared(cut):
            # While only the shared segment says how many messages each topic had, the log must say so too.
            await self._session.save_offsets()
        await self._purge()
        return cut

    async def _plan(self, stretch: Stretch) -> list[PlannedSegment]:
        catalogue = self._ports.catalogue
        topics = stretch.by_topic()
        if any(catalogue.topic_by_id(topic_id) is None for topic_id in topics):
            # Deleted, or so new that this view has not seen them.
            await catalogue.see_topics()
        known = [topic for topic_id in topics if (topic := catalogue.topic_by_id(topic_id)) is not None]
        return await asyncio.to_thread(
            plan_cut, stretch, topic_rules(known), own_bytes_min=self._rules.own_segment_bytes_min
        )

    async def _make(self, plan: Sequence[PlannedSegment], first_sequence: int) -> tuple[SegmentRecord, ...]:
        """Every segment durable, or none that can be deleted."""
        attempt = secrets.token_hex(ATTEMPT_BYTES)
        offsets = self._session.offsets.copy()
        slots = asyncio.Semaphore(PUTS_AT_ONCE_MAX)
        begun: list[tuple[StorageBackend, str]] = []
        tasks: list[asyncio.Task[SegmentRecord]] = []

        async def put(segment: PlannedSegment, key: str, firsts: Mapping[int, int]) -> SegmentRecord:
            async with slots:
                begun.append((segment.backend, key))
                return await self._put(segment, key, firsts)

        try:
            async with asyncio.TaskGroup() as group:
                for number, segment in enumerate(plan):
                    who = "shared" if segment.topic_id == SHARED else f"{segment.topic_id:016x}"
                    key = f"{self._bundle}/{who}/{first_sequence:016x}-{number:04d}.{attempt}"
                    firsts = {section.raw.topic_id: 0 for section in segment.sections}
                    firsts = {topic_id: offsets.of(topic_id) for topic_id in firsts}
                    offsets.count(segment.sections, first_sequence)
                    tasks.append(group.create_task(put(segment, key, firsts)))
        except BaseExceptionGroup as failures:
            await self._discard(begun)
            raise failures.exceptions[0] from None
        return tuple(task.result() for task in tasks)

    async def _put(self, segment: PlannedSegment, key: str, firsts: Mapping[int, int]) -> SegmentRecord:
        source = SegmentSource(self._bundle, segment, firsts)
        await self._ports.stores.of(segment.backend).put(key, source.chunks())
        info = source.info
        metrics = self._ports.metrics
        metrics.segments.labels(segment.backend).inc()
        metrics.segment_bytes.labels(segment.backend).inc(info.size_bytes)
        return SegmentRecord(
            key=key,
            backend=segment.backend,
            topic_id=segment.topic_id,
            first_position=info.first_position,
            last_position=info.last_position,
            messages=info.messages,
            first_offset=0 if segment.topic_id == SHARED else firsts[segment.topic_id],
            published_ms_min=info.published_ms_min,
            published_ms_max=info.published_ms_max,
            size_bytes=info.size_bytes,
            data_crc32c=info.data_crc32c,
            holders=(self._ports.instance_id,) if segment.backend is StorageBackend.DISK else (),
        )

    async def _enter(self, cut: Cut) -> None:
        """Raises Overtaken if it is not entered, MetadataUnavailable if nobody knows.

        Its segments stay in the second case.
        """
        try:
            if not self._session.lease.held:
                raise Overtaken(f"the lease on {self._bundle} is lost")
            await self._session.cuts.add(cut)
        except AlreadyExists:
            await self._discard([(segment.backend, segment.key) for segment in cut.segments])
            raise Overtaken(f"{self._bundle} is cut at {cut.first_sequence} already") from None
        except Overtaken:
            await self._discard([(segment.backend, segment.key) for segment in cut.segments])
            raise

    async def _discard(self, begun: Sequence[tuple[StorageBackend, str]]) -> None:
        """What cannot be deleted now is an orphan, and swept later."""
        for backend, key in begun:
            with contextlib.suppress(DanubeError):
                await self._ports.stores.of(backend).delete(key)

    async def _recount(self, cut: Cut, offsets: Offsets) -> None:
        """Count a cut that the log still has."""
        first = cut.first_sequence
        while first <= cut.last_sequence:
            stretch = await read_stretch(
                self._ports.log,
                self._bundle,
                first,
                cut.last_sequence,
                bytes_max=self._rules.cut_bytes_max,
            )
            offsets.count(stretch.sections, stretch.last_sequence)
            first = stretch.last_sequence + 1

    async def _purge(self) -> None:
        through = self._session.cuts.archived_through
        if not through:
            return
        bounds = await self._ports.log.bounds(self._bundle)
        if bounds.last_sequence < through:
            raise LogUnavailable(
                f"the log of {self._bundle} ends at {bounds.last_sequence}, its archive at {through}:"
                " it is not the log that was archived"
            )
        await self._ports.log.purge(self._bundle, through)
