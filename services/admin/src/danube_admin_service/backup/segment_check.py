"""Checks a segment while its bytes pass: against its own checksums and its record in the manifest."""

from __future__ import annotations

import google_crc32c

from danube_common.archive.records import SegmentRecord
from danube_common.errors import CorruptData
from danube_common.segment.format import TAIL_BYTES_MAX
from danube_common.segment.reader import parse_tail


class SegmentCheck:
    """Takes the bytes of one segment in their order; holds back as many as a tail has at most."""

    def __init__(self, record: SegmentRecord) -> None:
        self._record = record
        self._end = bytearray()
        self._checked_bytes = 0
        self._crc = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._end += data
        surplus = len(self._end) - TAIL_BYTES_MAX
        if surplus > 0:
            self._crc = google_crc32c.extend(self._crc, bytes(self._end[:surplus]))
            self._checked_bytes += surplus
            del self._end[:surplus]

    def finish(self) -> None:
        """Raises CorruptData unless what passed is the segment, whole and intact."""
        size_bytes = self._checked_bytes + len(self._end)
        if size_bytes != self._record.size_bytes:
            raise CorruptData(f"it has {size_bytes} bytes and not {self._record.size_bytes}")
        info = parse_tail(bytes(self._end), size_bytes).info
        rest = bytes(self._end[: info.data_bytes - self._checked_bytes])
        if google_crc32c.extend(self._crc, rest) != info.data_crc32c:
            raise CorruptData("its data fails its checksum")
        if info.data_crc32c != self._record.data_crc32c:
            raise CorruptData("it is another segment than its record says")
