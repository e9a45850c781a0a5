"""Deletes orphans: segments that failed seals left behind and that no manifest entry will ever name."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Collection, Iterable
from typing import Final

import structlog

from danube_common.archive.records import ManifestEntry
from danube_common.cluster import keys
from danube_common.cluster.catalogue import Catalogue
from danube_common.cluster.records import read_records
from danube_common.errors import DanubeError
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.model.strategy import StorageBackend
from danube_storage.archive.session import ArchiveSession
from danube_storage.segments.disk import DiskStore
from danube_storage.segments.port import SegmentStore
from danube_storage.storage_metrics import StorageMetrics

SWEEP_INTERVAL_S: Final = 1800.0
DELETES_PER_SWEEP_MAX: Final = 10_000

_KEY = re.compile(r"[fm]\d+/(?:shared|[0-9a-f]{16})/([0-9a-f]{16})-\d+\.[0-9a-f]+")

_log = structlog.get_logger(__name__)


def orphans(
    segment_keys: Iterable[str],
    entries: Collection[ManifestEntry],
    backend: StorageBackend,
    instance_id: str = "",
) -> list[str]:
    """Return the keys of a bundle's segments in one store that no manifest entry will ever name.

    An entry is stored once, and begins where the one before ended. So a segment that was made for an entry
    at or below the end of the manifest is named by that entry, or is an orphan.

    Args:
        segment_keys: the bundle's segments in the store.
        entries: the bundle's manifest, read after the segments were listed.
        backend: of the store. A segment that waits elsewhere for this store is not an orphan: it may be
            written right now.
        instance_id: the instance whose disk the store is; it must be a holder of the segments it keeps, or
            be making a copy of them. So the copies of an instance that was replaced go when it returns.
    """
    archived_through = max((entry.last_sequence for entry in entries), default=0)
    named = {
        segment.key
        for entry in entries
        for segment in entry.segments
        if segment.bound_for is backend
        or (
            segment.backend is backend
            and (not instance_id or instance_id in segment.holders or instance_id in segment.copying)
        )
    }
    return [
        key
        for key in segment_keys
        if key not in named and (found := _KEY.fullmatch(key)) and int(found[1], 16) <= archived_through
    ]


class Sweep:
    """Deletes orphans about every ``interval_s``: a bundle's archiver in S3, each instance on its disk."""

    def __init__(
        self, metadata: MetadataStore, metrics: StorageMetrics, *, interval_s: float = SWEEP_INTERVAL_S
    ) -> None:
        self._metadata = metadata
        self._metrics = metrics
        self._interval_s = interval_s

    async def sweep_s3(self, session: ArchiveSession) -> None:
        """Sweep one bundle's segments in S3 until cancelled. A bundle task."""
        stores = session.ports.stores
        if StorageBackend.S3 not in stores.configured:
            return
        while True:
            await self._pause()
            await self._try(session.bundle, stores.of(StorageBackend.S3), StorageBackend.S3, "")

    async def sweep_disk(self, catalogue: Catalogue, disk: SegmentStore, instance_id: str) -> None:
        """Sweep the segments of all bundles on this instance's disk until cancelled."""
        while True:
            layout = catalogue.layout
            for bundle in layout.bundles() if layout else ():
                await self._try(bundle, disk, StorageBackend.DISK, instance_id)
            if isinstance(disk, DiskStore):
                await self._remove_unfinished(disk)
            await self._pause()

    async def sweep(
        self, bundle: Bundle, store: SegmentStore, backend: StorageBackend, instance_id: str = ""
    ) -> int:
        """Delete a bundle's orphans from one store; returns how many. Raises Unavailable."""
        held = await store.list(f"{bundle}/")
        if not held:
            return 0
        # The manifest is listed after the segments, so that it has the entries added in between.
        entries = await read_records(self._metadata, keys.manifest_prefix(bundle), ManifestEntry)
        found = orphans(held, entries, backend, instance_id)[:DELETES_PER_SWEEP_MAX]
        for key in found:
            await store.delete(key)
            self._metrics.orphans.labels(backend).inc()
        if found:
            _log.info(
                "orphans_deleted", bundle=str(bundle), backend=backend, count=len(found), first=found[0]
            )
        return len(found)

    async def _try(
        self, bundle: Bundle, store: SegmentStore, backend: StorageBackend, instance_id: str
    ) -> None:
        try:
            await self.sweep(bundle, store, backend, instance_id)
        except DanubeError as error:
            _log.info("sweep_failed", bundle=str(bundle), backend=backend, error=str(error))

    async def _remove_unfinished(self, disk: DiskStore) -> None:
        try:
            removed = await disk.sweep()
        except DanubeError as error:
            _log.info("sweep_failed", error=str(error))
        else:
            if removed:
                _log.info("unfinished_files_removed", count=removed)

    async def _pause(self) -> None:
        await asyncio.sleep(self._interval_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
