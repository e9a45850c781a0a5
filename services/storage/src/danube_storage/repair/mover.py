"""Moves segments that wait in another store to the store that their topics ask for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence
from functools import partial

import msgspec
import structlog

from danube_common.archive.ranking import ranked
from danube_common.archive.records import ManifestEntry, SegmentRecord
from danube_common.errors import CorruptData, DanubeError, NotFound, StoreUnavailable, Unavailable
from danube_common.model.strategy import StorageBackend
from danube_storage.archive.session import ArchiveSession
from danube_storage.reading.verification import Pace, verified_chunks
from danube_storage.repair.copy_client import until_copied
from danube_storage.repair.metrics import RepairMetrics
from danube_storage.repair.remote_disk import RemoteDisk
from danube_storage.segments.port import SegmentReader

TASK = "moving"
INTERVAL_S = 5.0
BACKOFF_S_MAX = 60.0

_log = structlog.get_logger(__name__)


class SegmentMover:
    """Moves the waiting segments of each bundle that this instance archives, oldest first.

    Args:
        metrics: of this package.
        pace: bounds the bytes that are moved.
        replicas: the number of instances that keep each disk segment.
        interval_s: about how often the manifest is looked at.
    """

    def __init__(
        self, metrics: RepairMetrics, pace: Pace, *, replicas: int, interval_s: float = INTERVAL_S
    ) -> None:
        self._metrics = metrics
        self._pace = pace
        self._replicas = replicas
        self._interval_s = interval_s

    async def move(self, session: ArchiveSession) -> None:
        """Move segments of one bundle until cancelled. A bundle task."""
        pause_s = self._interval_s
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            try:
                await self._run_pass(session)
            except Exception as error:  # noqa: BLE001 - no fault in one bundle may stop the others
                session.report(TASK, error)
                pause_s = min(2 * pause_s, BACKOFF_S_MAX)
            else:
                session.problems.pop(TASK, None)
                pause_s = self._interval_s

    async def _run_pass(self, session: ArchiveSession) -> None:
        waiting = [
            (entry, record)
            for entry in session.manifest.all()
            for record in entry.segments
            if record.bound_for is not None and record.retained
        ]
        gauge = self._metrics.waiting.labels(str(session.bundle))
        gauge.set(len(waiting))
        for number, (entry, record) in enumerate(waiting, 1):
            if not session.lease.held:
                return
            try:
                await self._move(session, entry, record)
            except DanubeError as error:
                left = len(waiting) - number + 1
                what = "1 segment waits" if left == 1 else f"{left} segments wait"
                raise Unavailable(f"{what} for {record.bound_for}: {error}") from None
            gauge.set(len(waiting) - number)

    async def _move(self, session: ArchiveSession, entry: ManifestEntry, record: SegmentRecord) -> None:
        ports, backend = session.ports, record.bound_for or record.backend
        store = ports.stores.of(backend)
        holders = self._holders(session, record.key) if backend is StorageBackend.DISK else []
        for source in self._sources(session, record):
            try:
                await store.put(record.key, verified_chunks(source, record, self._pace))
            except (CorruptData, NotFound) as error:
                # Its readers and the scrub put it into quarantine.
                _log.warning("segment_not_moved", key=record.key, reason=str(error))
                continue
            session.unanswered_since.pop(backend, None)
            if not await self._have_copied(session, entry, record, holders[1:]) or not session.lease.held:
                return
            await session.manifest.change(entry, partial(with_moved, key=record.key, holders=holders))
            _log.info("segment_moved", key=record.key, backend=backend)
            return
        raise StoreUnavailable(f"no intact copy of {record.key} answers")

    def _holders(self, session: ArchiveSession, key: str) -> list[str]:
        """Return this instance and those that keep the other copies. Raises Unavailable if too few live."""
        own, live = session.ports.instance_id, session.ports.live_instances()
        others = ranked(key, [one for one in live if one != own])[: self._replicas - 1]
        if len(others) < self._replicas - 1:
            raise Unavailable(f"{self._replicas} copies are wanted, {len(live)} storage instances live")
        return [own, *others]

    async def _have_copied(
        self, session: ArchiveSession, entry: ManifestEntry, record: SegmentRecord, targets: Sequence[str]
    ) -> bool:
        """Have the other copies made before the manifest names the disk. Raises DanubeError, TimeoutError."""
        if not targets:
            return True
        await session.manifest.change(entry, partial(with_targets, key=record.key, targets=targets))
        locator, own = entry.locator(record), session.ports.instance_id
        for target in targets:
            if not await until_copied(session, locator, target, [own]):
                return False
        return True

    def _sources(self, session: ArchiveSession, record: SegmentRecord) -> list[SegmentReader]:
        ports = session.ports
        if record.backend is not StorageBackend.DISK:
            return [ports.stores.of(record.backend)]
        holders = [one for one in record.holders if one not in record.quarantined]
        own = [ports.stores.of(record.backend)] if ports.instance_id in holders else []
        live = ports.live_instances()
        others = [RemoteDisk(ports.bus, one) for one in holders if one != ports.instance_id and one in live]
        return [*own, *others]


def with_targets(entry: ManifestEntry, key: str, targets: Sequence[str]) -> ManifestEntry:
    """Return the entry with the instances that are to copy a segment which waits in another store."""

    def asked(record: SegmentRecord) -> SegmentRecord:
        if record.key != key or record.bound_for is None or not record.retained:
            return record
        return msgspec.structs.replace(record, copying=tuple(targets))

    return msgspec.structs.replace(entry, segments=tuple(asked(record) for record in entry.segments))


def with_moved(entry: ManifestEntry, key: str, holders: Collection[str]) -> ManifestEntry:
    """Return the entry with a segment in the store that it was bound for; its old copies are orphans then."""

    def moved(record: SegmentRecord) -> SegmentRecord:
        if record.key != key or record.bound_for is None or not record.retained:
            return record
        return msgspec.structs.replace(
            record,
            backend=record.bound_for,
            bound_for=None,
            holders=tuple(holders),
            quarantined={},
            copying=(),
        )

    return msgspec.structs.replace(entry, segments=tuple(moved(record) for record in entry.segments))
