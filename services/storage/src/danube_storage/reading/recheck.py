"""Looks again at what is in quarantine here: what somebody has put back whole is trusted again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from danube_common.archive.records import SegmentRecord
from danube_common.errors import CorruptData, DanubeError, NotFound
from danube_common.model.strategy import StorageBackend
from danube_common.segment.reader import EntryReader
from danube_common.wire.archive import SegmentLocator
from danube_storage.reading.open_segment import read_tail
from danube_storage.reading.requests import ReadRequests
from danube_storage.segments.port import SegmentStore

RECHECK_INTERVAL_S: Final = 60.0
RECHECKS_PER_PASS_MAX: Final = 8
READ_BYTES: Final = 1 << 20

log = structlog.get_logger(__name__)


class Recheck:
    """A few segments at a time, so that it is never in the way of readers."""

    def __init__(
        self,
        reading: ReadRequests,
        store_of: Callable[[StorageBackend], SegmentStore],
        backends: frozenset[StorageBackend],
    ) -> None:
        self._reading = reading
        self._store_of = store_of
        self._backends = backends
        self._recalled = False
        self._turn = 0

    async def run(self, interval_s: float = RECHECK_INTERVAL_S) -> None:
        """Until cancelled; what an earlier process found is learned from the catalogue first."""
        while True:
            try:
                await self.look()
            except DanubeError as error:
                log.warning("recheck_retried", error=str(error))
            await asyncio.sleep(interval_s)

    async def look(self) -> None:
        """One pass over as many as a pass may. Raises MetadataUnavailable, StoreUnavailable."""
        quarantine = self._reading.quarantine
        if not self._recalled:
            await quarantine.recall(self._backends)
            self._recalled = True
        places = quarantine.places
        start = self._turn % len(places) if places else 0
        self._turn = start + RECHECKS_PER_PASS_MAX
        for place in (places[start:] + places[:start])[:RECHECKS_PER_PASS_MAX]:
            record = await quarantine.record(place)
            if record is None:
                quarantine.forget(place)
            elif await self._is_whole(place, record):
                await quarantine.clear(place)
                self._reading.forget(place)

    async def _is_whole(self, place: SegmentLocator, record: SegmentRecord) -> bool:
        """Every byte of it, and that it is what was catalogued."""
        store = self._store_of(place.backend)
        try:
            index = await read_tail(store, place.key)
            reader = EntryReader(index)
            for offset in range(0, index.info.data_bytes, READ_BYTES):
                length = min(READ_BYTES, index.info.data_bytes - offset)
                await asyncio.to_thread(reader.feed, await store.read(place.key, offset, length))
            reader.finish()
        except (CorruptData, NotFound):
            return False
        return index.info.data_crc32c == record.data_crc32c
