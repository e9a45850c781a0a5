"""Deletes segments that attempts at a cut left behind: no cut names them, and none ever will."""

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
from danube_common.cluster.records import decode_record
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


def orphans(segment_keys: Iterable[str], cuts: Collection[ManifestEntry], instance_id: str = "") -> list[str]:
    """Which of a bundle's segments in one store are named by no cut and never will be.

    A cut is created once, and begins where the one before ended: what was made for one that begins at or
    below the end of the newest is named by it, or by none for ever.

    Args:
        segment_keys: what the store holds of the bundle.
        cuts: all that are catalogued, or were a moment ago but after the segments were listed.
        instance_id: whose disk the store is; a segment there is named only if the instance holds it.
    """
    archived_through = max((cut.last_sequence for cut in cuts), default=0)
    named = {
        segment.key
        for cut in cuts
        for segment in cut.segments
        if not instance_id or instance_id in segment.holders
    }
    return [
        key
        for key in segment_keys
        if key not in named and (found := _KEY.fullmatch(key)) and int(found[1], 16) <= archived_through
    ]


class Sweep:
    """Sweeps S3 for each bundle by its archiver, and every instance's own disk.

    Args:
        metadata: where the catalogue is.
        metrics: where it counts.
        interval_s: about so long between two sweeps.
    """

    def __init__(
        self, metadata: MetadataStore, metrics: StorageMetrics, *, interval_s: float = SWEEP_INTERVAL_S
    ) -> None:
        self._metadata = metadata
        self._metrics = metrics
        self._interval_s = interval_s

    async def sweep_s3(self, session: ArchiveSession) -> None:
        """The duty on one bundle, until cancelled."""
        stores = session.ports.stores
        if StorageBackend.S3 not in stores.configured:
            return
        while True:
            await self._pause()
            await self._try(session.bundle, stores.of(StorageBackend.S3), StorageBackend.S3, "")

    async def sweep_disk(self, catalogue: Catalogue, disk: SegmentStore, instance_id: str) -> None:
        """Of all bundles, until cancelled."""
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
        # Listed after the segments: a cut that was entered in between is seen.
        listing = await self._metadata.list(keys.manifest_prefix(bundle))
        cuts = [decode_record(ManifestEntry, entry.value) for entry in listing.entries]
        found = orphans(held, cuts, instance_id)[:DELETES_PER_SWEEP_MAX]
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
