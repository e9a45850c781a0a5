"""Makes the segments of one seal durable, with their replicas, or leaves none."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec

from danube_common.archive.records import SHARED, SegmentRecord, pack_offsets, unpack_offsets
from danube_common.errors import DanubeError, StoreUnavailable, Unavailable
from danube_common.model.strategy import StorageBackend
from danube_common.segment.format import SegmentInfo
from danube_common.wire.replica import BuildSegments, SegmentPlan
from danube_storage.archive.log_range import LogRange
from danube_storage.archive.replicas import ReplicaClient
from danube_storage.archive.segment_plan import PlannedSegment
from danube_storage.archive.segment_source import SegmentSource
from danube_storage.archive.session import ArchiveSession

PUTS_AT_ONCE_MAX = 4
ATTEMPT_BYTES = 4


class SegmentWriter:
    """Writes the segments of one session's bundle.

    A store that does not answer holds back the topics of its bundle's other stores only for a while: then
    its segments are kept in another store, see `SegmentRecord.bound_for`.

    Args:
        session: the bundle under this instance's lease.
        replicas: the number of instances that keep each disk segment, this one included.
        away_s: how long a store may not answer until its segments are kept in another one.
    """

    def __init__(self, session: ArchiveSession, replicas: int, away_s: float) -> None:
        self._bundle = session.bundle
        self._session = session
        self._ports = session.ports
        self._replicas = replicas
        self._away_s = away_s
        self._replica_client = ReplicaClient(session.ports.bus)

    async def write(
        self, log_range: LogRange, planned: Sequence[PlannedSegment]
    ) -> tuple[SegmentRecord, ...]:
        """Write every segment wherever it is kept, and return their records.

        Raises Unavailable; the segments are then deleted as far as possible.
        """
        planned = [self._where_it_can_be(segment) for segment in planned]
        plans = self._keyed(log_range.first_sequence, planned)
        slots = asyncio.Semaphore(PUTS_AT_ONCE_MAX)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._put(*each, slots)) for each in zip(planned, plans, strict=True)
                ]
                replicating = group.create_task(self._replicate(log_range, planned, plans))
            return _with_replicas([task.result() for task in tasks], replicating.result())
        except (BaseExceptionGroup, DanubeError) as failure:
            await self.discard([(each.backend, plan.key) for each, plan in zip(planned, plans, strict=True)])
            if isinstance(failure, DanubeError):
                raise
            raise failure.exceptions[0] from None

    async def discard(self, segments: Sequence[tuple[StorageBackend, str]]) -> None:
        """Delete segments that no manifest entry will name. The sweep deletes later what this cannot."""
        for backend, key in segments:
            with contextlib.suppress(DanubeError):
                await self._ports.stores.of(backend).delete(key)
        on_disk = [key for backend, key in segments if backend is StorageBackend.DISK]
        if on_disk and self._replicas > 1:
            for instance_id in self._others():
                with contextlib.suppress(DanubeError):
                    await self._replica_client.delete(instance_id, on_disk)

    def _keyed(self, first_sequence: int, planned: Sequence[PlannedSegment]) -> list[SegmentPlan]:
        """Give each segment its key and the offsets of its topics."""
        attempt = secrets.token_hex(ATTEMPT_BYTES)
        offsets = self._session.offsets.copy()
        plans: list[SegmentPlan] = []
        for number, segment in enumerate(planned):
            owner = "shared" if segment.topic_id == SHARED else f"{segment.topic_id:016x}"
            key = f"{self._bundle}/{owner}/{first_sequence:016x}-{number:04d}.{attempt}"
            topic_ids = {section.raw.topic_id for section in segment.sections}
            first_offsets = pack_offsets({topic_id: offsets.of(topic_id) for topic_id in topic_ids})
            first, last = segment.sections[0].first_position, segment.sections[-1].last_position
            plans.append(SegmentPlan(key, segment.topic_id, first, last, first_offsets))
            offsets.count(segment.sections, first_sequence)
        return plans

    async def _put(
        self, segment: PlannedSegment, plan: SegmentPlan, slots: asyncio.Semaphore
    ) -> SegmentRecord:
        backend = segment.backend
        source = SegmentSource(self._bundle, segment, unpack_offsets(plan.first_offsets))
        async with slots, self._noted(backend):
            await self._ports.stores.of(backend).put(plan.key, source.chunks())
        metrics = self._ports.metrics
        metrics.segments.labels(backend).inc()
        metrics.segment_bytes.labels(backend).inc(source.info.size_bytes)
        record = segment_record(plan.key, backend, source.info, (self._ports.instance_id,))
        return msgspec.structs.replace(record, bound_for=segment.bound_for)

    async def _replicate(
        self, log_range: LogRange, planned: Sequence[PlannedSegment], plans: Sequence[SegmentPlan]
    ) -> list[tuple[str, tuple[int, ...]]]:
        """Have the disk segments built on other instances; return ids and checksums, see `ReplicaClient`."""
        on_disk = tuple(
            plan
            for segment, plan in zip(planned, plans, strict=True)
            if segment.backend is StorageBackend.DISK
        )
        if self._replicas == 1 or not on_disk:
            return []
        request = BuildSegments(str(self._bundle), log_range.first_sequence, log_range.last_sequence, on_disk)
        async with self._noted(StorageBackend.DISK):
            return await self._replica_client.build(request, self._others(), self._replicas - 1)

    def _where_it_can_be(self, segment: PlannedSegment) -> PlannedSegment:
        """Return the segment for its store; for another one if its store has not answered for long."""
        configured = self._ports.stores.configured
        if segment.backend not in configured or not self._is_away(segment.backend):
            return segment
        others = [one for one in StorageBackend if one in configured and not self._is_away(one)]
        return replace(segment, backend=others[0], bound_for=segment.backend) if others else segment

    def _is_away(self, backend: StorageBackend) -> bool:
        since = self._session.unanswered_since.get(backend)
        return since is not None and time.monotonic() - since >= self._away_s

    @asynccontextmanager
    async def _noted(self, backend: StorageBackend) -> AsyncIterator[None]:
        """Note whether the store answers."""
        try:
            yield
        except Unavailable:
            self._session.unanswered_since.setdefault(backend, time.monotonic())
            raise
        self._session.unanswered_since.pop(backend, None)

    def _others(self) -> list[str]:
        return [one for one in self._ports.live_instances() if one != self._ports.instance_id]


def segment_record(
    key: str, backend: StorageBackend, info: SegmentInfo, holders: tuple[str, ...]
) -> SegmentRecord:
    """Return the manifest's record of a segment. ``holders`` is ignored for S3."""
    return SegmentRecord(
        key=key,
        backend=backend,
        topic_id=info.topic_id,
        first_position=info.first_position,
        last_position=info.last_position,
        messages=info.messages,
        first_offset=0 if info.topic_id == SHARED else info.topics[0].first_offset,
        published_ms_min=info.published_ms_min,
        published_ms_max=info.published_ms_max,
        size_bytes=info.size_bytes,
        data_crc32c=info.data_crc32c,
        holders=holders if backend is StorageBackend.DISK else (),
    )


def _with_replicas(
    records: Sequence[SegmentRecord], replicas: Sequence[tuple[str, tuple[int, ...]]]
) -> tuple[SegmentRecord, ...]:
    """Return the records with all their holders. Raises StoreUnavailable if a replica differs."""
    on_disk = [record for record in records if record.backend is StorageBackend.DISK]
    for instance_id, checksums in replicas:
        for record, checksum in zip(on_disk, checksums, strict=True):
            if checksum != record.data_crc32c:
                raise StoreUnavailable(f"instance {instance_id} built another segment {record.key}")
    holders = tuple(instance_id for instance_id, _ in replicas)
    return tuple(
        msgspec.structs.replace(record, holders=record.holders + holders) if record.holders else record
        for record in records
    )
