"""The disk of another storage instance, for reading whole segments."""

from __future__ import annotations

from danube_common.bus.port import Bus
from danube_common.errors import StoreUnavailable, Unavailable
from danube_common.wire.repair import REPAIR, FetchSegment, SegmentBytes, repair_subject

FETCH_TIMEOUT_S = 10.0


class SourceUnavailable(StoreUnavailable):
    """The source does not answer, which says nothing about the own disk."""


class RemoteDisk:
    """The segments on another instance's disk, as a `SegmentReader`."""

    def __init__(self, bus: Bus, instance_id: str) -> None:
        self._bus = bus
        self._subject = repair_subject(instance_id)

    async def size(self, key: str) -> int:
        """See `SegmentReader`."""
        return (await self._fetch(key, 0, 0)).size_bytes

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """See `SegmentReader`; at most FETCH_BYTES_MAX at once."""
        return (await self._fetch(key, offset, length)).data

    async def _fetch(self, key: str, offset: int, length: int) -> SegmentBytes:
        request = FetchSegment(key, offset, length)
        try:
            return await REPAIR.ask(self._bus, self._subject, request, timeout_s=FETCH_TIMEOUT_S)
        except Unavailable as error:
            raise SourceUnavailable(str(error)) from None
