"""Quarantine: damaged segments are marked in the manifest, reported, and never deleted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

import msgspec
import structlog

from danube_common.archive.records import S3_HOLDER, ManifestEntry, SegmentRecord
from danube_common.cluster import keys
from danube_common.cluster.records import decode_record, encode_record
from danube_common.errors import MetadataUnavailable
from danube_common.metadata.port import MetadataStore
from danube_common.metadata.rewrite import rewrite
from danube_common.model.bundle import Bundle
from danube_common.model.strategy import StorageBackend
from danube_common.wire.archive import SegmentLocator

REPORTED_MAX = 5
FINDINGS_MAX = 10_000
"""Damaged segments beyond this number are marked in the manifest, and not remembered here."""
REASON_LENGTH_MAX = 200

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Finding:
    locator: SegmentLocator
    reason: str
    marked: bool = False


class Quarantine:
    """The damaged segments that this instance has found, or finds marked in the manifest.

    A mark belongs to one holder: other instances may still have an intact replica.
    """

    def __init__(self, store: MetadataStore, instance_id: str) -> None:
        self._store = store
        self._instance_id = instance_id
        self._findings: dict[str, _Finding] = {}

    def __len__(self) -> int:
        return len(self._findings)

    @property
    def locators(self) -> list[SegmentLocator]:
        """The damaged segments, in the order of their discovery."""
        return [finding.locator for finding in self._findings.values()]

    @property
    def problem(self) -> str | None:
        """A text for the readiness check: which segments are damaged and why; None if there are none."""
        if not self._findings:
            return None
        reported = [f"{f.locator.key}: {f.reason}" for f in islice(self._findings.values(), REPORTED_MAX)]
        more = len(self._findings) - len(reported)
        return "; ".join([f"{len(self._findings)} damaged", *reported]) + (
            f"; and {more} more" if more else ""
        )

    async def record(self, locator: SegmentLocator) -> SegmentRecord | None:
        """Return a segment's stored record; None if the manifest has none. Raises MetadataUnavailable."""
        entry = await self._store.get(_key(locator))
        if entry is None:
            return None
        segments = decode_record(ManifestEntry, entry.value).segments
        return next((record for record in segments if record.key == locator.key), None)

    async def recall(self, backends: Collection[StorageBackend]) -> None:
        """Learn the segments that are marked for this instance. Raises MetadataUnavailable."""
        for entry in (await self._store.list(keys.MANIFESTS)).entries:
            stored = decode_record(ManifestEntry, entry.value)
            for record in stored.segments:
                reason = record.quarantined.get(self._holder(record.backend), "")
                if reason and record.backend in backends:
                    locator = stored.locator(record)
                    self._note(locator, reason).marked = True

    async def put(self, locator: SegmentLocator, reason: str, *, one_of_many: bool = False) -> None:
        """Mark a segment as damaged. If the metadata store does not answer, the next call tries again.

        Each segment is logged, unless it is ``one_of_many`` that the caller logs together.
        """
        reason = reason[:REASON_LENGTH_MAX]
        if locator.key not in self._findings and not one_of_many:
            _log.error("segment_damaged", key=locator.key, backend=locator.backend, reason=reason)
        finding = self._note(locator, reason)
        if finding.marked:
            return
        finding.marked = True
        try:
            await self._change(locator, reason)
        except MetadataUnavailable as error:
            finding.marked = False
            _log.warning("segment_not_marked", key=locator.key, error=str(error))

    async def clear(self, locator: SegmentLocator) -> None:
        """Remove the mark: the segment was verified as a whole. Raises MetadataUnavailable."""
        if await self._change(locator, ""):
            _log.info("segment_repaired", key=locator.key)
        self.forget(locator)

    def forget(self, locator: SegmentLocator) -> None:
        """Drop a segment that does not exist any more."""
        self._findings.pop(locator.key, None)

    def concerns(self, locator: SegmentLocator, record: SegmentRecord) -> bool:
        """Return whether this instance still has a copy of a segment by its record."""
        if record.backend is not locator.backend:
            return False
        return record.backend is StorageBackend.S3 or self._instance_id in record.holders

    def _note(self, locator: SegmentLocator, reason: str) -> _Finding:
        finding = self._findings.get(locator.key)
        if finding is None:
            finding = _Finding(locator, reason)
            if len(self._findings) < FINDINGS_MAX:
                self._findings[locator.key] = finding
        return finding

    def _holder(self, backend: StorageBackend) -> str:
        return S3_HOLDER if backend is StorageBackend.S3 else self._instance_id

    async def _change(self, locator: SegmentLocator, reason: str) -> bool:
        """Set this instance's mark, or clear it if ``reason`` is empty. Return whether anything changed."""
        holder = self._holder(locator.backend)

        def changed(value: bytes | None) -> bytes | None:
            if value is None:
                return None
            present = decode_record(ManifestEntry, value)
            wanted = _marked(present, locator.key, holder, reason)
            return None if wanted == present else encode_record(wanted)

        return await rewrite(self._store, _key(locator), changed) is not None


def _key(locator: SegmentLocator) -> str:
    return keys.manifest_key(Bundle.parse(locator.bundle), locator.entry_first_sequence)


def _marked(entry: ManifestEntry, key: str, holder: str, reason: str) -> ManifestEntry:
    def changed(record: SegmentRecord) -> SegmentRecord:
        if record.key != key or (holder in record.quarantined) == bool(reason):
            return record
        if reason and not record.retained:
            return record  # it is being deleted, and a mark would keep its record for ever
        if reason and holder != S3_HOLDER and holder not in record.holders:
            return record  # the copy was replaced
        others = {other: why for other, why in record.quarantined.items() if other != holder}
        return msgspec.structs.replace(record, quarantined={**others, holder: reason} if reason else others)

    return msgspec.structs.replace(entry, segments=tuple(changed(record) for record in entry.segments))
