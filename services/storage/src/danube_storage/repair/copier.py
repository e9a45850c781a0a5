"""Makes copies on this instance's disk, and serves the segments on it to other instances that copy them."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from danube_common.archive.records import SegmentRecord
from danube_common.bus.port import Bus
from danube_common.errors import CorruptData, DanubeError, NotFound, Refused, StoreUnavailable, Unavailable
from danube_common.wire.archive import SegmentLocator
from danube_common.wire.envelope import Done
from danube_common.wire.repair import (
    FETCH_BYTES_MAX,
    REPAIR,
    CopyProgress,
    CopySegment,
    FetchSegment,
    RepairRequest,
    SegmentBytes,
    VerifySegment,
    repair_subject,
)
from danube_storage.reading.requests import ReadRequests
from danube_storage.reading.verification import Pace, damage_of, verified_chunks
from danube_storage.repair.metrics import RepairMetrics
from danube_storage.repair.remote_disk import RemoteDisk, SourceUnavailable
from danube_storage.segments.port import LocalStore

ANSWER_S = 5.0
"""A request to copy is answered after this time, whether or not the copy is made."""
COPYING_AT_ONCE_MAX = 2
COPIES_WAITING_MAX = 64
VERIFY_TIMEOUT_S = 120.0
VERIFIED_AT_ONCE_MAX = 1

_log = structlog.get_logger(__name__)


class SegmentCopier:
    """Answers the repair requests of other storage instances.

    Args:
        bus: reaches the other instances.
        disk: the store of this instance.
        reading: the reader of this instance, with its quarantine.
        instance_id: of this instance.
        metrics: of this package.
        pace: bounds the bytes that are copied to this instance.
    """

    def __init__(
        self,
        bus: Bus,
        disk: LocalStore,
        reading: ReadRequests,
        instance_id: str,
        metrics: RepairMetrics,
        pace: Pace,
    ) -> None:
        self._bus = bus
        self._disk = disk
        self._reading = reading
        self._instance_id = instance_id
        self._metrics = metrics
        self._pace = pace
        self._copying: dict[str, asyncio.Task[None]] = {}
        self._copy_slots = asyncio.Semaphore(COPYING_AT_ONCE_MAX)
        self._verify_slots = asyncio.Semaphore(VERIFIED_AT_ONCE_MAX)

    async def answer(self, request: RepairRequest) -> msgspec.Struct:
        """Carry out a request and return its reply. Raises DanubeError."""
        match request:
            case CopySegment():
                return await self._copy(request)
            case FetchSegment(key, offset, length):
                size_bytes = await self._disk.size(key)
                data = await self._disk.read(key, offset, min(length, FETCH_BYTES_MAX))
                return SegmentBytes(data, size_bytes)
            case VerifySegment(locator):
                await self._verify(locator)
                return Done()

    async def close(self) -> None:
        """Stop copying. Idempotent."""
        tasks = list(self._copying.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _copy(self, request: CopySegment) -> CopyProgress:
        key = request.locator.key
        task = self._copying.get(key)
        if task is None:
            if len(self._copying) >= COPIES_WAITING_MAX:
                raise Unavailable(f"{COPIES_WAITING_MAX} copies wait here already")
            task = self._copying[key] = asyncio.create_task(self._make_copy(request), name=f"copy of {key}")
            task.add_done_callback(lambda _: self._copying.pop(key, None))
            # Retrieve the error, as the request may have been answered before.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        done, _ = await asyncio.wait([task], timeout=ANSWER_S)
        if not done:
            return CopyProgress(done=False)
        if task.cancelled():
            raise Unavailable("this instance is stopping")
        task.result()
        return CopyProgress(done=True)

    async def _make_copy(self, request: CopySegment) -> None:
        locator = request.locator
        async with self._copy_slots:
            record = await self._record(locator)
            damaged = self._instance_id in record.quarantined
            if self._instance_id not in record.copying and not damaged:
                if self._instance_id in record.holders:
                    return  # an earlier request has mended it
                raise Refused(f"the manifest asks for no copy of {locator.key} here")
            # An earlier attempt may have made the copy already.
            if await damage_of(self._disk, record):
                await self._copy_from(request.sources, locator, record)
            if damaged:
                await self._reading.quarantine.clear(locator)
            self._reading.forget(locator)

    async def _copy_from(
        self, sources: tuple[str, ...], locator: SegmentLocator, record: SegmentRecord
    ) -> None:
        reasons: list[str] = []
        for source in sources:
            remote = RemoteDisk(self._bus, source)
            try:
                await self._disk.replace(record.key, verified_chunks(remote, record, self._pace))
            except (CorruptData, NotFound) as error:
                reasons.append(f"{source}: {error}")
                await self._have_verified(source, locator)
            except SourceUnavailable as error:
                reasons.append(f"{source}: {error}")
            else:
                self._metrics.copies.inc()
                self._metrics.copied_bytes.inc(record.size_bytes)
                _log.info("segment_copied", key=record.key, source=source, bytes=record.size_bytes)
                return
        raise StoreUnavailable(f"no source has an intact copy of {record.key} ({'; '.join(reasons)})")

    async def _have_verified(self, source: str, locator: SegmentLocator) -> None:
        """Let the source of a damaged copy find that itself: each instance marks its own copies only."""
        try:
            await REPAIR.ask(
                self._bus, repair_subject(source), VerifySegment(locator), timeout_s=VERIFY_TIMEOUT_S
            )
        except DanubeError as error:
            _log.warning("source_not_verified", key=locator.key, source=source, reason=str(error))

    async def _verify(self, locator: SegmentLocator) -> None:
        async with self._verify_slots:
            record = await self._record(locator)
            if self._instance_id in record.holders and self._instance_id not in record.quarantined:
                reason = await damage_of(self._disk, record)
                if reason:
                    await self._reading.quarantine.put(locator, reason)

    async def _record(self, locator: SegmentLocator) -> SegmentRecord:
        """Return the segment's record. Raises NotFound if it is marked or deleted, MetadataUnavailable."""
        record = await self._reading.quarantine.record(locator)
        if record is None or not record.retained:
            raise NotFound(f"there is no segment {locator.key} any more")
        return record
