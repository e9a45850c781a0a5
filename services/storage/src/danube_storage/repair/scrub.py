"""Verifies every segment once in a period, also those that nobody reads, and finds missing ones sooner."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import structlog

from danube_common.archive.ranking import ranked
from danube_common.archive.records import ManifestEntry, ScrubProgress, SegmentRecord
from danube_common.cluster import keys
from danube_common.cluster.records import decode_record, encode_record, read_record
from danube_common.errors import NotFound
from danube_common.model.bundle import Bundle, Family
from danube_common.model.strategy import StorageBackend
from danube_common.wire.archive import SegmentLocator
from danube_storage.archive.session import KIND, ArchivePorts
from danube_storage.reading.requests import ReadRequests
from danube_storage.reading.verification import MISSING, Pace, damage_of
from danube_storage.repair.metrics import RepairMetrics
from danube_storage.repair.scrub_order import due

PARTS_OF_PERIOD: Final = 1000
"""The scrub looks for due segments so often in a period, within the two bounds that follow."""
LOOK_S_MIN: Final = 1.0
LOOK_S_MAX: Final = 600.0
MISSING_LOOK_S: Final = 300.0
MISSING_PER_LOOK_MAX: Final = 10_000
SEGMENTS_PER_PASS_MAX: Final = 1000
SAVE_S: Final = 60.0
PROGRESS_PERIODS: Final = 3
"""The progress of an instance that is gone is forgotten after so many periods."""
RETRY_S: Final = 10.0

_log = structlog.get_logger(__name__)


class Scrub:
    """The scrub of one instance: of the segments on its disk, and of its share of those in S3.

    Args:
        ports: of this instance.
        reading: the reader of this instance, with its quarantine.
        metrics: of this package.
        period_s: in which every segment is verified once.
        pace: bounds the bytes that are read.
    """

    def __init__(
        self,
        ports: ArchivePorts,
        reading: ReadRequests,
        metrics: RepairMetrics,
        *,
        period_s: float,
        pace: Pace,
    ) -> None:
        self._instance_id = ports.instance_id
        self._metadata = ports.metadata
        self._catalogue = ports.catalogue
        self._stores = ports.stores
        self._reading = reading
        self._metrics = metrics
        self._period_ms = round(period_s * 1000)
        self._pace = pace
        self._through_ms = 0
        self._saved_s = 0.0

    async def run(self) -> None:
        """Verify segments until cancelled."""
        look_s = max(LOOK_S_MIN, min(LOOK_S_MAX, self._period_ms / 1000 / PARTS_OF_PERIOD))
        while True:
            try:
                more = await self.run_pass()
            except Exception as error:  # noqa: BLE001 - the scrub may stop nothing else
                _log.warning("scrub_retried", error=repr(error))
                await asyncio.sleep(RETRY_S)
                continue
            if not more:
                await asyncio.sleep(look_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def run_pass(self) -> bool:
        """Verify the segments whose turn it is; return whether more are due.

        Raises MetadataUnavailable, StoreUnavailable; the next pass goes on where this one ended.
        """
        now_ms = _now_ms()
        if not self._through_ms:
            self._through_ms = await self._saved()
            self._metrics.scrub_lag.set_function(lambda: max(0, _now_ms() - self._through_ms) / 1000)
        self._through_ms = min(max(self._through_ms, now_ms - self._period_ms), now_ms)
        found = [each async for each in self._mine()]
        turns = await asyncio.to_thread(
            due,
            ((record.key, (locator, record)) for locator, record in found),
            self._through_ms,
            now_ms,
            self._period_ms,
            SEGMENTS_PER_PASS_MAX,
        )
        for turn_ms, (locator, record) in turns:
            await self._verify(locator, record)
            self._through_ms = turn_ms - 1  # others may have the same turn
            if time.monotonic() - self._saved_s > SAVE_S:
                await self._save()
        more = len(turns) >= SEGMENTS_PER_PASS_MAX
        self._through_ms = turns[-1][0] if more else now_ms
        await self._save()
        return more

    async def find_missing(self) -> int:
        """Put the segments that are not on this instance's disk into quarantine; return how many.

        Raises MetadataUnavailable, StoreUnavailable.
        """
        disk = self._stores.of(StorageBackend.DISK)
        found = 0
        held: set[str] = set()
        bundle = ""
        async for locator, record in self._mine():
            if locator.backend is not StorageBackend.DISK or found >= MISSING_PER_LOOK_MAX:
                continue
            if locator.bundle != bundle:
                bundle = locator.bundle
                held = set(await disk.list(f"{bundle}/"))
            if record.key not in held and await self._is_missing(locator):
                await self._reading.quarantine.put(locator, MISSING, one_of_many=True)
                self._metrics.scrub_damaged.labels(locator.backend).inc()
                found += 1
        if found:
            _log.error("segments_missing", count=found)
        return found

    async def watch_missing(self) -> None:
        """Look for missing segments at once and about every MISSING_LOOK_S, until cancelled."""
        while True:
            try:
                await self.find_missing()
            except Exception as error:  # noqa: BLE001 - the scrub may stop nothing else
                _log.warning("scrub_retried", error=repr(error))
                await asyncio.sleep(RETRY_S)
                continue
            await asyncio.sleep(MISSING_LOOK_S * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    async def _verify(self, locator: SegmentLocator, record: SegmentRecord) -> None:
        store = self._stores.of(locator.backend)
        if locator.backend is StorageBackend.DISK:
            # What is cached says nothing about the disk.
            with suppress(NotFound):
                await self._stores.disk.evict(record.key)
        reason = await damage_of(store, record, self._pace)
        if reason and await self._is_retained(locator):
            # Once more, as the damage may be of the transfer only.
            reason = await damage_of(store, record, self._pace)
            if reason:
                await self._reading.quarantine.put(locator, reason)
                self._metrics.scrub_damaged.labels(locator.backend).inc()
        self._metrics.scrubbed.labels(locator.backend).inc()
        self._metrics.scrubbed_bytes.labels(locator.backend).inc(record.size_bytes)

    async def _mine(self) -> AsyncIterator[tuple[SegmentLocator, SegmentRecord]]:
        """Yield the segments that this instance verifies, bundle by bundle."""
        layout = self._catalogue.layout
        for bundle in layout.bundles() if layout else ():
            if bundle.family is Family.FILE:
                for entry in await self._entries(bundle):
                    for record in entry.segments:
                        if record.retained and self._is_mine(record):
                            yield entry.locator(record), record

    async def _entries(self, bundle: Bundle) -> list[ManifestEntry]:
        listing = await self._metadata.list(keys.manifest_prefix(bundle))
        return await asyncio.to_thread(
            lambda: [decode_record(ManifestEntry, entry.value) for entry in listing.entries]
        )

    def _is_mine(self, record: SegmentRecord) -> bool:
        """Return whether this instance verifies a segment; one in quarantine is verified by `Recheck`."""
        if record.backend is StorageBackend.DISK:
            return self._instance_id in record.holders and self._instance_id not in record.quarantined
        if record.backend not in self._stores.configured or record.quarantined:
            return False
        storage = self._catalogue.instances(KIND)
        able = [each.instance_id for each in storage if record.backend in each.backends]
        return ranked(record.key, able)[:1] == [self._instance_id]

    async def _is_missing(self, locator: SegmentLocator) -> bool:
        """Look again: the segment may have been written or deleted meanwhile."""
        try:
            await self._stores.of(locator.backend).size(locator.key)
        except NotFound:
            return await self._is_retained(locator)
        return False

    async def _is_retained(self, locator: SegmentLocator) -> bool:
        record = await self._reading.quarantine.record(locator)
        return record is not None and record.retained

    async def _saved(self) -> int:
        progress = await read_record(self._metadata, keys.scrub_key(self._instance_id), ScrubProgress)
        return progress.through_ms if progress else 0

    async def _save(self) -> None:
        self._saved_s = time.monotonic()
        await self._metadata.put(
            keys.scrub_key(self._instance_id),
            encode_record(ScrubProgress(self._through_ms)),
            ttl_s=PROGRESS_PERIODS * self._period_ms / 1000,
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
