"""Segments open for reading: the index in the tail, or one salvaged from the entries of a damaged segment."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right

import google_crc32c

from danube_common.archive.records import SHARED, SegmentRecord
from danube_common.errors import CorruptData
from danube_common.model.bundle import Bundle
from danube_common.segment.format import (
    ENTRY_HEAD_BYTES,
    HEADER_BYTES,
    TAIL_BYTES_MAX,
    SegmentInfo,
    SegmentKind,
    TopicRange,
    encode_header,
    tail_bytes_of,
)
from danube_common.segment.reader import SegmentEntry, SegmentIndex, entry_end, parse_tail, read_entry
from danube_common.wire.archive import SegmentLocator
from danube_storage.segments.port import SegmentStore

TAIL_BYTES_FIRST = 64 << 10
"""Bytes read first from a segment's end: the whole tail of nearly all segments."""
SALVAGE_READ_BYTES = 4 << 20
SALVAGE_BLOCK_BYTES = 64 << 10
_TOPIC_BYTES = 400
_BLOCK_BYTES = 32


class OpenSegment:
    """The index of one segment. Its entries are divided into ranges, the unit of reading and caching.

    Attributes:
        index: from the tail, or salvaged.
        salvaged: the tail is damaged, and the index was built from the entries.
        damage: why entries behind ``index.info.data_bytes`` are lost; empty if none are.
        opened_s: when it was opened, by the monotonic clock.
    """

    def __init__(
        self, index: SegmentIndex, range_bytes: int, *, salvaged: bool = False, damage: str = ""
    ) -> None:
        self.index = index
        self.salvaged = salvaged
        self.damage = damage
        self.opened_s = time.monotonic()
        self._starts = array("Q")
        offset = HEADER_BYTES
        while offset < index.info.data_bytes:
            self._starts.append(offset)
            offset += index.range_at(offset, range_bytes)[1]
        self._starts.append(index.info.data_bytes)

    @property
    def size_bytes(self) -> int:
        """Its size in memory."""
        return _TOPIC_BYTES * len(self.index.info.topics) + _BLOCK_BYTES * self.index.blocks

    @property
    def keeps(self) -> bool:
        """An open segment may be cached."""
        return True

    @property
    def ranges(self) -> int:
        """The number of ranges."""
        return len(self._starts) - 1

    def range_of(self, offset: int) -> int:
        """Return the number of the range that holds the block which starts at ``offset``."""
        return bisect_right(self._starts, offset) - 1

    def bounds(self, number: int) -> tuple[int, int]:
        """Return offset and length of a range; the first range includes the segment's header."""
        start = self._starts[number] if number else 0
        return start, self._starts[number + 1] - start

    def entries_in(self, length: int) -> int:
        """Return about how many entries are in ``length`` bytes."""
        info = self.index.info
        return length * info.entries // info.data_bytes

    def first_position(self, number: int) -> int:
        """Return the position of the first message in a range, of any topic."""
        return self.index.position_at(self._starts[number])


async def read_tail(store: SegmentStore, key: str) -> SegmentIndex:
    """Read a segment's index from its tail. Raises NotFound, StoreUnavailable, CorruptData."""
    size_bytes = await store.size(key)
    end = await _end(store, key, size_bytes, TAIL_BYTES_FIRST)
    tail_bytes = tail_bytes_of(end)
    if tail_bytes > len(end):
        end = await _end(store, key, size_bytes, min(tail_bytes, TAIL_BYTES_MAX))
    return parse_tail(end, size_bytes)


async def _end(store: SegmentStore, key: str, size_bytes: int, wanted: int) -> bytes:
    length = min(wanted, size_bytes)
    return await store.read(key, size_bytes - length, length)


async def salvage(
    store: SegmentStore, locator: SegmentLocator, record: SegmentRecord
) -> tuple[SegmentIndex | None, bool]:
    """Build the index of a segment with a damaged tail from its entries.

    Returns the index of the intact entries before the first damage (None if there are none), and whether
    these are all entries by the segment's record. Raises NotFound, StoreUnavailable.
    """
    scan = _Scan(locator, record)
    offset = 0
    while not scan.ended:
        data = await store.read(locator.key, offset, SALVAGE_READ_BYTES)
        scan.feed(data)
        offset += len(data)
        if not data:
            break
    return scan.index(), scan.whole


class _Scan:
    """Reads entries in order, up to the first damage or the last position of the record."""

    def __init__(self, locator: SegmentLocator, record: SegmentRecord) -> None:
        self._record = record
        self._bundle = Bundle.parse(locator.bundle)
        self._kind = SegmentKind.BUNDLE if record.topic_id == SHARED else SegmentKind.TOPIC
        self._held = b""
        self._offset = 0
        self._crc = 0
        self._entries = self._messages = 0
        self._last_position = record.first_position - 1
        self._ms_min, self._ms_max = record.published_ms_max, 0
        self._topics: dict[int, list[int]] = {}
        self._positions, self._offsets, self._times = array("Q"), array("Q"), array("Q")
        self.ended = False

    @property
    def whole(self) -> bool:
        record = self._record
        counted = (self._messages, self._last_position, self._crc)
        return counted == (record.messages, record.last_position, record.data_crc32c)

    def feed(self, data: bytes) -> None:
        data = self._held + data
        at = 0
        if self._offset == 0:
            header = encode_header(self._kind, self._bundle, self._record.topic_id)
            if data[:HEADER_BYTES] != header:
                self.ended = True
                return
            at = HEADER_BYTES
        while not self.ended and len(data) - at >= ENTRY_HEAD_BYTES:
            try:
                end = entry_end(data, at)
                if end > len(data):
                    break
                self._take(read_entry(data, at, end), self._offset + at)
            except CorruptData:
                self.ended = True
                break
            at = end
        self._crc = google_crc32c.extend(self._crc, data[:at])
        self._held = data[at:]
        self._offset += at

    def index(self) -> SegmentIndex | None:
        if not self._entries:
            return None
        info = SegmentInfo(
            kind=self._kind,
            bundle=self._bundle,
            topic_id=self._record.topic_id,
            topics=tuple(TopicRange(topic_id, *row) for topic_id, row in sorted(self._topics.items())),
            entries=self._entries,
            messages=self._messages,
            published_ms_min=self._ms_min,
            published_ms_max=self._ms_max,
            data_bytes=self._offset,
            data_crc32c=self._crc,
            size_bytes=self._offset,
        )
        return SegmentIndex(info, self._positions, self._offsets, self._times)

    def _take(self, entry: SegmentEntry, offset: int) -> None:
        record = self._record
        first, last = entry.first_position, entry.last_position
        if first <= self._last_position or (record.topic_id not in {SHARED, entry.topic_id}):
            raise CorruptData(f"position {first} is not of this segment")
        if not self._offsets or offset - self._offsets[-1] >= SALVAGE_BLOCK_BYTES:
            self._positions.append(first)
            self._offsets.append(offset)
            self._times.append(entry.published_ms_max)
        self._times[-1] = max(self._times[-1], entry.published_ms_max)
        row = self._topics.setdefault(entry.topic_id, [first, last, 0, entry.first_offset])
        row[1] = last
        row[2] += entry.messages
        self._entries += 1
        self._messages += entry.messages
        self._last_position = last
        self._ms_min = min(self._ms_min, entry.published_ms_min)
        self._ms_max = max(self._ms_max, entry.published_ms_max)
        self.ended = last >= record.last_position
