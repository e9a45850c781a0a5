"""Segments that turned out to be damaged here: marked in the catalogue, told of, and never deleted."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from danube_common import keys
from danube_common.archive.protocol import Place
from danube_common.archive.records import S3_HOLDER, Cut, SegmentRecord
from danube_common.bundle import Bundle
from danube_common.errors import Conflict, MetadataUnavailable
from danube_common.metadata.port import MetadataStore
from danube_common.records import decode_record, encode_record
from danube_common.strategy import StorageBackend

TOLD_MAX = 5
REASON_LENGTH_MAX = 200
ATTEMPTS_MAX = 20

log = structlog.get_logger(__name__)


class Quarantine:
    """What this instance has found damaged since it started, and its marks in the catalogue."""

    def __init__(self, store: MetadataStore, instance_id: str) -> None:
        self._store = store
        self._instance_id = instance_id
        self._reasons: dict[str, str] = {}
        self._marked: set[str] = set()

    def __len__(self) -> int:
        return len(self._reasons)

    @property
    def problem(self) -> str | None:
        """For people: which segments, and why; None if there are none."""
        if not self._reasons:
            return None
        told = [f"{key}: {why}" for key, why in list(self._reasons.items())[:TOLD_MAX]]
        more = len(self._reasons) - len(told)
        return "; ".join([f"{len(self._reasons)} damaged", *told]) + (f"; and {more} more" if more else "")

    async def record(self, place: Place) -> SegmentRecord | None:
        """What the catalogue says now; None if it has no such segment. Raises MetadataUnavailable."""
        entry = await self._store.get(_key(place))
        if entry is None:
            return None
        return _find(decode_record(Cut, entry.value), place)

    async def put(self, place: Place, reason: str) -> None:
        """Mark the segment, unless it is marked. The mark waits for the catalogue."""
        reason = reason[:REASON_LENGTH_MAX]
        if place.key not in self._reasons:
            log.error("segment_damaged", key=place.key, backend=place.backend, reason=reason)
        self._reasons[place.key] = reason
        if place.key in self._marked:
            return
        try:
            await self._mark(place, reason)
        except MetadataUnavailable as error:
            log.warning("segment_not_marked", key=place.key, error=str(error))

    async def clear(self, place: Place) -> None:
        """The segment is whole again here, every byte of it. Raises MetadataUnavailable."""
        if await self._change(place, ""):
            log.info("segment_sound_again", key=place.key)
        self._marked.discard(place.key)
        self._reasons.pop(place.key, None)

    def forget(self, place: Place) -> None:
        """The segment is no more."""
        self._marked.discard(place.key)
        self._reasons.pop(place.key, None)

    async def _mark(self, place: Place, reason: str) -> None:
        self._marked.add(place.key)
        try:
            await self._change(place, reason)
        except MetadataUnavailable:
            self._marked.discard(place.key)
            raise

    async def _change(self, place: Place, reason: str) -> bool:
        """Set or, with an empty reason, clear this instance's mark. Returns whether anything was changed."""
        holder = S3_HOLDER if place.backend is StorageBackend.S3 else self._instance_id
        key = _key(place)
        for _ in range(ATTEMPTS_MAX):
            entry = await self._store.get(key)
            if entry is None:
                return False
            cut = decode_record(Cut, entry.value)
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


def _key(place: Place) -> str:
    return keys.cut_key(Bundle.parse(place.bundle), place.cut_first_sequence)


def _find(cut: Cut, place: Place) -> SegmentRecord | None:
    return next((record for record in cut.segments if record.key == place.key), None)


def _marked(cut: Cut, key: str, holder: str, reason: str) -> Cut:
    def changed(record: SegmentRecord) -> SegmentRecord:
        others = {place: why for place, why in record.quarantined.items() if place != holder}
        present = record.quarantined.get(holder, "")
        if record.key != key or bool(present) == bool(reason):
            return record
        return msgspec.structs.replace(record, quarantined={**others, holder: reason} if reason else others)

    return msgspec.structs.replace(cut, segments=tuple(changed(record) for record in cut.segments))
