"""Makes the segments of one cut durable, with their copies, or leaves none."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import structlog

from danube_common.archive.records import SHARED, SegmentRecord, pack_offsets
from danube_common.errors import DanubeError, StoreUnavailable
from danube_common.model.strategy import StorageBackend
from danube_common.wire.replica import BuildSegments, SegmentRecipe
from danube_storage.archive.log_range import LogRange
from danube_storage.archive.replicas import ReplicaClient
from danube_storage.archive.segment_plan import PlannedSegment
from danube_storage.archive.segment_source import SegmentSource
from danube_storage.archive.session import ArchivePorts, ArchiveSession

KIND = "storage"
PUTS_AT_ONCE_MAX = 4
ATTEMPT_BYTES = 4

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """A planned segment with its key, and the offset of each topic's first message in it."""

    planned: PlannedSegment
    key: str
    firsts: Mapping[int, int]


class SegmentWriter:
    """The segments of the cuts of one session.

    Args:
        session: whose.
        replicas: the instances that keep each segment on disk, this one included.
    """

    def __init__(self, session: ArchiveSession, replicas: int) -> None:
        self._bundle = session.bundle
        self._session = session
        self._ports: ArchivePorts = session.ports
        self._replicas = replicas
        self._copyists = ReplicaClient(session.ports.bus)

    async def make(self, log_range: LogRange, plan: Sequence[PlannedSegment]) -> tuple[SegmentRecord, ...]:
        """Every segment, durable wherever it is to be.

        Raises Unavailable; what was made is deleted then, as far as that can be.
        """
        recipes = self._recipes(log_range.first_sequence, plan)
        on_disk = [recipe for recipe in recipes if recipe.planned.backend is StorageBackend.DISK]
        slots = asyncio.Semaphore(PUTS_AT_ONCE_MAX)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._put(recipe, slots)) for recipe in recipes]
                copying = group.create_task(self._copy(log_range, on_disk))
            records = [task.result() for task in tasks]
            return tuple(self._with_copies(records, on_disk, copying.result()))
        except BaseExceptionGroup as failures:
            await self.discard([(recipe.planned.backend, recipe.key) for recipe in recipes])
            raise failures.exceptions[0] from None
        except DanubeError:
            await self.discard([(recipe.planned.backend, recipe.key) for recipe in recipes])
            raise

    async def discard(self, segments: Sequence[tuple[StorageBackend, str]]) -> None:
        """Delete what no cut will name. What cannot be deleted now is an orphan, and swept later."""
        for backend, key in segments:
            with contextlib.suppress(DanubeError):
                await self._ports.stores.of(backend).delete(key)
        on_disk = [key for backend, key in segments if backend is StorageBackend.DISK]
        if on_disk and self._replicas > 1:
            for instance_id in self._others():
                with contextlib.suppress(DanubeError):
                    await self._copyists.delete(instance_id, on_disk)

    def _recipes(self, first_sequence: int, plan: Sequence[PlannedSegment]) -> list[SegmentPlan]:
        attempt = secrets.token_hex(ATTEMPT_BYTES)
        offsets = self._session.offsets.copy()
        recipes: list[SegmentPlan] = []
        for number, planned in enumerate(plan):
            who = "shared" if planned.topic_id == SHARED else f"{planned.topic_id:016x}"
            key = f"{self._bundle}/{who}/{first_sequence:016x}-{number:04d}.{attempt}"
            topic_ids = {section.raw.topic_id for section in planned.sections}
            firsts = {topic_id: offsets.of(topic_id) for topic_id in topic_ids}
            offsets.count(planned.sections, first_sequence)
            recipes.append(SegmentPlan(planned, key, firsts))
        return recipes

    async def _put(self, recipe: SegmentPlan, slots: asyncio.Semaphore) -> SegmentRecord:
        backend, topic_id = recipe.planned.backend, recipe.planned.topic_id
        source = SegmentSource(self._bundle, recipe.planned, recipe.firsts)
        async with slots:
            await self._ports.stores.of(backend).put(recipe.key, source.chunks())
        info = source.info
        metrics = self._ports.metrics
        metrics.segments.labels(backend).inc()
        metrics.segment_bytes.labels(backend).inc(info.size_bytes)
        return SegmentRecord(
            key=recipe.key,
            backend=backend,
            topic_id=topic_id,
            first_position=info.first_position,
            last_position=info.last_position,
            messages=info.messages,
            first_offset=0 if topic_id == SHARED else recipe.firsts[topic_id],
            published_ms_min=info.published_ms_min,
            published_ms_max=info.published_ms_max,
            size_bytes=info.size_bytes,
            data_crc32c=info.data_crc32c,
            holders=(self._ports.instance_id,) if backend is StorageBackend.DISK else (),
        )

    async def _copy(
        self, log_range: LogRange, recipes: Sequence[SegmentPlan]
    ) -> list[tuple[str, tuple[int, ...]]]:
        if self._replicas == 1 or not recipes:
            return []
        wanted = tuple(
            SegmentRecipe(
                recipe.key,
                recipe.planned.topic_id,
                recipe.planned.sections[0].first_position,
                recipe.planned.sections[-1].last_position,
                pack_offsets(recipe.firsts),
            )
            for recipe in recipes
        )
        request = BuildSegments(str(self._bundle), log_range.first_sequence, log_range.last_sequence, wanted)
        return await self._copyists.copy(request, self._others(), self._replicas - 1)

    def _with_copies(
        self,
        records: Sequence[SegmentRecord],
        copied: Sequence[SegmentPlan],
        copies: Sequence[tuple[str, tuple[int, ...]]],
    ) -> list[SegmentRecord]:
        """The records with all their holders. Raises StoreUnavailable if a copy is not the same segment."""
        crcs = {recipe.key: index for index, recipe in enumerate(copied)}
        made: list[SegmentRecord] = []
        for record in records:
            if record.key not in crcs:
                made.append(record)
                continue
            for instance_id, theirs in copies:
                if theirs[crcs[record.key]] != record.data_crc32c:
                    raise StoreUnavailable(f"instance {instance_id} built another segment {record.key}")
            holders = (*record.holders, *(instance_id for instance_id, _ in copies))
            made.append(msgspec.structs.replace(record, holders=holders))
        return made

    def _others(self) -> list[str]:
        live = [instance.instance_id for instance in self._ports.catalogue.instances(KIND)]
        return [instance_id for instance_id in live if instance_id != self._ports.instance_id]
