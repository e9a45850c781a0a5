"""Segments that turned out to be damaged here: marked in the catalogue, told of, and never deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

import msgspec
import structlog

from danube_common.archive.records import S3_HOLDER, ManifestEntry, SegmentRecord
from danube_common.cluster import keys
from danube_common.cluster.records import decode_record, encode_record
from danube_common.errors import Conflict, MetadataUnavailable
from danube_common.metadata.port import MetadataStore
from danube_common.model.bundle import Bundle
from danube_common.model.strategy import StorageBackend
from danube_common.wire.archive import SegmentLocator

TOLD_MAX = 5
FINDINGS_MAX = 10_000
"""What is found beyond is marked, and not kept in mind."""
REASON_LENGTH_MAX = 200
ATTEMPTS_MAX = 20

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Finding:
    place: SegmentLocator
    reason: str
    marked: bool = False


class Quarantine:
    """What is damaged on this instance, as far as it was found or marked before, and the marks themselves."""

    def __init__(self, store: MetadataStore, instance_id: str) -> None:
        self._store = store
        self._instance_id = instance_id
        self._findings: dict[str, _Finding] = {}

    def __len__(self) -> int:
        return len(self._findings)

    @property
    def places(self) -> list[SegmentLocator]:
        """Found first, first."""
        return [finding.place for finding in self._findings.values()]

    @property
    def problem(self) -> str | None:
        """For people: which segments, and why; None if there are none."""
        if not self._findings:
            return None
        told = [f"{f.place.key}: {f.reason}" for f in islice(self._findings.values(), TOLD_MAX)]
        more = len(self._findings) - len(told)
        return "; ".join([f"{len(self._findings)} damaged", *told]) + (f"; and {more} more" if more else "")

    async def record(self, place: SegmentLocator) -> SegmentRecord | None:
        """What the catalogue says now; None if it has no such segment. Raises MetadataUnavailable."""
        entry = await self._store.get(_key(place))
        if entry is None:
            return None
        return _find(decode_record(ManifestEntry, entry.value), place)

    async def recall(self, backends: Collection[StorageBackend]) -> None:
        """Learn what the catalogue has marked here before. Raises MetadataUnavailable."""
        for entry in (await self._store.list(keys.MANIFESTS)).entries:
            cut = decode_record(ManifestEntry, entry.value)
            for record in cut.segments:
                reason = record.quarantined.get(self._holder(record.backend), "")
                if reason and record.backend in backends:
                    place = SegmentLocator(cut.bundle, cut.first_sequence, record.backend, record.key)
                    self._note(place, reason).marked = True

    async def put(self, place: SegmentLocator, reason: str) -> None:
        """Mark the segment, unless it is marked. The mark waits for the catalogue."""
        reason = reason[:REASON_LENGTH_MAX]
        if place.key not in self._findings:
            log.error("segment_damaged", key=place.key, backend=place.backend, reason=reason)
        finding = self._note(place, reason)
        if finding.marked:
            return
        finding.marked = True
        try:
            await self._change(place, reason)
        except MetadataUnavailable as error:
            finding.marked = False
            log.warning("segment_not_marked", key=place.key, error=str(error))

    async def clear(self, place: SegmentLocator) -> None:
        """The segment is whole again here, every byte of it. Raises MetadataUnavailable."""
        if await self._change(place, ""):
            log.info("segment_sound_again", key=place.key)
        self.forget(place)

    def forget(self, place: SegmentLocator) -> None:
        """The segment is no more."""
        self._findings.pop(place.key, None)

    def _note(self, place: SegmentLocator, reason: str) -> _Finding:
        finding = self._findings.get(place.key)
        if finding is None:
            finding = _Finding(place, reason)
            if len(self._findings) < FINDINGS_MAX:
                self._findings[place.key] = finding
        return finding

    def _holder(self, backend: StorageBackend) -> str:
        return S3_HOLDER if backend is StorageBackend.S3 else self._instance_id

    async def _change(self, place: SegmentLocator, reason: str) -> bool:
        """Set or, with an empty reason, clear this instance's mark. Returns whether anything was changed."""
        holder = self._holder(place.backend)
        key = _key(place)
        for _ in range(ATTEMPTS_MAX):
            entry = await self._store.get(key)
            if entry is None:
                return False
            cut = decode_record(ManifestEntry, entry.value)
            wanted = _marked(cut, place.key, holder, reason)
            if wanted == cut:
                return False
            try:
                await self._store.put(key, encode_record(wanted), expected_revision=entry.revision)
            except Conflict:
                await asyncio.sleep(0)
                continue
            return True
        raise MetadataUnavailable(f"cut {key} is changed all the time")


def _key(place: SegmentLocator) -> str:
    return keys.manifest_key(Bundle.parse(place.bundle), place.cut_first_sequence)


def _find(cut: ManifestEntry, place: SegmentLocator) -> SegmentRecord | None:
    return next((record for record in cut.segments if record.key == place.key), None)


def _marked(cut: ManifestEntry, key: str, holder: str, reason: str) -> ManifestEntry:
    def changed(record: SegmentRecord) -> SegmentRecord:
        others = {place: why for place, why in record.quarantined.items() if place != holder}
        present = record.quarantined.get(holder, "")
        if record.key != key or bool(present) == bool(reason):
            return record
        return msgspec.structs.replace(record, quarantined={**others, holder: reason} if reason else others)

    return msgspec.structs.replace(cut, segments=tuple(changed(record) for record in cut.segments))
