"""Replicas of disk segments on other storage instances: the server that builds them, and its client."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import attrgetter

import msgspec
import structlog

from danube_common.archive.ranking import ranked
from danube_common.archive.records import unpack_offsets
from danube_common.bus.port import Bus
from danube_common.errors import CorruptData, DanubeError, LogUnavailable, Unavailable
from danube_common.log.port import BundleLog
from danube_common.model.bundle import Bundle
from danube_common.model.strategy import StorageBackend
from danube_common.wire.envelope import Done
from danube_common.wire.replica import (
    REPLICA,
    BuildSegments,
    Built,
    DeleteSegments,
    ReplicaRequest,
    SegmentPlan,
    replica_subject,
)
from danube_storage.archive.log_range import LogRange, RangeSection, read_range
from danube_storage.archive.segment_plan import PlannedSegment
from danube_storage.archive.segment_source import SegmentSource
from danube_storage.segments.port import SegmentStore

RANGE_BYTES_MAX = 320 << 20
"""More than any instance may be configured to seal at once, so a requested range always fits."""
BUILDS_AT_ONCE_MAX = 1
BUILD_TIMEOUT_S = 120.0
DELETE_TIMEOUT_S = 5.0

_log = structlog.get_logger(__name__)
_first_position = attrgetter("first_position")


class ReplicaServer:
    """Builds and deletes segments on this instance's disk for the archivers of other instances."""

    def __init__(self, log: BundleLog, disk: SegmentStore) -> None:
        self._log = log
        self._disk = disk
        self._building = asyncio.Semaphore(BUILDS_AT_ONCE_MAX)

    async def answer(self, request: ReplicaRequest) -> msgspec.Struct:
        """Carry out a request and return its reply. Raises DanubeError."""
        match request:
            case BuildSegments():
                async with self._building:
                    return await self._build(request)
            case DeleteSegments(segment_keys):
                for key in segment_keys:
                    await self._disk.delete(key)
                return Done()

    async def _build(self, request: BuildSegments) -> Built:
        bundle = Bundle.parse(request.bundle)
        log_range = await read_range(
            self._log,
            bundle,
            request.first_sequence,
            request.last_sequence,
            bytes_max=RANGE_BYTES_MAX,
        )
        if log_range.last_sequence < request.last_sequence:
            raise LogUnavailable(
                f"{bundle} from {request.first_sequence} to {request.last_sequence} is too much"
            )
        crcs: list[int] = []
        for plan in request.segments:
            source = SegmentSource(bundle, _planned(log_range, plan), unpack_offsets(plan.first_offsets))
            await self._disk.put(plan.key, source.chunks())
            crcs.append(source.info.data_crc32c)
        return Built(tuple(crcs))


class ReplicaClient:
    """Asks other storage instances to build and delete replicas."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def build(
        self, request: BuildSegments, candidates: Sequence[str], wanted: int
    ) -> list[tuple[str, tuple[int, ...]]]:
        """Have ``wanted`` of the candidates build segments; the next candidate replaces one that fails.

        Returns the instance ids, each with the ``data_crc32c`` of its segments. Raises Unavailable if fewer
        candidates succeed; their segments stay.
        """
        order = ranked(f"{request.bundle}/{request.first_sequence}", candidates)
        done: list[tuple[str, tuple[int, ...]]] = []
        failures: list[str] = []
        while len(done) < wanted:
            asked, order = order[: wanted - len(done)], order[wanted - len(done) :]
            if len(asked) < wanted - len(done):
                reasons = "".join(f"; {failure}" for failure in failures)
                raise Unavailable(
                    f"{wanted + 1} copies are wanted, {len(candidates) + 1} storage instances live{reasons}"
                )
            answers = await asyncio.gather(*(self._build(request, instance_id) for instance_id in asked))
            for instance_id, answer in zip(asked, answers, strict=True):
                if isinstance(answer, DanubeError):
                    failures.append(f"{instance_id}: {answer}")
                else:
                    done.append((instance_id, answer))
        return done

    async def delete(self, instance_id: str, keys: Sequence[str]) -> None:
        """Delete segments from another instance's disk. Raises Unavailable."""
        request = DeleteSegments(tuple(keys))
        await REPLICA.ask(self._bus, replica_subject(instance_id), request, timeout_s=DELETE_TIMEOUT_S)

    async def _build(self, request: BuildSegments, instance_id: str) -> tuple[int, ...] | DanubeError:
        subject = replica_subject(instance_id)
        try:
            reply = await REPLICA.ask(self._bus, subject, request, timeout_s=BUILD_TIMEOUT_S)
        except DanubeError as error:
            return error
        if len(reply.data_crc32c) != len(request.segments):
            return CorruptData(f"not the answer to a request to build: {reply}")
        return reply.data_crc32c


def _planned(log_range: LogRange, plan: SegmentPlan) -> PlannedSegment:
    """Return the sections of a segment. Raises LogUnavailable if the log has none of them."""
    topics = log_range.by_topic
    sections: list[RangeSection] = []
    for topic_id in unpack_offsets(plan.first_offsets):
        held = topics.get(topic_id, [])
        first = bisect_left(held, plan.first_position, key=_first_position)
        sections += held[first : bisect_right(held, plan.last_position, key=_first_position)]
    if not sections:
        raise LogUnavailable(f"the log has nothing of segment {plan.key} any more")
    sections.sort(key=_first_position)
    return PlannedSegment(StorageBackend.DISK, plan.topic_id, sections)
