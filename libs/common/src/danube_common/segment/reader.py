"""Reads segments: bytes of the tail and of ranges in, sections out."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise

import google_crc32c

from danube_common.errors import CorruptData, InvalidInput
from danube_common.model.bundle import Bundle
from danube_common.model.position import (
    MESSAGES_PER_SECTION_MAX,
    SECTIONS_PER_FRAME_MAX,
    SEQUENCE_MAX,
    position_of,
)
from danube_common.segment.format import (
    BLOCK,
    BLOCKS_MAX,
    CRC,
    END_MAGIC,
    ENTRY,
    ENTRY_HEAD_BYTES,
    FOOTER,
    HEADER_BYTES,
    TAIL_BYTES,
    TOPIC,
    TOPICS_MAX,
    VERSION,
    SegmentInfo,
    SegmentKind,
    TopicRange,
    check_header,
    tail_bytes_of,
)
from danube_common.wire.frame import RawSection, Section, check_section, decode_checked_section

_BODY_BYTES = struct.Struct("<I")
_BODY_BYTES_AT = ENTRY.size - 2 * _BODY_BYTES.size


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One section of a frame.

    Attributes:
        sequence: log sequence of the frame.
        number: of the section in the frame.
        first_offset: the topic's offset of the section's first message.
        published_ms_min: when the log stored its oldest message, ms since the epoch.
        raw: the section as it was in the frame; its checksum is verified.
    """

    sequence: int
    number: int
    first_offset: int
    published_ms_min: int
    published_ms_max: int
    raw: RawSection

    @property
    def section(self) -> Section:
        """The messages, decoded at each call.

        Raises CorruptData if the message index of the section is wrong as written by the publisher; readers
        of the log skip such a frame too.
        """
        return decode_checked_section(self.raw)

    @property
    def topic_id(self) -> int:
        """The topic of the section's messages."""
        return self.raw.topic_id

    @property
    def messages(self) -> int:
        """The number of messages."""
        return self.raw.messages

    @property
    def first_position(self) -> int:
        """The position of the first message."""
        return position_of(self.sequence, self.number, 0)

    @property
    def last_position(self) -> int:
        """The position of the last message."""
        return self.first_position + self.raw.messages - 1


class SegmentIndex:
    """The decoded tail of a segment: what the segment holds, and at which file offsets.

    The entries are divided into *blocks*: runs of entries that each have one row in the index.
    """

    def __init__(
        self, info: SegmentInfo, positions: array[int], offsets: array[int], times: array[int]
    ) -> None:
        self.info = info
        self._positions = positions
        self._offsets = offsets
        self._times_max = array("Q", accumulate(times, max))
        self._topics = {topic.topic_id: topic for topic in info.topics}
        self._last_position = info.last_position

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return len(self._offsets)

    def offset_of_position(self, position: int) -> int:
        """The offset of the block with the first message at or after ``position``.

        The block may begin with earlier messages. ``info.data_bytes`` if there is no such message.
        """
        if position > self._last_position:
            return self.info.data_bytes
        return self._offsets[max(bisect_right(self._positions, position) - 1, 0)]

    def offset_of_time(self, published_ms: int) -> int:
        """The offset of the block with the first message, in log order, published at or after a time.

        ``info.data_bytes`` if there is no such message.
        """
        block = bisect_left(self._times_max, published_ms)
        return self._offsets[block] if block < len(self._offsets) else self.info.data_bytes

    def range_at(self, offset: int, bytes_max: int) -> tuple[int, int]:
        """(offset, length) of the whole blocks from ``offset`` on: ``bytes_max`` at most, one block at least.

        The length is 0 at ``info.data_bytes``. Raises ValueError if no block starts at ``offset``.
        """
        if offset == self.info.data_bytes:
            return offset, 0
        block = self._block_at(offset)
        end_block = max(bisect_right(self._offsets, offset + bytes_max) - 1, block + 1)
        to_end = offset + bytes_max >= self.info.data_bytes or end_block == self.blocks
        end = self.info.data_bytes if to_end else self._offsets[end_block]
        return offset, end - offset

    def position_at(self, offset: int) -> int:
        """The position of the first message in the block that starts at ``offset``. Raises ValueError."""
        return self._positions[self._block_at(offset)]

    def topic(self, topic_id: int) -> TopicRange | None:
        """What the segment holds of a topic; None if nothing."""
        return self._topics.get(topic_id)

    def _block_at(self, offset: int) -> int:
        block = bisect_left(self._offsets, offset)
        if block == len(self._offsets) or self._offsets[block] != offset:
            raise ValueError(f"no block starts at {offset}")
        return block


class EntryReader:
    """Decodes a segment's entries from chunks of any size; keeps at most one incomplete entry.

    From offset 0 the header is checked too, and `finish` compares everything with the footer.

    Args:
        index: the segment's tail.
        offset: 0, or where a block starts.
    """

    def __init__(self, index: SegmentIndex, offset: int = 0) -> None:
        self._index = index
        self._offset = offset
        self._from_start = offset == 0
        self._held = b""
        self._crc = 0
        self._entries = 0
        self._messages = 0
        self._last_position = index.position_at(offset) - 1 if offset else index.info.first_position - 1
        self._must_start = self._last_position + 1

    @property
    def held_bytes(self) -> int:
        """Bytes of an entry that is not complete yet."""
        return len(self._held)

    def feed(self, data: bytes) -> list[SegmentEntry]:
        """Take the next bytes and return the entries that they complete. Raises CorruptData."""
        entries: list[SegmentEntry] = []
        self.feed_into(entries, data)
        return entries

    def feed_into(self, entries: list[SegmentEntry], data: bytes) -> None:
        """Like `feed`, but appends to ``entries``: those before a damage are kept when this raises."""
        if self._from_start:
            self._crc = google_crc32c.extend(self._crc, data)
        data = self._held + data if self._held else data
        info = self._index.info
        if self._offset + len(data) > info.data_bytes:
            raise CorruptData(f"{self._offset + len(data)} bytes of entries where {info.data_bytes} must be")
        at = 0
        if self._offset == 0:
            if len(data) < HEADER_BYTES:
                self._held = data
                return
            check_header(data[:HEADER_BYTES], info)
            at = HEADER_BYTES
        while len(data) - at >= ENTRY_HEAD_BYTES:
            end = entry_end(data, at)
            if self._offset + end > info.data_bytes:
                raise CorruptData(f"the entry at {self._offset + at} reaches past the entries' end")
            if end > len(data):
                break
            entry = read_entry(data, at, end)
            self._accept(entry)
            entries.append(entry)
            at = end
        self._held = data[at:]
        self._offset += at

    def finish(self) -> None:
        """Check that the entries end where the bytes did. Raises CorruptData."""
        info = self._index.info
        if self._held or self._offset != info.data_bytes:
            raise CorruptData(f"the entries end after {self._offset} of {info.data_bytes} bytes")
        if self._last_position != info.last_position:
            raise CorruptData("the last entry is not the one that the footer names")
        if self._from_start and (self._entries, self._messages, self._crc) != (
            info.entries,
            info.messages,
            info.data_crc32c,
        ):
            raise CorruptData("the entries are not those that the footer counts")

    def _accept(self, entry: SegmentEntry) -> None:
        """Check that the entry belongs here: an intact entry may still be one of another segment."""
        first, last = entry.first_position, entry.last_position
        topic = self._index.topic(entry.topic_id)
        if topic is None or first < topic.first_position or last > topic.last_position:
            raise CorruptData(f"position {first} of topic {entry.topic_id} is not of this segment")
        if entry.first_offset < topic.first_offset or (
            entry.first_offset + entry.messages - 1 > topic.last_offset
        ):
            raise CorruptData(f"offset {entry.first_offset} is not of this segment")
        if first <= self._last_position or (self._entries == 0 and first != self._must_start):
            raise CorruptData(f"position {first} does not follow {self._last_position}")
        self._last_position = last
        self._entries += 1
        self._messages += entry.messages


def entry_end(data: bytes | memoryview, at: int) -> int:
    """Where the entry at ``at`` ends, perhaps behind ``data``. Verifies the entry's head.

    ``data`` must have ENTRY_HEAD_BYTES from ``at`` on. Raises CorruptData.
    """
    if google_crc32c.value(bytes(data[at : at + ENTRY.size])) != CRC.unpack_from(data, at + ENTRY.size)[0]:
        raise CorruptData("an entry's head fails its checksum")
    return at + ENTRY_HEAD_BYTES + int(_BODY_BYTES.unpack_from(data, at + _BODY_BYTES_AT)[0])


def read_entry(data: bytes | memoryview, at: int, end: int) -> SegmentEntry:
    """Decode the entry from ``at`` to ``end`` (see `entry_end`). Verifies its body. Raises CorruptData."""
    sequence, topic_id, first_offset, ms_min, ms_max, number, messages, _, body_crc = ENTRY.unpack_from(
        data, at
    )
    if not (
        0 < sequence <= SEQUENCE_MAX
        and number < SECTIONS_PER_FRAME_MAX
        and 0 < messages <= MESSAGES_PER_SECTION_MAX
    ):
        raise CorruptData(f"section {number} of frame {sequence}, of {messages} messages, is out of range")
    raw = RawSection(topic_id, messages, bytes(data[at + ENTRY_HEAD_BYTES : end]), body_crc)
    check_section(raw)
    return SegmentEntry(sequence, number, first_offset, ms_min, ms_max, raw)


def split_entries(data: bytes | memoryview) -> list[SegmentEntry]:
    """Decode entries that lie back to back; verifies every checksum. Raises CorruptData."""
    entries: list[SegmentEntry] = []
    at = 0
    while at < len(data):
        end = entry_end(data, at) if len(data) - at >= ENTRY_HEAD_BYTES else len(data) + 1
        if end > len(data):
            raise CorruptData(f"an entry is cut short after {len(data) - at} bytes")
        entries.append(read_entry(data, at, end))
        at = end
    return entries


def parse_tail(end: bytes, size_bytes: int) -> SegmentIndex:
    """Decode a segment's tail.

    Args:
        end: the last bytes of the segment, as many as `tail_bytes_of` says, or more.
        size_bytes: size of the segment in its store.

    Raises:
        CorruptData: the tail is damaged, incomplete, or of another version; or ``end`` is too short.
    """
    tail_bytes = tail_bytes_of(end)
    if len(end) < tail_bytes or size_bytes < tail_bytes + HEADER_BYTES:
        raise CorruptData(f"a tail of {tail_bytes} bytes is cut short")
    tail = end[len(end) - tail_bytes :]
    checked_bytes = tail_bytes - CRC.size - len(END_MAGIC)
    if google_crc32c.value(tail[:checked_bytes]) != CRC.unpack_from(tail, checked_bytes)[0]:
        raise CorruptData("the segment's tail fails its checksum")
    footer_at = checked_bytes - TAIL_BYTES.size - FOOTER.size
    version, *footer = FOOTER.unpack_from(tail, footer_at)
    if version != VERSION:
        raise CorruptData(f"a segment of version {version}, where {VERSION} is known: upgrade this process")
    kind, bundle, topic_id, entries, messages, ms_min, ms_max, data_bytes, data_crc, blocks, topics = footer
    if not (0 < blocks <= BLOCKS_MAX and 0 < topics <= TOPICS_MAX):
        raise CorruptData(f"a segment cannot have {blocks} blocks and {topics} topics")
    topics_at = blocks * BLOCK.size
    if topics_at + topics * TOPIC.size != footer_at or data_bytes + tail_bytes != size_bytes:
        raise CorruptData(f"the parts that the footer names do not make up {size_bytes} bytes")
    try:
        info = SegmentInfo(
            kind=SegmentKind(kind),
            bundle=Bundle.from_index(bundle),
            topic_id=topic_id,
            topics=tuple(TopicRange(*row) for row in TOPIC.iter_unpack(tail[topics_at:footer_at])),
            entries=entries,
            messages=messages,
            published_ms_min=ms_min,
            published_ms_max=ms_max,
            data_bytes=data_bytes,
            data_crc32c=data_crc,
            size_bytes=size_bytes,
        )
    except (ValueError, InvalidInput) as error:
        raise CorruptData(f"the segment's footer: {error}") from error
    columns = zip(*BLOCK.iter_unpack(tail[:topics_at]), strict=True)
    positions, offsets, times = (array("Q", column) for column in columns)
    _check_index(info, positions, offsets)
    return SegmentIndex(info, positions, offsets, times)


def _check_index(info: SegmentInfo, positions: array[int], offsets: array[int]) -> None:
    def grows(values: list[int]) -> bool:
        return all(a < b for a, b in pairwise(values))

    if not (
        positions[0] == info.first_position
        and offsets[0] == HEADER_BYTES
        and grows([*positions])
        and grows([*offsets, info.data_bytes])
        and positions[-1] <= info.last_position
    ):
        raise CorruptData("the segment's index does not fit its footer")
    if not (
        grows([topic.topic_id for topic in info.topics])
        and all(topic.first_position <= topic.last_position and topic.messages for topic in info.topics)
        and sum(topic.messages for topic in info.topics) == info.messages
        and 0 < info.entries <= info.messages <= info.entries * MESSAGES_PER_SECTION_MAX
        and (info.kind is SegmentKind.BUNDLE or [t.topic_id for t in info.topics] == [info.topic_id])
    ):
        raise CorruptData("the segment's topics do not fit its footer")
