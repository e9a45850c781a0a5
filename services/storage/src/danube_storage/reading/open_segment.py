"""Segments open for reading: the index in the tail, or one salvaged from the entries of a damaged segment."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right

from danube_common.archive.records import SHARED, SegmentRecord
from danube_common.errors import CorruptData, LimitExceeded
from danube_common.model.bundle import Bundle
from danube_common.segment.format import (
    ENTRY_HEAD_BYTES,
    HEADER_BYTES,
    TAIL_BYTES_MAX,
    SegmentKind,
    encode_header,
    tail_bytes_of,
)
from danube_common.segment.reader import SegmentIndex, entry_end, parse_tail, read_entry
from danube_common.wire.archive import SegmentLocator
from danube_storage.segments.builder import SegmentBuilder
from danube_storage.segments.port import SegmentReader, SegmentStore

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


async def read_tail(store: SegmentReader, key: str) -> SegmentIndex:
    """Read a segment's index from its tail. Raises NotFound, StoreUnavailable, CorruptData."""
    size_bytes = await store.size(key)
    end = await _end(store, key, size_bytes, TAIL_BYTES_FIRST)
    tail_bytes = tail_bytes_of(end)
    if tail_bytes > len(end):
        end = await _end(store, key, size_bytes, min(tail_bytes, TAIL_BYTES_MAX))
    return parse_tail(end, size_bytes)


async def _end(store: SegmentReader, key: str, size_bytes: int, wanted: int) -> bytes:
    length = min(wanted, size_bytes)
    return await store.read(key, size_bytes - length, length)


async def salvage(
    store: SegmentStore, locator: SegmentLocator, record: SegmentRecord
) -> tuple[SegmentIndex | None, bool]:
    """Build the index of a segment with a damaged tail from its entries.

    Returns the index of the intact entries before the first damage (None if there are none), and whether
    these are all entries by the segment's record. Raises NotFound, StoreUnavailable.
    """
    bundle = Bundle.parse(locator.bundle)
    kind = SegmentKind.BUNDLE if record.topic_id == SHARED else SegmentKind.TOPIC
    data = await store.read(locator.key, 0, SALVAGE_READ_BYTES)
    if data[:HEADER_BYTES] != encode_header(kind, bundle, record.topic_id):
        return None, False
    topic_id = None if record.topic_id == SHARED else record.topic_id
    builder = SegmentBuilder(bundle, topic_id, block_bytes=SALVAGE_BLOCK_BYTES)
    offset, rest, more = len(data), data[HEADER_BYTES:], True
    while data and more:
        rest, more = _add_entries(builder, record, rest)
        if more:
            data = await store.read(locator.key, offset, SALVAGE_READ_BYTES)
            offset += len(data)
            rest += data
    if builder.last_position is None:
        return None, False
    tail, info = builder.seal()
    found = (info.messages, info.last_position, info.data_crc32c)
    return parse_tail(tail, info.size_bytes), found == (
        record.messages,
        record.last_position,
        record.data_crc32c,
    )


def _add_entries(builder: SegmentBuilder, record: SegmentRecord, data: bytes) -> tuple[bytes, bool]:
    """Add the whole entries in ``data``.

    Returns the bytes behind them, and whether more entries may follow: no entry is damaged or the last one.
    """
    at = 0
    try:
        while len(data) - at >= ENTRY_HEAD_BYTES and (end := entry_end(data, at)) <= len(data):
            entry = read_entry(data, at, end)
            if entry.first_position < record.first_position:
                return b"", False
            builder.add(
                entry.sequence,
                entry.number,
                entry.raw,
                first_offset=entry.first_offset,
                published_ms=(entry.published_ms_min, entry.published_ms_max),
            )
            if entry.last_position >= record.last_position:
                return b"", False
            at = end
    except (CorruptData, LimitExceeded, ValueError):
        return b"", False
    return data[at:], True
